import { join } from 'node:path'
import { expect, test, vi } from 'vitest'
import { DataError } from '../../../../lib/core/errors.js'
import { groupAdvantages } from '../../../../lib/losses/advantages.js'
import type { Adapter, TrainControl } from '../../../../lib/model/adapter.js'
import { addon } from '../../../../lib/native/addon.js'
import type { TrainOptions } from '../../../../lib/options/types.js'
import { dylora } from '../../../../lib/strategies/dylora.js'
import { lora } from '../../../../lib/strategies/lora.js'
import { qlora } from '../../../../lib/strategies/qlora.js'
import type { ScoredRow } from '../../../../lib/tasks/metrics.js'
import type { Sample } from '../../../../lib/train/answers/sampled-answers.js'
import { dataset } from '../../../../lib/train/sources/data-sources.js'
import type { TrainStep } from '../../../../lib/train/steps/events.js'
import { relativeError } from '../../../parity/engine.js'
import { sweepTest } from '../../../sweep.js'
import { scratchFile, scratchFolder } from '../../scratch.js'
import { tinyLoader, trainedOn } from '../tiny-models.js'

const drawn: Sample[] = []
vi.mock(import('../../../../lib/train/answers/sampled-answers.js'), async (original) => {
  const real = await original()
  const drawAnswer: typeof real.drawAnswer = async (...asked) => {
    const answer = await real.drawAnswer(...asked)
    drawn.push(answer)
    return answer
  }
  return { ...real, drawAnswer }
})

const warnings: string[] = []
const load = tinyLoader()

async function attach(loraDropout = 0): Promise<Adapter> {
  warnings.length = 0
  const model = await load({ onWarning: (message) => void warnings.push(message) })
  return model.attach(lora({ r: 4, loraAlpha: 8, loraDropout }), { seed: 3 })
}

const rows = [...'abcdefgh'].map((letter) => ({ prompt: `Say ${letter}`, completion: `${letter}!` }))

/** Share of capital letters, which the tiny model writes at random. */
function capitals({ prediction }: ScoredRow): number {
  return [...prediction].filter((letter) => letter >= 'A' && letter <= 'Z').length / 12
}
const short = ({ prediction }: ScoredRow) => -0.01 * prediction.length

const options: Partial<TrainOptions> = {
  ...{ task: 'grpo', rewardFunctions: capitals, numGenerations: 6, maxCompletionLength: 12, maxSteps: 4 },
  ...{ perDeviceTrainBatchSize: 2, maxSeqLength: 64, learningRate: 5e-3, warmupRatio: 0 },
  ...{ lrSchedulerType: 'constant', seed: 5 },
}

const run = (adapter: Adapter, more: Partial<TrainOptions> & TrainControl = {}, data: object[] = rows) =>
  trainedOn(adapter, data, { ...options, ...more })
const numbers = ({ loss, gradNorm, reward, rewardStd, completionsMeanLength }: TrainStep) => [
  ...[loss, gradNorm, reward, rewardStd, completionsMeanLength],
]

sweepTest('rewarded answers become more frequent', async () => {
  const { steps } = await run(await attach(), {
    maxSteps: 30,
    perDeviceTrainBatchSize: 4,
    learningRate: 1e-2,
  })
  const mean = (some: TrainStep[]) => some.reduce((sum, { reward = 0 }) => sum + reward, 0) / some.length
  expect(mean(steps.slice(-5))).toBeGreaterThan(2 * mean(steps.slice(0, 5)))
})

test('tells what each function rewards, and how long answers are', async () => {
  const seen: ScoredRow[] = []
  const spy = (answer: ScoredRow) => {
    seen.push(answer)
    return 0
  }
  const counts: string[] = []
  const { steps } = await run(await attach(), {
    rewardFunctions: [capitals, short, spy],
    maxSteps: 1,
    onSampleProgress: ({ answers, totalAnswers }) => void counts.push(`${answers}/${totalAnswers}`),
  })
  expect(counts).toEqual(Array.from({ length: 12 }, (_, answer) => `${answer + 1}/12`))
  expect(seen).toHaveLength(12)
  for (const { prompt, expected } of seen) {
    const [, letter] = /^user\nSay (.)\nassistant\n$/.exec(prompt) ?? []
    expect(expected).toBe(`${letter}!`)
  }
  const mean = (of: (row: ScoredRow) => number) => seen.reduce((sum, row) => sum + of(row), 0) / seen.length
  const [step] = steps
  expect(step?.rewards).toEqual({ capitals: mean(capitals), short: mean(short), spy: 0 })
  expect(step?.reward).toBeCloseTo(mean(capitals) + mean(short), 12)
  expect(step).toMatchObject({ fracRewardZeroStd: 0, tokens: expect.any(Number) })
  expect(step?.supervisedTokens).toBe(Math.round(12 * (step?.completionsMeanLength ?? 0)))
  expect(step?.completionsClippedRatio).toBeGreaterThan(0)
})

/** A step on the drawn answers, whose loss, gradients, and advantages are those of TRL (test/parity/grpo.test.ts). */
async function customStep(lossType: 'dapo' | 'grpo' | 'dr_grpo') {
  const rewards = [0, 6].map((first) =>
    drawn.slice(first, first + 6).map(({ text }) => capitals({ prompt: '', expected: '', prediction: text })),
  )
  const advantages = groupAdvantages(rewards, 'group').flat()
  const answers = drawn.map(({ tokens, weights }, i) => ({ tokens, weights, advantages: advantages[i] }))
  const adapter = await attach()
  const normalize = lossType === 'grpo' ? 'sequence' : 'token'
  const { loss } = await adapter.forwardBackward(
    answers,
    { name: 'importance_sampling', clip: null, normalize },
    lossType === 'dr_grpo' ? { normalizer: 12 * 12 } : {},
  )
  const { gradNorm } = await adapter.optimStep({ learningRate: 5e-3, maxGradNorm: 1 })
  return { loss, gradNorm, adapter }
}

const valuesOf = ({ state }: Adapter) =>
  Float32Array.from(
    state.description.spec.parameters.flatMap(({ name }) => [...state.native.read(name, 'value')]),
  )

test.each(['dapo', 'grpo', 'dr_grpo'] as const)('a step by %s is one of a custom loop', async (lossType) => {
  drawn.length = 0
  const trained = await attach()
  const { steps } = await run(trained, { lossType, maxSteps: 1, maxGradNorm: 1 })
  const custom = await customStep(lossType)
  expect(steps[0]?.loss).toBeCloseTo(custom.loss, 9)
  expect((steps[0]?.gradNorm ?? 0) / custom.gradNorm).toBeCloseTo(1, 6)
  expect(custom.gradNorm).toBeGreaterThan(1e-3)
  expect(relativeError(valuesOf(trained), valuesOf(custom.adapter))).toBeLessThan(1e-4)
})

sweepTest('a step in other micro-batches is the same step', async () => {
  const made = async (perDeviceTrainBatchSize: number, gradientAccumulationSteps: number) => {
    const batch = { perDeviceTrainBatchSize, gradientAccumulationSteps }
    return (await run(await attach(), { ...batch, maxSteps: 2 })).steps
  }
  const [one, four] = [await made(4, 1), await made(1, 4)]
  expect(four[0]?.reward).toBe(one[0]?.reward)
  for (const [step, { loss, gradNorm }] of one.entries()) {
    expect(four[step]?.loss).toBeCloseTo(loss, 6)
    expect((four[step]?.gradNorm ?? 0) / gradNorm).toBeCloseTo(1, 3)
  }
})

test.each([{}, { evalFraction: 0.3, metricForBestModel: 'reward' as const }])(
  'a run with %j allocates what it planned',
  async (more) => {
    const total = () => Object.values(addon().allocated()).reduce((sum, bytes) => sum + bytes, 0)
    const training = (await attach()).train(rows, { ...options, ...more, maxSteps: 1 })
    for await (const _ of training) expect(total()).toBe(training.memory.peakBytes)
  },
)

sweepTest('resumed, a run goes on bit for bit', async () => {
  const held = { evalFraction: 0.25, evalSteps: 2, metricForBestModel: 'reward' as const }
  const whole = await run(await attach(), held)
  const outputDir = join(scratchFolder(), 'out')
  const more = { ...held, outputDir, saveSteps: 2 }
  for await (const { step } of (await attach()).train(rows, { ...options, ...more })) if (step === 3) break
  const resumed = await run(await attach(), { ...more, resume: join(outputDir, 'checkpoint-2') })
  expect(resumed.steps.map(numbers)).toEqual(whole.steps.slice(2).map(numbers))
  expect(resumed.evaluations.at(-1)?.reward).toBe(whole.evaluations.at(-1)?.reward)
  expect(whole.done.best?.metric).toBe('reward')
  const other = { ...more, force: true, resume: join(outputDir, 'checkpoint-2'), rewardFunctions: short }
  await expect(run(await attach(), other)).rejects.toThrow('reward_functions is ["capitals"] there')
})

test('equal rewards teach nothing, and the run says so once', async () => {
  const { steps } = await run(await attach(), { rewardFunctions: [() => 2], maxSteps: 2 })
  for (const step of steps) {
    expect(step).toMatchObject({ reward: 2, rewardStd: 0, fracRewardZeroStd: 1, gradNorm: 0 })
    expect(step.rewards).toEqual({ reward_1: 2 })
  }
  const said = warnings.filter((message) => message.startsWith('all answers to each prompt'))
  expect(said).toHaveLength(1)
})

for (const where of ['in a reward function', 'in the sampling'])
  sweepTest(`a run that is stopped ${where} keeps its last step`, async () => {
    const outputDir = join(scratchFolder(), 'out')
    const controller = new AbortController()
    const stop = () => controller.abort(new Error('enough'))
    let calls = 0
    const rewards = (answer: ScoredRow) => {
      if (++calls !== 25) return capitals(answer)
      if (where === 'in the sampling') setTimeout(stop, 1)
      else stop()
      return where === 'in the sampling' ? 0 : new Promise<number>(() => undefined)
    }
    const more = { rewardFunctions: rewards, outputDir, signal: controller.signal }
    await expect(run(await attach(), { ...more, maxSteps: 8 })).rejects.toThrow('enough')
    const resumed = await run(await attach(), {
      outputDir,
      resume: true,
      rewardFunctions: rewards,
      maxSteps: 8,
    })
    expect(resumed.steps[0]?.step).toBeGreaterThan(1)
    expect(resumed.steps.at(-1)?.step).toBe(8)
  })

test('functions are exported by modules', async () => {
  const path = scratchFile(
    'rewards.mjs',
    'export const wordy = ({ prediction }) => prediction.length\nexport const limit = 3\nexport const same = async ({ prediction, expected }) => Number(prediction === expected)\n',
  )
  const { steps } = await run(await attach(), { rewardFunctions: [path, short], maxSteps: 1 })
  expect(Object.keys(steps[0]?.rewards ?? {})).toEqual(['same', 'wordy', 'short'])
})

sweepTest('a function that fails ends the run with a checkpoint', async () => {
  const outputDir = join(scratchFolder(), 'out')
  const failing = (result: (calls: number) => unknown) => {
    let calls = 0
    const bad = () => (++calls > 12 ? result(calls) : calls) as number
    return run(adapter, { rewardFunctions: bad, outputDir, force: true })
  }
  const adapter = await attach()
  const cases: [() => unknown, string][] = [
    [() => Number.NaN, 'the reward function bad returned NaN for the answer "'],
    [() => '1', 'the reward function bad returned 1 for the answer "'],
    [() => undefined, 'the reward function bad returned undefined for the answer "'],
    [
      () => {
        throw new Error('no judge')
      },
      'the reward function bad failed on the answer "',
    ],
    [() => Promise.reject(new Error('no judge')), ': no judge'],
  ]
  for (const [result, message] of cases) {
    const error = await failing(result).catch((caught: unknown) => caught)
    expect(error).toBeInstanceOf(DataError)
    expect((error as Error).message).toContain(message)
  }
  const bad = () => 1
  const { steps } = await run(adapter, { rewardFunctions: bad, outputDir, resume: true })
  expect(steps[0]?.step).toBe(2)
})

test('wrong use is one error', async () => {
  const adapter = await attach()
  const empty = scratchFile('empty.mjs', 'export const limit = 3\n')
  const broken = scratchFile('broken.mjs', 'export const = 3\n')
  const twice = scratchFile('twice.mjs', 'export const short = () => 0\n')
  const cases: [Partial<TrainOptions> & TrainControl, string][] = [
    [
      { rewardFunctions: null },
      'rewardFunctions is missing, expected functions that score the answers of task grpo, or',
    ],
    [{ rewardFunctions: [] }, 'rewardFunctions is [], expected a function, the path of a module'],
    [{ rewardFunctions: 7 as never }, 'rewardFunctions is 7, expected a function, the path of a module'],
    [{ numGenerations: 1 }, 'numGenerations is 1, expected an integer from 2'],
    [{ maxCompletionLength: 0 }, 'maxCompletionLength is 0'],
    [{ scaleRewards: 'all' as never }, 'scaleRewards is "all", expected one of group, batch, none'],
    [{ lossType: 'ipo' }, 'lossType is "ipo", expected one of dapo, grpo, dr_grpo with task grpo'],
    [{ beta: 0.1 }, 'beta is 0.1, expected it to be absent with task grpo'],
    [
      { optimizerInBackward: true, maxGradNorm: 0 },
      'optimizerInBackward is true, expected false with task grpo',
    ],
    [{ trainOn: 'all' }, 'trainOn is "all"'],
    [{ neftuneNoiseAlpha: 5 }, 'neftuneNoiseAlpha is 5'],
    [{ reasoningHistory: 'drop' }, 'reasoningHistory is "drop", expected keep with task grpo'],
    [{ task: 'causal_lm' }, 'expected it to be absent with task causal_lm; it belongs to grpo'],
    [
      { evalFraction: 0.3, metricForBestModel: 'rewards_margins' },
      'expected one of loss, perplexity, exact_match, mean_token_accuracy, f1, reward with task grpo',
    ],
    [{ rewardFunctions: empty }, 'empty.mjs exports no reward function; export one such as'],
    [{ rewardFunctions: broken }, 'broken.mjs cannot be loaded: '],
    [
      { rewardFunctions: '/nowhere/rewards.ts' },
      'the reward functions of /nowhere/rewards.ts cannot be loaded',
    ],
    [{ rewardFunctions: [short, twice] }, 'two reward functions have the name short; rename one'],
  ]
  for (const [more, message] of cases)
    await expect(async () => run(adapter, more), message).rejects.toThrow(message)
  const documents = [...rows, { text: 'all of it' }].map(({ ...row }) => ({ text: JSON.stringify(row) }))
  await expect(run(adapter, {}, documents)).rejects.toThrow(
    '9 of 9 rows have no prompt before what is trained on',
  )
  const streamed = dataset(rows, { streaming: true })
  expect(() => adapter.train(streamed, options)).toThrow(
    'dataset.streaming is true, expected false with task grpo',
  )
  await expect(run(await attach(0.1))).rejects.toThrow(
    'strategy.loraDropout is 0.1, expected 0 with task grpo',
  )
  const model = await load({ quantization: 'nf4' })
  const wrapped = await model.attach(qlora({ adapter: lora({ loraDropout: 0.1 }) }))
  expect(() => wrapped.train(rows, options)).toThrow('strategy.adapter.loraDropout is 0.1, expected 0')
  await expect(run(await (await load()).attach(dylora()))).rejects.toThrow(
    'task is "grpo", expected another task with strategy dylora',
  )
})
