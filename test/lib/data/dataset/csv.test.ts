import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { DataError } from '../../../../lib/core/errors.js'
import { type DatasetRow, type OpenDatasetOptions, openDataset } from '../../../../lib/data/dataset.js'
import { scratchFile } from '../../scratch.js'

const folder = 'test/parity/data'
const { pairs } = JSON.parse(readFileSync(`${folder}/rows.json`, 'utf8'))

async function read(path: string, options: OpenDatasetOptions = {}): Promise<DatasetRow[]> {
  const found: DatasetRow[] = []
  for await (const row of openDataset(path, options)) found.push(row)
  return found
}

const texts = (rows: DatasetRow[]) =>
  rows.map((row) => row.format === 'prompt_completion' && [row.prompt, row.completion])

describe('a table', () => {
  it.each(['pairs.csv', 'pairs.unix.csv', 'pairs.semicolon.csv', 'pairs.tsv'])(
    'has the rows that Python put into it (%s)',
    async (name) => {
      expect(texts(await read(`${folder}/${name}`))).toEqual(
        pairs.map((row: Record<string, string>) => [row.prompt, row.completion]),
      )
    },
  )

  it('names the line on which a record begins, though fields have several', async () => {
    const rows = await read(`${folder}/pairs.unix.csv`)
    // The third text has a line feed, in the prompt and in the completion.
    expect(rows.slice(0, 5).map(({ line }) => line)).toEqual([2, 3, 4, 7, 8])
  })

  it('has line feeds alone within fields, as text files have', async () => {
    const path = scratchFile('a.csv', 'prompt,completion\r\n"a\r\nb",c\r\nd,"e\r\n"\r\n')
    const rows = await read(path)
    expect(texts(rows)).toEqual([
      ['a\nb', 'c'],
      ['d', 'e\n'],
    ])
    expect(rows.map(({ line }) => line)).toEqual([2, 4])
  })

  it('may have other names for its columns', async () => {
    const path = scratchFile('a.csv', 'Question,Answer\n2+2?,4\n')
    const columns = { prompt: 'Question', completion: 'Answer' }
    expect(texts(await read(path, { columns }))).toEqual([['2+2?', '4']])
  })

  it('may have no names at all', async () => {
    const path = scratchFile('a.tsv', 'a "fine" film\t1\nbad\t0\n')
    const rows = await read(path, { header: false, columns: { prompt: '1', completion: '2' } })
    expect(texts(rows)).toEqual([
      ['a "fine" film', '1'],
      ['bad', '0'],
    ])
    expect(rows.map(({ line }) => line)).toEqual([1, 2])
  })

  it('may hold messages as JSON text', async () => {
    const messages = [{ role: 'user', content: 'a' }]
    const cell = JSON.stringify(messages).replaceAll('"', '""')
    expect(await read(scratchFile('a.csv', `messages\n"${cell}"\n`))).toMatchObject([
      { format: 'messages', messages },
    ])
  })

  it('may be empty, or have nothing but names', async () => {
    expect(await read(scratchFile('a.csv', ''))).toEqual([])
    expect(await read(scratchFile('a.csv', 'text\n'))).toEqual([])
  })
})

it.each([
  [
    'too few columns',
    'prompt,completion\na,b\nc\n',
    /line 3: expected 2 fields as in the first record, found 1/,
  ],
  ['too many columns', 'text\na,b\n', /line 2: expected 1 fields as in the first record, found 2/],
  ['a quote that does not end', 'text\na\n"b\nc\n', /line \d: not valid CSV: a quoted field .* does not end/],
  ['text behind a quote', 'text\n"a"b\n', /line 2: not valid CSV: something other than the delimiter/],
  ['a quote inside', 'text\nab"c\n', /line 2: not valid CSV: a quote stands inside a field/],
  ['two columns of one name', 'text,text\na,b\n', /line 1: the column "text" appears twice; .*header: false/],
  ['a column without a name', 'text,\na,b\n', /line 1: a column has no name/],
  [
    'bytes that are no UTF-8',
    Buffer.concat([Buffer.from('text\na\n'), Buffer.of(0xe9), Buffer.from('\nb')]),
    /line 3: the line is not UTF-8 text/,
  ],
] as const)('one error names file and line for %s', async (_, content, message) => {
  const path = scratchFile('a.csv', content as string)
  await expect(read(path)).rejects.toThrow(DataError)
  await expect(read(path)).rejects.toThrow(message)
  await expect(read(path)).rejects.toThrow(path)
})

describe('a table of too many columns', () => {
  const names = (count: number, length: number) =>
    Array.from({ length: count }, (_, i) => `c${i}`.padEnd(length, '_')).join()
  it.each([
    ['of names', `${names(1_000_000, 0)}\n`, {}],
    ['of long names', `${names(10_001, 300)}\n`, {}],
    ['without names', `${',1'.repeat(1_000_000)}\n`.repeat(2), { header: false }],
    ['without an end', ',1'.repeat(1_000_000), {}],
  ] as const)('is refused at once (%s)', async (_, content, options) => {
    const path = scratchFile('wide.csv', content)
    const start = performance.now()
    await expect(read(path, options)).rejects.toThrow(
      /line 1: there are at least \d+ columns, and the limit is 10000/,
    )
    expect(performance.now() - start).toBeLessThan(5000)
  })

  it('is refused when its first line does not end', async () => {
    const path = scratchFile('endless.csv', Buffer.alloc((64 << 20) + (1 << 20), 'a').toString())
    await expect(read(path)).rejects.toThrow(/line 1: the line is longer than/)
  })
})
