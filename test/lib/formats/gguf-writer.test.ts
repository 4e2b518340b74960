import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { gguf } from '@huggingface/gguf'
import { describe, expect, it } from 'vitest'
import { ShapeError, WriteError } from '../../../lib/core/errors.js'
import { readGgufHeader } from '../../../lib/formats/gguf.js'
import { ggufField } from '../../../lib/formats/gguf-fields.js'
import { copiedFields, type GgufInput, writeGguf } from '../../../lib/formats/gguf-writer.js'
import { scratchFile, scratchFolder } from '../scratch.js'
import { ggufBytes, value } from './gguf-bytes.js'

const place = () => join(scratchFolder(), 'model.gguf')

const fields = [
  ggufField.string('general.architecture', 'llama'),
  ggufField.u32('llama.block_count', 4_294_967_295),
  ggufField.f32('llama.epsilon', 1e-5),
  ggufField.bool('yes', true),
  ggufField.bool('no', false),
  ggufField.strings('tokens', ['', 'a', '\u2581', '🙂', '__proto__']),
  ggufField.strings('none', []),
  ggufField.i32s('types', Int32Array.of(1, -2, 3)),
  ggufField.f32s('scores', Float32Array.of(0, -1e9, 0.5)),
  ggufField.string('__proto__', 'hostile'),
]

function filled(name: string, shape: number[], type: GgufInput['type'], bytes: number): GgufInput {
  return { name, shape, type, data: () => new Uint8Array(bytes).fill(name.length) }
}

const tensors = [
  filled('token_embd.weight', [3, 32], 'Q8_0', 102),
  filled('constructor', [5], 'F32', 20),
  filled('blk.0.attn_q.weight', [2, 3], 'F16', 12),
  filled('ü'.repeat(31), [1, 1], 'BF16', 2),
]

describe('a GGUF file', () => {
  it('reads back as it was written, in our reader', async () => {
    const path = place()
    await writeGguf(path, fields, tensors)
    const header = await readGgufHeader(path)
    expect(header.version).toBe(3)
    expect([...header.metadata]).toEqual(fields.map(({ key, value: is }) => [key, is]))
    const file = readFileSync(path)
    expect(header.tensors.map(({ name, dims, type }) => [name, dims, type.name])).toEqual(
      tensors.map(({ name, shape, type }) => [name, [...shape].reverse(), type]),
    )
    for (const { name, offset, bytes } of header.tensors) {
      expect(offset % 32).toBe(0)
      expect(file.subarray(offset, offset + bytes)).toEqual(Buffer.alloc(bytes, name.length))
    }
    expect(file.length % 32).toBe(0)
  })

  it("reads back as it was written, in Hugging Face's reader", async () => {
    const path = place()
    await writeGguf(path, fields, tensors)
    const { metadata, tensorInfos } = await gguf(path, { allowLocalFile: true })
    expect(metadata).toMatchObject({
      version: 3,
      tensor_count: 4n,
      kv_count: 10n,
      'llama.block_count': 4_294_967_295,
      'llama.epsilon': Math.fround(1e-5),
      tokens: ['', 'a', '\u2581', '🙂', '__proto__'],
      types: [1, -2, 3],
    })
    expect(tensorInfos.map(({ name, shape, dtype, offset }) => [name, shape, dtype, offset])).toEqual([
      ['token_embd.weight', [32n, 3n], 8, 0n],
      ['constructor', [5n], 0, 128n],
      ['blk.0.attn_q.weight', [3n, 2n], 1, 160n],
      ['ü'.repeat(31), [1n, 1n], 30, 192n],
    ])
  })

  it('holds the metadata of another file byte for byte', async () => {
    const keys = [
      ['a', value.number('u64', 7)],
      ['b', value.number('i8', -1)],
      ['c', value.numbers('f64', [0.1, 2])],
      ['d', value.strings(['x', ''])],
      ['e', value.bools([true, false])],
    ] as const
    const source = scratchFile('source.gguf', ggufBytes({ keys }))
    const path = place()
    await writeGguf(path, await copiedFields(await readGgufHeader(source)), [])
    expect(readFileSync(path)).toEqual(readFileSync(source))
  })

  it('takes data by pieces, tells how far it is and can be stopped', async () => {
    async function* pieces() {
      yield Uint8Array.of(1, 2, 3)
      yield Uint8Array.of(4)
    }
    const told: string[] = []
    const two = [filled('a', [2], 'F32', 8), { ...filled('b', [1], 'F32', 4), data: pieces }]
    const path = place()
    await writeGguf(path, [], two, {
      onProgress: ({ tensor, writtenBytes, totalBytes }) =>
        told.push(`${tensor} ${writtenBytes}/${totalBytes}`),
    })
    expect(told).toEqual(['a 8/12', 'b 12/12'])
    expect((await readGgufHeader(path)).tensors[1]?.bytes).toBe(4)

    const controller = new AbortController()
    const stopped = place()
    const writing = writeGguf(stopped, [], two, {
      signal: controller.signal,
      onProgress: () => controller.abort(new Error('enough')),
    })
    await expect(writing).rejects.toThrow('enough')
    expect(readdirSync(dirname(stopped))).toEqual([])
  })
})

describe('nothing is written', () => {
  it.each<[string, GgufInput[], RegExp]>([
    ['a name of 64 bytes', [filled('ü'.repeat(32), [1], 'F32', 4)], /has 64 bytes; GGUF supports 1 to 63/],
    ['an empty name', [filled('', [1], 'F32', 4)], /has 0 bytes/],
    [
      'a name that is taken',
      [filled('a', [1], 'F32', 4), filled('a', [1], 'F32', 4)],
      /two tensors would be named "a"/,
    ],
    ['half a block', [filled('a', [2, 16], 'Q8_0', 34)], /a row of Q8_0 must be whole blocks of 32/],
    ['no dimension', [filled('a', [], 'F32', 4)], /supports 1 to 4 dimensions/],
    ['an empty dimension', [filled('a', [2, 0], 'F32', 0)], /must be a positive integer/],
    ['a size that overflows', [filled('a', [2 ** 52, 4], 'F32', 0)], /overflows/],
    ['too little data', [filled('a', [2], 'F32', 7)], /was given 7 bytes, but F32 \[2\] needs 8/],
    ['too much data', [filled('a', [2], 'F32', 9)], /was given 9 or more bytes/],
  ])('of %s', async (_, inputs, message) => {
    const path = place()
    const writing = writeGguf(path, [], inputs)
    await expect(writing).rejects.toThrow(ShapeError)
    await expect(writing).rejects.toThrow(message)
    expect(existsSync(path)).toBe(false)
    expect(readdirSync(dirname(path))).toEqual([])
  })

  it('of a key twice, or an empty one', async () => {
    const one = ggufField.bool('k', true)
    await expect(writeGguf(place(), [one, one], [])).rejects.toThrow(/two GGUF fields have the key "k"/)
    await expect(writeGguf(place(), [ggufField.bool('', true)], [])).rejects.toThrow(/a GGUF key has 0 bytes/)
  })

  it('into a folder that does not exist', async () => {
    await expect(writeGguf(join(scratchFolder(), 'no', 'm.gguf'), [], [])).rejects.toThrow(WriteError)
  })
})
