import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { DataError } from '../../../../lib/core/errors.js'
import { readJsonArray } from '../../../../lib/data/dataset/json-array.js'

async function* pieces(bytes: Buffer, sizes: readonly number[]): AsyncGenerator<Buffer, void, void> {
  let start = 0
  for (let i = 0; start < bytes.length; i++) {
    const end = start + (sizes[i % sizes.length] as number)
    yield bytes.subarray(start, end)
    start = end
  }
}

async function read(text: string | Buffer, sizes: readonly number[] = [1 << 16]) {
  const found = []
  for await (const row of readJsonArray(pieces(Buffer.from(text as string), sizes), 'a.json')) found.push(row)
  return found
}

describe('a JSON array', () => {
  it('gives what JSON.parse gives, however it is cut and laid out', async () => {
    const value = fc.array(fc.jsonValue({ maxDepth: 4 }), { maxLength: 8 })
    await fc.assert(
      fc.asyncProperty(
        value,
        fc.constantFrom(undefined, 1, '\t'),
        fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 5 }),
        async (list, indent, sizes) => {
          const text = `\ufeff ${JSON.stringify(list, null, indent)}\n`
          const rows = await read(text, sizes)
          expect(rows.map((row) => row.value)).toEqual(JSON.parse(JSON.stringify(list)))
          expect(rows.map(({ place }) => place.line)).toEqual(list.map((_, i) => i + 1))
        },
      ),
      { seed: 1, numRuns: 300 },
    )
  })

  it('is not held in memory as a whole', async () => {
    const row = Buffer.from(`${JSON.stringify({ text: 'x'.repeat(10_000) })},`)
    const count = 6000
    const bytes = async function* () {
      yield Buffer.from('[')
      for (let i = 0; i < count; i++) yield row
      yield Buffer.from('{}]')
    }
    const before = process.memoryUsage().rss
    let rows = 0
    for await (const _ of readJsonArray(bytes(), 'a.json')) rows++
    expect(rows).toBe(count + 1)
    // 60 MB went through.
    expect(process.memoryUsage().rss - before).toBeLessThan(40 << 20)
  })

  it.each([
    ['[{"a": 1}, {"b": }]', /a.json, row 2: the element \(line 1\) is not valid JSON/],
    ['[{"a": 1},\n{"b":\n2]}\n]', /row 2: the element \(lines 2 to 3\) is not valid JSON/],
    ['[{"a": 1}, {"b": 1}', /row 2: the JSON array ends too early, at line 1: its "\]" is missing/],
    ['[{"a": 1}, {"b', /row 2: the JSON array ends too early/],
    ['', /row 1: the JSON array ends too early/],
    ['[{"a": 1}, ]', /row 2: expected an object at line 1 of the JSON array, found "\]"/],
    ['[{"a": 1} {"b": 1}]', /row 1: expected "," or "\]" at line 1 of the JSON array, found "\{"/],
    ['[1] 2', /expected nothing after the "\]" at line 1 of the JSON array, found "2"/],
    ['[truth]', /row 1: the element .* is not valid JSON/],
    ['{"a": []}', /row 1: expected "\["/],
    [Buffer.from([0x5b, 0x22, 0xff, 0x22, 0x5d]), /row 1: the element \(line 1\) is not UTF-8 text/],
  ])('that is broken is one error that names the row (%j)', async (text, message) => {
    for (const sizes of [[1], [1 << 16]]) {
      await expect(read(text, sizes)).rejects.toThrow(DataError)
      await expect(read(text, sizes)).rejects.toThrow(message)
    }
  })
})
