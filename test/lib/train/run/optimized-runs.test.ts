/** Whole runs by every optimizer. */

import { cpSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import { readSafetensorsHeader } from '../../../../lib/formats/safetensors.js'
import { loadModel } from '../../../../lib/model/load.js'
import type { Model } from '../../../../lib/model/model.js'
import { addon } from '../../../../lib/native/addon.js'
import { adafactor, adamW8bit, lion, optimizerOf, sgd } from '../../../../lib/options/optimizers.js'
import type { Optimizer } from '../../../../lib/options/types.js'
import { adalora } from '../../../../lib/strategies/adalora.js'
import { dpDylora } from '../../../../lib/strategies/dp-dylora.js'
import { dylora } from '../../../../lib/strategies/dylora.js'
import { full } from '../../../../lib/strategies/full.js'
import { lora } from '../../../../lib/strategies/lora.js'
import { loraFa } from '../../../../lib/strategies/lora-fa.js'
import { loraPlus } from '../../../../lib/strategies/lora-plus.js'
import type { StrategyConfig } from '../../../../lib/strategies/strategy.js'
import { chats, tinyModel } from '../../../e2e/tiny-model.js'
import { sweepTest, swept } from '../../../sweep.js'
import { type Entry, safetensorsBytes } from '../../formats/safetensors-bytes.js'
import { scratchFile, scratchFolder } from '../../scratch.js'

vi.mock('../../../../lib/train/rows/data.js', async (original) =>
  (await import('../../../tokenized-once.js')).tokenizedOnce(await original()),
)

let folder: string
let data: string
beforeAll(() => {
  folder = tinyModel()
  data = scratchFile('train.jsonl', chats(60))
})

const loaded: Model[] = []
let threads = 2
afterEach(async () => {
  threads = 2
  for (const model of loaded.splice(0)) await model.dispose()
})

const options = {
  maxSteps: 8,
  maxSeqLength: 64,
  perDeviceTrainBatchSize: 2,
  learningRate: 1e-3,
  lrSchedulerType: 'constant' as const,
  seed: 7,
}
/** With factors on both sides of 4096 elements. */
const wide = lora({ r: 32, targetModules: 'all-linear' })

interface Ran {
  losses: number[]
  /** Planned and allocated bytes of the optimizer. */
  planned: number
  allocated: number
}

async function train(
  optimizer: Optimizer['type'] | Optimizer,
  control: object = {},
  strategy = wide as StrategyConfig,
) {
  const model = await loadModel(folder, { precision: 'fp32', threads })
  loaded.push(model)
  const before = addon().allocated().optimizer
  const adapter = await model.attach(strategy, { seed: 1 })
  const run = adapter.train(data, { ...options, ...control, optimizer })
  const ran: Ran = { losses: [], planned: run.memory.bytes('optimizer'), allocated: 0 }
  for await (const { loss } of run) {
    ran.losses.push(loss)
    ran.allocated = addon().allocated().optimizer - before
  }
  return ran
}

const bytes = (path: string) => readFileSync(join(path, 'adapter_model.safetensors'))

const ALL: Optimizer[] = [
  adamW8bit(),
  lion(),
  { ...lion(), type: 'lion_8bit' },
  adafactor(),
  sgd({ momentum: 0.9 }),
]

describe.each(swept(ALL, 1).map((optimizer) => ({ optimizer, name: optimizer.type })))(
  '$name',
  ({ optimizer }) => {
    const learningRate = optimizer.type === 'sgd' ? 0.1 : 1e-3

    test('learns, and allocates what was planned', async () => {
      const { losses, planned, allocated } = await train(optimizer, { learningRate, maxSteps: 12 })
      expect(losses.at(-1)).toBeLessThan(0.95 * (losses[0] as number))
      expect(allocated).toBe(planned)
    })

    sweepTest('resumed goes on bit for bit, at any number of threads', async () => {
      const [whole, cut, rest] = [scratchFolder(), scratchFolder(), scratchFolder()]
      const { losses } = await train(optimizer, { learningRate, outputDir: whole })
      threads = 1
      await train(optimizer, { learningRate, maxSteps: 8, saveSteps: 3, outputDir: cut })
      const resumed = await train(optimizer, {
        learningRate,
        resume: join(cut, 'checkpoint-3'),
        outputDir: rest,
      })
      expect(resumed.losses).toEqual(losses.slice(3))
      expect(bytes(cut)).toEqual(bytes(whole))
      expect(bytes(rest)).toEqual(bytes(whole))
    })

    test.each([
      ['groups of learning rates', loraPlus({ adapter: wide })],
      ['ranks that are pruned', adalora({ initR: 16, targetR: 8, tinit: 1, tfinal: 2, deltaT: 1 })],
      ['projected gradients', loraFa({ r: 16, projectGradient: true })],
      ['whole weights', full()],
    ])('trains %s', async (_, strategy) => {
      const { losses, planned, allocated } = await train(
        optimizer,
        { learningRate: learningRate / 10 },
        strategy,
      )
      expect(losses.at(-1)).toBeLessThan(losses[0] as number)
      if (strategy.name !== 'adalora') expect(allocated).toBe(planned)
    })
  },
)

test('8-bit state takes a quarter of the bytes, and its files say what they hold', async () => {
  const large = lora({ r: 128, targetModules: 'all-linear' })
  const [whole, coded] = [await train('adamw', {}, large), await train('adamw_8bit', {}, large)]
  expect(coded.planned).toBe(whole.planned * (2.03125 / 8))
  const out = scratchFolder()
  const strategy = lora({ r: 64, targetModules: ['q_proj'] })
  await train('adamw_8bit', { saveSteps: 4, outputDir: out }, strategy)
  const { tensors } = await readSafetensorsHeader(join(out, 'checkpoint-4/training_state.safetensors'))
  const found = [...tensors.values()].filter(({ name }) => name.includes('layers.0.self_attn.q_proj.lora_A'))
  const said = found.map(({ name, dtype, shape }) => `${name.split('.')[0]} ${dtype} [${shape}]`)
  expect(said.sort()).toEqual([
    'm U8 [64,96]',
    'm_absmax F32 [24]',
    'sqrt_v U8 [64,96]',
    'sqrt_v_absmax F32 [24]',
  ])
})

const PAGED = [
  { type: 'paged_adamw', r: 128 },
  { type: 'paged_adamw_8bit', r: 512 },
] as const

test.each(swept(PAGED, 1))('$type is AdamW with less memory', async ({ type, r }) => {
  const strategy = lora({ r, targetModules: ['q_proj', 'v_proj', 'down_proj'] })
  const short = { maxSteps: 4 }
  const whole = await train(type === 'paged_adamw' ? 'adamw' : 'adamw_8bit', short, strategy)
  const optimizer = { ...optimizerOf(type), resident: 2 ** 20 } as Optimizer
  const [cut, rest] = [scratchFolder(), scratchFolder()]
  const paged = await train(optimizer, { ...short, saveSteps: 2, outputDir: cut }, strategy)
  expect(paged.losses).toEqual(whole.losses)
  expect(paged.allocated).toBe(paged.planned)
  expect(paged.planned).toBeLessThan(2 ** 20)
  expect(whole.planned).toBeGreaterThan(2 ** 20)
  const resumed = await train(
    optimizer,
    { ...short, resume: join(cut, 'checkpoint-2'), outputDir: rest },
    strategy,
  )
  expect(resumed.losses).toEqual(whole.losses.slice(2))
  expect(bytes(rest)).toEqual(bytes(cut))
  // On Windows the file of the state keeps its name for as long as it is open.
  const hidden = process.platform === 'win32' ? /^\.(?!paged-)/ : /^\./
  expect(readdirSync(cut).filter((name) => hidden.test(name))).toEqual([])
})

test('state that fits into its budget is not paged', async () => {
  const [whole, paged] = [await train('adamw'), await train('paged_adamw')]
  expect(paged).toEqual(whole)
})

test('ranks and clients are trained with all of the state in memory', async () => {
  const optimizer = { ...optimizerOf('paged_adamw'), resident: 2 ** 20 } as Optimizer
  await expect(train(optimizer, {}, dylora({ r: 256 }))).rejects.toThrow(
    /state of .* is paged out, but updates by rank require it in memory/,
  )
  const clients = dpDylora({
    clients: { partition: 'iid', count: 4 },
    noiseMultiplier: 1,
    rounds: 2,
    adapter: lora({ r: 256 }),
  })
  await expect(train(optimizer, {}, clients)).rejects.toThrow(
    /exceeds the limit of 1048576, and private training of clients keeps all of it in memory/,
  )
})

test('a checkpoint of one optimizer does not go on with another', async () => {
  const out = scratchFolder()
  await train('adamw', { saveSteps: 4, outputDir: out })
  await expect(train('adamw_8bit', { resume: join(out, 'checkpoint-4') })).rejects.toThrow(
    'optimizer is "adamw" there and "adamw_8bit" here',
  )
})

test.each([
  [
    dylora(),
    'adamw_8bit',
    'optimizer is adamw_8bit, and dylora updates each rank on its own, which 8-bit blocks cannot',
  ],
  [dylora(), 'adafactor', 'optimizer is adafactor, and dylora updates each rank on its own, which it cannot'],
  [
    dpDylora({
      clients: { partition: 'iid', count: 4 },
      noiseMultiplier: 1,
      rounds: 2,
      serverOptimizer: 'adam',
      adapter: lora(),
    }),
    'adafactor',
    'optimizer is adafactor, and dp-dylora has a server that keeps Adam moments',
  ],
] as const)('what cannot be is refused at once: %o by %s', async (strategy, optimizer, message) => {
  await expect(train(optimizer, {}, strategy)).rejects.toThrow(message)
})

test('lion trains ranks one by one', async () => {
  const { losses } = await train('lion', {}, dylora({ r: 4 }))
  expect(losses.at(-1)).toBeLessThan(losses[0] as number)
})

describe('kept attention', () => {
  sweepTest('gives the same losses and the same adapter, and is not computed again', async () => {
    const trained = async (keepAttention: boolean) => {
      const outputDir = scratchFolder()
      const model = await loadModel(folder, { precision: 'fp32' })
      loaded.push(model)
      const adapter = await model.attach(wide, { seed: 1 })
      const run = adapter.train(data, { ...options, keepAttention, outputDir })
      const losses: number[] = []
      let allocated = 0
      for await (const { loss } of run) {
        losses.push(loss)
        allocated = addon().allocated().activations
      }
      const again = run.memory.timeline.filter((step) => step.phase === 'recompute')
      const attention = again.filter(({ kernel }) => kernel === 'attention').length
      return {
        losses,
        written: bytes(outputDir),
        allocated,
        memory: run.memory,
        attention,
        again: again.length,
      }
    }
    const made = await trained(false)
    const kept = await trained(true)
    expect(kept.losses).toEqual(made.losses)
    expect(kept.written).toEqual(made.written)
    expect(kept.allocated).toBe(kept.memory.arenaBytes)
    expect(made.attention).toBeGreaterThan(0)
    expect(kept.attention).toBe(0)
    expect(kept.again).toBe(made.again - made.attention)
  })

  test('an interrupted run may go on with it or without', async () => {
    const { losses } = await train('adamw', { outputDir: scratchFolder() })
    const cut = scratchFolder()
    await train('adamw', { maxSteps: 8, saveSteps: 3, outputDir: cut })
    const resume = join(cut, 'checkpoint-3')
    const rest = await train('adamw', { keepAttention: true, resume, outputDir: scratchFolder() })
    expect(rest.losses).toEqual(losses.slice(3))
  })

  test('without checkpointing there is nothing that it would add', async () => {
    const model = await loadModel(folder)
    loaded.push(model)
    const adapter = await model.attach(wide)
    expect(() => adapter.train(data, { keepAttention: true, gradientCheckpointing: false })).toThrow(
      'keep_attention is on but gradient_checkpointing is off',
    )
  })
})

/** A copy of a model with its last layer again, so often that there are so many. */
function deeper(folder: string, layers: number): string {
  const copy = scratchFolder()
  cpSync(folder, copy, { recursive: true })
  const config = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'))
  writeFileSync(join(copy, 'config.json'), JSON.stringify({ ...config, num_hidden_layers: layers }))
  const file = readFileSync(join(folder, 'model.safetensors'))
  const start = 8 + Number(file.readBigUInt64LE())
  const header = JSON.parse(file.subarray(8, start).toString()) as Record<string, Entry>
  const parts = [file.subarray(start)]
  let end = parts[0]?.length as number
  const last = `model.layers.${config.num_hidden_layers - 1}.`
  const repeated = Object.entries(header).filter(([name]) => name.startsWith(last))
  for (let layer = config.num_hidden_layers; layer < layers; layer++)
    for (const [name, entry] of repeated) {
      const [from = 0, to = 0] = entry.data_offsets
      header[name.replace(last, `model.layers.${layer}.`)] = {
        ...entry,
        data_offsets: [end, end + to - from],
      }
      parts.push(file.subarray(start + from, start + to))
      end += to - from
    }
  writeFileSync(
    join(copy, 'model.safetensors'),
    safetensorsBytes(JSON.stringify(header), Buffer.concat(parts)),
  )
  return copy
}

describe('offloaded activations', () => {
  sweepTest(
    'give the same losses and the same adapter, from the memory and the file that were planned',
    async () => {
      // The last block stays, so that of two blocks only one would go.
      const model = await loadModel(deeper(folder, 4), { precision: 'fp32' })
      loaded.push(model)
      const trained = async (activationOffloading: boolean, outputDir: string) => {
        const adapter = await model.attach(wide, { seed: 1 })
        const run = adapter.train(data, {
          ...options,
          gradientAccumulationSteps: 2,
          activationOffloading,
          outputDir,
        })
        const losses: number[] = []
        let allocated = 0
        for await (const { loss } of run) {
          losses.push(loss)
          allocated = addon().allocated().activations
        }
        await adapter.detach()
        return { losses, allocated, memory: run.memory, left: readdirSync(outputDir) }
      }
      const [here, there] = [scratchFolder(), scratchFolder()]
      const kept = await trained(false, here)
      const offloaded = await trained(true, there)
      expect(offloaded.losses).toEqual(kept.losses)
      expect(bytes(there)).toEqual(bytes(here))
      expect(offloaded.allocated).toBe(offloaded.memory.arenaBytes)
      expect(offloaded.memory.arenaBytes).toBeLessThanOrEqual(kept.memory.arenaBytes)
      expect(offloaded.memory.offloadedBytes).toBeGreaterThan(0)
      expect(kept.memory.offloadedBytes).toBe(0)
      expect(String(offloaded.memory)).toContain('of activations are on disk')
      // The file has no name: nothing is left behind.
      expect(offloaded.left).toEqual(kept.left)
    },
  )

  test('an interrupted run may go on with them or without', async () => {
    const [whole, cut] = [scratchFolder(), scratchFolder()]
    const { losses } = await train('adamw', { outputDir: whole })
    await train('adamw', { maxSteps: 8, saveSteps: 3, outputDir: cut })
    const resume = join(cut, 'checkpoint-3')
    const rest = await train('adamw', { activationOffloading: true, resume, outputDir: scratchFolder() })
    expect(rest.losses).toEqual(losses.slice(3))
  })

  test('without checkpointing there is nothing that could be', async () => {
    const model = await loadModel(folder)
    loaded.push(model)
    const adapter = await model.attach(wide)
    expect(() => adapter.train(data, { activationOffloading: true, gradientCheckpointing: false })).toThrow(
      'activation_offloading is on but gradient_checkpointing is off',
    )
  })
})
