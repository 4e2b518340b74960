/** Files of a few kilobytes that stand for gigabytes: each is refused before it takes them. */
import { gzipSync } from 'node:zlib'
import { expect, it } from 'vitest'
import { DataError } from '../../../../lib/core/errors.js'
import { openDataset } from '../../../../lib/data/dataset.js'
import { scratchFile } from '../../scratch.js'
import {
  type Column,
  DELTA_BYTE_ARRAY,
  deltas,
  GZIP,
  PLAIN,
  parquetBytes,
  plainText,
  RLE_DICTIONARY,
  run,
  ZSTD,
} from './parquet-bytes.js'

const MILLION = 1 << 20
const NOTHING = Buffer.alloc(0)

async function read(rows: number, columns: Column[]): Promise<number> {
  const bytes = parquetBytes(rows, columns)
  expect(bytes.length).toBeLessThan(128 << 10)
  let count = 0
  for await (const _ of openDataset(scratchFile('data.parquet', bytes))) count++
  return count
}

const packed = (bytes: Buffer) => ({ bytes: gzipSync(bytes), unpacked: bytes.length })
/** A column of texts that are all the only entry of a dictionary. */
const repeated = (text: Buffer, values: number): Column => ({
  path: ['text'],
  codec: GZIP,
  values,
  pages: [
    { ...packed(plainText(text)), values: 1, encoding: PLAIN, isDictionary: true },
    { ...packed(Buffer.concat([Buffer.of(1), run(values, 0)])), values, encoding: RLE_DICTIONARY },
  ],
})

it('reads a text that a dictionary has once and many rows have', async () => {
  expect(await read(5000, [repeated(Buffer.alloc(100, 'a'), 5000)])).toBe(5000)
})

it('refuses a text of a megabyte in a million rows', async () => {
  const text = Buffer.alloc(MILLION, 'a')
  const reading = read(MILLION, [repeated(text, MILLION)])
  await expect(reading).rejects.toThrow(DataError)
  await expect(reading).rejects.toThrow(/its rows have more than 268435456 characters.*smaller row groups/)
})

it('refuses a row that is larger than one of another format may be', async () => {
  const half = Buffer.alloc((33 << 20) + 1, 'a')
  const text = repeated(half, 1)
  const label = { ...repeated(half, 1), path: ['prompt'] }
  await expect(read(1, [text, label])).rejects.toThrow(/row 1: the row has more than 67108864 characters/)
})

it('refuses sixteen million rows of nothing', async () => {
  const rows = 1 << 24
  const column = {
    path: ['text'],
    values: rows,
    pages: [
      { bytes: plainText(NOTHING), values: 1, encoding: PLAIN, isDictionary: true },
      { bytes: Buffer.of(0), values: rows, encoding: RLE_DICTIONARY },
    ],
  }
  await expect(read(rows, [column])).rejects.toThrow(/it takes at least \d+ bytes of memory.*is 268435456/)
})

it('refuses lists of millions of elements', async () => {
  const values = 1 << 23
  const levels = Buffer.concat([run(1, 0), run(values - 1, 1)])
  const sized = (bytes: Buffer) => plainText(bytes)
  const page = Buffer.concat([sized(levels), sized(run(values, 3)), Buffer.of(0)])
  const column: Column = {
    path: ['text', 'list', 'element'],
    schema: [
      { name: 'text', repetition: 1, children: 1, list: true },
      { name: 'list', repetition: 2, children: 1 },
      { name: 'element', repetition: 1 },
    ],
    values,
    pages: [
      { bytes: plainText(NOTHING), values: 1, encoding: PLAIN, isDictionary: true },
      { bytes: page, values, encoding: RLE_DICTIONARY },
    ],
  }
  await expect(read(1, [column])).rejects.toThrow(/it takes at least \d+ bytes of memory/)
})

it('refuses a run that is longer than its page', async () => {
  const column = repeated(Buffer.from('a'), 10)
  column.pages[1] = {
    ...packed(Buffer.concat([Buffer.of(1), run(2 ** 30, 0)])),
    values: 10,
    encoding: RLE_DICTIONARY,
  }
  await expect(read(10, [column])).rejects.toThrow(/a run has more values than its page/)
})

it('refuses an entry that its dictionary does not have', async () => {
  const column = repeated(Buffer.from('a'), 10)
  column.pages[1] = {
    ...packed(Buffer.concat([Buffer.of(1), run(10, 7)])),
    values: 10,
    encoding: RLE_DICTIONARY,
  }
  await expect(read(10, [column])).rejects.toThrow(/the entry 7 of a dictionary of 1 entries is asked for/)
})

it('refuses pages that claim to unpack to more than the file may', async () => {
  const column = repeated(Buffer.from('a'), 1)
  column.pages[0] = {
    bytes: gzipSync('a'),
    unpacked: 1 << 30,
    values: 1,
    encoding: PLAIN,
    isDictionary: true,
  }
  await expect(read(1, [column])).rejects.toThrow(/it takes at least 1073\d+ bytes of memory/)
})

it('unpacks no more of a page than it claims', async () => {
  const column = repeated(Buffer.from('a'), 1)
  column.pages[0] = {
    bytes: gzipSync(Buffer.alloc(64 << 20)),
    unpacked: 5,
    values: 1,
    encoding: PLAIN,
    isDictionary: true,
  }
  await expect(read(1, [column])).rejects.toThrow(/row group 1 .* cannot be read/)
  // 4,000 blocks of 128 KiB that repeat a byte.
  const block = (last: number) => {
    const head = ((128 << 10) << 3) | (1 << 1) | last
    return Buffer.of(head & 255, (head >> 8) & 255, (head >> 16) & 255, 0)
  }
  const frame = Buffer.from('28b52ffd0038', 'hex')
  const bytes = Buffer.concat([frame, ...Array<Buffer>(3999).fill(block(0)), block(1)])
  column.pages[0] = { bytes, unpacked: 5, values: 1, encoding: PLAIN, isDictionary: true }
  const before = process.memoryUsage().rss
  await read(1, [{ ...column, codec: ZSTD }]).catch(() => undefined)
  expect(process.memoryUsage().rss - before).toBeLessThan(256 << 20)
})

it('refuses texts that begin with all of the text before them', async () => {
  const length = 30_000
  const textsOf = (values: number) => {
    const page = [deltas(values, 0, length), deltas(values, length, 0), Buffer.alloc(length, 'a')]
    return [
      { path: ['text'], values, pages: [{ bytes: Buffer.concat(page), values, encoding: DELTA_BYTE_ARRAY }] },
    ]
  }
  expect(await read(200, textsOf(200))).toBe(200)
  await expect(read(20_000, textsOf(20_000))).rejects.toThrow(/it takes at least \d+ bytes of memory/)
})
