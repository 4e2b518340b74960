import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { readLabels } from '../../../../lib/index.js'
import type { Adapter, TrainControl } from '../../../../lib/model/adapter.js'
import type { Model } from '../../../../lib/model/model.js'
import { addon } from '../../../../lib/native/addon.js'
import type { TrainOptions } from '../../../../lib/options/types.js'
import { full } from '../../../../lib/strategies/full.js'
import { lora } from '../../../../lib/strategies/lora.js'
import { qlora } from '../../../../lib/strategies/qlora.js'
import { vera } from '../../../../lib/strategies/vera.js'
import type { TrainStep } from '../../../../lib/train/steps/events.js'
import { scratchFolder } from '../../scratch.js'
import { tinyLoader, trainedOn } from '../tiny-models.js'

const tiny = tinyLoader()

const labels = ['bad', 'good', 'odd']
async function load(more: object = {}): Promise<Model> {
  return tiny({ labels, ...more })
}

const rows = Array.from({ length: 18 }, (_, i) => ({
  text: `${['Dull', 'Fine', 'Weird'][i % 3]} film ${i}`,
  label: labels[i % 3] as string,
}))

const options: Partial<TrainOptions> = {
  task: 'classification',
  maxSteps: 6,
  perDeviceTrainBatchSize: 3,
  gradientAccumulationSteps: 2,
  maxSeqLength: 32,
  learningRate: 5e-3,
}

const run = (adapter: Adapter, more: Partial<TrainOptions> & TrainControl = {}, data: object[] = rows) =>
  trainedOn(adapter, data, { ...options, ...more })

test('it learns its classes, and is the same after saving and loading', async () => {
  const model = await load()
  const adapter = await model.attach(lora({ r: 4, loraAlpha: 8 }))
  const { steps, evaluations } = await run(adapter, { maxSteps: 40, learningRate: 1e-2, evalDataset: rows })
  expect(steps[0]?.loss).toBeGreaterThan(0.8)
  expect(evaluations.at(-1)).toMatchObject({ accuracy: 1, macroF1: 1, microF1: 1, matthewsCorrelation: 1 })
  const found = await model.classify(rows.map(({ text }) => text))
  expect(found.map(({ label }) => label)).toEqual(rows.map(({ label }) => label))
  const saved = join(scratchFolder(), 'saved')
  await adapter.save(saved)
  const again = await load()
  await again.loadAdapter(saved)
  expect(await again.classify(rows.map(({ text }) => text))).toEqual(found)
  expect((await again.evaluate(rows)).loss).toBe((await model.evaluate(rows)).loss)
})

test.each([qlora({ adapter: lora({ r: 2 }) }), vera({ r: 4 })])('$name has a head too', async (strategy) => {
  const model = await load(strategy.name === 'qlora' ? { quantization: 'nf4' } : {})
  const adapter = await model.attach(strategy)
  const { steps } = await run(adapter, { maxSteps: 30, learningRate: 1e-2 })
  expect(steps.at(-1)?.loss).toBeLessThan((steps[0]?.loss as number) / 2)
  const saved = join(scratchFolder(), 'saved')
  await adapter.save(saved)
  const before = await model.evaluate(rows)
  await adapter.detach()
  await model.loadAdapter(saved)
  expect(await model.evaluate(rows)).toEqual(before)
})

test('a run ends with held-out rows and their classes, and its record has no perplexity', async () => {
  const adapter = await (await load()).attach(lora({ r: 4, loraAlpha: 8 }))
  const outputDir = join(scratchFolder(), 'out')
  const more = { maxSteps: 40, learningRate: 1e-2, evalDataset: rows.slice(0, 4), outputDir, sampleRows: 3 }
  const training = adapter.train(rows, { ...options, ...more })
  for await (const _ of training);
  const { rows: answered, classified, heldOut } = await training.samples()
  expect({ answered, heldOut }).toEqual({ answered: [], heldOut: true })
  expect(classified).toEqual(
    rows.slice(0, 3).map(({ text, label }) => ({
      ...{ text, expected: label, predicted: label },
      probability: expect.closeTo(1, 0),
    })),
  )
  const lines = readFileSync(join(outputDir, 'metrics.jsonl'), 'utf8').trim().split('\n')
  const events = lines.map((line) => JSON.parse(line) as Record<string, unknown>)
  const last = events.findLast(({ event }) => event === 'eval')
  expect(last?.confusion_matrix).toEqual([
    [2, 0, 0],
    [0, 1, 0],
    [0, 0, 1],
  ])
  expect(events[0]).toMatchObject({ event: 'start', labels })
  expect(events.at(-1)).toMatchObject({ event: 'samples', rows: [], classified })
  expect(lines.join('')).not.toContain('perplexity')
  const report = readFileSync(join(outputDir, 'report.html'), 'utf8').replace(/<script.*/s, '')
  expect(report).not.toMatch(/perplexity/i)
  for (const words of [
    '>Classes</h2>',
    '>precision</th>',
    'data-chart="confusion"',
    'data-chart="metric"',
    'Dull film 0',
  ])
    expect(report).toContain(words)
})

test('a run allocates what it planned', async () => {
  const adapter = await (await load()).attach(lora({ r: 4 }))
  const training = adapter.train(rows, { ...options, evalDataset: rows, maxSteps: 1 })
  const total = () => Object.values(addon().allocated()).reduce((sum, bytes) => sum + bytes, 0)
  for await (const _ of training) expect(total()).toBe(training.memory.peakBytes)
})

test('balanced weights count rare classes more', async () => {
  const uneven = [...rows, ...rows.filter(({ label }) => label === 'good')]
  const first = async (classWeights: TrainOptions['classWeights'], data: object[]) => {
    const adapter = await (await load()).attach(lora({ r: 4 }), { seed: 1 })
    const whole = { perDeviceTrainBatchSize: data.length, gradientAccumulationSteps: 1, maxSteps: 1 }
    return (await run(adapter, { ...whole, classWeights }, data)).steps[0] as TrainStep
  }
  // Each class counts the same, as where each has as many rows.
  const [balanced, even] = [await first('balanced', uneven), await first(null, rows)]
  expect(balanced.loss).toBeCloseTo(even.loss, 6)
  expect(balanced.gradNorm / even.gradNorm).toBeCloseTo(1, 5)
  const named = await first({ bad: 2, odd: 2 }, uneven)
  expect(named.loss).toBeCloseTo(even.loss, 6)
  await expect(first('balanced', rows.slice(0, 2))).rejects.toThrow('no training row has the label "odd"')
  await expect(first({ worse: 2 }, rows)).rejects.toThrow('class_weights names "worse"')
})

test('labels are read from data: names sorted, numbers by their size', async () => {
  expect(await readLabels(rows)).toEqual(labels)
  expect(await readLabels([10, 9, '2'].map((label) => ({ text: 'a', label })))).toEqual(['2', '9', '10'])
  await expect(readLabels([{ text: 'a', label: 'b' }])).rejects.toThrow('has one label, b')
  await expect(readLabels([{ text: 'a' }])).rejects.toThrow('expected {"text": …, "label": …}')
  await expect(readLabels((function* () {})())).rejects.toThrow('can be read again')
})

test('wrong use is one error', async () => {
  const model = await load()
  const adapter = await model.attach(lora({ r: 2 }))
  const refused = (more: Partial<TrainOptions> & TrainControl, data: object[] = rows) =>
    run(adapter, { maxSteps: 1, ...more }, data)
  const none = await tiny()
  const plain = await none.attach(lora({ r: 2 }))
  const saved = join(scratchFolder(), 'saved')
  await adapter.save(saved)
  const cases: [() => Promise<unknown>, string][] = [
    [
      () => refused({}, [{ text: 'a', label: 'ugly' }]),
      'row 1: the label "ugly" is none of those that the head has: bad, good, odd',
    ],
    [() => refused({}, [{ text: ' ', label: 'bad' }]), 'row 1: the text is empty'],
    [() => refused({}, [{ text: 'a', label: ['bad'] }]), '"label" must be a name or a number, not an array'],
    [() => refused({ task: 'causal_lm' }), 'was loaded with labels, so its head is for task classification'],
    [() => run(plain), 'task classification needs a head for classes'],
    [() => refused({ beta: 0.1 }), 'beta is 0.1, expected it to be absent with task classification'],
    [() => refused({ trainOn: 'all' }), 'trainOn is "all"'],
    [
      () => refused({ metricForBestModel: 'exact_match' }),
      'one of loss, accuracy, f1 with task classification',
    ],
    [
      () => run(plain, { task: 'causal_lm', metricForBestModel: 'rewards_margins' }),
      'one of loss, perplexity, exact_match, mean_token_accuracy, f1 with task causal_lm',
    ],
    [() => run(plain, { task: 'causal_lm', classWeights: 'balanced' }), 'it belongs to classification'],
    [() => model.generate('Hello'), 'generate()'],
    [() => model.chat(), 'writes no text'],
    [() => model.logits(Int32Array.of(1, 2)), 'writes no text'],
    [() => model.exactMatch(rows), 'writes no text'],
    [() => model.save(join(scratchFolder(), 'merged')), 'writes no text'],
    [() => adapter.export(join(scratchFolder(), 'a.gguf'), { format: 'gguf' }), 'writes no text'],
    [() => adapter.forwardBackward([{ tokens: [1, 2] }], 'cross_entropy'), 'writes no text'],
    [() => none.classify(['a']), 'has no head for classes; load it with labels'],
    [() => model.classify(['a', '']), 'texts.1 is empty'],
    [() => model.classify(['a'], { adapters: [] }), 'no adapter acts, and the head comes with one'],
    [() => model.attach(full()), 'trains the whole model and has no adapter'],
    [() => none.loadAdapter(saved), 'is an adapter of a classifier'],
    [() => load({ labels: ['bad'] }), 'labels is ["bad"]'],
    [() => load({ labels: ['bad', 'bad'] }), 'all different'],
  ]
  for (const [refusal, message] of cases) await expect(refusal(), message).rejects.toThrow(message)
  const other = await load({ labels: ['good', 'bad', 'odd'] })
  await expect(other.loadAdapter(saved)).rejects.toThrow('tells the classes "bad", "good", "odd" apart')
  const unheaded = join(scratchFolder(), 'unheaded')
  await plain.save(unheaded)
  const config = join(unheaded, 'adapter_config.json')
  writeFileSync(config, readFileSync(config, 'utf8').replace('CAUSAL_LM', 'SEQ_CLS'))
  rmSync(join(unheaded, 'lowrank.json'))
  await expect(model.loadAdapter(unheaded)).rejects.toThrow(
    'but has no base_model.model.score.weight, its head',
  )
})
