import { gzipSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import { DataError, FileFormatError } from '../../../../lib/core/errors.js'
import { type DatasetRow, type OpenDatasetOptions, openDataset } from '../../../../lib/data/dataset.js'
import { scratchFile } from '../../scratch.js'
import { ENCODED } from './encoded-texts.js'

async function read(name: string, content: Buffer | string, options: OpenDatasetOptions = {}) {
  const rows: DatasetRow[] = []
  for await (const row of openDataset(scratchFile(name, content), options)) rows.push(row)
  return rows
}

const latin = (text: string) => Buffer.from(text, 'latin1')
/** `café 5 €` in windows-1252. */
const CAFE = 'caf\xe9 5 \x80'

describe('the encoding of a file', () => {
  it.each([
    ['a.jsonl', `{"text": "a"}\n{"text": "${CAFE}"}\n`, /line 2: the line is not UTF-8/],
    ['a.csv', `text\na\n${CAFE}\n`, /line 3: the line is not UTF-8/],
    ['a.json', `[{"text": "a"}, {"text": "${CAFE}"}]`, /row 2: the element \(line 1\) is not UTF-8/],
    ['a.txt', `a\n${CAFE}\n`, /line 1: the file is not UTF-8/],
  ])('is recognized and proposed (%s)', async (name, content, message) => {
    const reading = read(name, latin(content))
    await expect(reading).rejects.toThrow(DataError)
    await expect(reading).rejects.toThrow(message)
    await expect(reading).rejects.toThrow(
      /but windows-1252, as which it says ".*café 5 €.*": set encoding: windows-1252$/,
    )
    const rows = await read(name, latin(content), { encoding: 'windows-1252' })
    expect(JSON.stringify(rows)).toContain('café 5 €')
  })

  it.each(ENCODED)('%s is read as it is named: %s', async (encoding, _, text, hex) => {
    const bytes = Buffer.concat([Buffer.from('text,label\n"'), Buffer.from(hex, 'hex'), Buffer.from('",a\n')])
    expect(await read('a.csv', bytes, { encoding })).toMatchObject([{ text, line: 2 }])
    await expect(read('a.csv', bytes)).rejects.toThrow(`set encoding: ${encoding}`)
  })

  it('is UTF-16 where a byte order mark says so', async () => {
    const text = Buffer.from('\ufeff{"text":"Привет"}\n{"text":"b"}\n', 'utf16le')
    for (const bytes of [text, Buffer.from(text).swap16(), gzipSync(text)]) {
      const name = bytes[0] === 0x1f ? 'a.jsonl.gz' : 'a.jsonl'
      expect(await read(name, bytes)).toMatchObject([
        { text: 'Привет', line: 1 },
        { text: 'b', line: 2 },
      ])
    }
    // A name that contradicts the mark, as "utf-16" does on files of other machines, would garble all of it.
    for (const encoding of ['utf-16le', 'utf-16be'])
      expect(await read('a.jsonl', Buffer.from(text).swap16(), { encoding })).toHaveLength(2)
  })

  it('that is wrong is an error that names the line', async () => {
    const reading = read('a.csv', latin(`text\na\n${CAFE}\nb\n`), { encoding: 'shift_jis' })
    await expect(reading).rejects.toThrow(/line 3: the line is not shift_jis text; check the encoding/)
  })

  it('that is named is refused for UTF-8, which it would garble', async () => {
    const lines = `text\na\nGrüße 5 €\n`
    for (const encoding of ['windows-1252', 'shift_jis']) {
      const message = `line 3: the line is UTF-8 text, not ${encoding}; set encoding: utf-8`
      await expect(read('a.csv', lines, { encoding })).rejects.toThrow(message)
    }
    await expect(read('a.csv', `\ufeff${lines}`, { encoding: 'windows-1252' })).rejects.toThrow('UTF-8 text')
    expect(await read('a.csv', lines, { encoding: 'utf-8' })).toHaveLength(2)
    expect(await read('a.csv', latin('text\n\xc3\xa4h\n'), { encoding: 'windows-1252' })).toHaveLength(1)
  })

  it('that is named is refused for Parquet, whose text is always UTF-8', async () => {
    const reading = read('a.parquet', 'PAR1', { encoding: 'windows-1252' })
    await expect(reading).rejects.toThrow(FileFormatError)
    await expect(reading).rejects.toThrow(
      'is a Parquet file, whose text is always UTF-8, not windows-1252; set encoding: utf-8',
    )
  })

  it('is UTF-8 with a damaged line where all others are UTF-8', async () => {
    const bytes = Buffer.concat([Buffer.from('text\n'), Buffer.from('é\n'.repeat(50)), Buffer.of(0xe9, 10)])
    await expect(read('a.csv', bytes)).rejects.toThrow(
      /line 52: the line is not UTF-8 text, though the text around it is/,
    )
  })
})

it.each(['a.xlsx', 'a.xls', 'a.ods'])('says to save a spreadsheet as CSV (%s)', async (name) => {
  const reading = read(name, Buffer.from('PK\u0003\u0004 and more'))
  await expect(reading).rejects.toThrow(FileFormatError)
  await expect(reading).rejects.toThrow(/is a spreadsheet \(\.\w+\).*save the sheet as CSV/)
})

describe('labels that are stripped', () => {
  it('have no white space around them, and completions the spelling that comes first', async () => {
    const csv = 'text,label\na,sports\nb, Sports \nc,"new  york"\n'
    const classes = await read('a.csv', csv, { format: 'classification', stripLabels: true })
    expect(classes.map((row) => row.format === 'classification' && row.label)).toEqual([
      'sports',
      'Sports',
      'new york',
    ])
    const pairs = await read('a.csv', 'prompt,completion\na,sports\nb, Sports \nc,a long answer. \n', {
      stripLabels: true,
    })
    expect(pairs.map((row) => row.format === 'prompt_completion' && row.completion)).toEqual([
      'sports',
      'sports',
      'a long answer.',
    ])
  })

  it('stay as they are otherwise', async () => {
    const [row] = await read('a.csv', 'text,label\nb, Sports \n', { format: 'classification' })
    expect(row).toMatchObject({ label: ' Sports ' })
  })
})

describe('a misspelled key', () => {
  it('that a row lacks is named with its line', async () => {
    const lines = Array.from({ length: 60 }, () => '{"prompt":"a","completion":"b"}')
    lines[56] = '{"prompt":"a","completoin":"b"}'
    await expect(read('a.jsonl', lines.join('\n'))).rejects.toThrow(
      /line 57: .*only keys "prompt", "completoin"; did you mean "completion" instead of "completoin"\?/,
    )
    await expect(read('a.jsonl', lines[56])).rejects.toThrow(
      /did you mean "completion" instead of "completoin"\?/,
    )
  })

  it('of a message is named, too', async () => {
    const chat = (message: object) => JSON.stringify({ messages: [message] })
    await expect(read('a.jsonl', chat({ role: 'user', contnet: 'a' }))).rejects.toThrow(
      /messages\[0\] has no "content"; did you mean "content" instead of "contnet"\?/,
    )
    await expect(read('a.jsonl', chat({ role: 'user', content: 'a', weigth: 0 }))).rejects.toThrow(
      /messages\[0\] has "weigth", which is not used; did you mean "weight"\?/,
    )
    expect(await read('a.jsonl', chat({ role: 'user', content: 'a', height: 480 }))).toHaveLength(1)
  })

  it('that is not used is with the first row that has it', async () => {
    const rows = await read(
      'a.jsonl',
      '{"instruction":"a","output":"b"}\n{"instruction":"a","imput":"c","output":"b"}\n',
    )
    expect(rows[0]).not.toHaveProperty('misspelled')
    expect(rows[1]).toMatchObject({ misspelled: { key: 'imput', meant: 'input' } })
  })
})
