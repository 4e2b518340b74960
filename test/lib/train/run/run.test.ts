import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import type { Adapter, TrainControl } from '../../../../lib/model/adapter.js'
import { loadModel } from '../../../../lib/model/load.js'
import type { Model } from '../../../../lib/model/model.js'
import { addon } from '../../../../lib/native/addon.js'
import type { TrainOptions } from '../../../../lib/options/types.js'
import { lora } from '../../../../lib/strategies/lora.js'
import { miss } from '../../../../lib/strategies/miss.js'
import { listCheckpoints } from '../../../../lib/train/checkpoints/checkpoint-folder.js'
import { lineOf } from '../../../../lib/train/records/metrics-file.js'
import type { TrainingRun } from '../../../../lib/train/run/run.js'
import type { TrainEvent } from '../../../../lib/train/steps/events.js'
import { chats, tinyModel } from '../../../e2e/tiny-model.js'
import { sweepTest, swept } from '../../../sweep.js'
import { scratchFile, scratchFolder } from '../../scratch.js'
import { turnsDuring } from '../../turns.js'

let folder: string
let data: string
beforeAll(() => {
  folder = tinyModel()
  data = scratchFile('train.jsonl', chats(60))
})

const loaded: Model[] = []
afterEach(async () => {
  for (const model of loaded.splice(0)) await model.dispose()
})

/** A fresh adapter on a fresh model, as a new process would have it. */
async function fresh(): Promise<Adapter> {
  const model = await loadModel(folder, { precision: 'fp32' })
  loaded.push(model)
  return model.attach(lora({ r: 4, loraAlpha: 8, loraDropout: 0.1 }), { seed: 1 })
}

const options: Partial<TrainOptions> = {
  maxSteps: 10,
  maxSeqLength: 64,
  perDeviceTrainBatchSize: 2,
  gradientAccumulationSteps: 2,
  learningRate: 0.01,
  seed: 7,
}

async function train(control: Partial<TrainOptions> & TrainControl = {}): Promise<TrainEvent[]> {
  return collect((await fresh()).train(data, { ...options, ...control }))
}

async function collect(run: TrainingRun): Promise<TrainEvent[]> {
  const events: TrainEvent[] = []
  for await (const event of run.events()) events.push(event)
  return events
}

function steps(events: readonly TrainEvent[]) {
  return events.flatMap((event) =>
    event.event === 'step' ? [{ step: event.step, loss: event.loss, norm: event.gradNorm }] : [],
  )
}

const adapterBytes = (path: string) => readFileSync(join(path, 'adapter_model.safetensors'))

describe('a run', () => {
  test('forms its logits a few rows at a time where it is told to, and computes the same', async () => {
    const peak = (events: TrainEvent[]) =>
      events.flatMap((event) => (event.event === 'plan' ? [event.peakBytes] : []))[0] as number
    const [usual, few] = [await train(), await train({ logitsMemory: '1KiB' })]
    expect(steps(few)).toEqual(steps(usual))
    expect(peak(few)).toBeLessThan(peak(usual))
    await expect(train({ logitsMemory: 'much' })).rejects.toThrow('auto or a size such as 16MiB')
  })

  test('learns, and its events are those of metrics.jsonl', async () => {
    const outputDir = join(scratchFolder(), 'deep/out')
    const events = await train({
      outputDir,
      evalFraction: 0.2,
      evalSteps: 4,
      saveSteps: 5,
      saveTotalLimit: 1,
    })
    expect(events.map((event) => event.event).join(' ')).toBe(
      'start plan memory eval step step step step eval step checkpoint step step step eval step step memory eval checkpoint done',
    )
    const losses = steps(events).map((event) => event.loss)
    expect(losses.at(-1)).toBeLessThan((losses[0] as number) / 2)
    const lines = readFileSync(join(outputDir, 'metrics.jsonl'), 'utf8').trimEnd().split('\n')
    const untimed = ({ time, ...line }: ReturnType<typeof lineOf>) => line
    const recorded = lines.map((line) => JSON.parse(line) as ReturnType<typeof lineOf>)
    expect(recorded.map(untimed)).toEqual(events.map((event) => untimed(lineOf(event))))
    for (const [index, { time }] of recorded.entries()) {
      expect(Math.abs(Date.now() / 1000 - time)).toBeLessThan(60)
      expect(time).toBeGreaterThanOrEqual(recorded[index - 1]?.time ?? 0)
    }
    expect([lines[1], lines[4]].map((line) => Object.keys(JSON.parse(line as string)))).toEqual([
      ['event', 'peak_bytes', 'runtime_bytes', 'rows', 'time'],
      expect.arrayContaining(['step', 'total_steps', 'grad_norm', 'supervised_tokens', 'tokens_per_second']),
    ])
    expect(readdirSync(outputDir).sort()).toEqual([
      'README.md',
      'adapter_config.json',
      'adapter_model.safetensors',
      'checkpoint-10',
      'lowrank.json',
      'metrics.jsonl',
      'report.html',
      'run.json',
    ])
    expect(adapterBytes(outputDir).equals(adapterBytes(join(outputDir, 'checkpoint-10')))).toBe(true)
  })

  test('plans exactly what it then holds', async () => {
    const adapter = await fresh()
    const run = adapter.train(data, options)
    let held = 0
    for await (const _ of run)
      held ||= Object.values(addon().allocated()).reduce((sum, bytes) => sum + bytes, 0)
    expect(held).toBe(run.memory.peakBytes)
  })

  test('yields steps with the time that is left', async () => {
    const run = (await fresh()).train(data, { ...options, maxSteps: 3 })
    const seen = []
    for await (const step of run) seen.push(step)
    expect(seen.map((step) => step.step)).toEqual([1, 2, 3])
    expect(seen[0]).toMatchObject({ totalSteps: 3, learningRate: 0 })
    expect(seen[0]?.secondsLeft).toBeGreaterThan(0)
    expect(seen[2]?.secondsLeft).toBe(0)
    expect(run.data?.train?.rows).toBe(60)
  })

  test('makes as many steps as the epochs have windows', async () => {
    const events = await train({ maxSteps: null, numTrainEpochs: 1.5, packing: false })
    // 60 rows, 2 a micro-batch, 2 micro-batches a step: 15 steps an epoch.
    expect(steps(events)).toHaveLength(15 + 8)
    const epochs = events.flatMap((event) => (event.event === 'step' ? [event.epoch] : []))
    expect(epochs[14]).toBe(1)
    expect(epochs[15]).toBeCloseTo(1 + 1 / 15, 10)
  })

  test('has the same gradient however a step is split into micro-batches', async () => {
    const shape = { packing: false, maxSteps: 2, warmupRatio: 0, lrSchedulerType: 'constant' as const }
    const adapter = async (batch: number, accumulation: number) => {
      const model = await loadModel(folder, { precision: 'fp32' })
      loaded.push(model)
      const plain = await model.attach(lora({ r: 4, loraAlpha: 8 }), { seed: 1 })
      const split = { perDeviceTrainBatchSize: batch, gradientAccumulationSteps: accumulation }
      return steps(await collect(plain.train(data, { ...options, ...shape, ...split })))
    }
    const [whole, split] = [await adapter(8, 1), await adapter(1, 8)]
    whole.forEach((step, i) => {
      expect(split[i]?.loss).toBeCloseTo(step.loss as number, 5)
      expect(split[i]?.norm).toBeCloseTo(step.norm, 4)
    })
  })

  test('starts with fresh moments when an adapter is trained again', async () => {
    const adapter = await fresh()
    const shape = { ...options, maxSteps: 2 }
    await collect(adapter.train(data, shape))
    const again = scratchFolder()
    await adapter.save(again)
    const model = await loadModel(folder, { precision: 'fp32' })
    loaded.push(model)
    const loadedAgain = await model.loadAdapter(again, { trainable: true })
    expect(steps(await collect(adapter.train(data, shape)))).toEqual(
      steps(await collect(loadedAgain.train(data, shape))),
    )
  })
})

test('a run of one step learns in it, though a share of it is warm-up', async () => {
  const events = await train({ maxSteps: 1, warmupRatio: 0.03 })
  expect(events.filter(({ event }) => event === 'step')).toMatchObject([{ learningRate: 0.01 }])
})

describe('a resumed run', () => {
  test('goes on bit for bit as one that never stopped', async () => {
    const whole = scratchFolder()
    const alone = await train({ outputDir: whole })
    const uninterrupted = steps(alone)
    const outputDir = scratchFolder()
    const run = (await fresh()).train(data, { ...options, outputDir, saveSteps: 4 })
    for await (const step of run) if (step.step === 6) break
    const events = await train({ outputDir, resume: true, saveSteps: null })
    expect(steps(events)).toEqual(uninterrupted.slice(4))
    const meanLoss = (told: typeof events) => told.find((event) => event.event === 'done')?.trainLoss
    expect(meanLoss(events)).toBe(meanLoss(alone))
    expect(adapterBytes(outputDir).equals(adapterBytes(whole))).toBe(true)
  })

  test('has the checkpoint of the step at which the loop was left', async () => {
    const outputDir = scratchFolder()
    const run = (await fresh()).train(data, { ...options, outputDir, saveSteps: 4 })
    for await (const step of run) if (step.step === 4) break
    expect(run.checkpoints).toEqual([join(outputDir, 'checkpoint-4')])
    const events = await train({ outputDir, resume: true, saveSteps: null })
    expect(steps(events).map((event) => event.step)).toEqual([5, 6, 7, 8, 9, 10])
  })

  test('keeps what it saves, whatever checkpoints of later steps are there', async () => {
    const outputDir = scratchFolder()
    await train({ outputDir, saveSteps: 3, maxSteps: 9 })
    const resume = join(outputDir, 'checkpoint-3')
    const run = (await fresh()).train(data, {
      ...{ ...options, outputDir, resume },
      ...{ maxSteps: 9, saveSteps: 4, saveTotalLimit: 1 },
    })
    for await (const step of run) if (step.step === 5) break
    expect(await listCheckpoints(outputDir)).toEqual([join(outputDir, 'checkpoint-4')])
  })

  test('leaves metrics without gaps or repetitions', async () => {
    const outputDir = scratchFolder()
    const run = (await fresh()).train(data, { ...options, outputDir, saveSteps: 4 })
    for await (const step of run) if (step.step === 6) break
    writeFileSync(join(outputDir, 'metrics.jsonl'), '{"event":"step","step":7,"lo', { flag: 'a' })
    await train({ outputDir, resume: join(outputDir, 'checkpoint-4') })
    const lines = readFileSync(join(outputDir, 'metrics.jsonl'), 'utf8').trimEnd().split('\n')
    expect(steps(lines.map((line) => JSON.parse(line))).map((event) => event.step)).toEqual([
      1, 2, 3, 4, 5, 6, 7, 8, 9, 10,
    ])
  })

  test('takes the newest checkpoint that is whole, and a named one only if it is', async () => {
    const outputDir = scratchFolder()
    await train({ outputDir, saveSteps: 3, maxSteps: 9 })
    rmSync(join(outputDir, 'checkpoint-9/training_state.json'))
    const events = await train({ outputDir, resume: true, maxSteps: 9 })
    expect(steps(events)[0]?.step).toBe(7)
    await expect(train({ outputDir, resume: join(outputDir, 'checkpoint-9'), maxSteps: 9 })).rejects.toThrow(
      'checkpoint-9 cannot be used: it has no training_state.json. Resume from another one.',
    )
  })

  test.each(
    swept<[Partial<TrainOptions> & TrainControl, string, number?]>(
      [
        [{ learningRate: 0.02 }, 'cannot be resumed exactly: learning_rate is 0.01 there and 0.02 here'],
        // The first two steps, warm-up and peak, have the same rate in both; the third has not.
        [{ maxSteps: 11 }, 'cannot be resumed exactly: max_steps is 10 there and 11 here', 3],
        [{ seed: 8 }, 'cannot be resumed exactly: seed is 7 there and 8 here'],
        [{ evalFraction: 0.5 }, 'cannot be resumed exactly: eval_fraction is 0 there and 0.5 here'],
      ],
      2,
    ),
  )('with %j is refused', async (change, message, made = 1) => {
    const outputDir = scratchFolder()
    const run = (await fresh()).train(data, { ...options, outputDir, saveSteps: 1 })
    for await (const event of run.events()) if (event.event === 'checkpoint' && event.step === made) break
    await expect(train({ outputDir, resume: true, ...change })).rejects.toThrow(
      expect.objectContaining({ code: 'CONFIG', message: expect.stringContaining(message) }),
    )
    expect(steps(await train({ outputDir, resume: true, saveSteps: 50 }))).toHaveLength(10 - made)
  })

  sweepTest('with another adapter or base is refused', async () => {
    const outputDir = scratchFolder()
    const run = (await fresh()).train(data, { ...options, outputDir, saveSteps: 1 })
    for await (const event of run.events()) if (event.event === 'checkpoint') break
    const resume = { ...options, outputDir, resume: true as const }
    const model = await loadModel(folder, { precision: 'fp32' })
    loaded.push(model)
    const other = await model.attach(lora({ r: 2 }))
    await expect(collect(other.train(data, resume))).rejects.toThrow(
      'does not hold the adapter that is to be trained: strategy.r is 4 there and 2 here, strategy.lora_dropout is 0.1 there and 0 here. Restore it, or start a new run in another output_dir.',
    )
    // What follows from the strategy, as the rate does, is not named in its place.
    const another = await model.attach(miss({ r: 4 }), { name: 'another' })
    await expect(collect(another.train(data, { ...resume, learningRate: 0.5 }))).rejects.toThrow(
      'trained: strategy.name is "lora" there and "miss" here. Restore it',
    )
    const quantized = await loadModel(folder, { precision: 'fp32', quantization: 'nf4' })
    loaded.push(quantized)
    const same = await quantized.attach(lora({ r: 4, loraAlpha: 8, loraDropout: 0.1 }))
    await expect(collect(same.train(data, resume))).rejects.toThrow(
      'quantization is "none" there and "nf4" here',
    )
    const others = scratchFile('others.jsonl', chats(61))
    await expect(collect((await fresh()).train(others, resume))).rejects.toThrow(
      'the training data has changed: rows, their order, or how they are read and tokenized.',
    )
  })

  test('needs a checkpoint', async () => {
    const outputDir = scratchFolder()
    await expect(train({ outputDir, resume: true })).rejects.toThrow(
      `${outputDir} holds no checkpoint to resume from. Train without --resume; save_steps: N saves one every N steps.`,
    )
    await expect(train({ resume: true })).rejects.toThrow('resume: true needs an outputDir')
    await expect(train({ resume: '/nowhere' })).rejects.toThrow('there is no checkpoint at /nowhere')
  })
})

describe('a run that ends early', () => {
  sweepTest(
    'when its signal aborts rejects with the reason after the running step, a checkpoint saved',
    async () => {
      const outputDir = scratchFolder()
      const controller = new AbortController()
      const run = (await fresh()).train(data, { ...options, outputDir, signal: controller.signal })
      const events: TrainEvent[] = []
      const reason = new Error('enough')
      const ended = (async () => {
        for await (const event of run.events()) {
          events.push(event)
          if (event.event === 'step' && event.step === 3) controller.abort(reason)
        }
      })()
      await expect(ended).rejects.toBe(reason)
      const path = join(outputDir, 'checkpoint-3')
      expect(events.slice(-2)).toEqual([
        { event: 'checkpoint', step: 3, path },
        { event: 'stopped', step: 3, path },
      ])
      expect(existsSync(join(outputDir, 'adapter_model.safetensors'))).toBe(false)
      const uninterrupted = steps(await train())
      expect(steps(await train({ outputDir, resume: true }))).toEqual(uninterrupted.slice(3))
    },
  )

  test('when its signal is aborted already makes no step', async () => {
    await expect(train({ signal: AbortSignal.abort(new Error('no')) })).rejects.toThrow('no')
  })

  test('by leaving the loop keeps the adapter usable', async () => {
    const adapter = await fresh()
    for await (const step of adapter.train(data, options)) if (step.step === 2) break
    const path = join(scratchFolder(), 'adapter')
    await adapter.save(path)
    expect(existsSync(join(path, 'adapter_model.safetensors'))).toBe(true)
    expect(steps(await collect(adapter.train(data, { ...options, maxSteps: 1 })))).toHaveLength(1)
  })

  test('leaves the event loop free during a step', async () => {
    const big = { ...options, maxSteps: 1, gradientAccumulationSteps: 30 }
    const adapter = await fresh()
    expect(await turnsDuring(collect(adapter.train(data, big)))).toBeGreaterThan(1000)
  })
})

describe('a run that diverges', () => {
  const wild = { learningRate: 1e30, maxGradNorm: 0, warmupRatio: 0 }

  test('names the step and what to try, and keeps the step before as a checkpoint', async () => {
    const outputDir = scratchFolder()
    const adapter = await fresh()
    const events: TrainEvent[] = []
    const run = async () => {
      for await (const event of adapter.train(data, { ...options, ...wild, outputDir }).events())
        events.push(event)
    }
    await expect(run()).rejects.toThrow(
      expect.objectContaining({
        code: 'DIVERGED',
        message: expect.stringMatching(
          /^training diverged: the loss is (NaN|Infinity) at step 2\. The adapter is in its state after step 1\. Lower learning_rate \(1e\+30\)/,
        ),
        details: expect.objectContaining({ step: 2, lastGoodStep: 1 }),
      }),
    )
    const path = join(outputDir, 'checkpoint-1')
    expect(events.map((event) => event.event)).toEqual(['start', 'plan', 'memory', 'step', 'checkpoint'])
    expect(events.at(-1)).toEqual({ event: 'checkpoint', step: 1, path })
    const one = scratchFolder()
    await train({ ...wild, lrSchedulerType: 'constant', maxSteps: 1, outputDir: one })
    expect(adapterBytes(path).equals(adapterBytes(one))).toBe(true)
    await adapter.save(one)
    expect(adapterBytes(path).equals(adapterBytes(one))).toBe(true)
  })

  test('in the gradient alone is the same: nothing of the step is applied', async () => {
    const { isa, threads } = addon().cpu()
    addon().configure({ isa: 'reference', threads })
    try {
      const outputDir = scratchFolder()
      const large = { ...wild, learningRate: 1e4, lrSchedulerType: 'constant' as const, outputDir }
      await expect(train(large)).rejects.toThrow(
        expect.objectContaining({
          code: 'DIVERGED',
          message: expect.stringContaining(
            'the gradient is not finite at step 2. The adapter is in its state after step 1.',
          ),
        }),
      )
      const one = scratchFolder()
      await train({ ...large, maxSteps: 1, outputDir: one })
      expect(adapterBytes(join(outputDir, 'checkpoint-1')).equals(adapterBytes(one))).toBe(true)
    } finally {
      addon().configure({ isa, threads })
    }
  })

  test('before its first step saves nothing and looks for the cause elsewhere', async () => {
    const outputDir = scratchFolder()
    const adapter = await fresh()
    for await (const step of adapter.train(data, { ...options, ...wild, outputDir }))
      if (step.step === 1) break
    const again = adapter.train(data, { ...options, outputDir })
    await expect(collect(again)).rejects.toThrow('at step 1. This was the first step')
    expect(readdirSync(outputDir)).toEqual(['metrics.jsonl', 'report.html', 'run.json'])
  })
})

describe('misuse', () => {
  test('tells that no row was answered in time', async () => {
    const run = (await fresh()).train(data, { ...options, maxSteps: 1, sampleRows: 1 })
    await collect(run)
    vi.spyOn(AbortSignal, 'timeout').mockReturnValueOnce(AbortSignal.abort())
    expect(await run.samples()).toMatchObject({ rows: [], late: true })
    expect(await run.samples()).toMatchObject({ rows: [{ prompt: expect.any(String) }], late: false })
  })

  test('tells one count of rows for the data of training and of evaluation', async () => {
    const rows: number[] = []
    await train({
      evalDataset: data,
      maxSteps: 1,
      onDataProgress: (progress) => void rows.push(progress.rows),
    })
    expect(rows).toEqual(rows.toSorted((a, b) => a - b))
    expect(rows.at(-1)).toBe(120)
  })

  test('of a run or an adapter is refused', async () => {
    const adapter = await fresh()
    const run = adapter.train(data, options)
    const iterator = run[Symbol.asyncIterator]()
    await iterator.next()
    await expect(collect(adapter.train(data, options))).rejects.toThrow('is being trained by another run')
    await iterator.return?.()
    await expect(collect(run)).rejects.toThrow('has already been iterated')
    expect(() => adapter.train(data, { learningRat: 1 } as never)).toThrow(
      'train(): unknown key learningRat; did you mean learningRate?',
    )
    expect(() => adapter.train(data, { evalDataset: data, evalFraction: 0.1 })).toThrow(
      'expected at most one',
    )
  })

  test('a disk that refuses ends the run with a clear error', async () => {
    const file = scratchFile('file', '')
    await expect(train({ outputDir: join(file, 'out') })).rejects.toThrow(
      expect.objectContaining({ code: 'WRITE' }),
    )
  })
})
