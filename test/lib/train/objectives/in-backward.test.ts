/** Updates in the backward pass against those after it: the same numbers from less memory. */

import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import { loadModel } from '../../../../lib/model/load.js'
import type { Model } from '../../../../lib/model/model.js'
import { addon } from '../../../../lib/native/addon.js'
import { optimizerOf, sgd } from '../../../../lib/options/optimizers.js'
import type { Optimizer } from '../../../../lib/options/types.js'
import { planModel } from '../../../../lib/planning/plan.js'
import { adalora } from '../../../../lib/strategies/adalora.js'
import { deltaLora } from '../../../../lib/strategies/delta-lora.js'
import { dora } from '../../../../lib/strategies/dora.js'
import { dpDylora } from '../../../../lib/strategies/dp-dylora.js'
import { dylora } from '../../../../lib/strategies/dylora.js'
import { full } from '../../../../lib/strategies/full.js'
import { hira } from '../../../../lib/strategies/hira.js'
import { loha } from '../../../../lib/strategies/loha.js'
import { lokr } from '../../../../lib/strategies/lokr.js'
import { lora } from '../../../../lib/strategies/lora.js'
import { loraDrop } from '../../../../lib/strategies/lora-drop.js'
import { loraFa } from '../../../../lib/strategies/lora-fa.js'
import { loraPlus } from '../../../../lib/strategies/lora-plus.js'
import { miss } from '../../../../lib/strategies/miss.js'
import { oft } from '../../../../lib/strategies/oft.js'
import { qlora } from '../../../../lib/strategies/qlora.js'
import type { StrategyConfig } from '../../../../lib/strategies/strategy.js'
import { vera } from '../../../../lib/strategies/vera.js'
import { loadConfig } from '../../../../lib/train/config/config.js'
import { chats, tinyModel } from '../../../e2e/tiny-model.js'
import { sweepTest, swept } from '../../../sweep.js'
import { scratchFile, scratchFolder } from '../../scratch.js'

vi.mock('../../../../lib/train/rows/data.js', async (original) =>
  (await import('../../../tokenized-once.js')).tokenizedOnce(await original()),
)

let folders: Record<'smollm2' | 'qwen2' | 'llama2', string>
let data: string
beforeAll(() => {
  folders = { smollm2: tinyModel(), qwen2: tinyModel('qwen2'), llama2: tinyModel('llama2') }
  data = scratchFile('train.jsonl', chats(40))
})

const loaded: Model[] = []
let threads = 2
afterEach(async () => {
  threads = 2
  for (const model of loaded.splice(0)) await model.dispose()
})

interface Case {
  strategy: StrategyConfig
  optimizer?: Optimizer['type'] | Optimizer
  base?: keyof typeof folders
  precision?: 'fp32' | 'bf16'
}

const options = {
  maxSteps: 3,
  maxSeqLength: 64,
  perDeviceTrainBatchSize: 2,
  learningRate: 3e-3,
  weightDecay: 0.01,
  lrSchedulerType: 'constant' as const,
  warmupRatio: 0,
  maxGradNorm: 0,
  seed: 7,
}

const total = () => Object.values(addon().allocated()).reduce((sum, bytes) => sum + bytes, 0)

async function train(
  { strategy, optimizer = 'adamw', base = 'smollm2', precision = 'fp32' }: Case,
  control: object,
) {
  const quantization = strategy.name === 'qlora' ? 'nf4' : 'none'
  const before = total()
  const model = await loadModel(folders[base], { precision, quantization, threads })
  loaded.push(model)
  const ready = await model.probe(strategy, data, options)
  const adapter = await model.attach(ready, { seed: 1 })
  const run = adapter.train(data, { ...options, optimizer, ...control })
  const [steps, held]: [{ loss: number; gradNorm: number }[], number[]] = [[], []]
  for await (const { loss, gradNorm } of run) {
    steps.push({ loss, gradNorm })
    held.push(total() - before)
  }
  const { native, description } = adapter.state
  const tensors = Object.fromEntries(
    description.spec.parameters.map(({ name }) => {
      const hash = createHash('sha256').update(native.read(name, 'value'))
      for (const tensor of native.state(name)) hash.update(native.readState(name, tensor.name))
      return [name, hash.digest('hex')]
    }),
  )
  await model.dispose()
  return { steps, tensors, memory: run.memory, held: held[0], tensorCount: Object.keys(tensors).length }
}

const VARIANTS = [true, false].flatMap((gradientCheckpointing) =>
  [1, 2].map((threads) => ({ gradientCheckpointing, threads })),
)

/** Trains after the backward pass once, and in it in every variant; returns the first of either. */
async function compare(one: Case) {
  const usual = await train(one, {})
  expect(usual.steps.every(({ loss, gradNorm }) => Number.isFinite(loss) && gradNorm > 0)).toBe(true)
  const variants = []
  for (const { threads: count, gradientCheckpointing } of VARIANTS) {
    threads = count
    const within = await train(one, { optimizerInBackward: true, gradientCheckpointing })
    expect(within.steps, JSON.stringify({ count, gradientCheckpointing })).toEqual(usual.steps)
    expect(within.tensors, JSON.stringify({ count, gradientCheckpointing })).toEqual(usual.tensors)
    expect(within.held).toBe(within.memory.peakBytes)
    variants.push(within)
  }
  return { usual, within: variants[1] as (typeof variants)[0] }
}

const FULL: Case[] = [
  { strategy: full() },
  { strategy: full(), base: 'llama2' },
  { strategy: full(), base: 'qwen2' },
  { strategy: full(), precision: 'bf16' },
]

const OTHERS: Case[] = [
  { strategy: lora({ r: 4, loraDropout: 0.1 }) },
  {
    strategy: lora({ r: 4, targetModules: ['q_proj'], modulesToSave: ['embed_tokens'], bias: 'all' }),
    base: 'qwen2',
  },
  { strategy: lora({ r: 4, targetModules: ['q_proj', 'embed_tokens'] }) },
  { strategy: loraFa({ r: 4, projectGradient: true }) },
  { strategy: loraPlus({ adapter: lora({ r: 4 }) }) },
  { strategy: dora({ r: 4, loraDropout: 0.1 }) },
  { strategy: deltaLora({ r: 4, startStep: 1 }) },
  { strategy: dylora({ r: 4 }) },
  { strategy: dylora({ r: 4, trainedRanks: 'last', maskedUpdate: false }) },
  { strategy: adalora({ initR: 4, targetR: 2, tinit: 1, tfinal: 1, deltaT: 1 }) },
  { strategy: loraDrop({ r: 4 }) },
  { strategy: vera({ r: 8 }) },
  { strategy: miss({ r: 8 }) },
  { strategy: oft({ oftBlockSize: 8 }) },
  { strategy: hira({ r: 4, hiraDropout: 0.1 }) },
  { strategy: loha({ r: 2 }) },
  { strategy: lokr({ r: 2 }) },
  { strategy: qlora({ adapter: lora({ r: 4 }) }) },
]

const nameOf = ({ strategy, optimizer = 'adamw', base = 'smollm2', precision = 'fp32' }: Case) =>
  `${strategy.name} on ${base} in ${precision} by ${typeof optimizer === 'string' ? optimizer : optimizer.type}`
const named = (cases: Case[], few: number) => swept(cases, few).map((one) => [nameOf(one), one] as const)

describe('the same steps, tensors and states, with less memory', () => {
  test.each(named(FULL, 2))('%s', async (_, one) => {
    const { usual, within } = await compare(one)
    const all = usual.memory.bytes('gradients')
    expect(all).toBe(4 * usual.memory.trainableParameters)
    expect(within.memory.peakBytes).toBeLessThan(usual.memory.peakBytes - all / 4)
    expect(within.memory.bytes('gradients')).toBeLessThan(all)
    const { base = 'smollm2', strategy, precision = 'fp32' } = one
    const { perDeviceTrainBatchSize, maxSeqLength } = options
    const shape = { perDeviceTrainBatchSize, maxSeqLength, optimizerInBackward: true }
    const planned = await planModel(folders[base], { strategy, precision, quantization: 'none', ...shape })
    expect(planned.rows).toEqual(within.memory.rows)
    expect(planned.timeline.filter(({ kernel }) => kernel === 'update')).toHaveLength(within.tensorCount)
  })

  test.each(named(OTHERS, 4))('%s', async (_, one) => {
    const { usual, within } = await compare(one)
    expect(within.memory.bytes('gradients')).toBeLessThan(usual.memory.bytes('gradients'))
  })

  test.each(
    named(
      [sgd(), sgd({ momentum: 0.9 }), ...(['adamw_8bit', 'lion', 'lion_8bit', 'adafactor'] as const)].flatMap(
        (optimizer): Case[] => [
          { strategy: full(), optimizer },
          { strategy: lora({ r: 48 }), optimizer },
        ],
      ),
      3,
    ),
  )('%s', async (_, one) => {
    await compare(one)
  })

  test.each(
    named(
      (['paged_adamw', 'paged_adamw_8bit'] as const).map((type) => ({
        strategy: lora({ r: 512, targetModules: ['q_proj', 'v_proj', 'down_proj'] }),
        optimizer: { ...optimizerOf(type), resident: 2 ** 20 } as Optimizer,
      })),
      1,
    ),
  )('%s', async (_, one) => {
    const { within } = await compare(one)
    expect(within.memory.pagedStateBytes).toBeGreaterThan(0)
  })
})

sweepTest('an interrupted run goes on either way, to the same bytes', async () => {
  const strategy = lora({ r: 4, loraDropout: 0.1 })
  const [whole, cut] = [scratchFolder(), scratchFolder()]
  await train({ strategy }, { outputDir: whole, saveSteps: 1 })
  await train({ strategy }, { outputDir: cut, saveSteps: 1, optimizerInBackward: true })
  const bytes = (folder: string) => readFileSync(join(folder, 'adapter_model.safetensors'))
  expect(bytes(cut).equals(bytes(whole))).toBe(true)
  for (const [from, optimizerInBackward] of [
    [whole, true],
    [cut, false],
    [cut, true],
  ] as const) {
    const outputDir = scratchFolder()
    await train({ strategy }, { outputDir, optimizerInBackward, resume: join(from, 'checkpoint-1') })
    expect(bytes(outputDir).equals(bytes(whole))).toBe(true)
  }
})

test('an adapter may train in either way, one after the other', async () => {
  const model = await loadModel(folders.smollm2, { precision: 'fp32' })
  loaded.push(model)
  const adapter = await model.attach(lora({ r: 4 }), { seed: 1 })
  const gradients = () => addon().allocated().gradients
  const held = gradients()
  expect(held).toBe(4 * adapter.trainableParameters)
  const run = async (optimizerInBackward: boolean) => {
    for await (const _ of adapter.train(data, { ...options, optimizerInBackward }));
    return gradients()
  }
  expect([await run(true), await run(false), await run(true)]).toEqual([0, held, 0])
})

describe('a step that diverges', () => {
  const wild = { lrSchedulerType: 'constant' as const, optimizerInBackward: true }
  const diverging = async (learningRate: number, abortIn?: number) => {
    const outputDir = scratchFolder()
    const abort = new AbortController()
    const model = await loadModel(folders.smollm2, { precision: 'fp32' })
    loaded.push(model)
    const adapter = await model.attach(lora({ r: 4, loraAlpha: 8 }), { seed: 1 })
    const { turns } = adapter.state
    const inTurn = turns.run.bind(turns)
    // The first turn is that of the restart, before any step.
    let step = -1
    vi.spyOn(turns, 'run').mockImplementation((work) => {
      if (++step === abortIn) abort.abort()
      return inTurn(work)
    })
    const { signal } = abort
    const run = adapter.train(data, { ...options, ...wild, learningRate, outputDir, signal })
    const steps: number[] = []
    const error = await (async () => {
      for await (const { step } of run) steps.push(step)
    })().catch((reason: unknown) => reason)
    return { error, steps, left: readdirSync(outputDir) }
  }

  test('in its loss changes nothing, and is kept', async () => {
    const { error, steps, left } = await diverging(1e30)
    const last = steps.length
    expect(error).toMatchObject({
      code: 'DIVERGED',
      message: expect.stringMatching(
        /the loss is .* at step \d\. The adapter is in its state after step \d\./,
      ),
      details: { step: last + 1, lastGoodStep: last },
    })
    expect(left).toContain(`checkpoint-${last}`)
  })

  test.each([
    ['', undefined],
    [', nor when the run is aborted in it', 2],
  ])('in its gradient alone is not kept, for some of it is applied%s', async (_, abortIn) => {
    const { isa, threads } = addon().cpu()
    addon().configure({ isa: 'reference', threads })
    try {
      const { error, left } = await diverging(1e4, abortIn)
      expect(error).toMatchObject({
        code: 'DIVERGED',
        message: expect.stringMatching(
          /the gradient is not finite at step 2\. Some tensors were already updated \(optimizer_in_backward\)/,
        ),
        details: { step: 2, lastGoodStep: null },
      })
      expect(left).toEqual(['metrics.jsonl', 'report.html', 'run.json'])
    } finally {
      addon().configure({ isa, threads })
    }
  })
})

describe('what needs all gradients at once is refused', () => {
  const clients = { partition: 'iid', count: 4 } as const
  test.each([
    [
      { maxGradNorm: 0, gradientAccumulationSteps: 4 },
      'optimizerInBackward is true but gradientAccumulationSteps is 4: gradients accumulate over micro-batches. Set gradientAccumulationSteps to 1, or set optimizerInBackward to false.',
    ],
    [
      { maxGradNorm: 1 },
      'optimizerInBackward is true but maxGradNorm is 1: clipping needs the norm of the whole gradient. Set maxGradNorm to 0, or set optimizerInBackward to false.',
    ],
  ])('%o', async (control, message) => {
    const strategy = lora({ r: 4 })
    await expect(train({ strategy }, { optimizerInBackward: true, ...control })).rejects.toThrow(message)
  })

  test('private training', async () => {
    const strategy = dpDylora({ clients, noiseMultiplier: 1, rounds: 2, adapter: lora({ r: 4 }) })
    await expect(train({ strategy }, { optimizerInBackward: true })).rejects.toThrow(
      'optimizerInBackward is true but strategy is dp-dylora: private training clips and sums whole gradients.',
    )
    const plan = planModel(folders.smollm2, { strategy, optimizerInBackward: true })
    await expect(plan).rejects.toThrow('private training clips and sums whole gradients')
  })

  test('in the words of a config', async () => {
    const config = scratchFile(
      'run.yaml',
      'model: m\ndataset: d.jsonl\nstrategy: {name: lora}\noptimizer_in_backward: true\n',
    )
    await expect(loadConfig(config)).rejects.toThrow(
      `${config}: optimizer_in_backward is true but max_grad_norm is 1: clipping needs the norm of the whole gradient. Set max_grad_norm to 0, or set optimizer_in_backward to false.`,
    )
    expect((await loadConfig(config, ['max_grad_norm=0'])).optimizerInBackward).toBe(true)
  })
})

test('native steps are told from each other', async () => {
  const model = await loadModel(folders.smollm2, { precision: 'fp32' })
  loaded.push(model)
  const adapter = await model.attach(lora({ r: 4 }), { seed: 1 })
  for await (const _ of adapter.train(data, { ...options, maxSteps: 1, optimizerInBackward: true }));
  const step = { kind: 'adamw', beta1: 0.9, beta2: 0.999, epsilon: 1e-8, maxGradNorm: 0, step: 1 } as const
  const groups = adapter.state.description.groups.map(() => ({ learningRate: 1, weightDecay: 0 }))
  await expect(adapter.state.native.optimizerStep({ ...step, groups }).promise).rejects.toThrow(
    'the adapter is updated in the backward pass and keeps no gradients',
  )
})
