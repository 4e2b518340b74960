import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { FileFormatError, type LowrankError, UnsupportedError } from '../../../lib/core/errors.js'
import { openModelFiles } from '../../../lib/models/index.js'
import { parity } from '../../parity/engine.js'
import { folderOf } from './model-fixtures.js'
import { type Entry, safetensorsBytes } from './safetensors-bytes.js'

const golden = join(parity, 'bnb', 'odd_double')
const config = JSON.parse(readFileSync(join(golden, 'config.json'), 'utf8')) as Record<string, unknown>
const NAME = 'model.layers.0.self_attn.k_proj.weight'

type Tensors = Map<string, { dtype: string; shape: number[]; data: Buffer }>

/** The tensors of one quantized weight of the folder that bitsandbytes wrote. */
function weight(): Tensors {
  const file = readFileSync(join(golden, 'model.safetensors'))
  const length = Number(file.readBigUInt64LE())
  const header = JSON.parse(file.subarray(8, 8 + length).toString()) as Record<string, Entry>
  const names = Object.keys(header).filter((name) => name.startsWith(NAME))
  return new Map(
    names.map((name) => {
      const { dtype, shape, data_offsets } = header[name] as Entry
      const [begin = 0, end = 0] = data_offsets.map((offset) => 8 + length + offset)
      return [name, { dtype, shape, data: file.subarray(begin, end) }]
    }),
  )
}

function fileOf(tensors: Tensors): Uint8Array {
  let at = 0
  const header = [...tensors].map(([name, { dtype, shape, data }]) => {
    const data_offsets = [at, at + data.length]
    at += data.length
    return [name, { dtype, shape, data_offsets }]
  })
  const data = Buffer.concat([...tensors.values()].map((tensor) => tensor.data))
  return safetensorsBytes(JSON.stringify(Object.fromEntries(header)), data)
}

const bytes = (data: Buffer, dtype = 'U8') => ({
  dtype,
  shape: [data.length / (dtype === 'U8' ? 1 : 4)],
  data,
})

const STATE = `${NAME}.quant_state.bitsandbytes__nf4`

function withState(change: Record<string, unknown>): Tensors {
  const tensors = weight()
  const { data } = tensors.get(STATE) as { data: Buffer }
  const state = JSON.parse(data.toString()) as object
  return tensors.set(STATE, bytes(Buffer.from(JSON.stringify({ ...state, ...change }))))
}

function without(suffix: string): Tensors {
  const tensors = weight()
  tensors.delete(NAME + suffix)
  return tensors
}

const open = (tensors: Tensors, about: object = config) =>
  openModelFiles(folderOf({ 'config.json': JSON.stringify(about), 'model.safetensors': fileOf(tensors) }))

async function problem(
  opened: Promise<unknown>,
  kind: new (message: string) => LowrankError,
): Promise<string> {
  const error = await opened.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  expect(error).toBeInstanceOf(kind)
  return (error as Error).message.replace(
    /(?:[A-Z]:)?[\\/]\S*[\\/](?=model\.safetensors|config\.json)/g,
    'PATH/',
  )
}

describe('a weight that bitsandbytes quantized', () => {
  it('is one tensor whose parts are found by name', async () => {
    const { tensors } = await open(weight())
    expect([...tensors.keys()]).toEqual([NAME])
    expect(tensors.get(NAME)).toMatchObject({
      dtype: 'NF4_DOUBLE',
      shape: [32, 72],
      bytes: 1152,
      scales: { absmax: { bytes: 36 }, nestedAbsmax: { bytes: 4 }, dtype: 'float32' },
    })
  })

  it.each(['', '.absmax', '.quant_map', '.nested_absmax', '.nested_quant_map'])(
    'is refused without its part "%s"',
    async (suffix) => {
      expect(await problem(open(without(suffix)), FileFormatError)).toBe(
        `a part of the quantized weight "${NAME}${suffix}" is missing: there is no such tensor`,
      )
    },
  )

  it('whose mark is missing is refused as what it then is', async () => {
    expect(await problem(open(without('.quant_state.bitsandbytes__nf4')), UnsupportedError)).toContain(
      'has the dtype U8; supported: F32, F16, BF16',
    )
  })

  it.each(['', '.absmax', '.quant_map', '.nested_absmax', '.nested_quant_map'])(
    'is refused when its part "%s" has another size or dtype than its shape calls for',
    async (suffix) => {
      const tensors = weight()
      const part = tensors.get(NAME + suffix)
      const longer = Buffer.concat([part?.data as Buffer, Buffer.alloc(4)])
      const shape = part?.dtype === 'F32' ? [longer.length / 4] : [longer.length]
      tensors.set(NAME + suffix, { dtype: part?.dtype as string, shape, data: longer })
      expect(await problem(open(tensors), FileFormatError)).toContain(`tensor "${NAME}${suffix}" of PATH/`)
      tensors.set(NAME + suffix, {
        dtype: 'I8',
        shape: [part?.data.length as number],
        data: part?.data as Buffer,
      })
      expect(await problem(open(tensors), FileFormatError)).toContain('is I8 of ')
    },
  )

  it.each(['.quant_map', '.nested_quant_map'])('is refused when %s is another table', async (suffix) => {
    const tensors = weight()
    const data = Buffer.from(tensors.get(NAME + suffix)?.data as Buffer)
    data.writeUInt8(data.readUInt8(9) ^ 1, 9)
    tensors.set(NAME + suffix, bytes(data, 'F32'))
    expect(await problem(open(tensors), FileFormatError)).toBe(
      `tensor "${NAME}${suffix}" of PATH/model.safetensors is not the table of NF4`,
    )
  })

  it.each([
    [{ shape: [32, 73] }, FileFormatError, 'expected U8 or BF16 or F16 or F32 of 1168 bytes'],
    [{ shape: [32] }, FileFormatError, 'shape is [32]; expected two positive sizes'],
    [{ shape: [0, 72] }, FileFormatError, 'shape is [0,72]; expected two positive sizes'],
    [{ shape: [-32, -72] }, FileFormatError, 'expected two positive sizes'],
    [{ shape: [2 ** 30, 2 ** 30] }, FileFormatError, 'expected two positive sizes'],
    [{ shape: ['32', 72] }, FileFormatError, 'expected two positive sizes'],
    [{ nested_offset: null }, FileFormatError, 'nested_offset is null; expected a finite number'],
    [{ nested_offset: 1e300 }, FileFormatError, 'nested_offset is 1e+300; expected a finite number'],
    [{ quant_type: 'fp4' }, UnsupportedError, 'quant_type is "fp4"; supported: nf4'],
    [{ blocksize: 128 }, UnsupportedError, 'blocksize is 128; supported: 64'],
    [{ nested_blocksize: 64 }, UnsupportedError, 'nested_blocksize is 64; supported: 256'],
    [{ dtype: 'int8' }, UnsupportedError, 'dtype is "int8"; supported: bfloat16, float16, float32'],
  ])('is refused when it says %j of itself', async (change, kind, message) => {
    expect(await problem(open(withState(change)), kind)).toContain(message)
  })

  it.each([Buffer.from('{'), Buffer.from('null'), Buffer.from([0xff, 0x7b]), Buffer.alloc(1 << 17, ' ')])(
    'is refused when what it says of itself is no JSON object, or far too long',
    async (data) => {
      expect(await problem(open(weight().set(STATE, bytes(data))), FileFormatError)).toContain(STATE)
    },
  )
})

describe('other quantizations are refused by name', () => {
  it.each([
    [{ quant_method: 'gptq', bits: 4 }, 'quant_method "gptq"'],
    [
      { quant_method: 'bitsandbytes', load_in_4bit: true, bnb_4bit_quant_type: 'int3' },
      'bitsandbytes, "int3"',
    ],
  ])('%j', async (quantization_config, found) => {
    expect(await problem(open(weight(), { ...config, quantization_config }), UnsupportedError)).toBe(
      `PATH/config.json: its weights are quantized (${found}); supported: NF4, FP4, and int8 of bitsandbytes. Otherwise use the original model`,
    )
  })

  it('with the name of the original, where that is known', async () => {
    const quantization_config = { quant_method: 'fp8' }
    expect(await problem(open(weight(), { ...config, quantization_config }), UnsupportedError)).toContain(
      'use the original model, whose weights are BF16: on the hub its name often ends in -BF16',
    )
  })

  it('but a config without the type is of FP4, as it is for bitsandbytes', async () => {
    const quantization_config = { load_in_4bit: true }
    expect((await open(weight(), { ...config, quantization_config })).tensors.size).toBe(1)
  })
})

describe('a weight in int8', () => {
  const MODULE = NAME.replace(/\.weight$/, '')
  const int8 = (
    change: [string, Tensors extends Map<string, infer Tensor> ? Tensor | undefined : never][] = [],
  ) => {
    const tensors: Tensors = new Map([
      [NAME, { dtype: 'I8', shape: [2, 3], data: Buffer.from([1, 2, 3, 4, 5, 255]) }],
      [`${MODULE}.SCB`, bytes(Buffer.alloc(8), 'F32')],
      [`${MODULE}.weight_format`, { dtype: 'U8', shape: [], data: Buffer.from([0]) }],
    ])
    for (const [name, tensor] of change) {
      if (tensor === undefined) tensors.delete(name)
      else tensors.set(name, tensor)
    }
    return tensors
  }

  it('is one tensor with its scales, also without a tensor that names its layout', async () => {
    for (const tensors of [int8(), int8([[`${MODULE}.weight_format`, undefined]])]) {
      const { tensors: found } = await open(tensors)
      expect([...found.keys()]).toEqual([NAME])
      expect(found.get(NAME)).toMatchObject({
        dtype: 'INT8',
        shape: [2, 3],
        scales: { absmax: { bytes: 8 } },
      })
    }
  })

  it('is refused without codes or scales, with others than its shape calls for, or in another layout', async () => {
    expect(await problem(open(int8([[NAME, undefined]])), FileFormatError)).toContain(
      'a part of the quantized weight',
    )
    expect(await problem(open(int8([[`${MODULE}.SCB`, undefined]])), UnsupportedError)).toContain('dtype I8')
    const longer = bytes(Buffer.alloc(12), 'F32')
    expect(await problem(open(int8([[`${MODULE}.SCB`, longer]])), FileFormatError)).toContain(
      'is F32 of 12 bytes; expected F32 of 8 bytes',
    )
    const columns = { dtype: 'U8', shape: [], data: Buffer.from([1]) }
    expect(await problem(open(int8([[`${MODULE}.weight_format`, columns]])), UnsupportedError)).toContain(
      'is 1: the codes are not stored by rows (0)',
    )
  })
})
