/** Metrics of answers at the evaluations of a run, against what the loaded model says of the same rows. */

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeAll, expect, test } from 'vitest'
import type { Adapter, TrainControl } from '../../../../lib/model/adapter.js'
import { loadModel } from '../../../../lib/model/load.js'
import type { Model } from '../../../../lib/model/model.js'
import type { TrainOptions } from '../../../../lib/options/types.js'
import { lora } from '../../../../lib/strategies/lora.js'
import type { ScoredRow } from '../../../../lib/tasks/metrics.js'
import { resolveConfig } from '../../../../lib/train/config/config.js'
import { wordF1 } from '../../../../lib/train/measures/answer-scores.js'
import type { AnswersEvent, EvalEvent, TrainEvent } from '../../../../lib/train/steps/events.js'
import { chats, tinyModel } from '../../../e2e/tiny-model.js'
import { sweepTest } from '../../../sweep.js'
import { scratchFile, scratchFolder } from '../../scratch.js'

let folder: string
let data: string
let held: string
beforeAll(() => {
  folder = tinyModel()
  data = scratchFile('train.jsonl', chats(60))
  held = scratchFile('held.jsonl', chats(4))
})

const loaded: Model[] = []
afterEach(async () => {
  for (const model of loaded.splice(0)) await model.dispose()
})

async function attached(): Promise<[Model, Adapter]> {
  const model = await loadModel(folder, { precision: 'fp32' })
  loaded.push(model)
  return [model, await model.attach(lora({ r: 4, loraAlpha: 8 }), { seed: 1 })]
}

type Options = Partial<TrainOptions> & TrainControl

async function train(
  adapter: Adapter,
  more: Options,
  until?: (event: TrainEvent) => boolean,
  rows: string = data,
) {
  const run = adapter.train(rows, {
    ...{ maxSteps: 24, maxSeqLength: 64, perDeviceTrainBatchSize: 2, learningRate: 0.01, warmupSteps: 0 },
    ...{ lrSchedulerType: 'constant', evalSteps: 12, seed: 7, evalDataset: held },
    ...more,
  })
  const events: TrainEvent[] = []
  for await (const event of run.events()) {
    events.push(event)
    if (until?.(event)) break
  }
  return events
}

const evaluationsOf = (events: readonly TrainEvent[]) =>
  events.filter((event): event is EvalEvent => event.event === 'eval')

/** The held-out rows as the trained model answers them, one by one. */
async function generated(model: Model): Promise<Pick<ScoredRow, 'expected' | 'prediction'>[]> {
  const rows: Pick<ScoredRow, 'expected' | 'prediction'>[] = []
  for (const line of readFileSync(held, 'utf8').trim().split('\n')) {
    const [question, answer] = JSON.parse(line).messages
    const { text } = await model.generate([question], { maxNewTokens: 64 })
    rows.push({ expected: answer.content, prediction: text })
  }
  return rows
}

const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length

test('a run whose held-out rows have no prompt says that it answers none', async () => {
  const warnings: string[] = []
  const model = await loadModel(folder, { precision: 'fp32', onWarning: (text) => void warnings.push(text) })
  loaded.push(model)
  const adapter = await model.attach(lora({ r: 4, loraAlpha: 8 }), { seed: 1 })
  const texts = scratchFile('texts.jsonl', '{"text": "Nothing"}\n'.repeat(4))
  const until = ({ event }: TrainEvent) => event === 'step'
  const events = await train(adapter, { maxSteps: 1, evalDataset: texts, evalGenerate: 2 }, until)
  expect(answersIn(events)).toEqual([])
  expect(warnings).toEqual([
    'eval_generate is 2, but no held-out row begins with a question and an answer, so no answers are shown.',
  ])
})

test('accuracy and F1 are those of the model after the same steps, and choose the best', async () => {
  const [model, adapter] = await attached()
  const outputDir = scratchFolder()
  const events = await train(adapter, { outputDir, metricForBestModel: 'f1', loadBestModelAtEnd: true })
  const evaluations = evaluationsOf(events)
  const values = evaluations.map(({ f1 }) => f1 as number)
  expect(values[2]).toBeGreaterThan(values[0] as number)
  expect(events.at(-1)).toMatchObject({ best: { metric: 'f1', value: Math.max(...values), step: 24 } })
  expect(mean((await generated(model)).map(wordF1))).toBeCloseTo(values[2] as number, 12)
  const [, other] = await attached()
  const last = evaluationsOf(await train(other, { metricForBestModel: 'mean_token_accuracy' })).at(-1)
  expect(last?.meanTokenAccuracy).toBe((await model.exactMatch(held, { maxSeqLength: 64 })).meanTokenAccuracy)
  expect(last?.f1).toBeUndefined()
})

test('a row without a prompt, which cannot be answered, does not count in F1', async () => {
  const asked = '{"prompt": "one two", "completion": " three"}\n'.repeat(4)
  const mixed = `${asked}{"prompt": "", "completion": " four"}\n`
  const found = await Promise.all(
    [asked, mixed].map(async (rows) => {
      const [, adapter] = await attached()
      const file = scratchFile('rows.jsonl', rows)
      const until = ({ event }: TrainEvent) => event === 'step'
      const options: Options = { evalDataset: file, chatTemplate: false, metricForBestModel: 'f1' }
      const events = await train(adapter, options, until, file)
      return evaluationsOf(events).map(({ f1 }) => f1)
    }),
  )
  expect(found[0]).toHaveLength(1)
  expect(found[1]).toEqual(found[0])
})

sweepTest('a function scores the generated answers, and a run that was cut off goes on with it', async () => {
  const seen: ScoredRow[] = []
  const score = (row: ScoredRow) => {
    seen.push(row)
    return wordF1(row) + 1
  }
  const metric = { name: 'own', score, higherIsBetter: true }
  const control = { metricForBestModel: metric, loadBestModelAtEnd: true, saveSteps: 6 }
  const whole = scratchFolder()
  const [model, adapter] = await attached()
  const events = await train(adapter, { ...control, outputDir: whole })
  const evaluations = evaluationsOf(events)
  const values = evaluations.map(({ scores }) => scores?.own as number)
  expect(events.at(-1)).toMatchObject({ best: { metric: 'own', value: Math.max(...values) } })
  expect(seen.length).toBe(3 * 4)
  const last = (events.at(-1) as { best: { keptStep: number } }).best.keptStep
  const kept = evaluations.findIndex(({ step }) => step === last)
  const rows = seen.slice(4 * kept, 4 * (kept + 1))
  expect(rows.map(({ expected, prediction }) => ({ expected, prediction }))).toEqual(await generated(model))
  expect(rows[0]?.prompt).toContain('Colour of sky 0?')

  const outputDir = scratchFolder()
  const cut = (event: TrainEvent) => event.event === 'step' && event.step === 19
  await train((await attached())[1], { ...control, outputDir }, cut)
  const rest = await train((await attached())[1], { ...control, outputDir, resume: true })
  expect(rest.at(-1)).toMatchObject({ best: (events.at(-1) as { best: object }).best })
  const adapterOf = (path: string) => readFileSync(join(path, 'adapter_model.safetensors'), 'base64')
  expect(adapterOf(outputDir)).toBe(adapterOf(whole))
  const lines = readFileSync(join(outputDir, 'metrics.jsonl'), 'utf8').trim().split('\n')
  const scored = lines.map((line) => JSON.parse(line)).filter(({ event }) => event === 'eval')
  expect(scored.map(({ scores }) => scores)).toEqual(values.map((own) => ({ own })))

  await expect(
    train((await attached())[1], {
      ...{ ...control, outputDir, resume: join(outputDir, 'checkpoint-12') },
      metricForBestModel: { name: 'other', score },
    }),
  ).rejects.toThrow('metric_for_best_model is "own" there and "other" here')
})

test('metrics that cannot be computed are one error before the first step', async () => {
  const [, adapter] = await attached()
  const refused = (more: Options) => train(adapter, more)
  const own = (name: string) => ({ name, score: () => Number.NaN })
  const cases: [Options, string][] = [
    [
      { metricForBestModel: 'rewards_margins' },
      'metricForBestModel is "rewards_margins", expected one of loss, perplexity, exact_match, mean_token_accuracy, f1 with task causal_lm.',
    ],
    [
      { metricForBestModel: 'f2' as never },
      'expected one of loss, perplexity, exact_match, mean_token_accuracy, accuracy, f1, rewards_accuracies, rewards_margins, reward, or { name, score }.',
    ],
    [{ metricForBestModel: own('f1') }, 'expected another name than f1, which is a metric of lowrank'],
    [{ metricForBestModel: own('own') }, 'train(): metric own returned NaN for a row'],
    [
      { task: 'orpo', metricForBestModel: own('own') },
      'expected one of loss, rewards_accuracies, rewards_margins with task orpo',
    ],
    [
      { metricForBestModel: { name: 'own' } as never },
      'metricForBestModel.score is missing, expected a function',
    ],
    [
      { metricForBestModel: 'f1', evalDataset: [{ text: 'no question' }] },
      'metric_for_best_model is f1, but no held-out row has a prompt and an answer',
    ],
    [
      { metricForBestModel: own('own'), greaterIsBetter: false },
      'greaterIsBetter is false, expected true, or nothing: of own, more is better.',
    ],
  ]
  for (const [more, message] of cases) await expect(refused(more), message).rejects.toThrow(message)
  expect(() =>
    resolveConfig(
      { model: 'm', dataset: 'd', strategy: { name: 'lora' }, task: 'dpo', metric_for_best_model: 'f1' },
      { name: 'run.yaml', spelling: 'snake' },
      '/',
    ),
  ).toThrow('run.yaml: metric_for_best_model is "f1", expected one of loss, rewards_accuracies')
})

const answersIn = (events: readonly TrainEvent[]) =>
  events.filter((event): event is AnswersEvent => event.event === 'answers')

sweepTest('each evaluation answers held-out rows, which changes no number of the run', async () => {
  const outputDir = scratchFolder()
  const control = { maxSteps: 4, evalSteps: 2, saveSteps: 1, evalDataset: held }
  const [model, adapter] = await attached()
  const events = await train(adapter, { ...control, outputDir, evalGenerate: 2 })
  const answers = answersIn(events)
  expect(answers.map(({ step }) => step)).toEqual([0, 2, 4])
  const lines = readFileSync(held, 'utf8').trim().split('\n').slice(0, 2)
  for (const [row, line] of lines.entries()) {
    const [question, expected] = JSON.parse(line).messages
    const { text, finishReason } = await model.generate([question], { maxNewTokens: 64 })
    expect(answers[2]?.rows[row]).toEqual({
      ...{ prompt: question.content, system: null, expected: expected.content },
      ...{ answer: text, cut: finishReason === 'length' },
    })
  }
  expect(answers[2]?.rows).toHaveLength(2)

  const other = scratchFolder()
  const until = (event: TrainEvent) => event.event === 'step' && event.step === 3
  await train((await attached())[1], { ...control, outputDir: other, evalGenerate: 2 }, until)
  await train((await attached())[1], { ...control, outputDir: other, evalGenerate: 2, resume: true })
  const told = (path: string) =>
    readFileSync(join(path, 'metrics.jsonl'), 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))
      .filter(({ event }) => event === 'answers' || event === 'eval')
      .map(({ time, ...rest }) => rest)
  expect(told(other)).toEqual(told(outputDir))
  const plain = scratchFolder()
  await train((await attached())[1], { ...control, outputDir: plain })
  const adapterOf = (path: string) => readFileSync(join(path, 'adapter_model.safetensors'), 'base64')
  expect(adapterOf(plain)).toBe(adapterOf(outputDir))
  expect(adapterOf(other)).toBe(adapterOf(outputDir))
})

test('answers at evaluations need held-out rows that may be shown', async () => {
  const config = (more: Record<string, unknown>) =>
    resolveConfig(
      { model: 'm', dataset: 'd', strategy: { name: 'lora' }, eval_generate: 2, ...more },
      { name: 'run.yaml', spelling: 'snake' },
      '/',
    )
  expect(config({ eval_fraction: 0.1 }).evalGenerate).toBe(2)
  expect(() => config({})).toThrow(
    'run.yaml: eval_generate is 2, expected held-out data beside it: eval_dataset or eval_fraction.',
  )
  const isPrivate = { name: 'dp-dylora', target_epsilon: 8, rounds: 5, privacy_unit: 'example' }
  expect(() => config({ eval_dataset: 'e', strategy: isPrivate })).toThrow(
    'eval_generate is 2, expected 0 in private training, which shows no rows.',
  )
  expect(() => config({ eval_dataset: 'e', task: 'classification' })).toThrow(
    'eval_generate is 2, expected 0 with task classification, whose model writes no text.',
  )
  const [, adapter] = await attached()
  await expect(train(adapter, { evalDataset: null, evalSteps: null, evalGenerate: 1 })).rejects.toThrow(
    'train(): evalGenerate is 1, expected held-out data beside it: evalDataset or evalFraction.',
  )
})
