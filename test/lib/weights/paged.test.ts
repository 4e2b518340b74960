import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { type LoadOptions, loadModel } from '../../../lib/model/load.js'
import type { Model } from '../../../lib/model/model.js'
import { graphOf } from '../../../lib/models/index.js'
import { addon, type NativeModel } from '../../../lib/native/addon.js'
import { planModel } from '../../../lib/planning/plan.js'
import { adalora } from '../../../lib/strategies/adalora.js'
import { deltaLora } from '../../../lib/strategies/delta-lora.js'
import { dora } from '../../../lib/strategies/dora.js'
import { full } from '../../../lib/strategies/full.js'
import { loha } from '../../../lib/strategies/loha.js'
import { lokr } from '../../../lib/strategies/lokr.js'
import { lora } from '../../../lib/strategies/lora.js'
import type { StrategyConfig } from '../../../lib/strategies/strategy.js'
import { chats, tinyModel } from '../../e2e/tiny-model.js'
import { needs } from '../../needs.js'
import { sweepTest, swept } from '../../sweep.js'
import { safetensorsBytes } from '../formats/safetensors-bytes.js'
import { scratchFile, scratchFolder } from '../scratch.js'

vi.mock('../../../lib/train/rows/data.js', async (original) =>
  (await import('../../tokenized-once.js')).tokenizedOnce(await original()),
)

/** A quarter of the model in fp32, and less. */
const BUDGET = '3.5MiB'
const BUDGET_BYTES = 3.5 * 2 ** 20

let model: string
let data: string
let cache: string
let native: NativeModel
beforeAll(() => {
  model = deepModel()
  data = scratchFile('data.jsonl', chats(8))
})
beforeEach(() => {
  cache = scratchFolder()
  vi.stubEnv('LOWRANK_WEIGHT_CACHE', cache)
  const create = addon().createModel
  vi.spyOn(addon(), 'createModel').mockImplementation((graph) => {
    native = create(graph)
    return native
  })
})
afterEach(() => {
  vi.unstubAllEnvs()
  vi.restoreAllMocks()
})

/** Sixteen layers and a head of two slices, with random weights: 15 MiB in fp32. */
function deepModel(): string {
  const folder = tinyModel()
  const config = {
    ...JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8')),
    ...{ hidden_size: 64, num_attention_heads: 4, num_key_value_heads: 2, head_dim: 16 },
    ...{ intermediate_size: 1024, num_hidden_layers: 16, vocab_size: 10_000 },
  }
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config))
  let state = 1
  const random = () => {
    state = (state * 1103515245 + 12345) % 2 ** 31
    return state / 2 ** 31 - 0.5
  }
  const header: Record<string, unknown> = {}
  const parts: Float32Array[] = []
  let offset = 0
  for (const { name, rows, cols, kind } of graphOf(config).weights) {
    const values = Float32Array.from({ length: rows * cols }, () => (kind === 'vector' ? 1 : 0.2 * random()))
    header[name] = {
      dtype: 'F32',
      shape: kind === 'vector' ? [cols] : [rows, cols],
      data_offsets: [offset, offset + values.byteLength],
    }
    parts.push(values)
    offset += values.byteLength
  }
  const bytes = Buffer.concat(parts.map((part) => new Uint8Array(part.buffer)))
  writeFileSync(join(folder, 'model.safetensors'), safetensorsBytes(JSON.stringify(header), bytes))
  return folder
}

/** The least budget, as the error for one that is too small has it. */
async function leastBudget(options: LoadOptions): Promise<string> {
  const error = await loadModel(model, { ...options, pagedWeights: '1KiB' }).catch((cause: Error) => cause)
  expect(error).toMatchObject({ code: 'CONFIG' })
  return /paged_weights is 0\.1MiB, expected at least (\d+\.\dMiB)/.exec(
    (error as Error).message,
  )?.[1] as string
}

interface Outcome {
  losses: number[]
  evaluated: number
  text: string
  logits: Float32Array
}

/** Result of training a model, and its output afterward; monitored while it works, if its base is paged. */
async function outcome(options: LoadOptions, strategy: StrategyConfig = lora({ r: 4 })): Promise<Outcome> {
  const base = await loadModel(model, options)
  let most = 0
  const watch = setInterval(() => {
    most = Math.max(most, native.pagedBytes())
  }, 3)
  try {
    const adapter = await base.attach(strategy)
    const run = adapter.train(data, { maxSteps: 2, maxSeqLength: 64, evalDataset: data, warmupRatio: 0 })
    const losses: number[] = []
    let evaluated = 0
    for await (const event of run.events()) {
      if (event.event === 'step') losses.push(event.loss ?? 0)
      if (event.event === 'eval') evaluated = event.loss ?? 0
    }
    const { text } = await base.generate('The sky', { maxNewTokens: 6 })
    const logits = await base.logits(Int32Array.from({ length: 40 }, (_, i) => (i * 251) % 10_000))
    const budget = base.memory.bytes('paged_weights')
    if (options.pagedWeights !== undefined) {
      expect(most).toBeGreaterThan(0)
      // Elsewhere the system decides what stays in memory.
      if (base.memory.dropsPages) expect(most).toBeLessThanOrEqual(budget)
    }
    return { losses, evaluated, text, logits }
  } finally {
    clearInterval(watch)
    await base.dispose()
  }
}

const bases: Record<string, LoadOptions> = {
  'fp32 weights': { precision: 'fp32' },
  'bf16 weights': { precision: 'bf16' },
  nf4: { precision: 'fp32', quantization: 'nf4' },
  'nf4 without double quantization': { quantization: { type: 'nf4', doubleQuant: false } },
  fp4: { quantization: 'fp4' },
  int8: { quantization: 'int8' },
  'nf4 with the tables in int8': { quantization: 'nf4', embeddingQuantization: 'int8' },
  'nf4, tables too': { quantization: 'nf4', embeddingQuantization: 'nf4' },
}

describe('a paged base gives the numbers of one that is in memory, within its budget', () => {
  for (const [name, options] of swept(Object.entries(bases), 1))
    test(`over ${name}`, async () => {
      const expected = await outcome(options)
      const least = await leastBudget(options)
      expect(await outcome({ ...options, pagedWeights: least })).toEqual(expected)
      expect(await outcome({ ...options, pagedWeights: true })).toEqual(expected)
    })

  const strategies: Record<string, StrategyConfig> = {
    dora: dora({ r: 4 }),
    'PiSSA, which starts from the weight': lora({ r: 4, initLoraWeights: 'pissa' }),
    'a table and a module that train whole': lora({ r: 4, modulesToSave: ['embed_tokens'] }),
    adalora: adalora(),
    'delta-lora': deltaLora({ r: 4 }),
    loha: loha({ r: 4 }),
    lokr: lokr({ r: 4 }),
    'full fine-tuning, which reads the base once': full(),
  }
  for (const [name, strategy] of swept(Object.entries(strategies), 0))
    test(`under ${name}`, async () => {
      const options: LoadOptions = { precision: 'fp32' }
      const expected = await outcome(options, strategy)
      expect(await outcome({ ...options, pagedWeights: BUDGET }, strategy)).toEqual(expected)
    })
})

test('a model four times as large as the budget trains, and the plan has the budget in place of the weights', async () => {
  const options: LoadOptions = { precision: 'fp32', pagedWeights: BUDGET }
  const base = await loadModel(model, options)
  try {
    const file = readdirSync(cache).find((name) => name.endsWith('.weights')) as string
    expect(readFileSync(join(cache, file)).length).toBeGreaterThan(4 * BUDGET_BYTES)
    const held = addon().allocated()
    for (const { category, bytes } of base.memory.rows) expect(held[category], category).toBe(bytes)
    expect(base.memory.bytes('paged_weights')).toBe(BUDGET_BYTES)
    expect(base.memory.bytes('weights')).toBeLessThan(64 * 1024)
    const adapter = await base.attach(lora({ r: 4 }))
    const run = adapter.train(data, { maxSteps: 1, maxSeqLength: 64 })
    const shape = { ...options, strategy: lora({ r: 4 }), maxSeqLength: 64 }
    expect(await planModel(model, shape)).toEqual(run.memory)
    // Forwards, backwards and once more in between, less what stays.
    expect(run.memory.pagedReadBytes).toBeGreaterThan(4 * BUDGET_BYTES)
    expect(run.memory.toString()).toMatch(/paged_weights {2}.*3\.50 MiB/)
    for await (const step of run) expect(step.loss).toBeGreaterThan(0)
  } finally {
    await base.dispose()
  }
  // The next load finds the file, and the budget is none of its business.
  const seen = vi.fn()
  const again = await loadModel(model, { ...options, pagedWeights: '5MiB', onProgress: seen })
  await again.dispose()
  expect(seen).toHaveBeenCalledTimes(1)
})

sweepTest('merging and saving read a paged base as they read one in memory', async () => {
  const written = async (options: LoadOptions): Promise<Record<string, Buffer>> => {
    const base: Model = await loadModel(model, { precision: 'fp32', ...options })
    const out = join(scratchFolder(), 'out')
    try {
      const adapter = await base.attach(lora({ r: 4, initLoraWeights: 'gaussian' }))
      for await (const _ of adapter.train(data, { maxSteps: 2, maxSeqLength: 64 }));
      await base.save(join(out, 'model'), { check: false })
      await base.export(join(out, 'model.gguf'), { format: 'gguf', dtype: 'q8_0', check: false })
      if (options.quantization === 'nf4')
        await base
          .save(join(out, 'codes'), { dtype: 'nf4', check: false, force: true })
          .catch(() => undefined)
    } finally {
      await base.dispose()
    }
    const files = ['model/model.safetensors', 'model.gguf', 'codes/model.safetensors']
    return Object.fromEntries(
      files
        .filter((name) => existsSync(join(out, name)))
        .map((name) => [name, readFileSync(join(out, name))]),
    )
  }
  for (const options of [{}, { quantization: 'nf4' }] satisfies LoadOptions[]) {
    const expected = await written(options)
    const paged = await written({ ...options, pagedWeights: BUDGET })
    expect(Object.keys(paged)).toEqual(Object.keys(expected))
    for (const [name, bytes] of Object.entries(expected)) expect(paged[name]?.equals(bytes), name).toBe(true)
  }
})

/** What is kept in a folder. On Windows a file that was mapped when it was removed goes after this process. */
const keptIn = (folder: string) =>
  readdirSync(folder).filter((name) => process.platform !== 'win32' || !/^\.lowrank-.*\.tmp$/.test(name))

sweepTest('nothing stays on the disk where nothing is to be kept', async () => {
  const options: LoadOptions = { precision: 'fp32', pagedWeights: BUDGET, cacheWeights: false }
  const { losses } = await outcome(options)
  expect(losses).toHaveLength(2)
  expect(keptIn(cache)).toEqual([])
  vi.stubEnv('LOWRANK_WEIGHT_CACHE', 'off')
  vi.stubEnv('HF_ASSETS_CACHE', cache)
  expect((await outcome({ precision: 'fp32', pagedWeights: BUDGET })).losses).toEqual(losses)
  expect(keptIn(join(cache, 'lowrank', 'weights'))).toEqual([])
})

test('a budget that is too small is refused before anything is written, in plans too', async () => {
  const least = await leastBudget({ precision: 'fp32' })
  expect(readdirSync(cache)).toEqual([])
  await expect(
    planModel(model, { strategy: lora(), precision: 'fp32', pagedWeights: '1MiB' }),
  ).rejects.toThrow(`paged_weights is 1.0MiB, expected at least ${least}`)
  await expect(loadModel(model, { pagedWeights: 'little' })).rejects.toThrow(
    'pagedWeights is "little", expected true, false or a size such as 2GiB',
  )
})

test('a file system in memory is warned of', async () => {
  needs('file systems in memory')
  const warned = vi.spyOn(process, 'emitWarning').mockImplementation(() => undefined)
  const folder = mkdtempSync('/dev/shm/lowrank-test-')
  try {
    vi.stubEnv('LOWRANK_WEIGHT_CACHE', folder)
    await (await loadModel(model, { pagedWeights: true })).dispose()
    expect(warned.mock.calls[0]?.[0]).toContain('whose file system keeps its files in memory')
  } finally {
    rmSync(folder, { recursive: true })
  }
})
