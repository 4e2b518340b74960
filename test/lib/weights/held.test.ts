import { mkdirSync, readdirSync, readFileSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { loadModel } from '../../../lib/model/load.js'
import { addon } from '../../../lib/native/addon.js'
import { lora } from '../../../lib/strategies/lora.js'
import { chats, tinyModel } from '../../e2e/tiny-model.js'
import { sweepTest } from '../../sweep.js'
import { scratchFile, scratchFolder } from '../scratch.js'

let model: string
let cache: string
beforeEach(() => {
  model = tinyModel()
  cache = join(scratchFolder(), 'not', 'there', 'yet')
  vi.stubEnv('LOWRANK_WEIGHT_CACHE', cache)
})
afterEach(() => {
  vi.unstubAllEnvs()
  vi.restoreAllMocks()
})

/** Every load seems to take a second. */
function slowly(): void {
  let now = 0
  vi.spyOn(performance, 'now').mockImplementation(() => {
    now += 1000
    return now
  })
}

const weights = () => readdirSync(cache).filter((name) => name.endsWith('.weights'))

/** Losses of a short training, and what memory the model is said to take. */
async function trained(options: Parameters<typeof loadModel>[1]) {
  const base = await loadModel(model, { precision: 'fp32', ...options })
  try {
    const held = addon().allocated()
    const rows = Object.fromEntries(base.memory.rows.map(({ category, bytes }) => [category, bytes]))
    for (const category of ['weights', 'quantization_constants'] as const)
      expect(held[category], category).toBe(rows[category] ?? 0)
    const adapter = await base.attach(lora({ r: 4 }))
    const losses: number[] = []
    for await (const step of adapter.train(scratchFile('data.jsonl', chats(12)), { maxSteps: 3 }))
      losses.push(step.loss)
    return { losses, rows }
  } finally {
    await base.dispose()
  }
}

sweepTest('weights that were slow to quantize are mapped the next time, and train the same', async () => {
  for (const quantization of ['nf4', 'fp4', 'int8'] as const) {
    slowly()
    const first = await trained({ quantization })
    vi.restoreAllMocks()
    expect(weights().filter((name) => name.startsWith(`smollm2.${quantization}.`))).toHaveLength(1)
    const mapped = vi.fn()
    const second = await trained({ quantization, onProgress: mapped })
    // From the files there would be one call a tensor.
    expect(mapped).toHaveBeenCalledTimes(1)
    expect(second).toEqual(first)
  }
})

sweepTest('nothing is kept of fast loads, of what is not quantized, or where it is not wanted', async () => {
  await trained({ quantization: 'nf4' })
  slowly()
  await trained({})
  await trained({ quantization: 'nf4', cacheWeights: false })
  vi.stubEnv('LOWRANK_WEIGHT_CACHE', 'off')
  await trained({ quantization: 'nf4' })
  expect(() => readdirSync(cache)).toThrow('ENOENT')
})

sweepTest('a damaged file is made anew, and so is one of a model that was written since', async () => {
  slowly()
  await trained({ quantization: 'nf4' })
  const [name] = weights() as [string]
  const path = join(cache, name)
  const good = readFileSync(path)
  for (const bad of [good.subarray(0, 100), Buffer.alloc(good.length), Buffer.from('')]) {
    writeFileSync(path, bad)
    await trained({ quantization: 'nf4' })
    expect(readFileSync(path).equals(good)).toBe(true)
  }
  utimesSync(join(model, 'model.safetensors'), 1, 1)
  await trained({ quantization: 'nf4' })
  expect(weights()).toHaveLength(2)
})

test('what was not used for longest goes when the limit is reached', async () => {
  slowly()
  await trained({ quantization: 'nf4' })
  const [first] = weights() as [string]
  const bytes = statSync(join(cache, first)).size
  const old = join(cache, 'old.nf4.0123456789abcdef.weights')
  writeFileSync(old, Buffer.alloc(bytes))
  utimesSync(old, 1, 1)
  vi.stubEnv('LOWRANK_WEIGHT_CACHE_LIMIT', `${Math.floor(2.5 * bytes)}`)
  await trained({ quantization: 'fp4' })
  expect(weights()).toEqual([expect.stringContaining('.fp4.'), first])
  vi.stubEnv('LOWRANK_WEIGHT_CACHE_LIMIT', '1KiB')
  await trained({ quantization: 'int8' })
  // A limit that was lowered holds at once.
  expect(weights()).toEqual([])
  vi.stubEnv('LOWRANK_WEIGHT_CACHE_LIMIT', 'much')
  await expect(loadModel(model)).rejects.toThrow('LOWRANK_WEIGHT_CACHE_LIMIT is "much", expected a size')
})

test('a disk that refuses is a warning, and the model is loaded', async () => {
  const warned = vi.spyOn(process, 'emitWarning').mockImplementation(() => undefined)
  const place = scratchFile('a-file', '')
  vi.stubEnv('LOWRANK_WEIGHT_CACHE', join(place, 'below'))
  slowly()
  await trained({ quantization: 'nf4' })
  expect(warned).toHaveBeenCalledOnce()
  expect(warned.mock.calls[0]?.[0]).toContain('could not be cached')
  // If the file cannot be written, nothing of it is left.
  mkdirSync(cache, { recursive: true })
  vi.stubEnv('LOWRANK_WEIGHT_CACHE', cache)
  const create = vi.spyOn(addon(), 'createWeightFile').mockImplementation(() => {
    throw Object.assign(new Error('cannot write it: No space left on device'), { code: 'WRITE' })
  })
  await trained({ quantization: 'nf4' })
  create.mockRestore()
  expect(warned).toHaveBeenCalledTimes(2)
  expect(readdirSync(cache)).toEqual([])
})
