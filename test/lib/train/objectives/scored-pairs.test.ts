import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { openDataset } from '../../../../lib/data/dataset.js'
import type { Adapter, TrainControl } from '../../../../lib/model/adapter.js'
import type { Model } from '../../../../lib/model/model.js'
import { addon } from '../../../../lib/native/addon.js'
import type { TrainOptions } from '../../../../lib/options/types.js'
import { full } from '../../../../lib/strategies/full.js'
import { lora } from '../../../../lib/strategies/lora.js'
import { loraDrop } from '../../../../lib/strategies/lora-drop.js'
import type { TrainStep } from '../../../../lib/train/steps/events.js'
import { sweepTest } from '../../../sweep.js'
import { scratchFolder } from '../../scratch.js'
import { tinyLoader, trainedOn } from '../tiny-models.js'

const load = tinyLoader()

async function attach(seed = 3, model?: Model): Promise<Adapter> {
  return (model ?? (await load())).attach(lora({ r: 4, loraAlpha: 8 }), { seed })
}

const letters = [...'abcdefghijkl']
const rows = letters.map((letter, i) => ({
  prompt: `A word with ${letter}?`,
  chosen: `${letter} is good${' and fine'.repeat(i % 3)}.`,
  rejected: `No ${i} bad.`,
}))

const options: Partial<TrainOptions> = {
  task: 'dpo',
  maxSteps: 4,
  perDeviceTrainBatchSize: 2,
  gradientAccumulationSteps: 2,
  maxSeqLength: 96,
  learningRate: 5e-3,
  warmupRatio: 0,
  lrSchedulerType: 'constant',
}

const run = (adapter: Adapter, more: Partial<TrainOptions> & TrainControl = {}, data: object[] = rows) =>
  trainedOn(adapter, data, { ...options, ...more })

test('dpo begins at ln 2 in every packing, and prefers the chosen answers of held-out pairs in the end', async () => {
  const control = { evalFraction: 0.25, maxSteps: 6, metricForBestModel: 'rewards_margins' as const }
  const { steps, evaluations, done } = await run(await attach(), control)
  const [first] = steps
  expect(first?.loss).toBeCloseTo(Math.LN2, 15)
  expect(first).toMatchObject({ rewardsMargins: 0, rewardsAccuracies: 0 })
  expect(evaluations[0]?.loss).toBeCloseTo(Math.LN2, 15)
  expect(steps.at(-1)?.loss).toBeLessThan(0.5)
  expect(evaluations.at(-1)).toMatchObject({ rewardsAccuracies: 1 })
  const margin = evaluations.at(-1)?.rewardsMargins
  expect(margin).toBeGreaterThan(0.1)
  expect(done.best).toMatchObject({ metric: 'rewards_margins', value: margin, step: 6 })
})

test('the reference is the adapter as the run begins, not the base', async () => {
  const adapter = await attach()
  await run(adapter)
  const again = await run(adapter, { maxSteps: 1 })
  expect(again.steps[0]?.loss).toBeCloseTo(Math.LN2, 15)
  const ipo = await run(adapter, { maxSteps: 1, lossType: 'ipo', beta: 0.5 })
  expect(ipo.steps[0]?.loss).toBeCloseTo(1, 15)
})

test('full fine-tuning updates in the backward pass as after it', async () => {
  const whole = { gradientAccumulationSteps: 1, maxGradNorm: 0, optimizer: 'adamw', maxSteps: 2 } as const
  const [after, within] = await Promise.all(
    [false, true].map(async (optimizerInBackward) => {
      const adapter = await (await load()).attach(full())
      const { steps } = await run(adapter, { ...whole, optimizerInBackward })
      return steps.map(({ loss }) => loss)
    }),
  )
  expect(within).toEqual(after)
})

test.each([false, true])(
  'a loss that diverges is named, and its step changes nothing: in backward %s',
  async (within) => {
    const adapter = await attach()
    const more = {
      gradientAccumulationSteps: 1,
      maxGradNorm: 0,
      learningRate: 1e30,
      optimizerInBackward: within,
    }
    await expect(run(adapter, more)).rejects.toThrow(
      /^training diverged: the loss is (NaN|-?Infinity) at step 2\. The adapter is in its state after step 1\./,
    )
  },
)

sweepTest('a window in other micro-batches is the same window', async () => {
  const norms = async (more: Partial<TrainOptions>) => {
    const { steps } = await run(await attach(), { ...more, maxSteps: 2, seed: 5 }, rows.slice(0, 4))
    return steps.map(({ loss, gradNorm }) => [loss, gradNorm])
  }
  const one = await norms({ perDeviceTrainBatchSize: 4, gradientAccumulationSteps: 1 })
  const four = await norms({ perDeviceTrainBatchSize: 1, gradientAccumulationSteps: 4, packing: false })
  for (const [step, [loss = 0, norm = 0]] of one.entries()) {
    expect(four[step]?.[0]).toBeCloseTo(loss, 5)
    expect((four[step]?.[1] ?? 0) / norm).toBeCloseTo(1, 4)
  }
  const orpo = await norms({ task: 'orpo', perDeviceTrainBatchSize: 4, gradientAccumulationSteps: 1 })
  const apart = await norms({
    task: 'orpo',
    perDeviceTrainBatchSize: 1,
    gradientAccumulationSteps: 4,
    packing: false,
  })
  expect((apart[0]?.[1] ?? 0) / (orpo[0]?.[1] ?? 1)).toBeCloseTo(1, 4)
})

test('orpo learns the chosen answers too', async () => {
  const { steps } = await run(await attach(), { task: 'orpo', maxSteps: 6 })
  const [first, last] = [steps[0], steps.at(-1)]
  expect(last?.nllLoss).toBeLessThan(first?.nllLoss as number)
  expect(first?.loss).toBeCloseTo((first?.nllLoss as number) - 0.1 * (first?.logOddsRatio as number), 6)
})

test('the log-likelihood of orpo is that of prompts and answers, or with nllOn of answers alone', async () => {
  const model = await load()
  const pairs = rows.slice(0, 4)
  const likelihood = async (trainOn: 'all' | 'completions') => {
    const data = pairs.map(({ prompt, chosen }) => ({ prompt, completion: chosen }))
    return (await model.evaluate(data, { trainOn, maxSeqLength: 96 })).loss
  }
  const control = {
    task: 'orpo',
    maxSteps: 1,
    perDeviceTrainBatchSize: 4,
    gradientAccumulationSteps: 1,
  } as const
  const orpo = async (nllOn: 'all' | 'completions' | null) => {
    const { steps, evaluations } = await run(
      await attach(3, model),
      { ...control, nllOn, evalDataset: pairs, learningRate: 1e-30 },
      pairs,
    )
    expect(evaluations.at(-1)?.nllLoss).toBeCloseTo(steps[0]?.nllLoss as number, 5)
    return steps[0]
  }
  const [whole, answers, usual] = [await orpo('all'), await orpo('completions'), await orpo(null)]
  expect(whole?.nllLoss).toBeCloseTo(await likelihood('all'), 5)
  expect(answers?.nllLoss).toBeCloseTo(await likelihood('completions'), 5)
  expect(whole?.nllLoss).not.toBeCloseTo(answers?.nllLoss as number, 2)
  expect(usual).toMatchObject({ loss: whole?.loss, gradNorm: whole?.gradNorm })
  expect(whole?.logOddsRatio).toBeCloseTo(answers?.logOddsRatio as number, 6)
})

test('a run of orpo resumes with the tokens of its log-likelihood, and with no others', async () => {
  const outputDir = join(scratchFolder(), 'out')
  const more = { task: 'orpo', outputDir, saveSteps: 2 } as const
  const whole = await run(await attach(), { ...more, outputDir: join(scratchFolder(), 'whole') })
  for await (const { step } of (await attach()).train(rows, { ...options, ...more })) if (step === 3) break
  const resume = join(outputDir, 'checkpoint-2')
  await expect(run(await attach(), { ...more, nllOn: 'completions', resume })).rejects.toThrow(/nllOn|nll_on/)
  const resumed = await run(await attach(), { ...more, resume })
  expect(resumed.steps.map(({ loss }) => loss)).toEqual(whole.steps.slice(2).map(({ loss }) => loss))
})

test('a run allocates what it planned', async () => {
  const adapter = await attach()
  const total = () => Object.values(addon().allocated()).reduce((sum, bytes) => sum + bytes, 0)
  for (const task of ['dpo', 'orpo'] as const) {
    const training = adapter.train(rows, { ...options, task, maxSteps: 1 })
    for await (const _ of training) expect(total()).toBe(training.memory.peakBytes)
  }
})

test('resumed, a run reads its reference and goes on bit for bit', async () => {
  const whole = await run(await attach(), { evalFraction: 0.25, evalSteps: 2 })
  const outputDir = join(scratchFolder(), 'out')
  const more = { evalFraction: 0.25, evalSteps: 2, outputDir, saveSteps: 2 }
  for await (const { step } of (await attach()).train(rows, { ...options, ...more })) if (step === 3) break
  const path = join(outputDir, 'reference.json')
  const kept = readFileSync(path, 'utf8')
  const resumed = await run(await attach(), { ...more, resume: join(outputDir, 'checkpoint-2') })
  const numbers = ({ loss, gradNorm, rewardsMargins }: TrainStep) => [loss, gradNorm, rewardsMargins]
  expect(resumed.steps.map(numbers)).toEqual(whole.steps.slice(2).map(numbers))
  expect(resumed.evaluations.at(-1)?.loss).toBe(whole.evaluations.at(-1)?.loss)
  expect(readFileSync(path, 'utf8')).toBe(kept)
  writeFileSync(path, kept.replace(/"train":"..../, '"train":"BBBB'))
  const again = { ...more, force: true, resume: join(outputDir, 'checkpoint-2') }
  await expect(run(await attach(), again)).rejects.toThrow('reference.json is damaged')
  rmSync(path)
  await expect(run(await attach(), again)).rejects.toThrow('cannot be read')
  expect(existsSync(path)).toBe(false)
})

test('wrong use is one error', async () => {
  const model = await load()
  const adapter = await attach(3, model)
  const refused = (more: Partial<TrainOptions> & TrainControl, data: object[] = rows) =>
    run(adapter, { maxSteps: 1, ...more }, data)
  const [row] = rows as [(typeof rows)[number]]
  const cases: [() => Promise<unknown>, string][] = [
    [
      () => refused({}, [{ prompt: 'a', chosen: 'b' }]),
      'row 1: expected {"prompt": …, "chosen": …, "rejected": …}, but there is no "rejected"',
    ],
    [() => refused({}, [{ ...row, rejected: row.chosen }]), '"chosen" and "rejected" are equal'],
    [() => refused({}, [{ prompt: 'a', completion: 'b' }]), 'there is no "chosen"'],
    [() => refused({ beta: 0 }), 'beta is 0'],
    [() => refused({ nllOn: 'all' }), 'nllOn is "all", expected it to be absent with task dpo'],
    [() => refused({ labelSmoothing: 0.5 }), 'labelSmoothing is 0.5'],
    [() => refused({ labelSmoothing: 0.1, lossType: 'ipo' }), 'labelSmoothing is 0.1'],
    [
      () => refused({ task: 'orpo', lossType: 'ipo' }),
      'lossType is "ipo", expected it to be absent with task orpo',
    ],
    [
      () => refused({ task: 'causal_lm', beta: 0.1 }),
      'beta is 0.1, expected it to be absent with task causal_lm',
    ],
    [() => refused({ trainOn: 'all' }), 'trainOn is "all"'],
    [() => refused({ task: 'causal_lm' }), 'set task: dpo or task: orpo'],
  ]
  for (const [refusal, message] of cases) await expect(refusal(), message).rejects.toThrow(message)
  const dropped = await model.attach(lora({ r: 2, loraDropout: 0.1 }))
  await expect(run(dropped)).rejects.toThrow('strategy.loraDropout is 0.1, expected 0 with task dpo')
  await expect(model.probe(loraDrop(), rows, { task: 'dpo' })).rejects.toThrow('task is "dpo"')
})

test('pairs are read in all their forms', async () => {
  const user = { role: 'user', content: 'Hi?' }
  const says = (content: string) => ({ role: 'assistant', content })
  const [good, bad] = [says('good'), says('bad')]
  const forms = [
    { prompt: [user], chosen: [good], rejected: [bad] },
    { chosen: [user, good], rejected: [user, bad] },
    { prompt: 'Hi?', chosen: [user, good], rejected: [user, bad] },
    { messages: [user], chosen: good, rejected: bad },
    {
      conversations: [{ from: 'human', value: 'Hi?' }],
      chosen: { from: 'gpt', value: 'good' },
      rejected: { from: 'gpt', value: 'bad' },
    },
    { prompt: JSON.stringify([user]), chosen: JSON.stringify([good]), rejected: JSON.stringify([bad]) },
  ]
  const read = openDataset({ rows: forms, name: 'forms' }, { format: 'preference' })
  let count = 0
  for await (const found of read) {
    count++
    expect(found).toMatchObject({
      format: 'preference',
      chosen: { messages: [{ ...user, weight: 0 }, good] },
      rejected: { messages: [{ ...user, weight: 0 }, bad] },
    })
  }
  expect(count).toBe(forms.length)
  const wrong = [
    [{ chosen: [user, good], rejected: [user] }, '"rejected" must end with an answer of the assistant'],
    [{ prompt: 'Ho?', chosen: [user, good], rejected: [user, bad] }, 'do not begin with the "prompt"'],
    [{ chosen: [good], rejected: [bad] }, 'there is no "prompt"'],
    [{ prompt: [user], chosen: 'good', rejected: 'bad' }, 'make all of them lists'],
    [{ chosen: 'good', rejected: 'bad' }, 'there is no "prompt"'],
  ] as const
  for (const [row, message] of wrong) {
    const rows = openDataset({ rows: [row], name: 'wrong' }, { format: 'preference' })
    await expect(rows.next(), message).rejects.toThrow(message)
  }
})
