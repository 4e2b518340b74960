/** Copies of a row, from a file that is listed again, are trained on or held out together. */
import { readFileSync } from 'node:fs'
import { relative } from 'node:path'
import { expect, test } from 'vitest'
import { encodeDataset } from '../../../../lib/data/encode-dataset.js'
import type { EncodedDataset } from '../../../../lib/data/encoded-dataset.js'
import { drawRows, setAside, splitRows } from '../../../../lib/train/rows/held-out.js'
import { scratchFile } from '../../scratch.js'

const parity = JSON.parse(readFileSync('test/parity/tokenizer_small.json', 'utf8'))
const { tokenizer: tokenizerJson, config: tokenizerConfig } = parity.tokenizers.smollm

const encode = (...paths: string[]) =>
  encodeDataset(paths, { tokenizerJson, tokenizerConfig }, { maxSeqLength: 16 })

const document = (name: string, words: number) =>
  scratchFile(
    `${name}.txt`,
    Array.from({ length: words }, (_, i) => `${name} tells of ${i * i} ships.`).join(' '),
  )

const rows = (name: string, count: number) =>
  scratchFile(
    `${name}.jsonl`,
    Array.from({ length: count }, (_, i) => `${JSON.stringify({ text: `${name} number ${i}` })}\n`).join(''),
  )

const textsOf = (data: EncodedDataset, examples: Uint32Array) =>
  new Set(Array.from(examples, (row) => data.ids(row).join()))

function expectApart(data: EncodedDataset, some: Uint32Array, others: Uint32Array): void {
  const seen = textsOf(data, others)
  expect([...textsOf(data, some)].filter((text) => seen.has(text))).toEqual([])
  expect([...some, ...others].sort((a, b) => a - b)).toEqual([...Array(data.length).keys()])
}

test.each([
  ['rows', async () => encode(...twice(rows('ship', 12), rows('boat', 12)))],
  [
    'files of one row',
    async () => encode(...twice(...['a', 'b', 'c', 'd', 'e', 'f'].map((name) => rows(name, 1)))),
  ],
  ['rows by two spellings of a path', async () => encode(...spelledTwice(rows('ship', 12)))],
  ['documents', async () => encode(...twice(document('book', 40)))],
])('%s that are listed twice are held out with their copies', async (_, read) => {
  const data = await read()
  for (const seed of [1, 2, 3]) {
    const { train, heldOut } = splitRows(data, { fraction: 0.25, seed })
    expectApart(data, heldOut, train)
    expect(heldOut.length).toBeGreaterThanOrEqual(2)
    const all = Uint32Array.from(Array(data.length).keys())
    const { drawn, others } = drawRows(data, all, 4, seed)
    expectApart(data, drawn, others)
    expect(drawn.length).toBe(4)
  }
})

/** Each path, at once followed by its copy. */
const twice = (...paths: string[]) => paths.flatMap((path) => [path, path])

const spelledTwice = (path: string) => [path, relative('', path)]

test('copies of a single row cannot be set aside', async () => {
  const data = await encode(...twice(rows('one', 1)))
  expect(() => setAside(data, Uint32Array.of(0, 1), 1, 1)).toThrow(
    'all 2 examples are copies of one, so none can be set aside for validation; add rows.',
  )
})

test('pieces of a document that is listed once are held out singly', async () => {
  const data = await encode(document('tale', 40))
  const { heldOut } = splitRows(data, { fraction: 0.1, seed: 1 })
  expect(heldOut.length).toBe(Math.round(0.1 * data.length))
})
