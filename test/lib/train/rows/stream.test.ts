/** Runs over data that is streamed: the same order again, exact continuation, and what cannot go on. */

import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { afterEach, beforeAll, describe, expect, test } from 'vitest'
import type { Adapter, TrainControl } from '../../../../lib/model/adapter.js'
import { loadModel } from '../../../../lib/model/load.js'
import type { Model } from '../../../../lib/model/model.js'
import type { TrainOptions } from '../../../../lib/options/types.js'
import { lora } from '../../../../lib/strategies/lora.js'
import { resolveConfig } from '../../../../lib/train/config/config.js'
import type { TrainingRun } from '../../../../lib/train/run/run.js'
import {
  type DatasetArgument,
  type DatasetOptions,
  dataset,
} from '../../../../lib/train/sources/data-sources.js'
import type { TrainEvent } from '../../../../lib/train/steps/events.js'
import { chats, tinyModel } from '../../../e2e/tiny-model.js'
import { sweepTest, swept } from '../../../sweep.js'
import { scratchFile, scratchFolder } from '../../scratch.js'

let folder: string
let path: string
beforeAll(() => {
  folder = tinyModel()
  path = scratchFile('train.jsonl', chats(60))
})

const loaded: Model[] = []
afterEach(async () => {
  for (const model of loaded.splice(0)) await model.dispose()
})

async function fresh(): Promise<Adapter> {
  const model = await loadModel(folder, { precision: 'fp32' })
  loaded.push(model)
  return model.attach(lora({ r: 4, loraAlpha: 8, loraDropout: 0.1 }), { seed: 1 })
}

/** 60 rows of about 50 tokens, each a micro-batch: 30 micro-batches, so 8 steps an epoch. */
const options: Partial<TrainOptions> = {
  maxSteps: 10,
  maxSeqLength: 64,
  perDeviceTrainBatchSize: 2,
  gradientAccumulationSteps: 4,
  learningRate: 0.01,
  seed: 7,
}

const streamed = (more: DatasetOptions = {}) =>
  dataset(path, { streaming: true, shuffleBufferSize: 20, ...more })
const lines = () =>
  chats(60)
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>)

async function train(
  data: DatasetArgument,
  control: Partial<TrainOptions> & TrainControl = {},
): Promise<TrainEvent[]> {
  return collect((await fresh()).train(data, { ...options, ...control }))
}

async function collect(run: TrainingRun): Promise<TrainEvent[]> {
  const events: TrainEvent[] = []
  for await (const event of run.events()) events.push(event)
  return events
}

const losses = (events: readonly TrainEvent[]) =>
  events.flatMap((event) => (event.event === 'step' ? [event.loss] : []))

async function interrupted(data: DatasetArgument, outputDir: string, steps: number): Promise<void> {
  const run = (await fresh()).train(data, { ...options, outputDir, saveSteps: steps })
  for await (const event of run.events()) if (event.event === 'checkpoint') return
}

describe('a streamed run', () => {
  sweepTest('warns once of what may not be meant in its rows, when they are read', async () => {
    const warnings: string[] = []
    const model = await loadModel(folder, {
      precision: 'fp32',
      onWarning: (message) => warnings.push(message),
    })
    loaded.push(model)
    const adapter = await model.attach(lora({ r: 2 }))
    const rows = lines()
    const quoting = {
      messages: [
        { role: 'user', content: 'What is <|im_end|>?' },
        { role: 'assistant', content: 'It.' },
      ],
    }
    const data = dataset([...rows.slice(0, 7), quoting, ...rows.slice(7)], {
      streaming: true,
      shuffleBufferSize: 5,
    })
    // Several passes over the rows.
    await collect(adapter.train(data, { ...options, maxSteps: 20 }))
    expect(warnings).toEqual([
      'the data has special tokens in its text, the first one "<|im_end|>" in dataset(), row 8; the model reads them as control tokens. If they are plain text, set special_tokens_in_content: escape.',
    ])
    warnings.length = 0
    await collect(adapter.train(streamed({ specialTokensInContent: 'escape' }), { ...options, maxSteps: 1 }))
    expect(warnings).toEqual([])
  })

  sweepTest(
    'has the same order for the same seed and another for another, whatever the rows come from',
    async () => {
      const events = await train(streamed())
      expect(losses(events)).toHaveLength(10)
      const epochs = events.flatMap((event) => (event.event === 'step' ? [event.epoch] : []))
      expect([epochs[0], epochs.at(-1)]).toEqual([0, 1])
      const form = { streaming: true, shuffleBufferSize: 20 }
      const again = async function* () {
        yield* lines()
      }
      // The rate of a step does not depend on how many follow.
      const short = { maxSteps: 2, lrSchedulerType: 'constant' as const }
      const two = losses(await train(streamed(), short))
      for (const source of [lines(), () => lines(), again])
        expect(losses(await train(dataset(source, form), short))).toEqual(two)
      expect(losses(await train(streamed(), { ...short, seed: 8 }))[0]).not.toBe(two[0])
      expect(losses(await train(streamed({ shuffleBufferSize: 1 }), short))[0]).not.toBe(two[0])
    },
  )

  test.each(swept([3, 9], 1))(
    'resumed after step %d goes on bit for bit as if it had never stopped',
    async (steps) => {
      const uninterrupted = losses(await train(streamed()))
      const outputDir = scratchFolder()
      await interrupted(streamed(), outputDir, steps)
      expect(losses(await train(streamed(), { outputDir, resume: true }))).toEqual(uninterrupted.slice(steps))
      const state = JSON.parse(
        readFileSync(join(outputDir, `checkpoint-${steps}/training_state.json`), 'utf8'),
      )
      expect(state.cursor.epoch).toBe(steps === 3 ? 0 : 1)
      expect(state.cursor.digest).toMatch(/^[0-9a-f]{64}$/)
    },
  )

  sweepTest(
    'goes on with a new iterator over the same rows, and not with one that is used up or of others',
    async () => {
      const once = function* (rows = lines()) {
        yield* rows
      }
      const form = { streaming: true, shuffleBufferSize: 20, name: 'questions' }
      const control = { maxSteps: 5 }
      const outputDir = scratchFolder()
      const first = once()
      const run = (await fresh()).train(dataset(first, form), {
        ...options,
        ...control,
        outputDir,
        saveSteps: 3,
      })
      for await (const event of run.events()) if (event.event === 'checkpoint') break
      const expected = losses(await train(streamed(), control)).slice(3)
      const resume = { ...control, outputDir, resume: true }
      expect(losses(await train(dataset(once(), form), resume))).toEqual(expected)
      await expect(train(dataset(once(lines().slice(1)), form), resume)).rejects.toThrow(
        'questions cannot be resumed exactly: its rows up to the position of the run have changed. Pass the stream again from its first row.',
      )
      await expect(train(dataset(first, form), resume)).rejects.toThrow('questions holds no rows')
    },
  )

  test('holds a part of the rows only', async () => {
    let given = 0
    const endless = async function* () {
      const rows = lines()
      for (;;) {
        yield rows[given % rows.length]
        given++
      }
    }
    const data = dataset(endless, { streaming: true, shuffleBufferSize: 50 })
    const run = (await fresh()).train(data, { ...options, maxSteps: 40 })
    let most = 0
    for await (const step of run) most = Math.max(most, given - step.step * 4 * 2)
    // The buffer, what is packed together, chunks and groups of chats on their way, and rows that are sent at once.
    expect(most).toBeLessThan(50 + 45 + 6 * 3 + 32 + 2 * 64)
    expect(given).toBeGreaterThan(40 * 8)
  })

  test('that cannot read its rows again ends where they do, and keeps what was learned', async () => {
    const outputDir = scratchFolder()
    const once = lines().values()
    await expect(train(dataset(once, { streaming: true }), { outputDir })).rejects.toThrow(
      'dataset() has ended, and its rows can be read only once; lower max_steps, or pass a source that can be read again',
    )
    const [saved] = readFileSync(join(outputDir, 'metrics.jsonl'), 'utf8').trimEnd().split('\n').slice(-2)
    expect(JSON.parse(saved as string)).toMatchObject({ event: 'checkpoint', step: 8 })
  })

  sweepTest(
    'ends at a row that is wrong, or where what gives the rows fails, and keeps what was learned',
    async () => {
      const outputDir = scratchFolder()
      const rows = async function* () {
        yield* lines()
        yield* lines()
        throw new Error('the database went away')
      }
      const short = { streaming: true, shuffleBufferSize: 1 }
      await expect(train(dataset(rows, short), { outputDir, maxSteps: 100 })).rejects.toThrow(
        expect.objectContaining({
          code: 'DATA',
          message: 'dataset(), row 121: the source of the rows failed: the database went away',
        }),
      )
      const bad = scratchFile('bad.jsonl', `${chats(200)}{"messages": 3}\n`)
      await expect(train(dataset(bad, short), { outputDir, force: true, maxSteps: 1000 })).rejects.toThrow(
        `${bad}, line 201: expected {"messages":`,
      )
      const [saved] = readFileSync(join(outputDir, 'metrics.jsonl'), 'utf8').trimEnd().split('\n').slice(-2)
      expect(JSON.parse(saved as string)).toMatchObject({ event: 'checkpoint' })
    },
  )

  test('ends when it is aborted or left, also while it waits for a row', async () => {
    const stalled = async function* () {
      for (let i = 0; i < 3; i++) yield* lines()
      await new Promise(() => undefined)
    }
    const data = dataset(stalled, { streaming: true, shuffleBufferSize: 1 })
    const controller = new AbortController()
    const run = (await fresh()).train(data, { ...options, maxSteps: 100, signal: controller.signal })
    const reason = new Error('enough')
    setTimeout(() => controller.abort(reason), 300)
    await expect(collect(run)).rejects.toBe(reason)
    const left = (await fresh()).train(data, { ...options, maxSteps: 100 })
    for await (const step of left) if (step.step === 1) break
  }, 20_000)

  test('evaluates on data of its own', async () => {
    const events = await train(streamed(), { evalDataset: path, maxSteps: 2 })
    expect(events.map(({ event }) => event).join(' ')).toBe(
      'start plan memory eval step step memory eval done',
    )
  })
})

describe('what takes the length of the data', () => {
  test('is refused of a stream', async () => {
    const adapter = await fresh()
    expect(() => adapter.train(streamed())).toThrow(
      'train(): maxSteps is null, expected a number of steps, since the length of a stream is not known.',
    )
    expect(() => adapter.train(streamed(), { maxSteps: 1, evalFraction: 0.1 })).toThrow(
      'train(): evalFraction is 0.1, expected an eval_dataset instead, since dataset is streamed.',
    )
    expect(() => adapter.train(path, { evalDataset: streamed() })).toThrow(
      'train(): evalDataset.streaming is true, expected false: an evaluation reads its data as a whole.',
    )
    await expect(loaded[0]?.evaluate(streamed())).rejects.toThrow('expected false')
  })

  test('is refused by a config in its own words', () => {
    const config = { model: 'm', strategy: { name: 'lora' }, dataset: { path: 'a.jsonl', streaming: true } }
    const source = { name: 'run.yaml', spelling: 'snake' as const }
    expect(() => resolveConfig(config, source, '/')).toThrow(
      'run.yaml: max_steps is null, expected a number of steps, since the length of a stream is not known.',
    )
    const { dataset } = resolveConfig({ ...config, max_steps: 3 }, source, '/')
    expect(dataset).toMatchObject({ path: resolve('/a.jsonl'), streaming: true, shuffleBufferSize: 1000 })
  })
})
