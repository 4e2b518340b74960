/** Updates in the backward pass against those after it: the same numbers from less memory. */
import { createHash } from 'node:crypto'
import { afterEach, beforeAll, describe, expect, test } from 'vitest'
import { loadModel, type Model } from '../../../lib/model.js'
import { addon } from '../../../lib/native/addon.js'
import { adalora } from '../../../lib/strategies/adalora.js'
import { deltaLora } from '../../../lib/strategies/delta-lora.js'
import { dora } from '../../../lib/strategies/dora.js'
import { dpDylora } from '../../../lib/strategies/dp-dylora.js'
import { dylora } from '../../../lib/strategies/dylora.js'
import { full } from '../../../lib/strategies/full.js'
import { loha } from '../../../lib/strategies/loha.js'
import { lokr } from '../../../lib/strategies/lokr.js'
import { lora } from '../../../lib/strategies/lora.js'
import { loraDrop } from '../../../lib/strategies/lora-drop.js'
import { loraFa } from '../../../lib/strategies/lora-fa.js'
import { loraPlus } from '../../../lib/strategies/lora-plus.js'
import { qlora } from '../../../lib/strategies/qlora.js'
import type { StrategyConfig } from '../../../lib/strategies/strategy.js'
import { vera } from '../../../lib/strategies/vera.js'
import { loadConfig } from '../../../lib/train/config.js'
import { type Optimizer, optimizerOf, sgd } from '../../../lib/train/optimizers.js'
import type { TrainOptions } from '../../../lib/train/options.js'
import { chats, tinyModel } from '../../e2e/tiny-model.js'
import { scratchFile, scratchFolder } from '../files/scratch.js'

let folders: Record<'smollm2' | 'qwen2' | 'llama2', string>
let data: string
beforeAll(() => {
  folders = { smollm2: tinyModel(), qwen2: tinyModel('qwen2'), llama2: tinyModel('llama2') }
  data = scratchFile('train.jsonl', chats(40))
})

const loaded: Model[] = []
afterEach(async () => {
  addon().configure({ threads: 2 })
  for (const model of loaded.splice(0)) await model.dispose()
})

interface Case {
  strategy: StrategyConfig
  optimizer?: Optimizer['type'] | Optimizer
  base?: keyof typeof folders
  precision?: 'fp32' | 'bf16'
}

const options: Partial<TrainOptions> = {
  maxSteps: 3,
  maxSeqLength: 64,
  perDeviceTrainBatchSize: 2,
  learningRate: 3e-3,
  weightDecay: 0.01,
  lrSchedulerType: 'constant',
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
  const model = await loadModel(folders[base], { precision, quantization })
  loaded.push(model)
  const ready = await model.probe(strategy, data, { ...options, ...control })
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
  return { steps, tensors, memory: run.memory, held: held[0] }
}

const VARIANTS = [true, false].flatMap((gradientCheckpointing) =>
  [1, 2].map((threads) => ({ gradientCheckpointing, threads })),
)

/** Trains after the backward pass once, and in it in every variant; returns the first of either. */
async function compare(one: Case) {
  const usual = await train(one, {})
  expect(usual.steps.every(({ loss, gradNorm }) => Number.isFinite(loss) && gradNorm > 0)).toBe(true)
  const variants = []
  for (const { threads, gradientCheckpointing } of VARIANTS) {
    addon().configure({ threads })
    const within = await train(one, { optimizerInBackward: true, gradientCheckpointing })
    expect(within.steps, JSON.stringify({ threads, gradientCheckpointing })).toEqual(usual.steps)
    expect(within.tensors, JSON.stringify({ threads, gradientCheckpointing })).toEqual(usual.tensors)
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
  { strategy: loha({ r: 2 }) },
  { strategy: lokr({ r: 2 }) },
  { strategy: qlora({ adapter: lora({ r: 4 }) }) },
]

const nameOf = ({ strategy, optimizer = 'adamw', base = 'smollm2', precision = 'fp32' }: Case) =>
  `${strategy.name} on ${base} in ${precision} by ${typeof optimizer === 'string' ? optimizer : optimizer.type}`
const named = (cases: Case[]) => cases.map((one) => [nameOf(one), one] as const)

describe('the same steps, tensors and states, with less memory', () => {
  test.each(named(FULL))('%s', async (_, one) => {
    const { usual, within } = await compare(one)
    const all = usual.memory.bytes('gradients')
    expect(all).toBe(4 * usual.memory.trainableParameters)
    expect(within.memory.peakBytes).toBeLessThan(usual.memory.peakBytes - all / 4)
    expect(within.memory.bytes('gradients')).toBeLessThan(all)
  })

  test.each(named(OTHERS))('%s', async (_, one) => {
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
    ),
  )('%s', async (_, one) => {
    const { within } = await compare(one)
    expect(within.memory.pagedStateBytes).toBeGreaterThan(0)
  })
})
