import { readFileSync, truncateSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { FileFormatError, ShapeError } from '../../../lib/core/errors.js'
import {
  readSafetensorsHeader,
  readTensor,
  type SafetensorsDtype,
  type SafetensorsInput,
  writeSafetensors,
} from '../../../lib/formats/safetensors.js'
import { sweepTest } from '../../sweep.js'
import { scratchFile, scratchFolder } from '../scratch.js'
import { timersDuring } from '../turns.js'
import { oneTensor, safetensorsBytes } from './safetensors-bytes.js'

const PYTHON = 'test/parity/safetensors'

interface PythonCase {
  name: string
  metadata: Record<string, string> | null
  tensors: { name: string; dtype: SafetensorsDtype; shape: number[]; data: string }[]
}

const CASES = JSON.parse(readFileSync(join(PYTHON, 'cases.json'), 'utf8')) as PythonCase[]

async function refusal(bytes: Uint8Array): Promise<string> {
  const path = scratchFile('bad.safetensors', bytes)
  const error = await readSafetensorsHeader(path).then(
    () => undefined,
    (reason: unknown) => reason,
  )
  expect(error).toBeInstanceOf(FileFormatError)
  const prefix = `${path} is not a valid safetensors file: `
  const { message } = error as FileFormatError
  expect(message.startsWith(prefix), message).toBe(true)
  return message.slice(prefix.length)
}

/** Refusal of a header given as JSON text, with `dataBytes` zeros behind it. */
const headerRefusal = (json: string, dataBytes = 0) => refusal(safetensorsBytes(json, dataBytes))

describe('readSafetensorsHeader', () => {
  it('lets the event loop go round while it reads a long header', async () => {
    const entry = { dtype: 'F32', shape: [0, 1, 2, 3], data_offsets: [0, 0] }
    const tensors = Object.fromEntries(Array.from({ length: 20_000 }, (_, i) => [`tensor.${i}`, entry]))
    const path = scratchFile('many.safetensors', safetensorsBytes(JSON.stringify(tensors)))
    expect(await timersDuring(readSafetensorsHeader(path))).toBeGreaterThan(12)
  })

  it('describes every tensor by name, dtype, shape and place in the file', async () => {
    const json = JSON.stringify({
      __metadata__: { format: 'pt' },
      scalar: { dtype: 'F32', shape: [], data_offsets: [6, 10] },
      half: { dtype: 'F16', shape: [3, 1], data_offsets: [0, 6] },
      empty: { dtype: 'I64', shape: [0, 7], data_offsets: [6, 6] },
    })
    const path = scratchFile('good.safetensors', safetensorsBytes(`${json}  `, 10))
    const header = await readSafetensorsHeader(path)
    const start = 8 + json.length + 2
    expect([...header.tensors.values()]).toEqual([
      { name: 'half', dtype: 'F16', shape: [3, 1], offset: start, bytes: 6 },
      { name: 'empty', dtype: 'I64', shape: [0, 7], offset: start + 6, bytes: 0 },
      { name: 'scalar', dtype: 'F32', shape: [], offset: start + 6, bytes: 4 },
    ])
    expect(header).toMatchObject({ path, fileSize: start + 10, dataOffset: start })
    expect([...header.metadata]).toEqual([['format', 'pt']])
  })

  it('takes names that are special in JavaScript as plain names', async () => {
    const json =
      '{"__proto__":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"constructor":{"dtype":"U8","shape":[1],"data_offsets":[1,2]},"__metadata__":{"__proto__":"x"}}'
    const header = await readSafetensorsHeader(scratchFile('names.safetensors', safetensorsBytes(json, 2)))
    expect([...header.tensors.keys()]).toEqual(['__proto__', 'constructor'])
    expect(header.metadata.get('__proto__')).toBe('x')
    expect(header.tensors.get('toString')).toBeUndefined()
  })

  it('reads metadata that is null, as MLX writes it', async () => {
    const json = '{"__metadata__":null,"w":{"data_offsets":[0,4],"dtype":"F32","shape":[1]}}'
    const header = await readSafetensorsHeader(scratchFile('mlx.safetensors', safetensorsBytes(json, 4)))
    expect([...header.tensors.keys()]).toEqual(['w'])
    expect(header.metadata.size).toBe(0)
  })

  it('reads a file without tensors', async () => {
    const header = await readSafetensorsHeader(scratchFile('empty.safetensors', safetensorsBytes('{}')))
    expect(header.tensors.size).toBe(0)
  })

  it('says that a missing file does not exist and that a folder is not a file', async () => {
    const folder = scratchFolder()
    const missing = join(folder, 'none.safetensors')
    await expect(readSafetensorsHeader(missing)).rejects.toThrow(`${missing} does not exist`)
    await expect(readSafetensorsHeader(folder)).rejects.toThrow(`${folder} is not a regular file`)
  })

  it('refuses a file too short for a header', async () => {
    expect(await refusal(new Uint8Array(7))).toBe('it has 7 bytes, too few for a header; download it again')
  })

  it('refuses a header length beyond the limit or the file', async () => {
    expect(await refusal(safetensorsBytes('{}', 0, 100_000_001n))).toBe(
      'it claims a header of 100000001 bytes; at most 100000000 are allowed',
    )
    expect(await refusal(safetensorsBytes('{}', 0, 0xffffffffffffffffn))).toContain(
      'claims a header of 18446744073709551615',
    )
    expect(await refusal(safetensorsBytes('{}', 0, 3n))).toBe(
      'its header of 3 bytes does not fit into its 10 bytes; download it again',
    )
  })

  it('refuses a header that does not start with a brace', async () => {
    expect(await headerRefusal(' {}')).toBe('its header does not start with "{"')
    expect(await headerRefusal('\ufeff{}')).toBe('its header does not start with "{"')
    expect(await headerRefusal('')).toBe('its header does not start with "{"')
  })

  it('refuses a header that is not UTF-8 or not JSON', async () => {
    expect(await refusal(safetensorsBytes(Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x7d])))).toBe(
      'its header is not UTF-8',
    )
    expect(await headerRefusal('{"a":')).toBe('bad header: expected "{" at character 5')
    expect(await headerRefusal('{"a')).toBe('bad header: a string does not end at character 1')
    expect(await headerRefusal('{} {}')).toBe('bad header: unexpected text after the end at character 3')
    expect(await headerRefusal('{"\\ud800":{}}')).toContain('an unpaired surrogate')
    expect(await headerRefusal('{"\\x":{}}')).toContain('bad escape')
    expect(await headerRefusal('{"a\nb":{}}')).toContain('raw control character')
  })

  it('refuses names and fields that appear twice', async () => {
    const entry = '{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
    expect(await headerRefusal(`{"w":${entry},"w":${entry}}`)).toContain('the key "w" appears twice')
    expect(await headerRefusal(`{"w":${entry},"\\u0077":${entry}}`)).toContain('the key "w" appears twice')
    expect(await headerRefusal('{"w":{"dtype":"U8","dtype":"I8"}}')).toContain(
      'the key "dtype" appears twice',
    )
    expect(await headerRefusal('{"__metadata__":{},"__metadata__":{}}')).toContain(
      '"__metadata__" appears twice',
    )
    expect(await headerRefusal('{"__metadata__":{"a":"1","a":"2"}}')).toContain('the key "a" appears twice')
  })

  it('refuses metadata that is not a map of strings', async () => {
    expect(await headerRefusal('{"__metadata__":{"a":1}}')).toContain('expected a string')
    expect(await headerRefusal('{"__metadata__":[]}')).toContain('expected "{"')
    expect(await headerRefusal('{"__metadata__":nullx}')).toContain('expected "," or "}"')
  })

  it('refuses entries with missing, unknown or malformed fields', async () => {
    expect(await headerRefusal('{"w":{"dtype":"F32","shape":[1]}}')).toContain(
      '"w" needs dtype, shape and data_offsets',
    )
    expect(await refusal(oneTensor({ strides: [2, 1] }))).toContain('"w" has the unknown field "strides"')
    expect(await refusal(oneTensor({ dtype: 'F12' }))).toContain('"w" has the unknown dtype "F12"')
    expect(await refusal(oneTensor({ dtype: 'toString' }))).toContain('unknown dtype "toString"')
    expect(await refusal(oneTensor({ data_offsets: [0] }))).toContain(
      'data_offsets of tensor "w" needs two numbers',
    )
    expect(await refusal(oneTensor({ data_offsets: [0, 16, 32] }))).toContain('more than 2 numbers')
    for (const shape of ['[-4]', '[4.0]', '[4e0]', '["4"]', '[04]', '[null]']) {
      const json = `{"w":{"dtype":"F32","shape":${shape},"data_offsets":[0,16]}}`
      expect(await headerRefusal(json, 16), shape).toMatch(/expected (a non-negative integer|"," or "\]")/)
    }
  })

  it('refuses names and ranks beyond its limits', async () => {
    const entry = '{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
    expect(await headerRefusal(`{"${'é'.repeat(513)}":${entry}}`)).toContain(
      'a tensor name longer than 1024 bytes',
    )
    expect(await refusal(oneTensor({ shape: [1, 1, 1, 1, 1, 1, 1, 2, 2] }))).toContain(
      'has more than 8 numbers',
    )
  })

  it('refuses more tensors than any model has', async () => {
    const entries = Array.from(
      { length: 100_001 },
      (_, i) => `"${i}":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}`,
    )
    expect(await headerRefusal(`{${entries.join(',')}}`)).toContain('more than 100000 tensors')
  })

  it('refuses shapes whose size overflows, even if a later dimension is 0', async () => {
    const json = (shape: string) => `{"w":{"dtype":"F32","shape":${shape},"data_offsets":[0,0]}}`
    expect(await headerRefusal(json('[9223372036854775808,4,0]'))).toContain(
      '9223372036854775808 is too large',
    )
    expect(await headerRefusal(json('[4503599627370496,4,0]'))).toContain(
      'the shape [4503599627370496,4,0] overflows',
    )
    expect(await headerRefusal(json('[9007199254740991]'))).toContain('overflows')
  })

  it('refuses elements that do not fill whole bytes', async () => {
    expect(await refusal(oneTensor({ dtype: 'F4', shape: [3], data_offsets: [0, 1] }, 1))).toBe(
      'tensor "w": 3 elements of F4 do not fill whole bytes',
    )
    const even = scratchFile(
      'f4.safetensors',
      oneTensor({ dtype: 'F4', shape: [4], data_offsets: [0, 2] }, 2),
    )
    expect((await readSafetensorsHeader(even)).tensors.get('w')?.bytes).toBe(2)
  })

  it('refuses data that does not have the size of its shape', async () => {
    expect(await refusal(oneTensor({ shape: [2, 3] }))).toBe(
      'tensor "w" has 16 bytes, but F32 [2,3] needs 24',
    )
    expect(await refusal(oneTensor({ data_offsets: [16, 0] }))).toBe(
      'tensor "w" ends at 0, before its begin 16',
    )
  })

  it('refuses holes, overlaps and bytes that belong to no tensor', async () => {
    const two = (a: string, b: string) =>
      `{"a":{"dtype":"U8","shape":[4],"data_offsets":${a}},"b":{"dtype":"U8","shape":[4],"data_offsets":${b}}}`
    expect(await headerRefusal(two('[0,4]', '[5,9]'), 9)).toBe(
      'tensor "b" leaves a hole before it: it begins at 5, expected 4',
    )
    expect(await headerRefusal(two('[0,4]', '[3,7]'), 7)).toBe(
      'tensor "b" overlaps another: it begins at 3, expected 4',
    )
    expect(await headerRefusal(two('[0,4]', '[0,4]'), 4)).toContain('overlaps another')
    expect(await headerRefusal(two('[4,8]', '[8,12]'), 12)).toContain('tensor "a" leaves a hole before it')
    expect(await refusal(oneTensor({}, 19))).toBe('3 bytes at its end belong to no tensor')
  })

  it('refuses a truncated file', async () => {
    expect(await refusal(oneTensor({}, 15))).toBe(
      'it is truncated: its tensors need 16 bytes, 15 are there; download it again',
    )
  })
})

describe('readTensor', () => {
  it('returns the bytes in a buffer of their own', async () => {
    const data = Uint8Array.from({ length: 16 }, (_, i) => i)
    const header = safetensorsBytes('{"w":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}', data)
    const read = await readTensor(await readSafetensorsHeader(scratchFile('a.safetensors', header)), 'w')
    expect(read).toEqual(data)
    expect([read.byteOffset, read.buffer.byteLength]).toEqual([0, 16])
  })

  it('refuses an unknown name', async () => {
    const header = await readSafetensorsHeader(scratchFile('a.safetensors', oneTensor()))
    await expect(readTensor(header, 'v')).rejects.toThrow(`${header.path} has no tensor "v"`)
  })

  it('notices that the file changed since its header was read', async () => {
    const header = await readSafetensorsHeader(scratchFile('a.safetensors', oneTensor()))
    truncateSync(header.path, header.fileSize - 4)
    await expect(readTensor(header, 'w')).rejects.toThrow(
      /changed while in use: it had \d+ bytes and now has \d+/,
    )
  })
})

describe('writeSafetensors', () => {
  it.each(CASES)(
    'writes the bytes that the Python writer writes: $name',
    async ({ name, metadata, tensors }) => {
      const path = join(scratchFolder(), 'ours.safetensors')
      const inputs = tensors.map((tensor) => ({ ...tensor, data: Buffer.from(tensor.data, 'hex') }))
      await writeSafetensors(path, inputs, metadata ?? undefined)
      expect(readFileSync(path)).toEqual(readFileSync(join(PYTHON, `${name}.safetensors`)))
    },
  )

  it.each(CASES)('reads back what the Python writer wrote: $name', async ({ name, metadata, tensors }) => {
    const header = await readSafetensorsHeader(join(PYTHON, `${name}.safetensors`))
    expect(Object.fromEntries(header.metadata)).toEqual(metadata ?? {})
    expect(header.tensors.size).toBe(tensors.length)
    for (const { name: key, dtype, shape, data } of tensors) {
      expect(header.tensors.get(key)).toMatchObject({ dtype, shape })
      expect(Buffer.from(await readTensor(header, key)).toString('hex')).toBe(data)
    }
  })

  it('asks for one tensor at a time, in the order of the file', async () => {
    const path = join(scratchFolder(), 'lazy.safetensors')
    const asked: string[] = []
    const lazy = (name: string, dtype: SafetensorsDtype, bytes: number): SafetensorsInput => ({
      name,
      dtype,
      shape: [1],
      data: async () => {
        asked.push(name)
        return new Uint8Array(bytes)
      },
    })
    await writeSafetensors(path, [lazy('a', 'F16', 2), lazy('c', 'F32', 4), lazy('b', 'F32', 4)])
    expect(asked).toEqual(['b', 'c', 'a'])
  })

  it('refuses repeated names and data of another size than the shape, and leaves nothing behind', async () => {
    const folder = scratchFolder()
    const path = join(folder, 'bad.safetensors')
    const tensor = { name: 'w', dtype: 'F32' as const, shape: [2], data: new Uint8Array(8) }
    const write = (tensors: SafetensorsInput[]) => writeSafetensors(path, tensors)
    await expect(write([tensor, tensor])).rejects.toThrow('two tensors would be named "w"')
    await expect(write([{ ...tensor, name: '__metadata__' }])).rejects.toThrow(ShapeError)
    await expect(write([{ ...tensor, shape: [3] }])).rejects.toThrow(
      'tensor "w" was given 8 bytes, but F32 [3] needs 12',
    )
    await expect(write([{ ...tensor, shape: [2 ** 52, 4] }])).rejects.toThrow('overflows')
    await expect(readSafetensorsHeader(path)).rejects.toThrow('does not exist')
  })

  sweepTest('writes what reads back the same, whatever the names, shapes and metadata', async () => {
    const dtypes: [SafetensorsDtype, number][] = [
      ['BOOL', 1],
      ['BF16', 2],
      ['F32', 4],
      ['I64', 8],
    ]
    const name = fc.string({ unit: 'binary', maxLength: 20 }).filter((text) => text !== '__metadata__')
    const tensor = fc
      .record({
        name,
        dtype: fc.constantFrom(...dtypes),
        shape: fc.array(fc.nat(4), { maxLength: 4 }),
        seed: fc.nat(255),
      })
      .map(({ name, dtype: [dtype, width], shape, seed }) => {
        const bytes = shape.reduce((product, dimension) => product * dimension, width)
        return {
          name,
          dtype,
          shape,
          data: Uint8Array.from({ length: bytes }, (_, i) => (i * 31 + seed) % 256),
        }
      })
    const tensors = fc.uniqueArray(tensor, { selector: (input) => input.name, maxLength: 8 })
    const metadata = fc.dictionary(fc.string({ unit: 'binary' }), fc.string({ unit: 'binary' }), {
      maxKeys: 4,
    })
    const path = join(scratchFolder(), 'any.safetensors')
    await fc.assert(
      fc.asyncProperty(tensors, metadata, async (inputs, strings) => {
        await writeSafetensors(path, inputs, strings)
        const header = await readSafetensorsHeader(path)
        expect(new Map(header.metadata)).toEqual(new Map(Object.entries(strings)))
        expect([...header.tensors.keys()].sort()).toEqual(inputs.map((input) => input.name).sort())
        for (const { name, dtype, shape, data } of inputs) {
          expect(header.tensors.get(name)).toMatchObject({ dtype, shape })
          expect(await readTensor(header, name)).toEqual(data)
        }
      }),
      { seed: 54, numRuns: 150 },
    )
  })
})
