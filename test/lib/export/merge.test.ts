import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { ConfigError } from '../../../lib/core/errors.js'
import { readSafetensorsHeader, readTensor } from '../../../lib/formats/safetensors.js'
import type { Adapter } from '../../../lib/model/adapter.js'
import { loadModel } from '../../../lib/model/load.js'
import type { Model } from '../../../lib/model/model.js'
import { dora } from '../../../lib/strategies/dora.js'
import { full } from '../../../lib/strategies/full.js'
import { lokr } from '../../../lib/strategies/lokr.js'
import { lora } from '../../../lib/strategies/lora.js'
import { oft } from '../../../lib/strategies/oft.js'
import { fp4, int8, nf4 } from '../../../lib/weights/quantization.js'
import { chats, tinyModel } from '../../e2e/tiny-model.js'
import { scratchFile, scratchFolder } from '../scratch.js'
import { leaveZero } from '../strategies/start.js'

const models: Model[] = []
afterEach(async () => {
  for (const model of models.splice(0)) await model.dispose()
})

async function load(path: string, options: Parameters<typeof loadModel>[1] = {}) {
  const model = await loadModel(path, { precision: 'fp32', ...options })
  models.push(model)
  return model
}

/** A model with an adapter that does something. */
async function adapted(options: Parameters<typeof loadModel>[1] = {}, path = tinyModel()) {
  const model = await load(path, options)
  return { model, adapter: await attach(model, 5), path }
}

async function attach(model: Model, seed: number) {
  const adapter = await model.attach(lora({ r: 4, loraAlpha: 8, targetModules: 'all-linear' }), { seed })
  for (const { name } of adapter.state.description.spec.parameters)
    if (name.includes('lora_B')) adapter.state.native.fill(name, { kind: 'normal', std: 0.05, seed })
  return adapter
}

const place = () => join(scratchFolder(), 'merged')
const tokens = Int32Array.from({ length: 20 }, (_, i) => (i * 37 + 5) % 240)

function largestError(a: Float32Array, b: Float32Array): number {
  return a.reduce((most, value, i) => Math.max(most, Math.abs(value - (b[i] ?? Number.NaN))), 0)
}

describe('a merged folder', () => {
  it.each([
    ['none', { quantization: 'none' }],
    ['NF4', { quantization: nf4() }],
    ['NF4 without double quantization', { quantization: nf4({ doubleQuant: false }) }],
  ] as const)('gives what base and adapter give, over %s, in f32 to rounding', async (_, options) => {
    const { model, adapter } = await adapted(options)
    const base = await model.logits(tokens, { adapters: [] })
    const expected = await model.logits(tokens)
    const { output, files, check } = await adapter.merge(place(), { dtype: 'f32' })
    expect(files).toEqual(['config.json', 'model.safetensors', 'tokenizer.json', 'tokenizer_config.json'])
    expect(readdirSync(output).sort()).toEqual(files)
    const found = await (await load(output)).logits(tokens)
    expect(largestError(expected, base)).toBeGreaterThan(0.1)
    expect(largestError(found, expected)).toBeLessThan(2e-5)
    expect(check).toMatchObject({ top1Agreement: 1 })
    expect(check?.kl).toBeLessThan(1e-9)
    expect(check?.maxAbsLogitError).toBeLessThan(2e-5)
    expect(check?.positions).toBeGreaterThan(200)
  })

  it('drifts by the rounding of 16 bits, less in f16 than in bf16', async () => {
    const { adapter } = await adapted()
    const [brain, half] = [
      (await adapter.merge(place(), { dtype: 'bf16' })).check,
      (await adapter.merge(place(), { dtype: 'f16' })).check,
    ]
    expect(brain?.kl).toBeGreaterThan(0)
    expect(brain?.kl).toBeLessThan(1e-3)
    expect(half?.maxAbsLogitError).toBeLessThan((brain?.maxAbsLogitError ?? 0) / 4)
  })

  it('keeps a tied head tied', async () => {
    const { adapter } = await adapted()
    const { output } = await adapter.merge(place(), { check: false })
    const config = JSON.parse(readFileSync(join(output, 'config.json'), 'utf8'))
    expect(config).toMatchObject({ tie_word_embeddings: true, dtype: 'bfloat16' })
    const written = await load(output)
    expect(written.config).not.toHaveProperty('quantization_config')
  })

  it('has the adapters of a model at their weights', async () => {
    const { model, adapter } = await adapted()
    await attach(model, 6)
    adapter.weight = -0.5
    const expected = await model.logits(tokens)
    const both = await model.save(place(), { dtype: 'f32', check: false })
    const none = await model.save(place(), { dtype: 'f32', adapters: [] })
    expect(largestError(await (await load(both.output)).logits(tokens), expected)).toBeLessThan(2e-5)
    expect(none.check?.maxAbsLogitError).toBe(0)
  })

  it.each([
    ['another rotation', () => oft({ oftBlockSize: 4, blockShare: true })],
    ['scaled rows', () => dora({ r: 4 })],
    ['a Kronecker product', () => lokr({ r: 2 })],
    ['a low-rank change', () => lora({ r: 4 })],
  ])('has the change of a rotation beside that of %s', async (_, other) => {
    const model = await load(tinyModel())
    const [own, beside] = [
      await model.attach(oft({ oftBlockSize: 8 })),
      await model.attach(other(), { name: 'b' }),
    ]
    for (const adapter of [own, beside]) leaveZero(adapter)
    own.weight = 0.7
    beside.weight = 0.5
    const expected = await model.logits(tokens)
    const { output } = await model.save(place(), { dtype: 'f32', check: false })
    const found = await (await load(output)).logits(tokens)
    expect(largestError(found, expected)).toBeLessThan(1e-4)
    expect(largestError(expected, await model.logits(tokens, { adapters: [beside] }))).toBeGreaterThan(0.05)
  })

  it('has the weights that full fine-tuning trained', async () => {
    const model = await load(tinyModel())
    const adapter = await model.attach(full())
    const name = 'model.layers.0.mlp.up_proj.weight'
    adapter.state.native.fill(name, { kind: 'normal', std: 0.1, seed: 1 })
    const { check } = await adapter.merge(place(), { dtype: 'f32' })
    expect(check?.maxAbsLogitError).toBeLessThan(2e-5)
  })

  it('stands on the original weights when asked, which is another model than was trained', async () => {
    const { model, adapter, path } = await adapted({ quantization: nf4() })
    const plain = await load(path)
    const other = await attach(plain, 5)
    const { output, check } = await adapter.merge(place(), { dtype: 'f32', onto: 'original' })
    expect(check?.maxAbsLogitError).toBeGreaterThan(0.05)
    const found = await (await load(output)).logits(tokens)
    expect(largestError(found, await plain.logits(tokens, { adapters: [other] }))).toBeLessThan(2e-5)
    expect(largestError(found, await model.logits(tokens))).toBeGreaterThan(0.05)
  })

  it('is checked on the data that is named', async () => {
    const { adapter } = await adapted()
    const data = scratchFile('d.jsonl', chats(3))
    const { check } = await adapter.merge(place(), { checkDataset: data })
    expect(check?.positions).toBeGreaterThan(100)
    expect(check?.positions).toBeLessThanOrEqual(3 * 64)
  })
})

describe('a merge into quantized weights', () => {
  const NAME = 'model.layers.0.mlp.up_proj.weight'

  /** The numbers of one weight that a model stands for, with its adapters or without. */
  async function numbers(model: Model, adapters: readonly Adapter[] = model.adapters): Promise<Float32Array> {
    const { output } = await model.save(place(), { dtype: 'f32', check: false, adapters })
    const header = await readSafetensorsHeader(join(output, 'model.safetensors'))
    return new Float32Array(Uint8Array.from(await readTensor(header, NAME)).buffer)
  }

  it.each([
    ['nf4', nf4()],
    ['nf4', nf4({ doubleQuant: false })],
    ['fp4', fp4()],
    ['int8', int8()],
  ] as const)('keeps the format and says what is left, in %s %j', async (dtype, quantization) => {
    const { model, adapter } = await adapted({ quantization })
    const { output, check, survival } = await adapter.merge(place(), { dtype, maxLoss: 1 })
    const written = await load(output)
    expect(written.quantization).toEqual(quantization)
    expect(survival?.tensors).toHaveLength(adapter.targets.length)
    // The sums in float64, from what the models hold.
    const [held, sum, found] = [await numbers(model, []), await numbers(model), await numbers(written)]
    let [change, kept, error] = [0, 0, 0]
    for (const [i, value] of held.entries()) {
      const [d, q] = [(sum[i] as number) - value, (found[i] as number) - value]
      change += d * d
      kept += q * d
      error += (q - d) ** 2
    }
    const one = survival?.tensors.find(({ name }) => name === NAME)
    expect(one?.kept).toBeCloseTo(kept / change, 5)
    expect(one?.error).toBeCloseTo(Math.sqrt(error / change), 5)
    expect(survival?.kept).toBeGreaterThan(0.5)
    expect(check?.kl).toBeGreaterThan(0)
  })

  it('is refused where the change is smaller than the steps of the codes, and nothing is written', async () => {
    const { adapter } = await adapted({ quantization: nf4() })
    for (const { name } of adapter.state.description.spec.parameters)
      if (name.includes('lora_B')) adapter.state.native.fill(name, { kind: 'normal', std: 1e-4, seed: 5 })
    const output = place()
    await expect(adapter.merge(output, { dtype: 'nf4' })).rejects.toMatchObject({
      code: 'CONFIG',
      message: expect.stringMatching(/^in NF4 .* % of the adapters' change would remain .*maxLoss: 1/),
      details: { maxLoss: 0.1 },
    })
    await expect(
      adapter.export(output, { format: 'safetensors', dtype: 'nf4', maxLoss: 0.5 }),
    ).rejects.toThrow('but at least 50.0 % is required')
    expect(readdirSync(join(output, '..'))).toEqual([])
    const { survival } = await adapter.merge(output, { dtype: 'nf4', maxLoss: 1, check: false })
    expect(survival?.kept).toBeLessThan(0.2)
  })

  it('of an adapter that changes nothing changes no byte', async () => {
    const model = await load(tinyModel(), { quantization: nf4({ doubleQuant: false }) })
    const plain = await model.save(place(), { dtype: 'nf4', check: false })
    expect(plain.survival).toBeNull()
    const adapter = await model.attach(lora({ r: 4, targetModules: 'all-linear' }))
    const { output, survival } = await adapter.merge(place(), { dtype: 'nf4' })
    expect(survival).toMatchObject({ kept: 1, error: 0 })
    const file = (folder: string) => readFileSync(join(folder, 'model.safetensors'))
    expect(file(output).equals(file(plain.output))).toBe(true)
  })

  it('onto the original weights is what their sum is quantized to', async () => {
    const { adapter, path } = await adapted({ quantization: nf4() })
    const { output, survival } = await adapter.merge(place(), {
      dtype: 'nf4',
      onto: 'original',
      maxLoss: 1,
      check: false,
    })
    expect(survival?.kept).toBeGreaterThan(0.5)
    const plain = await load(path)
    await attach(plain, 5)
    const exact = await plain.save(place(), { dtype: 'f32', check: false })
    const quantized = await load(exact.output, { quantization: nf4() })
    expect(await numbers(await load(output))).toEqual(await numbers(quantized))
  })
})

describe('nothing is written', () => {
  it('over what is there, unless forced', async () => {
    const { adapter, path } = await adapted()
    await expect(adapter.merge(path)).rejects.toThrow(ConfigError)
    await expect(adapter.merge(path)).rejects.toThrow(/already exists; choose another path/)
    const { output } = await adapter.merge(place(), { check: false, dtype: 'f32' })
    await adapter.merge(output, { check: false, force: true })
    expect(JSON.parse(readFileSync(join(output, 'config.json'), 'utf8')).dtype).toBe('bfloat16')
  })

  it('with an adapter of another model, unless it is the same in another form', async () => {
    const { adapter } = await adapted()
    const folder = join(scratchFolder(), 'adapter')
    await adapter.save(folder)
    const merged = await adapter.merge(place(), { dtype: 'f32', check: false })
    const other = await load(merged.output)
    const loaded = await other.loadAdapter(folder)
    const output = place()
    await expect(loaded.merge(output)).rejects.toThrow(/was not trained on the files of .*onto: original/)
    expect(existsSync(output)).toBe(false)
    expect((await loaded.merge(output, { dtype: 'f32', onto: 'original' })).check?.top1Agreement).toBe(1)
  })

  it('of numbers that the dtype cannot hold, and for options that do not exist', async () => {
    const { adapter } = await adapted()
    const name = adapter.state.description.spec.parameters.find((p) => p.name.includes('lora_B'))?.name
    adapter.state.native.fill(name as string, { kind: 'constant', value: 1e6 })
    const output = place()
    await expect(adapter.merge(output, { dtype: 'f16' })).rejects.toThrow(
      /not finite or too large for f16; try bf16/,
    )
    expect(readdirSync(join(output, '..'))).toEqual([])
    const wrong = adapter.merge(output, { dtype: 'f8' as 'f32' })
    await expect(wrong).rejects.toThrow('merge(): dtype is "f8", expected one of bf16, f16, f32')
    await expect(adapter.merge(output, { maxLoss: 1 })).rejects.toThrow('but nothing is quantized')
  })
})
