import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { readSafetensorsHeader, readTensor, writeSafetensors } from '../../../lib/formats/safetensors.js'
import { graphOf, openModelFiles } from '../../../lib/models/index.js'
import { openAdapterFolder, saveAdapterFolder } from '../../../lib/peft/adapter-folder.js'
import { float32Bytes } from '../../../lib/peft/floats.js'
import { describeAdapter, linearSites } from '../../../lib/strategies/describe.js'
import { lora } from '../../../lib/strategies/lora.js'
import { qlora } from '../../../lib/strategies/qlora.js'
import type { Factor } from '../../../lib/strategies/strategy.js'
import { scratchFolder } from '../scratch.js'
import { sites } from '../strategies/sites.js'

const parity = join(__dirname, '../../parity')
const base = { name: 'org/model', fingerprint: 'f00d', quantization: 'none' }

async function sitesOf(model: string) {
  return linearSites(graphOf((await openModelFiles(join(parity, 'models', model))).config))
}

async function valuesOf(folder: Awaited<ReturnType<typeof openAdapterFolder>>) {
  const values = new Map<string, Float32Array>()
  for await (const parameter of folder.parameters()) values.set(parameter.name, parameter.values)
  return values
}

/** A copy of a folder that PEFT wrote, to be damaged. */
function copyOf(name: string): string {
  const folder = join(scratchFolder(), name)
  cpSync(join(parity, 'peft', name), folder, { recursive: true })
  return folder
}

function editConfig(folder: string, change: Record<string, unknown>): void {
  const path = join(folder, 'adapter_config.json')
  writeFileSync(path, JSON.stringify({ ...JSON.parse(readFileSync(path, 'utf8')), ...change }))
}

const bases: [string, string][] = [
  ['all_linear', 'llama3'],
  ['patterns', 'llama2'],
  ['qv_half', 'mistral'],
  ['mlp_bf16', 'tinyllama'],
]

describe('folders that PEFT wrote', () => {
  test.each(bases.slice(0, 2))('%s is read and written again with the same bytes', async (name, model) => {
    const folder = await openAdapterFolder(join(parity, 'peft', name), await sitesOf(model))
    const values = await valuesOf(folder)
    const out = join(scratchFolder(), 'out')
    await saveAdapterFolder(
      out,
      folder.description,
      ({ name }) => float32Bytes(values.get(name) as Float32Array),
      base,
    )
    const file = 'adapter_model.safetensors'
    expect(readFileSync(join(out, file)).equals(readFileSync(join(parity, 'peft', name, file)))).toBe(true)
  })

  test.each(bases.slice(2))('%s holds 16-bit tensors, which become f32', async (name, model) => {
    const folder = await openAdapterFolder(join(parity, 'peft', name), await sitesOf(model))
    const header = await readSafetensorsHeader(join(parity, 'peft', name, 'adapter_model.safetensors'))
    const values = await valuesOf(folder)
    expect(values.size).toBe(header.tensors.size)
    for (const { name: parameter, rows, cols } of folder.description.spec.parameters) {
      expect(values.get(parameter)).toHaveLength(rows * cols)
      expect(values.get(parameter)?.some((value) => value !== 0)).toBe(true)
    }
  })

  test('ranks and scales come out as PEFT resolves them', async () => {
    const cases = JSON.parse(readFileSync(join(parity, 'lora/cases.json'), 'utf8'))
    for (const { model, peft, scaling } of cases) {
      const path = join(scratchFolder(), 'config')
      const { r, lora_alpha, target_modules, rank_pattern, alpha_pattern, use_rslora } = peft
      const strategy = lora({
        r,
        loraAlpha: lora_alpha,
        targetModules: target_modules,
        rankPattern: rank_pattern,
        alphaPattern: alpha_pattern,
        useRslora: use_rslora,
      })
      const { terms } = describeAdapter(strategy, await sitesOf(model)).spec
      expect(terms.map(({ target }) => target).sort(), path).toEqual(Object.keys(scaling).sort())
      for (const { target, numbers } of terms) expect(numbers.scale).toBeCloseTo(scaling[target], 12)
    }
  })
})

describe('folders of ours', () => {
  const strategy = qlora({ adapter: lora({ r: 2, layersToTransform: 1, rankPattern: { q_proj: 3 } }) })
  const description = describeAdapter(strategy, sites)
  const read = (name: string) => {
    const spec = description.spec.parameters.find((p) => p.name === name)
    return new Float32Array((spec?.rows ?? 0) * (spec?.cols ?? 0)).map((_, i) => i + name.length)
  }
  const data = ({ name }: Factor) => float32Bytes(read(name))

  test('come back as what was saved, strategy included', async () => {
    const path = join(scratchFolder(), 'adapter')
    await saveAdapterFolder(path, description, data, base)
    const folder = await openAdapterFolder(path, sites)
    expect(folder.description).toEqual(description)
    expect(folder).toMatchObject({ baseModel: 'org/model', baseFingerprint: 'f00d' })
    for (const [name, values] of await valuesOf(folder)) expect(values).toEqual(read(name))
    expect(readdirSync(path).sort()).toEqual([
      'adapter_config.json',
      'adapter_model.safetensors',
      'lowrank.json',
    ])
  })

  test('name exactly the saved modules, with sorted keys, and leave no trace of our own in the PEFT config', async () => {
    const path = join(scratchFolder(), 'adapter')
    await saveAdapterFolder(path, description, data, base)
    const text = readFileSync(join(path, 'adapter_config.json'), 'utf8')
    const config = JSON.parse(text)
    expect(config.target_modules).toEqual([...description.targets].sort())
    expect(config).toMatchObject({
      peft_type: 'LORA',
      r: 2,
      init_lora_weights: true,
      layers_to_transform: null,
    })
    expect(Object.keys(config)).toEqual(Object.keys(config).sort())
    expect(text).not.toContain('lowrank')
  })

  test('replace an older adapter and leave other files of the folder alone', async () => {
    const path = scratchFolder()
    writeFileSync(join(path, 'metrics.jsonl'), 'kept')
    await saveAdapterFolder(path, description, data, base)
    await saveAdapterFolder(path, description, data, base)
    expect(readFileSync(join(path, 'metrics.jsonl'), 'utf8')).toBe('kept')
    expect(readdirSync(path)).toHaveLength(4)
  })

  test('leave nothing behind when writing fails half way', async () => {
    const parent = scratchFolder()
    const failing = () => {
      throw new Error('no value')
    }
    await expect(saveAdapterFolder(join(parent, 'adapter'), description, failing, base)).rejects.toThrow(
      'no value',
    )
    expect(readdirSync(parent)).toEqual([])
  })

  test('cannot be written where a file stands in the way', async () => {
    const parent = scratchFolder()
    writeFileSync(join(parent, 'file'), '')
    const error = await saveAdapterFolder(join(parent, 'file/adapter'), description, data, base).catch(
      (e) => e,
    )
    expect(error).toMatchObject({ code: 'WRITE' })
    expect(error.message).toContain('cannot write the folder')
  })

  test('of a newer version are refused', async () => {
    const path = join(scratchFolder(), 'adapter')
    await saveAdapterFolder(path, description, data, base)
    writeFileSync(join(path, 'lowrank.json'), '{"version": 2}')
    await expect(openAdapterFolder(path, sites)).rejects.toThrow(
      'lowrank.json: version is 2, but this version of lowrank reads version 1; update lowrank.',
    )
  })

  test('whose two configs contradict each other are refused', async () => {
    const path = join(scratchFolder(), 'adapter')
    await saveAdapterFolder(path, description, data, base)
    editConfig(path, { lora_alpha: 99 })
    await expect(openAdapterFolder(path, sites)).rejects.toThrow('describe different adapters')
  })
})

describe('hostile or foreign folders', () => {
  test.each([
    [{ use_qalora: true }, 'use_qalora is true, which is not supported'],
    [{ modules_to_save: 'lm_head' }, 'modules_to_save is "lm_head", expected a list.'],
    [{ bias: 'some' }, 'bias is "some", expected one of none, all, lora_only'],
    [{ lora_bias: true }, 'lora_bias is true'],
    [{ some_new_arithmetic: 2 }, 'some_new_arithmetic is 2, which is not supported'],
    [
      { init_lora_weights: 'pissa' },
      'init_lora_weights is "pissa": such an adapter belongs to a modified base',
    ],
    [{ peft_type: 'BOFT' }, 'peft_type is "BOFT", which is not supported. Supported: LORA'],
    [{ peft_type: null }, 'peft_type is null, expected a name such as "LORA"'],
    [{ r: 0 }, 'adapter_config.json: r is 0, expected a positive integer'],
    [
      { target_modules: ['lm_head'] },
      'target_modules ["lm_head"] names lm_head, but adapters of the head are not supported. Train the whole head with modules_to_save: [lm_head], or leave it out.',
    ],
  ])('with %j are refused by name', async (change, message) => {
    const folder = copyOf('all_linear')
    editConfig(folder, change)
    await expect(openAdapterFolder(folder, await sitesOf('llama3'))).rejects.toThrow(message)
  })

  test('lacking tensors, or holding others, are refused with the names', async () => {
    const folder = copyOf('qv_half')
    editConfig(folder, { target_modules: ['q_proj', 'o_proj'] })
    const error = await openAdapterFolder(folder, await sitesOf('mistral')).catch((e) => e)
    expect(error).toMatchObject({ code: 'FILE_FORMAT' })
    expect(error.message).toContain(
      'missing "base_model.model.model.layers.0.self_attn.o_proj.lora_A.weight"',
    )
    expect(error.message).toContain(
      'unexpected "base_model.model.model.layers.0.self_attn.v_proj.lora_A.weight"',
    )
  })

  test('that adapt the head are refused by its name', async () => {
    const folder = copyOf('qv_half')
    const path = join(folder, 'adapter_model.safetensors')
    const header = await readSafetensorsHeader(path)
    const entries = await Promise.all(
      [...header.tensors].map(async ([name, { dtype, shape }]) => ({
        name: name.replace('model.layers.0.self_attn.q_proj', 'lm_head'),
        dtype,
        shape,
        data: await readTensor(header, name),
      })),
    )
    await writeSafetensors(path, entries)
    for (const targets of [
      ['q_proj', 'v_proj', 'lm_head'],
      ['q_proj', 'v_proj'],
    ]) {
      editConfig(folder, { target_modules: targets })
      const error = await openAdapterFolder(folder, await sitesOf('mistral')).catch((e) => e)
      expect(error).toMatchObject({ code: 'UNSUPPORTED', details: { module: 'lm_head' } })
      expect(error.message).toMatch(
        /adapts lm_head, but adapters of the head are not supported.* modules_to_save: \[lm_head\]/,
      )
    }
  })

  test('made for another model are refused with both shapes', async () => {
    const error = await openAdapterFolder(copyOf('all_linear'), await sitesOf('odd')).catch((e) => e)
    expect(error.message).toMatch(
      /lora_[AB]\.weight is \[.*\], but this model and adapter_config\.json need \[/,
    )
    expect(error.message).toMatch(/ The adapter was trained on .*; is this the same model\?$/)
    expect(error).toMatchObject({ code: 'SHAPE' })
  })

  test('without weights, or with pickled ones, are refused', async () => {
    const folder = scratchFolder()
    await expect(openAdapterFolder(folder, sites)).rejects.toThrow(
      'has no adapter_config.json; an adapter folder holds',
    )
    writeFileSync(join(folder, 'adapter_config.json'), '{}')
    writeFileSync(join(folder, 'adapter_model.bin'), '')
    await expect(openAdapterFolder(folder, sites)).rejects.toThrow('is a pickle')
  })

  test('that leave target_modules to PEFT adapt what their tensors name', async () => {
    const folder = copyOf('qv_half')
    editConfig(folder, { target_modules: null })
    const { description } = await openAdapterFolder(folder, await sitesOf('mistral'))
    expect(new Set(description.targets.map((path) => path.split('.').at(-1)))).toEqual(
      new Set(['q_proj', 'v_proj']),
    )
  })
})

test('a tensor of a dtype that adapters do not have is refused', async () => {
  const folder = join(scratchFolder(), 'adapter')
  mkdirSync(folder)
  cpSync(join(parity, 'peft/qv_half/adapter_config.json'), join(folder, 'adapter_config.json'))
  const source = await readSafetensorsHeader(join(parity, 'peft/qv_half/adapter_model.safetensors'))
  const tensors = []
  for (const { name, shape } of source.tensors.values()) {
    const bytes = await readTensor(source, name)
    tensors.push({ name, dtype: 'I16' as const, shape, data: bytes })
  }
  await writeSafetensors(join(folder, 'adapter_model.safetensors'), tensors)
  expect(existsSync(folder)).toBe(true)
  const opened = await openAdapterFolder(folder, await sitesOf('mistral'))
  await expect(valuesOf(opened)).rejects.toThrow('has the dtype I16, expected F32, F16, BF16')
})
