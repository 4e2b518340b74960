/** Task grpo on prompts without answers, whose other columns reach the reward functions. */
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { Adapter, TrainControl } from '../../../../lib/model/adapter.js'
import type { TrainOptions } from '../../../../lib/options/types.js'
import { lora } from '../../../../lib/strategies/lora.js'
import type { RewardedAnswer } from '../../../../lib/tasks/rewards.js'
import { dataset } from '../../../../lib/train/sources/data-sources.js'
import type { TrainStep } from '../../../../lib/train/steps/events.js'
import { scratchFile, scratchFolder } from '../../scratch.js'
import { tinyLoader, trainedOn } from '../tiny-models.js'

const load = tinyLoader()
const attach = async (): Promise<Adapter> => (await load()).attach(lora({ r: 4 }), { seed: 3 })

const user = (content: string) => ({ role: 'user', content })
const prompts = [...'abcdefgh'].map((letter, index) => ({
  ...{ messages: [{ role: 'system', content: 'Be brief.' }, user(`Say ${letter}`)] },
  ...{ letter: letter.toUpperCase(), about: { index, arguments: { rate: 1.0 }, words: ['x'] } },
}))

function capitals({ prediction }: RewardedAnswer): number {
  return [...prediction].filter((letter) => letter >= 'A' && letter <= 'Z').length / 12
}

const options: Partial<TrainOptions> = {
  ...{ task: 'grpo', rewardFunctions: capitals, numGenerations: 4, maxCompletionLength: 12, maxSteps: 4 },
  ...{ perDeviceTrainBatchSize: 2, maxSeqLength: 96, learningRate: 5e-3, warmupRatio: 0, seed: 5 },
}
const run = (adapter: Adapter, more: Partial<TrainOptions> & TrainControl = {}, data: object[] = prompts) =>
  trainedOn(adapter, data, { ...options, ...more })
const numbers = ({ loss, gradNorm, reward, rewardStd }: TrainStep) => [loss, gradNorm, reward, rewardStd]

test('a function gets the prompt as it is asked, and the other columns of its row', async () => {
  const seen: RewardedAnswer[] = []
  const spy = (answer: RewardedAnswer) => seen.push(answer)
  const { steps } = await run(await attach(), { rewardFunctions: spy, maxSteps: 4 })
  expect(steps).toHaveLength(4)
  expect(seen).toHaveLength(8 * 4)
  for (const { prompt, expected, item } of seen) {
    const [, letter] = /^system\nBe brief\.\nuser\nSay (.)\nassistant\n$/.exec(prompt) ?? []
    const { messages: _, ...rest } = prompts.find((row) => row.letter.toLowerCase() === letter) as object & {
      messages: object[]
    }
    expect(item).toEqual(rest)
    expect(expected).toBe('')
  }
})

test('rows with answers and without are mixed, and a chat with earlier answers is a prompt as a whole', async () => {
  const answer = { role: 'assistant', content: 'b!' }
  const seen = new Map<string, string>()
  const spy = ({ prompt, expected, item }: RewardedAnswer) => {
    seen.set(prompt, `${expected} ${JSON.stringify(item)}`)
    return 0
  }
  const mixed = [
    { messages: [user('Say b'), answer], n: 1 },
    { messages: [user('Say b'), answer, user('And c')], n: 2 },
    { messages: [user('Say d')] },
  ]
  await run(await attach(), { rewardFunctions: spy, numTrainEpochs: 1, maxSteps: null }, mixed)
  expect(Object.fromEntries(seen)).toEqual({
    'user\nSay b\nassistant\n': 'b! {"n":1}',
    'user\nSay b\nassistant\nb!\nuser\nAnd c\nassistant\n': ' {"n":2}',
    'user\nSay d\nassistant\n': ' {}',
  })
})

test('columns of prompt and completion, and of a file, are items too', async () => {
  const items: unknown[] = []
  const spy = ({ item }: RewardedAnswer) => items.push(item)
  const row = (n: number) => ({ question: `Say ${n}`, completion: `${n}!`, unit: 'cm', n })
  const path = scratchFile('rows.jsonl', `${JSON.stringify(row(7))}\n${JSON.stringify(row(8))}\n`)
  const data = dataset(path, { columns: { prompt: 'question' } })
  const training = (await attach()).train(data, { ...options, rewardFunctions: spy, maxSteps: 1 })
  for await (const _ of training);
  expect(new Set(items.map((item) => JSON.stringify(item)))).toEqual(
    new Set(['{"unit":"cm","n":7}', '{"unit":"cm","n":8}']),
  )
})

test('held-out prompts are rewarded, and have no loss', async () => {
  const outputDir = join(scratchFolder(), 'out')
  const evalDataset = [...prompts.slice(0, 3), { messages: [user('x'.repeat(20))], letter: 'X' }]
  const items: unknown[] = []
  const spy = ({ item, prediction }: RewardedAnswer) => {
    items.push(item.letter)
    return prediction.length
  }
  const held = { ...{ evalSteps: 2, metricForBestModel: 'reward' as const }, evalDataset, outputDir }
  const { evaluations } = await run(await attach(), { ...held, rewardFunctions: spy, saveSteps: 2 })
  expect(evaluations.map(({ step }) => step)).toEqual([0, 2, 4])
  for (const { loss, reward } of evaluations) {
    expect(loss).toBeNaN()
    // Not cut as short as the answers of data that has none would be.
    expect(reward).toBeGreaterThan(9)
  }
  expect(items.slice(0, 4)).toEqual(['A', 'B', 'C', 'X'])
  await expect(run(await attach(), { evalDataset, evalSteps: 2 })).rejects.toThrow(
    'metric_for_best_model is loss, but the held-out rows are prompts without answers, which have no loss; set metric_for_best_model: reward.',
  )
  const answered = { messages: [user('Say b'), { role: 'assistant', content: 'b' }] }
  const both = await run(await attach(), { ...held, evalDataset: [...evalDataset, answered], force: true })
  const alone = await run(await attach(), { ...held, evalDataset: [answered], force: true })
  expect(both.evaluations[0]?.loss).toBeCloseTo(alone.evaluations[0]?.loss ?? 0, 6)
  expect(both.evaluations[0]?.supervisedTokens).toBe(alone.evaluations[0]?.supervisedTokens)
})

test('a run that is resumed goes on bit for bit, and not with other items', async () => {
  const whole = await run(await attach())
  const outputDir = join(scratchFolder(), 'out')
  const more = { outputDir, saveSteps: 2 }
  for await (const { step } of (await attach()).train(prompts, { ...options, ...more })) if (step === 2) break
  const resume = { ...more, resume: join(outputDir, 'checkpoint-2') }
  const resumed = await run(await attach(), resume)
  expect(resumed.steps.map(numbers)).toEqual(whole.steps.slice(2).map(numbers))
  const others = prompts.map((row) => ({ ...row, letter: 'Z' }))
  await expect(run(await attach(), { ...resume, force: true }, others)).rejects.toThrow(/data/)
})

test('a prompt that leaves no room for an answer is an error, or dropped', async () => {
  const long = { messages: [user('a'.repeat(120))] }
  await expect(run(await attach(), {}, [...prompts, long])).rejects.toThrow(
    /row 9: the prompt has \d+ tokens, which leaves no room for an answer: max_seq_length is 96; raise max_seq_length/,
  )
  const training = (await attach()).train(dataset([...prompts, long], { emptyRows: 'drop' }), {
    ...options,
    maxSteps: 1,
  })
  for await (const _ of training);
  await expect(run(await attach(), { task: 'causal_lm', rewardFunctions: null, ...plain })).rejects.toThrow(
    'there is no assistant message; task: grpo takes such a row as a prompt',
  )
})

const plain = { numGenerations: null, maxCompletionLength: null }
