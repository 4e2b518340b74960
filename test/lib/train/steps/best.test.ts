/** Evaluation before and during a run, the choice of the best step, and the end of a run that gets no better. */

import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { afterEach, beforeAll, describe, expect, test } from 'vitest'
import type { TrainControl } from '../../../../lib/model/adapter.js'
import { loadModel } from '../../../../lib/model/load.js'
import type { Model } from '../../../../lib/model/model.js'
import type { TrainOptions } from '../../../../lib/options/types.js'
import { adalora } from '../../../../lib/strategies/adalora.js'
import { deltaLora } from '../../../../lib/strategies/delta-lora.js'
import { dylora } from '../../../../lib/strategies/dylora.js'
import { full } from '../../../../lib/strategies/full.js'
import { lora } from '../../../../lib/strategies/lora.js'
import type { StrategyConfig } from '../../../../lib/strategies/strategy.js'
import { resolveConfig } from '../../../../lib/train/config/config.js'
import { dataset } from '../../../../lib/train/sources/data-sources.js'
import { sharesData, standing } from '../../../../lib/train/steps/best.js'
import type { TrainEvent } from '../../../../lib/train/steps/events.js'
import { chats, tinyModel } from '../../../e2e/tiny-model.js'
import { sweepTest, swept } from '../../../sweep.js'
import { scratchFile, scratchFolder } from '../../scratch.js'

let folder: string
let data: string
/** Answers that contradict those of the training data after a while: learning helps at first. */
let held: string
beforeAll(() => {
  folder = tinyModel()
  data = scratchFile('train.jsonl', chats(60))
  held = scratchFile('held.jsonl', chats(6).replaceAll('It is', 'It was never'))
})

const loaded: Model[] = []
afterEach(async () => {
  for (const model of loaded.splice(0)) await model.dispose()
})

type Options = Partial<TrainOptions> & TrainControl

const options: Options = {
  maxSteps: 12,
  maxSeqLength: 64,
  perDeviceTrainBatchSize: 2,
  learningRate: 0.02,
  warmupSteps: 0,
  lrSchedulerType: 'constant',
  evalSteps: 2,
  seed: 7,
}

/** By a fresh adapter on a fresh model, as a new process would have it. */
async function train(
  control: Options,
  until?: (event: TrainEvent) => boolean,
  strategy: StrategyConfig = lora({ r: 4, loraAlpha: 8, loraDropout: 0.1 }),
): Promise<TrainEvent[]> {
  const model = await loadModel(folder, { precision: 'fp32' })
  loaded.push(model)
  const adapter = await model.attach(strategy, { seed: 1 })
  const events: TrainEvent[] = []
  const run = adapter.train(data, { ...options, evalDataset: held, ...control })
  for await (const event of run.events()) {
    events.push(event)
    if (until?.(event)) break
  }
  return events
}

const only = <Name extends TrainEvent['event']>(events: readonly TrainEvent[], name: Name) =>
  events.filter((event): event is Extract<TrainEvent, { event: Name }> => event.event === name)

const doneOf = (events: readonly TrainEvent[]): Extract<TrainEvent, { event: 'done' }> => {
  const [done] = only(events, 'done')
  if (done === undefined) throw new Error('the run did not come to its end')
  return done
}

const adapterBytes = (path: string) => readFileSync(join(path, 'adapter_model.safetensors'), 'base64')
const checkpointsIn = (path: string) => readdirSync(path).filter((name) => name.startsWith('checkpoint-'))

describe('the standing of a run', () => {
  const of = (losses: number[], more: Partial<Parameters<typeof standing>[1]> = {}) =>
    standing(
      losses.map((loss, step) => ({
        step,
        loss,
        perplexity: Math.exp(loss),
        tokens: 1,
        supervisedTokens: 1,
        exactMatch: loss / 10,
      })),
      {
        loadBestModelAtEnd: true,
        metricForBestModel: 'loss',
        greaterIsBetter: null,
        earlyStoppingPatience: null,
        earlyStoppingThreshold: 0,
        evalSteps: 1,
        ...more,
      },
    )

  test('has the first of the best evaluations', () => {
    expect(of([]).best).toBeUndefined()
    expect(of([3, 1, 2, 1]).best?.step).toBe(1)
    expect(of([3, 1, 2, 1], { metricForBestModel: 'perplexity' }).best?.step).toBe(1)
    expect(of([3, 1, 4, 4], { metricForBestModel: 'exact_match' }).best?.step).toBe(2)
    expect(of([Number.NaN, 5, Number.NaN, 6]).best?.step).toBe(1)
  })

  test.each([
    [[3, 2, 2.5], 2, 0, false],
    [[3, 2, 2.5, 2.2], 2, 0, true],
    [[3, 2, 2.5, 1.9, 2.5], 2, 0, false],
    // A gain of the threshold or less does not count, and is the best all the same.
    [[3, 2.9, 2.8], 2, 0.5, true],
    [[3, 2.9, 2.3], 2, 0.5, false],
    [[3, Number.NaN, Number.NaN], 2, 0, true],
  ])('of %j with a patience of %i and a threshold of %d stops: %s', (losses, patience, threshold, stops) => {
    const rule = { earlyStoppingPatience: patience, earlyStoppingThreshold: threshold }
    expect(of(losses, rule).stops).toBe(stops)
  })
})

describe('a run with held-out data', () => {
  test('evaluates before its first step, and says which step was the best', async () => {
    const events = await train({ evalSteps: null, maxSteps: 2 })
    expect(events.map(({ event }) => event).join(' ')).toBe(
      'start plan memory eval step step memory eval done',
    )
    const [before, after] = only(events, 'eval')
    expect([before?.step, after?.step]).toEqual([0, 2])
    const model = loaded[0] as Model
    const alone = await model.evaluate(held, { maxSeqLength: 64, perDeviceTrainBatchSize: 2, adapters: [] })
    expect(before?.loss).toBe(alone.loss)
    expect(doneOf(events).best).toEqual({
      step: 2,
      metric: 'loss',
      value: after?.loss,
      lastStep: 2,
      lastValue: after?.loss,
      keptStep: 2,
    })
    expect(doneOf(await train({ evalDataset: null, evalSteps: null, maxSteps: 1 }))).not.toHaveProperty(
      'best',
    )
  })

  sweepTest('ends with the best step, which it saves whatever save_steps says', async () => {
    const [last, best] = [scratchFolder(), scratchFolder()]
    const plain = await train({ outputDir: last, maxSteps: 24 })
    const events = await train({
      outputDir: best,
      maxSteps: 24,
      loadBestModelAtEnd: true,
      saveSteps: 5,
      saveTotalLimit: 1,
    })
    const evaluations = only(events, 'eval')
    expect(evaluations).toEqual(only(plain, 'eval'))
    const lowest = evaluations.reduce((a, b) => (b.loss < a.loss ? b : a))
    expect(lowest.step).toBeGreaterThan(0)
    expect(lowest.step).toBeLessThan(24)
    const report = {
      step: lowest.step,
      value: lowest.loss,
      lastStep: 24,
      lastValue: evaluations.at(-1)?.loss,
    }
    expect(doneOf(plain).best).toMatchObject({ ...report, keptStep: 24 })
    expect(doneOf(events).best).toMatchObject({ ...report, keptStep: lowest.step })
    expect(existsSync(join(last, 'adapter_model.safetensors'))).toBe(true)
    expect(adapterBytes(best)).not.toBe(adapterBytes(last))
    // The limit is 1, and the best and the newest are kept.
    expect(checkpointsIn(best).sort()).toEqual([`checkpoint-${lowest.step}`, 'checkpoint-20'].sort())
    expect(adapterBytes(best)).toBe(adapterBytes(join(best, `checkpoint-${lowest.step}`)))
  })

  test.each(
    swept(
      [
        [adalora({ initR: 4, targetR: 2, targetModules: ['q_proj', 'v_proj'] }), 0.5],
        [deltaLora({ r: 4, startStep: 3 }), 0.02],
        [dylora({ r: 4 }), 0.07],
        [full(), 5e-3],
      ] as const,
      2,
    ),
  )('ends with the best step of %o', async (strategy, learningRate) => {
    const outputDir = scratchFolder()
    const control = { learningRate, outputDir, maxSteps: 24, loadBestModelAtEnd: true, evalSteps: 1 }
    const events = await train(control, undefined, strategy)
    const step = doneOf(events).best?.step as number
    expect(step).toBeGreaterThan(0)
    expect(step).toBeLessThan(24)
    const evaluation = only(events, 'eval').find((one) => one.step === step)
    const model = loaded[0] as Model
    const now = await model.evaluate(held, { maxSeqLength: 64, perDeviceTrainBatchSize: 2 })
    expect(now.loss).toBe(evaluation?.loss)
  })

  sweepTest(
    'ends early when it gets no better, whether it was resumed or not',
    async () => {
      const whole = scratchFolder()
      const control = {
        maxSteps: 60,
        evalSteps: 1,
        saveSteps: 2,
        earlyStoppingPatience: 3,
        loadBestModelAtEnd: true,
        gradientAccumulationSteps: 2,
      }
      const events = await train({ ...control, outputDir: whole })
      const done = doneOf(events)
      expect(done.stoppedEarly).toBe(true)
      expect(done.steps).toBe((done.best?.step as number) + 3)
      expect(only(events, 'eval').at(-1)?.step).toBe(done.steps)
      const metrics = (path: string) =>
        readFileSync(join(path, 'metrics.jsonl'), 'utf8')
          .trim()
          .split('\n')
          .map((line) => JSON.parse(line))
          .filter(({ event }) => event === 'eval' || event === 'done')
          .map(({ event, step, loss, best, steps }) => ({ event, step, loss, best, steps }))
      for (const cut of swept([2, 5, done.steps - 2], 1)) {
        const outputDir = scratchFolder()
        await train({ ...control, outputDir }, (event) => event.event === 'step' && event.step > cut)
        const rest = await train({ ...control, outputDir, resume: true })
        expect(doneOf(rest)).toMatchObject({ best: done.best, steps: done.steps, stoppedEarly: true })
        expect(adapterBytes(outputDir)).toBe(adapterBytes(whole))
        expect(metrics(outputDir)).toEqual(metrics(whole))
      }
    },
    120_000,
  )

  test('may go by the share of rows that are answered word for word', async () => {
    const outputDir = scratchFolder()
    const control = {
      ...{ outputDir, evalDataset: data, evalSteps: 10, maxSteps: 40, learningRate: 0.01 },
      ...{ metricForBestModel: 'exact_match' as const, loadBestModelAtEnd: true },
    }
    const events = await train(control)
    const shares = only(events, 'eval').map((event) => event.exactMatch as number)
    expect(shares[0]).toBe(0)
    expect(Math.max(...shares)).toBeGreaterThan(0.1)
    expect(doneOf(events).best).toMatchObject({ metric: 'exact_match', value: Math.max(...shares) })
    const model = loaded[0] as Model
    const { exactMatch } = await model.exactMatch(data, { maxSeqLength: 64 })
    expect(exactMatch).toBe(Math.max(...shares))
  })
})

describe('options that do not go together', () => {
  const config = (more: Record<string, unknown>) =>
    resolveConfig(
      { model: 'm', dataset: 'd', strategy: { name: 'lora' }, eval_dataset: 'e', eval_steps: 5, ...more },
      { name: 'run.yaml', spelling: 'snake' },
      '/',
    )

  test.each([
    [
      { load_best_model_at_end: true, eval_dataset: null },
      'run.yaml: load_best_model_at_end is true, expected held-out data beside it: eval_dataset or eval_fraction.',
    ],
    [
      { early_stopping_patience: 3, eval_steps: null },
      'run.yaml: early_stopping_patience is 3, expected eval_steps beside it; without, only the start and the end are evaluated.',
    ],
    [
      { greater_is_better: true },
      'run.yaml: greater_is_better is true, expected false, or nothing: of loss, less is better.',
    ],
    [
      { metric_for_best_model: 'exact_match', greater_is_better: false },
      'greater_is_better is false, expected true, or nothing: of exact_match, more is better.',
    ],
    [
      {
        strategy: { name: 'dp-dylora', target_epsilon: 8, rounds: 5, privacy_unit: 'example' },
        ...{ eval_dataset: null, eval_fraction: 0.1, load_best_model_at_end: true },
      },
      'expected a public eval_dataset in private training: a choice based on private rows reveals information about them.',
    ],
    [
      {
        strategy: { name: 'dp-dylora', target_epsilon: 8, rounds: 5, privacy_unit: 'example' },
        ...{ dataset: ['a.jsonl', 'b.jsonl'], eval_dataset: './b.jsonl', early_stopping_patience: 1 },
      },
      'early_stopping_patience is 1, expected a public eval_dataset in private training',
    ],
  ])('%j', (more, message) => {
    expect(() => config(more)).toThrow(message)
  })

  test('two datasets share a file by any spelling of its path', () => {
    expect(sharesData(dataset('./a.jsonl'), dataset(['b.jsonl', resolve('a.jsonl')]))).toBe(true)
    expect(sharesData(dataset('a.jsonl'), dataset('b.jsonl'))).toBe(false)
  })

  test('a best step that is nowhere kept', async () => {
    await expect(train({ loadBestModelAtEnd: true })).rejects.toThrow(
      'train(): loadBestModelAtEnd is true, expected an outputDir beside it, where the best checkpoint is kept.',
    )
  })
})

describe('a run that is resumed with something changed', () => {
  /** Six steps of twelve. */
  async function cut(control: Options = {}): Promise<string> {
    const outputDir = scratchFolder()
    const until = (event: TrainEvent) => event.event === 'checkpoint' && event.step === 6
    await train({ outputDir, saveSteps: 2, ...control }, until)
    return outputDir
  }
  const again = (outputDir: string, change: Options, strategy?: StrategyConfig) =>
    train({ outputDir, saveSteps: 2, resume: true, ...change }, undefined, strategy)

  sweepTest('is longer where the steps so far would have been the same', async () => {
    const whole = scratchFolder()
    await train({ outputDir: whole, maxSteps: 14 })
    const outputDir = await cut()
    const events = await again(outputDir, { maxSteps: 14 })
    expect(only(events, 'step').map(({ step }) => step)).toEqual([7, 8, 9, 10, 11, 12, 13, 14])
    expect(adapterBytes(outputDir)).toBe(adapterBytes(whole))
  })

  sweepTest('is refused another length where they would not', async () => {
    const cosine = { lrSchedulerType: 'cosine' as const }
    await expect(again(await cut(cosine), { ...cosine, maxSteps: 14 })).rejects.toThrow(
      'checkpoint-6 cannot be resumed exactly: max_steps is 12 there and 14 here, which changes 12 steps to 14, and the learning rates depend on the total number of steps (unless lr_scheduler_type is constant). Restore it, train from the start in another output_dir, or continue from the checkpoint in a program: model.loadAdapter(path, { trainable: true }).',
    )
    await expect(again(await cut(), { maxSteps: 4 })).rejects.toThrow('and 6 are made')
    const ranks = adalora({ initR: 4, targetR: 2 })
    const outputDir = scratchFolder()
    await train({ outputDir, saveSteps: 2 }, (event) => event.event === 'checkpoint', ranks)
    await expect(again(outputDir, { maxSteps: 14 }, ranks)).rejects.toThrow(
      'strategy adalora depends on the total number of steps',
    )
  })

  test('evaluates as it is told now, where nothing depends on it', async () => {
    const outputDir = await cut({ evalDataset: null, evalSteps: null })
    const events = await again(outputDir, { evalSteps: 4 })
    expect(only(events, 'eval').map(({ step }) => step)).toEqual([8, 12])
    expect(doneOf(events).best?.lastStep).toBe(12)
  })

  test.each(
    swept(
      [
        [
          { evalDataset: null, evalSteps: null },
          { loadBestModelAtEnd: true },
          'the held-out data was not there then',
        ],
        [{}, { loadBestModelAtEnd: true, evalSteps: 3 }, 'eval_steps is 2 there and 3 here'],
        [
          {},
          { earlyStoppingPatience: 1, metricForBestModel: 'exact_match' as const },
          'metric_for_best_model is "loss" there and "exact_match" here',
        ],
        [
          {},
          { earlyStoppingPatience: 1, earlyStoppingThreshold: 100 },
          'early_stopping_patience is null there and 1 here, with which the run would have ended at step 2',
        ],
        [{}, { loadBestModelAtEnd: true }, 'the best so far, no longer exists'],
        [
          { evalDataset: null, evalFraction: 0.2 },
          { evalDataset: null, evalFraction: 0.1 },
          'eval_fraction is 0.2 there and 0.1 here',
        ],
      ],
      2,
    ),
  )('from %j to %j is refused', async (before, after, message) => {
    const outputDir = await cut(before)
    if (message.includes('no longer exists'))
      for (const step of [2, 4]) rmSync(join(outputDir, `checkpoint-${step}`), { recursive: true })
    await expect(again(outputDir, { evalSteps: 2, ...after })).rejects.toThrow(
      expect.objectContaining({ code: 'CONFIG', message: expect.stringContaining(message) }),
    )
  })

  sweepTest('takes up a patience with which it would not have ended before', async () => {
    const outputDir = await cut()
    const events = await again(outputDir, { earlyStoppingPatience: 6 })
    expect(doneOf(events).steps).toBe(12)
  })
})
