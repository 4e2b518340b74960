import fc from 'fast-check'
import { expect, test } from 'vitest'
import { float32Bytes, floatBytes, piecesInBytes, toFloat32 } from '../../../lib/peft/floats.js'

const bytesOf = (halves: number[]) => new Uint8Array(Uint16Array.from(halves).buffer)

test('half precision becomes f32 exactly: normal, subnormal, zero, infinite', () => {
  const halves = [0x3c00, 0xc000, 0x3555, 0x0001, 0x8001, 0x03ff, 0x0400, 0x7bff, 0x0000, 0x7c00]
  const expected = [1, -2, 1365 / 4096, 2 ** -24, -(2 ** -24), 1023 * 2 ** -24, 2 ** -14, 65504, 0, Infinity]
  expect([...toFloat32('F16', bytesOf(halves), 'x')]).toEqual(expected)
  expect(toFloat32('F16', bytesOf([0x7e00]), 'x')[0]).toBeNaN()
})

test('bfloat16 is the upper half of an f32', () => {
  expect([...toFloat32('BF16', bytesOf([0x3f80, 0xc049]), 'x')]).toEqual([1, -3.140625])
})

test('f32 bytes come back unchanged', () => {
  const values = Float32Array.of(0.1, -3)
  expect(toFloat32('F32', float32Bytes(values), 'x')).toEqual(values)
})

test('other dtypes are refused by name', () => {
  expect(() => toFloat32('F64', new Uint8Array(8), 'lora_A')).toThrow(
    'lora_A has the dtype F64, expected F32, F16, BF16',
  )
})

test('rounding to fewer bits takes the nearest value, ties to even, and keeps what is exact', () => {
  const rounded = (dtype: 'F16' | 'BF16', values: number[]) => [
    ...toFloat32(dtype, floatBytes(dtype, Float32Array.from(values)), 'x'),
  ]
  const step = 2 ** -10
  expect(rounded('F16', [1 + step / 2, 1 + 1.5 * step, 65519, 65520, 2 ** -25, 1.5 * 2 ** -24])).toEqual([
    1,
    1 + 2 * step,
    65504,
    Infinity,
    0,
    2 ** -23,
  ])
  expect(rounded('BF16', [1 + 2 ** -8, 1 + 3 * 2 ** -8, -Infinity])).toEqual([1, 1 + 2 ** -6, -Infinity])
  expect(rounded('F16', [NaN])[0]).toBeNaN()
  expect(rounded('BF16', [NaN])[0]).toBeNaN()
  for (const dtype of ['F16', 'BF16'] as const)
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 0xffff }), (bits) => {
        const [value] = toFloat32(dtype, bytesOf([bits]), 'x') as unknown as [number]
        if (!Number.isNaN(value)) expect(rounded(dtype, [value])).toEqual([value])
      }),
    )
})

test('pieces are rounded as a whole array is, all through one buffer', async () => {
  const values = Float32Array.from({ length: 1000 }, (_, i) => Math.sin(i))
  async function* pieces() {
    for (let begin = 0; begin < values.length; begin += 300) yield values.subarray(begin, begin + 300)
  }
  for (const dtype of ['F16', 'BF16'] as const) {
    const buffers = new Set<ArrayBufferLike>()
    const bytes: number[] = []
    for await (const piece of piecesInBytes(dtype, pieces())) {
      buffers.add(piece.buffer)
      bytes.push(...piece)
    }
    expect(bytes).toEqual([...floatBytes(dtype, values)])
    expect(buffers.size).toBe(1)
  }
})
