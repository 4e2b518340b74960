/** Adapters that PEFT and mlx-lm wrote give the logits that they have there. */
import { cpSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, expect, it } from 'vitest'
import {
  readSafetensorsHeader,
  readTensor,
  type SafetensorsInput,
  writeSafetensors,
} from '../../lib/formats/safetensors.js'
import { addon } from '../../lib/native/addon.js'
import { openAdapterFolder } from '../../lib/peft/adapter-folder.js'
import { linearSites } from '../../lib/strategies/describe.js'
import type { AdapterDescription } from '../../lib/strategies/strategy.js'
import { scratchFolder } from '../lib/scratch.js'
import { floats, goldenBatch, type Loaded, loadTiny, parity, readGolden, relativeError } from './engine.js'

/** Logits of the golden batch with an adapter, sequence by sequence: [T, vocab]. */
async function logitsWith(
  { graph, model }: Loaded,
  name: string,
  description: AdapterDescription,
  values: ReadonlyMap<string, Float32Array>,
): Promise<Float32Array> {
  const { tokens, cuSeqlens } = goldenBatch(await readGolden(`golden/${name}.safetensors`))
  const adapter = addon().createAdapter(description.spec, { trainable: false })
  for (const [parameter, array] of values) adapter.write(parameter, 'value', array)
  const size = { tokens: tokens.length, sequences: 1, headRows: tokens.length, kvCapacity: tokens.length }
  const session = await addon().createSession(model, [adapter], {
    forward: { mode: 'forward', ...size, precision: 'f32' },
  }).promise
  const logits = new Float32Array(tokens.length * graph.vocabSize)
  for (let s = 0; s + 1 < cuSeqlens.length; s++) {
    const [start, end] = [cuSeqlens[s] as number, cuSeqlens[s + 1] as number]
    const rows = Int32Array.from({ length: end - start }, (_, i) => i)
    const input = { tokens: tokens.slice(start, end), past: 0, rows, wantLogits: true }
    const result = await session.forward('forward', input).promise
    logits.set(result.logits as Float32Array, start * graph.vocabSize)
  }
  await session.dispose()
  await adapter.dispose()
  return logits
}

describe('folders that PEFT wrote', () => {
  it.each([
    ['all_linear', 'llama3'],
    ['patterns', 'llama2'],
    ['qv_half', 'mistral'],
    ['second', 'llama3'],
    ['mlp_bf16', 'tinyllama'],
  ])('%s gives the logits that it has in PEFT', async (name, base) => {
    const loaded = await loadTiny(base)
    const folder = await openAdapterFolder(join(parity, 'peft', name), linearSites(loaded.graph))
    const values = new Map<string, Float32Array>()
    for await (const parameter of folder.parameters()) values.set(parameter.name, parameter.values)
    const golden = floats(await readGolden(`peft/${name}.logits.safetensors`), 'logits')
    const logits = await logitsWith(loaded, base, folder.description, values)
    expect(relativeError(logits, golden)).toBeLessThan(1e-4)
    await loaded.model.dispose()
  })
})

/** Logits of a tiny model with an adapter in any form. */
async function logitsOf(base: string, path: string) {
  const loaded = await loadTiny(base)
  const folder = await openAdapterFolder(path, linearSites(loaded.graph))
  const values = new Map<string, Float32Array>()
  for await (const parameter of folder.parameters()) values.set(parameter.name, parameter.values)
  const logits = await logitsWith(loaded, base, folder.description, values)
  await loaded.model.dispose()
  return { folder, logits }
}

describe('adapters that mlx-lm wrote', () => {
  it.each([
    ['lora', { name: 'lora', r: 3, loraAlpha: 60 }],
    ['dora', { name: 'dora', r: 4, loraAlpha: 10, loraDropout: 0.05 }],
  ])('%s gives the logits that it has in mlx-lm', async (name, strategy) => {
    const { folder, logits } = await logitsOf('llama3', join(parity, 'mlx', name))
    const golden = floats(await readGolden(`mlx/${name}.logits.safetensors`), 'logits')
    expect(relativeError(logits, golden)).toBeLessThan(1e-4)
    expect(folder).toMatchObject({
      baseModel: '../models/llama3',
      remarks: [],
      description: { strategy },
    })
  })

  it('is read from the file of any step, too', async () => {
    const folder = join(scratchFolder(), 'adapters')
    cpSync(join(parity, 'mlx', 'lora'), folder, { recursive: true })
    renameSync(join(folder, 'adapters.safetensors'), join(folder, '0000100_adapters.safetensors'))
    const { logits } = await logitsOf('llama3', join(folder, '0000100_adapters.safetensors'))
    const golden = floats(await readGolden('mlx/lora.logits.safetensors'), 'logits')
    expect(relativeError(logits, golden)).toBeLessThan(1e-4)
  })
})

/** The tensors of an adapter that PEFT wrote, under other names, as a file alone. */
async function stateDict(
  adapter: string,
  named: (name: string) => string,
  { metadata, alpha }: { metadata?: Record<string, string>; alpha?: number } = {},
): Promise<string> {
  const header = await readSafetensorsHeader(join(parity, 'peft', adapter, 'adapter_model.safetensors'))
  const tensors: SafetensorsInput[] = []
  for (const { name, dtype, shape } of header.tensors.values()) {
    tensors.push({ name: named(name), dtype, shape, data: await readTensor(header, name) })
    if (alpha !== undefined && name.endsWith('.lora_A.weight')) {
      const scalar = new Uint8Array(new Float32Array([alpha]).buffer)
      const data = { dtype: 'F32' as const, shape: [], data: scalar }
      tensors.push({ name: named(name).replace(/\.lora_A.*/, '.alpha'), ...data })
    }
  }
  const path = join(scratchFolder(), 'lora.safetensors')
  await writeSafetensors(path, tensors, metadata)
  return path
}

describe('state dicts of PEFT without a config', () => {
  const inTorch = (name: string) => name.replace('.weight', '.default.weight')
  const bare = (name: string) => name.replace('base_model.model.', '')

  it.each([
    ['with scalars', (name: string) => name, { alpha: 8 }],
    ['with the name of the adapter', inTorch, { metadata: { lora_alpha: '8' } }],
    ['without a prefix', bare, { metadata: { alpha: '8' } }],
  ] as const)('%s: the alpha in the file gives the logits that it has in PEFT', async (_, named, more) => {
    const { folder, logits } = await logitsOf('llama3', await stateDict('all_linear', named, more))
    const golden = floats(await readGolden('peft/all_linear.logits.safetensors'), 'logits')
    expect(relativeError(logits, golden)).toBeLessThan(1e-4)
    expect(folder.remarks).toEqual([])
  })

  it('without an alpha have the scale 1, and say so; a config beside them counts', async () => {
    const path = await stateDict('all_linear', inTorch)
    const { folder } = await logitsOf('llama3', path)
    expect(folder.description.spec.terms.map(({ numbers }) => numbers.scale)).toEqual(Array(14).fill(1))
    const [remark, ...others] = folder.remarks
    expect(others).toEqual([])
    expect(remark).toContain(
      'lora.safetensors has neither adapter_config.json beside it nor an alpha, so lora_alpha is taken to be the rank (4), which scales the adapter by 1. If it was trained with another, write {"peft_type": "LORA", "r": 4, "lora_alpha": 8}',
    )
    const advised = /write (\{.*\}) with the right numbers to (.*adapter_config\.json)\.$/.exec(remark ?? '')
    writeFileSync(advised?.[2] ?? '', advised?.[1] ?? '')
    const { folder: after, logits } = await logitsOf('llama3', path)
    const golden = floats(await readGolden('peft/all_linear.logits.safetensors'), 'logits')
    expect(relativeError(logits, golden)).toBeLessThan(1e-4)
    expect(after.remarks).toEqual([])
  })

  it('have a rank for each module', async () => {
    const { folder } = await logitsOf('llama2', dirname(await stateDict('patterns', bare)))
    const ranks = (of: typeof folder) =>
      of.description.spec.terms.map(({ target, numbers }) => [target, numbers.rank])
    const { folder: whole } = await logitsOf('llama2', join(parity, 'peft', 'patterns'))
    expect(ranks(folder)).toEqual(ranks(whole))
    expect(folder.remarks[0]).toContain('lora_alpha is taken to be the rank of each module, which')
  })
})

describe('what is no adapter here', () => {
  const problem = (path: string) =>
    openAdapterFolder(path, []).then(
      () => '',
      (error: Error) => error.message,
    )
  const mlx = (change: object, weights = 'adapters.safetensors') => {
    const folder = join(scratchFolder(), 'adapters')
    cpSync(join(parity, 'mlx', 'lora'), folder, { recursive: true })
    const path = join(folder, 'adapter_config.json')
    writeFileSync(path, JSON.stringify({ ...JSON.parse(readFileSync(path, 'utf8')), ...change }))
    renameSync(join(folder, 'adapters.safetensors'), join(folder, weights))
    return folder
  }

  it('is named with what to do', async () => {
    expect(await problem(mlx({ lora_parameters: { rank: 3 } }))).toMatch(
      /adapter_config\.json: lora_parameters\.scale is null, expected a number above 0, as mlx-lm saves it\.$/,
    )
    const alone = mlx({})
    rmSync(join(alone, 'adapter_config.json'))
    expect(await problem(alone)).toMatch(
      /adapters\.safetensors is an adapter of mlx-lm, but adapter_config\.json, which holds its scale, is not beside it; copy it there\.$/,
    )
    const full = mlx({ fine_tune_type: 'full' })
    await writeSafetensors(join(full, 'adapters.safetensors'), [
      { name: 'model.norm.weight', dtype: 'F32', shape: [1], data: new Uint8Array(4) },
    ])
    expect(await problem(full)).toMatch(
      /adapter_config\.json is of a run of mlx-lm with fine_tune_type full, which saves trained weights and no adapter; write the whole model with mlx_lm\.fuse, and load that folder\.$/,
    )
    const experts = mlx({})
    await writeSafetensors(join(experts, 'adapters.safetensors'), [
      {
        name: 'model.layers.0.mlp.switch_mlp.up_proj.lora_a',
        dtype: 'F32',
        shape: [2, 1, 1],
        data: new Uint8Array(8),
      },
    ])
    expect(await problem(experts)).toContain(
      '"model.layers.0.mlp.switch_mlp.up_proj.lora_a" is [2, 1, 1], as for the experts of a mixture',
    )
    const kohya = join(scratchFolder(), 'style.safetensors')
    await writeSafetensors(kohya, [
      { name: 'lora_unet_mid_block.lora_down.weight', dtype: 'F32', shape: [1, 1], data: new Uint8Array(4) },
    ])
    expect(await problem(kohya)).toContain("style.safetensors is a LoRA in the format of kohya's sd-scripts")
    expect(await problem(dirname(kohya))).toContain("is a LoRA in the format of kohya's sd-scripts")
  })
})
