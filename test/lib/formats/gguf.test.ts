import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gguf } from '@huggingface/gguf'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { FileFormatError, UnsupportedError } from '../../../lib/core/errors.js'
import { readGgufHeader, UnreadStrings } from '../../../lib/formats/gguf.js'
import { sweepTest } from '../../sweep.js'
import { scratchFile, scratchFolder } from '../scratch.js'
import { timersDuring } from '../turns.js'
import {
  array,
  type GgufSpec,
  ggufBytes,
  type TensorSpec,
  text,
  u32,
  type Value,
  value,
} from './gguf-bytes.js'

const read = (spec: GgufSpec) => readGgufHeader(scratchFile('a.gguf', ggufBytes(spec)))

/** Message of readGgufHeader about a file, without path and position. */
async function refusal(file: GgufSpec | Buffer): Promise<string> {
  const path = scratchFile('bad.gguf', Buffer.isBuffer(file) ? file : ggufBytes(file))
  const error = await readGgufHeader(path).then(
    () => undefined,
    (reason: unknown) => reason,
  )
  expect(error).toBeInstanceOf(FileFormatError)
  const found = /^(.*) is not a valid GGUF file: (.*) \(at byte \d+\)$/.exec(
    (error as FileFormatError).message,
  )
  expect(found?.[1], (error as FileFormatError).message).toBe(path)
  return found?.[2] ?? ''
}

async function unsupported(spec: GgufSpec): Promise<string> {
  const path = scratchFile('unsupported.gguf', ggufBytes(spec))
  const error = await readGgufHeader(path).catch((reason: unknown) => reason)
  expect(error).toBeInstanceOf(UnsupportedError)
  return (error as UnsupportedError).message.replaceAll(path, 'FILE')
}

const oneKey = (of: Value): GgufSpec => ({ keys: [['k', of]] })
const oneTensor = (change: Partial<TensorSpec>): GgufSpec => ({
  tensors: [{ name: 't', dims: [32, 2], ...change }],
})

describe('readGgufHeader', () => {
  sweepTest('lets the event loop go round while it reads a vocabulary', async () => {
    const tokens = Array.from({ length: 600_000 }, (_, i) => `token ${i}`)
    const path = scratchFile('long.gguf', ggufBytes(oneKey(value.strings(tokens))))
    for (const strings of [true, false])
      expect(await timersDuring(readGgufHeader(path, { strings }))).toBeGreaterThan(12)
    expect((await readGgufHeader(path)).metadata.get('k')).toEqual(tokens)
  })

  it('reads metadata of every type', async () => {
    const { metadata } = await read({
      keys: [
        ['u8', value.number('u8', 200)],
        ['i8', value.number('i8', -100)],
        ['u16', value.number('u16', 60_000)],
        ['i16', value.number('i16', -30_000)],
        ['u32', value.number('u32', 4_000_000_000)],
        ['i32', value.number('i32', -2_000_000_000)],
        ['f32', value.number('f32', 0.5)],
        ['u64', value.number('u64', 123)],
        ['u64 large', value.number('u64', 2n ** 63n)],
        ['i64', value.number('i64', -5)],
        ['i64 large', value.number('i64', -(2n ** 62n))],
        ['f64', value.number('f64', 1e-300)],
        ['bool', value.bool(true)],
        ['string', value.string('na\u00efve \u{1f600}')],
        ['strings', value.strings(['', 'a', '\ufeffb'])],
        ['bools', value.bools([true, false])],
        ['i32s', value.numbers('i32', [1, -2, 3])],
        ['f32s', value.numbers('f32', [0.25, -1])],
        ['u64s', value.numbers('u64', [1, 2n ** 60n])],
        ['none', value.numbers('u8', [])],
        ['__proto__', value.number('u8', 1)],
      ],
    })
    expect(Object.fromEntries([...metadata].filter(([key]) => key !== '__proto__'))).toEqual({
      u8: 200,
      i8: -100,
      u16: 60_000,
      i16: -30_000,
      u32: 4_000_000_000,
      i32: -2_000_000_000,
      f32: 0.5,
      u64: 123,
      'u64 large': 2n ** 63n,
      i64: -5,
      'i64 large': -(2n ** 62n),
      f64: 1e-300,
      bool: true,
      string: 'na\u00efve \u{1f600}',
      strings: ['', 'a', '\ufeffb'],
      bools: [true, false],
      i32s: new Int32Array([1, -2, 3]),
      f32s: new Float32Array([0.25, -1]),
      u64s: new BigUint64Array([1n, 2n ** 60n]),
      none: new Uint8Array(0),
    })
    expect(metadata.get('__proto__')).toBe(1)
  })

  it.each([2, 3])('places tensors in version %i', async (version) => {
    const header = await read({
      version,
      keys: [['general.alignment', value.number('u32', 64)]],
      alignment: 64,
      tensors: [
        { name: 'a', dims: [32, 3], type: 8 },
        { name: 'b', dims: [5], type: 1 },
        { name: 'c', dims: [64, 2, 2, 3], type: 3 },
        { name: 'scalar', dims: [], type: 0 },
      ],
    })
    const start = header.dataOffset
    expect(header).toMatchObject({ version, alignment: 64 })
    expect(start % 64).toBe(0)
    expect(
      header.tensors.map(({ name, type, dims, offset, bytes }) => [
        name,
        type.name,
        dims,
        offset - start,
        bytes,
      ]),
    ).toEqual([
      ['a', 'Q8_0', [32, 3], 0, 102],
      ['b', 'F16', [5], 128, 10],
      ['c', 'Q4_1', [64, 2, 2, 3], 192, 480],
      ['scalar', 'F32', [], 704, 4],
    ])
  })

  it('counts strings without reading them where they are not wanted, within the same limits', async () => {
    const spec = { ...oneKey(value.strings(['abc', '', 'd'])), tensors: [{ name: 't', dims: [8] }] }
    const path = scratchFile('counted.gguf', ggufBytes(spec))
    const whole = await readGgufHeader(path)
    const { metadata, ...counted } = await readGgufHeader(path, { strings: false })
    expect(metadata.get('k')).toEqual(new UnreadStrings(3))
    expect({ ...counted, metadata: whole.metadata }).toEqual(whole)
    const bytes = ggufBytes(spec)
    const at = Buffer.from(bytes).indexOf('abc') - 8
    new DataView(bytes.buffer, bytes.byteOffset).setBigUint64(at, 2n ** 40n, true)
    const refused = readGgufHeader(scratchFile('long.gguf', bytes), { strings: false })
    await expect(refused).rejects.toThrow('the value of "k" claims 1099511627776 bytes of text')
  })

  it('agrees with @huggingface/gguf about metadata and tensors, also when the header needs several reads', async () => {
    const tokens = Array.from({ length: 60_000 }, (_, i) => `token \u0120${i}`)
    const path = scratchFile(
      'oracle.gguf',
      ggufBytes({
        keys: [
          ['general.architecture', value.string('llama')],
          ['tokenizer.ggml.tokens', value.strings(tokens)],
          [
            'tokenizer.ggml.scores',
            value.numbers(
              'f32',
              tokens.map((_, i) => -i / 2),
            ),
          ],
          ['llama.block_count', value.number('u32', 2)],
          ['llama.rope.freq_base', value.number('f32', 500_000)],
          ['flag', value.bool(false)],
        ],
        tensors: Array.from({ length: 40 }, (_, i) => ({
          name: `blk.${i}.w`,
          dims: [64, i + 1],
          type: [0, 1, 2, 3, 8, 30][i % 6] as number,
        })),
      }),
    )
    const ours = await readGgufHeader(path)
    const theirs = await gguf(path, { allowLocalFile: true })
    for (const [key, got] of ours.metadata) {
      const wanted = (theirs.metadata as Record<string, unknown>)[key]
      expect(ArrayBuffer.isView(got) ? Array.from(got as Float32Array) : got, key).toEqual(wanted)
    }
    expect(ours.metadata.size).toBe(6)
    expect(BigInt(ours.dataOffset)).toBe(theirs.tensorDataOffset)
    expect(
      ours.tensors.map(({ name, dims, type, offset }) => [
        name,
        dims.map(BigInt),
        type.id,
        BigInt(offset - ours.dataOffset),
      ]),
    ).toEqual(theirs.tensorInfos.map(({ name, shape, dtype, offset }) => [name, shape, dtype, offset]))
  })

  it('refuses what is not GGUF', async () => {
    expect(await refusal(Buffer.alloc(0))).toBe('it does not start with "GGUF"')
    expect(await refusal({ magic: 'GGML' })).toBe('it does not start with "GGUF"')
    expect(await refusal(Buffer.from('GGUF\x03\0'))).toContain(
      'it is truncated: a number needs 4 bytes, 2 are left',
    )
  })

  it('refuses versions and byte orders that it cannot read', async () => {
    expect(await unsupported({ version: 1 })).toContain('FILE is GGUF version 1; supported: versions 2 and 3')
    expect(await unsupported({ version: 0x03000000 })).toContain('FILE is a big-endian GGUF file')
    expect(await unsupported({ version: 4 })).toBe('FILE is GGUF version 4; supported: versions 2 and 3')
  })

  it('refuses counts that its bytes cannot hold', async () => {
    expect(await refusal({ keyCount: 5 })).toContain('it claims 5 keys, more than its')
    expect(await refusal({ keyCount: 65_537 })).toBe('it claims 65537 keys; at most 65536 are allowed')
    expect(await refusal({ tensorCount: 3 })).toContain('it claims 3 tensors, more than its')
    expect(await refusal({ tensorCount: 1_048_577 })).toBe(
      'it claims 1048577 tensors; at most 1048576 are allowed',
    )
    expect(await refusal({ tensorCount: 2n ** 64n - 1n })).toContain(
      'the number of tensors is 18446744073709551615',
    )
    expect(await refusal({ keyCount: 2n ** 63n })).toContain('the number of keys is 9223372036854775808')
  })

  it('refuses strings longer than the file or the limit', async () => {
    const claim = (length: number | bigint): Value => ({ type: 8, bytes: text('abc', length) })
    expect(await refusal(oneKey(claim(1000)))).toContain('it is truncated: the value of "k" needs 1000 bytes')
    expect(await refusal(oneKey(claim(2 ** 30)))).toContain(
      'claims 1073741824 bytes of text; at most 67108864',
    )
    expect(await refusal(oneKey(claim(2n ** 64n - 1n)))).toContain(
      'the length of the value of "k" is 18446744073709551615',
    )
    expect(await refusal({ keys: [['x'.repeat(65_536), value.bool(true)]] })).toContain(
      'a key claims 65536 bytes of text',
    )
  })

  it('refuses text that is not UTF-8', async () => {
    expect(await refusal(oneKey(value.string(Buffer.from([0x61, 0xff]))))).toBe(
      'the value of "k" is not UTF-8: "a\u00ff"',
    )
    expect(await refusal({ tensors: [{ name: Buffer.from([0xc0]), dims: [1] }] })).toContain(
      'a tensor name is not UTF-8',
    )
  })

  it('refuses unknown value types, arrays of arrays and flags that are neither true nor false', async () => {
    expect(await refusal(oneKey({ type: 13, bytes: u32(0) }))).toBe(
      'the value of "k" has the unknown type 13',
    )
    expect(await refusal(oneKey(array(13, 0, [])))).toBe(
      'the value of "k" is an array of the unknown type 13',
    )
    expect(await refusal(oneKey(array(9, 1, [u32(0)])))).toBe('the value of "k" is an array of arrays')
    expect(await refusal(oneKey({ type: 7, bytes: Buffer.from([2]) }))).toContain(
      'should be true or false (1 or 0), not 2',
    )
    expect(await refusal(oneKey(array(7, 1, [Buffer.from([3])])))).toContain(
      'should be true or false (1 or 0), not 3',
    )
  })

  it('refuses arrays that its bytes cannot hold, before making them', async () => {
    expect(await refusal(oneKey(array(10, 2 ** 23, [])))).toContain('claims 8388608 elements')
    expect(await refusal(oneKey(array(0, 2 ** 23 + 1, [])))).toContain(
      'claims 8388609 elements; at most 8388608',
    )
    expect(await refusal(oneKey(array(8, 4, [text('a')])))).toContain(
      'it is truncated: the value of "k" claims 4 elements',
    )
    expect(await refusal(oneKey(array(0, 2n ** 62n, [])))).toContain(
      'the length of the value of "k" is 4611686018427387904',
    )
  })

  it('refuses keys and tensor names that are empty or appear twice', async () => {
    const flag = value.bool(true)
    expect(await refusal({ keys: [['', flag]] })).toBe('a key is empty')
    expect(
      await refusal({
        keys: [
          ['k', flag],
          ['k', flag],
        ],
      }),
    ).toBe('the key "k" appears twice')
    expect(await refusal(oneTensor({ name: '' }))).toBe('a tensor has an empty name')
    const tensor = { name: 't', dims: [8] }
    expect(await refusal({ tensors: [tensor, tensor] })).toBe('the tensor "t" appears twice')
  })

  it('refuses tensor names of more than 63 bytes', async () => {
    expect((await read(oneTensor({ name: 'n'.repeat(63) }))).tensors).toHaveLength(1)
    expect(await refusal(oneTensor({ name: 'n'.repeat(64) }))).toBe(
      'a tensor name claims 64 bytes of text; at most 63 are allowed',
    )
  })

  it.each([0, 3, 48, -1, 0.5, 2n ** 40n])('refuses the alignment %s', async (alignment) => {
    const type = typeof alignment === 'bigint' ? 'u64' : alignment === 0.5 ? 'f32' : 'i32'
    expect(await refusal({ keys: [['general.alignment', value.number(type, alignment)]] })).toBe(
      `general.alignment must be a power of two, not ${alignment}`,
    )
  })

  it('refuses an alignment that is not a number', async () => {
    expect(await refusal({ keys: [['general.alignment', value.string('32')]] })).toContain(
      'must be a power of two',
    )
  })

  it('refuses bad ranks, dimensions of 0 and rows that are not whole blocks', async () => {
    expect(await refusal(oneTensor({ dims: [1, 1, 1, 1, 1] }))).toBe(
      'tensor "t" has 5 dimensions; at most 4 are allowed',
    )
    expect(await refusal(oneTensor({ rank: 0xffffffff }))).toContain('has 4294967295 dimensions')
    expect(await refusal(oneTensor({ dims: [32, 0] }))).toBe('tensor "t" has a dimension of 0')
    expect(await refusal(oneTensor({ dims: [33], type: 2 }))).toBe(
      'rows of tensor "t" have 33 elements, not a multiple of the 32 of a Q4_0 block',
    )
    expect(await refusal(oneTensor({ dims: [], type: 8 }))).toContain('rows of tensor "t" have 1 elements')
  })

  it('refuses sizes that overflow', async () => {
    expect(await refusal(oneTensor({ dims: [2n ** 32n, 2n ** 32n] }))).toContain('the size of tensor "t"')
    expect(await refusal(oneTensor({ dims: [2n ** 52n], type: 0 }))).toContain('overflows')
    expect(await refusal(oneTensor({ dims: [2n ** 63n] }))).toContain(
      'dimension 0 of tensor "t" is 9223372036854775808',
    )
    // Sizes that each fit, and whose sum wraps around in 64 bits.
    const dims = [2n ** 50n]
    expect(
      await refusal({
        tensors: [
          { name: 'a', dims, type: 0, offset: 0 },
          { name: 'b', dims, type: 0, offset: 2n ** 52n },
        ],
      }),
    ).toContain('it is truncated: tensor "a" ends at byte')
  })

  it('refuses offsets that are not where the tensor before ends', async () => {
    const two = (offset: number | bigint): GgufSpec => ({
      tensors: [
        { name: 'a', dims: [9] },
        { name: 'b', dims: [9], offset },
      ],
    })
    expect((await read(two(64))).tensors).toHaveLength(2)
    expect(await refusal(two(32))).toBe('tensor "b" is at offset 32 of the data, expected 64')
    expect(await refusal(two(96))).toBe('tensor "b" is at offset 96 of the data, expected 64')
    expect(await refusal(two(36))).toBe('tensor "b" is at offset 36 of the data, expected 64')
    expect(await refusal(two(2n ** 64n - 32n))).toContain('the offset of tensor "b" is 18446744073709551584')
    expect(await refusal(oneTensor({ offset: 32 }))).toBe(
      'tensor "t" is at offset 32 of the data, expected 0',
    )
  })

  it('refuses a file that ends before its data, but not one without the last padding', async () => {
    expect((await read({ ...oneTensor({ dims: [9] }), cut: 28 })).tensors).toHaveLength(1)
    expect(await refusal({ ...oneTensor({ dims: [9] }), cut: 29 })).toMatch(
      /^it is truncated: tensor "t" ends at byte 100 of 99; download it again$/,
    )
  })

  it('refuses a file cut anywhere in its header', async () => {
    const whole = ggufBytes({ ...oneKey(value.strings(['abc', 'd'])), tensors: [{ name: 't', dims: [8] }] })
    const { dataOffset } = await readGgufHeader(scratchFile('whole.gguf', whole))
    for (let length = 0; length < dataOffset; length++) {
      const problem = await refusal(whole.subarray(0, length))
      expect(problem, `${length}`).toMatch(/truncated|does not start|can hold/)
    }
  })

  it('names tensor types that it does not know', async () => {
    expect(await unsupported(oneTensor({ type: 31 }))).toContain(
      'tensor "t" of FILE has the ggml type Q4_0_4_4 (removed from ggml)',
    )
    expect(await unsupported(oneTensor({ type: 40 }))).toContain('the ggml type NVFP4')
    expect(await unsupported(oneTensor({ type: 99 }))).toContain('the ggml type number 99, which is unknown')
  })

  it('asks to join split files', async () => {
    expect(await unsupported({ keys: [['split.count', value.number('u16', 3)]] })).toBe(
      'FILE is one of 3 parts of a split GGUF file; join them first with llama.cpp\'s "llama-gguf-split --merge"',
    )
    expect((await read({ keys: [['split.count', value.number('u16', 1)]] })).tensors).toHaveLength(0)
  })

  it('reads back any metadata and tensors', async () => {
    const entry = fc.oneof(
      fc.string({ unit: 'binary' }).map((of) => [of, value.string(of)] as const),
      fc.maxSafeInteger().map((of) => [of, value.number('i64', of)] as const),
      fc.boolean().map((of) => [of, value.bool(of)] as const),
      fc.array(fc.string({ unit: 'binary' })).map((of) => [of, value.strings(of)] as const),
      fc.float32Array().map((of) => [of, value.numbers('f32', [...of])] as const),
    )
    const name = fc
      .string({ minLength: 1, maxLength: 15, unit: 'grapheme' })
      .filter((of) => Buffer.byteLength(of) < 64)
    const keys = fc.uniqueArray(fc.tuple(name, entry), { selector: ([key]) => key, maxLength: 6 })
    const tensor = fc.record({ name, dims: fc.array(fc.integer({ min: 1, max: 4 }), { maxLength: 3 }) })
    const tensors = fc.uniqueArray(tensor, { selector: (of) => of.name, maxLength: 6 })
    const path = join(scratchFolder(), 'any.gguf')
    await fc.assert(
      fc.asyncProperty(keys, tensors, async (pairs, specs) => {
        const spec = {
          keys: pairs
            .filter(([key]) => key !== 'general.alignment')
            .map(([key, [, of]]) => [key, of] as const),
          tensors: specs.map(({ name, dims }) => ({ name, dims: [32, ...dims], type: 8 })),
        }
        writeFileSync(path, ggufBytes(spec))
        const header = await readGgufHeader(path)
        expect([...header.metadata]).toEqual(pairs.map(([key, [of]]) => [key, of]))
        expect(header.tensors.map(({ name, dims }) => ({ name, dims }))).toEqual(
          specs.map(({ name, dims }) => ({ name, dims: [32, ...dims] })),
        )
      }),
      { seed: 55, numRuns: 150 },
    )
  })
})
