import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { openDataset } from '../../../../lib/data/dataset.js'
import type { Adapter, TrainControl } from '../../../../lib/model/adapter.js'
import type { Model } from '../../../../lib/model/model.js'
import { addon } from '../../../../lib/native/addon.js'
import type { TrainOptions } from '../../../../lib/options/types.js'
import { lora } from '../../../../lib/strategies/lora.js'
import type { TrainStep } from '../../../../lib/train/steps/events.js'
import { sweepTest } from '../../../sweep.js'
import { scratchFolder } from '../../scratch.js'
import { tinyLoader, trainedOn } from '../tiny-models.js'

const load = tinyLoader()

async function attach(loraDropout = 0, model?: Model): Promise<Adapter> {
  return (model ?? (await load())).attach(lora({ r: 4, loraAlpha: 8, loraDropout }), { seed: 3 })
}

const rows = [...'abcdefghijkl'].flatMap((letter, i) => {
  const prompt = `A word with ${letter}?`
  const good = { prompt, completion: `${letter} is good${' and fine'.repeat(i % 3)}.`, label: true }
  return i % 3 === 0 ? [good] : [good, { prompt, completion: `No ${i} bad.`, label: false }]
})

const options: Partial<TrainOptions> = {
  ...{ task: 'kto', maxSteps: 4, perDeviceTrainBatchSize: 3, gradientAccumulationSteps: 2 },
  ...{ maxSeqLength: 96, learningRate: 5e-3, warmupRatio: 0, lrSchedulerType: 'constant' },
}

const run = (adapter: Adapter, more: Partial<TrainOptions> & TrainControl = {}, data: object[] = rows) =>
  trainedOn(adapter, data, { ...options, ...more })

test('begins at a half in every packing, and tells good held-out answers from bad ones in the end', async () => {
  const control = { evalDataset: rows, maxSteps: 8, metricForBestModel: 'rewards_margins' as const }
  const { steps, evaluations, done } = await run(await attach(), control)
  expect(steps[0]?.loss).toBeCloseTo(0.5, 14)
  expect(steps[0]).toMatchObject({ kl: 0 })
  expect(evaluations[0]?.loss).toBeCloseTo(0.5, 14)
  const last = evaluations.at(-1)
  expect(last?.loss).toBeLessThan(0.45)
  expect(last?.rewardsChosen).toBeGreaterThan(last?.rewardsRejected as number)
  expect(last?.rewardsMargins).toBeCloseTo((last?.rewardsChosen ?? 0) - (last?.rewardsRejected ?? 0), 12)
  expect(done.best).toMatchObject({ metric: 'rewards_margins', value: last?.rewardsMargins, step: 8 })
})

test('weights count in the loss', async () => {
  const good = rows.filter(({ label }) => label).length
  const whole = { maxSteps: 1, perDeviceTrainBatchSize: rows.length, gradientAccumulationSteps: 1 }
  const { steps } = await run(await attach(), { ...whole, desirableWeight: 1.5, undesirableWeight: 0.5 })
  const expected = (0.5 * (1.5 * good + 0.5 * (rows.length - good))) / rows.length
  expect(steps[0]?.loss).toBeCloseTo(expected, 14)
})

test('kl is the mean gain of answers to the closest earlier prompt that differs', async () => {
  const model = await load()
  const adapter = await attach(0, model)
  const { evaluations } = await run(adapter, { evalDataset: rows, maxSteps: 6 })
  const mismatched = rows.map(({ prompt }, i) => {
    const before = (back: number) => rows[(i - back + rows.length) % rows.length] as (typeof rows)[number]
    const other = before(1).prompt === prompt ? before(2) : before(1)
    return { prompt, completion: other.completion }
  })
  const now = await model.logLikelihoods(mismatched)
  // The adapter starts at zero, so the base is the reference.
  const then = await model.logLikelihoods(mismatched, { adapters: [] })
  const gain = now.reduce((sum, value, i) => sum + value - (then[i] as number), 0) / rows.length
  expect(gain).toBeGreaterThan(0.5)
  expect((evaluations.at(-1)?.kl ?? 0) / gain).toBeCloseTo(1, 4)
})

sweepTest('a window in other micro-batches is the same window', async () => {
  const norms = async (more: Partial<TrainOptions>) => {
    const { steps } = await run(await attach(), { ...more, maxSteps: 3, seed: 5 }, rows.slice(0, 6))
    return steps.map(({ loss, gradNorm, kl }) => [loss, gradNorm, kl] as const)
  }
  const one = await norms({ perDeviceTrainBatchSize: 6, gradientAccumulationSteps: 1 })
  const six = await norms({ perDeviceTrainBatchSize: 1, gradientAccumulationSteps: 6, packing: false })
  for (const [step, [loss = 0, norm = 0, kl = 0]] of one.entries()) {
    expect(six[step]?.[0]).toBeCloseTo(loss, 5)
    expect((six[step]?.[1] ?? 0) / norm).toBeCloseTo(1, 3)
    expect(six[step]?.[2]).toBeCloseTo(kl, 4)
  }
})

test('a run allocates what it planned', async () => {
  const total = () => Object.values(addon().allocated()).reduce((sum, bytes) => sum + bytes, 0)
  const training = (await attach()).train(rows, { ...options, maxSteps: 1 })
  for await (const _ of training) expect(total()).toBe(training.memory.peakBytes)
})

test('resumed, a run reads its reference and goes on bit for bit', async () => {
  const whole = await run(await attach(), { evalFraction: 0.3, evalSteps: 2 })
  const outputDir = join(scratchFolder(), 'out')
  const more = { evalFraction: 0.3, evalSteps: 2, outputDir, saveSteps: 2 }
  for await (const { step } of (await attach()).train(rows, { ...options, ...more })) if (step === 3) break
  const path = join(outputDir, 'reference.json')
  expect(existsSync(path)).toBe(true)
  const kept = readFileSync(path, 'utf8')
  const resumed = await run(await attach(), { ...more, resume: join(outputDir, 'checkpoint-2') })
  const numbers = ({ loss, gradNorm, rewardsMargins, kl }: TrainStep) => [loss, gradNorm, rewardsMargins, kl]
  expect(resumed.steps.map(numbers)).toEqual(whole.steps.slice(2).map(numbers))
  expect(resumed.evaluations.at(-1)?.loss).toBe(whole.evaluations.at(-1)?.loss)
  expect(readFileSync(path, 'utf8')).toBe(kept)
  const flipped = rows.map((row, i) => (i === 0 ? { ...row, label: !row.label } : row))
  const again = { ...more, force: true, resume: join(outputDir, 'checkpoint-2') }
  await expect(run(await attach(), again, flipped)).rejects.toThrow('the training data')
})

test('wrong use is one error', async () => {
  const adapter = await attach()
  const refused = (more: Partial<TrainOptions> & TrainControl, data: object[] = rows) =>
    run(adapter, { maxSteps: 1, ...more }, data)
  const row = { prompt: 'a', completion: 'b' }
  const cases: [() => Promise<unknown>, string][] = [
    [
      () => refused({}, [row]),
      'row 1: expected {"prompt": …, "completion": …, "label": true or false}, but there are only keys "prompt", "completion"',
    ],
    [() => refused({}, [{ ...row, label: 'good' }]), '"label" must be true for a good answer or false'],
    [() => refused({}, [{ prompt: 'a', label: true }]), '"completion"'],
    [
      () =>
        refused(
          {},
          rows.filter(({ label }) => label),
        ),
      'the label of all 12 training rows is true; add rows of the other label',
    ],
    [() => refused({ desirableWeight: 0 }), 'desirableWeight is 0, expected a number above 0'],
    [() => refused({ task: 'dpo', desirableWeight: 2 }), 'expected it to be absent with task dpo'],
    [() => refused({ lossType: 'ipo' }), 'lossType is "ipo", expected it to be absent with task kto'],
    [() => refused({ trainOn: 'all' }), 'trainOn is "all"'],
    [
      () => refused({ evalFraction: 0.3, metricForBestModel: 'rewards_accuracies' }),
      'expected one of loss, rewards_margins with task kto',
    ],
    [() => refused({ task: 'causal_lm' }), 'set task: kto'],
  ]
  for (const [refusal, message] of cases) await expect(refusal(), message).rejects.toThrow(message)
  await expect(run(await attach(0.1))).rejects.toThrow(
    'strategy.loraDropout is 0.1, expected 0 with task kto',
  )
})

test('rows are read in all their forms', async () => {
  const [user, says] = [
    { role: 'user', content: 'Hi?' },
    { role: 'assistant', content: 'Ho.' },
  ]
  const forms = [
    { prompt: [user], completion: [says], label: true },
    { prompt: [user], completion: [says], label: 1 },
    { prompt: JSON.stringify([user]), completion: JSON.stringify([says]), label: 'True' },
  ]
  const chats: unknown[] = []
  const format = { format: 'unpaired_preference' } as const
  for await (const row of openDataset({ rows: forms, name: 'forms' }, format)) chats.push(row)
  for (const row of chats)
    expect(row).toMatchObject({ desirable: true, answer: { messages: [{ ...user, weight: 0 }, says] } })
  const bad = [false, 0, '0', 'FALSE'].map((label) => ({ prompt: 'a', completion: 'b', label }))
  for await (const row of openDataset({ rows: bad, name: 'bad' }, format))
    expect(row).toMatchObject({ desirable: false, answer: { prompt: 'a', completion: 'b' } })
})
