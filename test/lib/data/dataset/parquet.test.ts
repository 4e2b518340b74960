import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { DataError, FileFormatError } from '../../../../lib/core/errors.js'
import { readParquet } from '../../../../lib/data/dataset/parquet.js'
import { type DatasetRow, type Detected, openDataset } from '../../../../lib/data/dataset.js'
import { scratchFile, scratchFolder } from '../../scratch.js'

const folder = 'test/parity/data'
const rows = JSON.parse(readFileSync(`${folder}/rows.json`, 'utf8'))

async function values(path: string): Promise<unknown[]> {
  const found: unknown[] = []
  for await (const { value } of readParquet(path, (columns) => columns)) found.push(value)
  return found
}

async function read(path: string): Promise<{ rows: DatasetRow[]; detected: Detected | undefined }> {
  const found: DatasetRow[] = []
  let detected: Detected | undefined
  for await (const row of openDataset(path, { onDetected: (about) => (detected = about) })) found.push(row)
  return { rows: found, detected }
}

/** A row whose columns may be null, but nothing inside of them. */
function withoutNulls(row: Record<string, unknown>): unknown {
  const inner = (_: string, value: unknown) =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).filter(([, of]) => of !== null))
      : value
  return Object.fromEntries(
    Object.entries(row).map(([key, value]) => [key, JSON.parse(JSON.stringify(value, inner))]),
  )
}

describe('a Parquet file', () => {
  it.each(['none', 'snappy', 'gzip', 'zstd', 'brotli', 'lz4'])(
    'with lists of messages has the rows that pyarrow put into it (%s)',
    async (codec) => {
      expect(await values(`${folder}/chats.${codec}.parquet`)).toEqual(rows.chats.map(withoutNulls))
    },
  )

  it.each(['plain', 'dictionary', 'v2', 'delta'])('of texts is read in every encoding (%s)', async (name) => {
    expect(await values(`${folder}/pairs.${name}.parquet`)).toEqual(rows.pairs)
  })

  it('of columns that hold no nulls is read', async () => {
    const pairs = rows.pairs.map(({ prompt, completion }: Record<string, string>) => ({ prompt, completion }))
    expect(await values(`${folder}/pairs.required.parquet`)).toEqual(pairs)
  })

  it('is a dataset of chats, whose empty fields do not matter', async () => {
    const path = `${folder}/chats.zstd.parquet`
    const { rows: found, detected } = await read(path)
    expect(detected).toEqual({
      fileType: 'parquet',
      format: 'messages',
      columns: ['id', 'messages', 'score', 'topic'],
    })
    expect(found).toHaveLength(24)
    expect(found[1]).toEqual({
      format: 'messages',
      messages: [
        { role: 'user', content: '1: ' },
        { role: 'assistant', content: 'nothing' },
      ],
      path,
      line: 2,
      unit: 'row',
    })
    expect(found[12]).toMatchObject({
      line: 13,
      messages: [{ role: 'system' }, { role: 'user' }, { role: 'assistant', weight: 0 }],
    })
  })

  it('may have calls of tools', async () => {
    const { rows: found } = await read(`${folder}/calls.parquet`)
    expect(found[0]).toMatchObject({
      messages: [
        { role: 'user', content: 'add' },
        { content: null, tool_calls: [{ type: 'function', function: { name: 'f', arguments: { a: 1 } } }] },
      ],
    })
  })

  it('has the tools and arguments of each row, without the keys that other rows have', async () => {
    const { rows: found } = await read(`${folder}/tools.parquet`)
    expect(
      found.map((row) => row.format === 'messages' && { messages: row.messages, tools: row.tools }),
    ).toEqual(rows.tools)
  })

  it('may be empty', async () => {
    expect((await read(`${folder}/empty.parquet`)).rows).toEqual([])
  })

  it('is known by its beginning where its name says nothing', async () => {
    const path = scratchFile('data', readFileSync(`${folder}/pairs.plain.parquet`))
    const { rows: found, detected } = await read(path)
    expect(found).toHaveLength(40)
    expect(detected?.fileType).toBe('parquet')
  })
})

describe('one error says what is wrong', () => {
  const whole = readFileSync(`${folder}/pairs.plain.parquet`)
  const damaged = (name: string, bytes: Uint8Array) => scratchFile(name, bytes)

  it.each([
    ['a short file', Buffer.from('PAR1'), /is not a valid Parquet file: it has only 4 bytes/],
    ['a cut file', whole.subarray(0, 2000), /does not begin and end with PAR1, so it is cut/],
    ['another file', Buffer.from('{"text": "a long enough line"}\n'), /does not begin and end with PAR1/],
    [
      'a footer larger than the file',
      Buffer.concat([whole.subarray(0, -8), Buffer.of(255, 255, 255, 127), Buffer.from('PAR1')]),
      /its footer has 2147483647 bytes/,
    ],
    [
      'a footer of zeros',
      Buffer.concat([Buffer.from('PAR1'), Buffer.alloc(64), Buffer.of(32, 0, 0, 0), Buffer.from('PAR1')]),
      /is not a valid Parquet file/,
    ],
  ])('with %s', async (_, bytes, message) => {
    const path = damaged('data.parquet', bytes)
    await expect(values(path)).rejects.toThrow(FileFormatError)
    await expect(values(path)).rejects.toThrow(message)
    await expect(values(path)).rejects.toThrow(path)
  })

  it('with text that is no UTF-8, naming the rows', async () => {
    const bytes = Buffer.from(whole)
    bytes.fill(0xff, bytes.indexOf('16: plain'), bytes.indexOf('16: plain') + 2)
    const path = damaged('data.parquet', bytes)
    await expect(values(path)).rejects.toThrow(DataError)
    await expect(values(path)).rejects.toThrow(/row 1: row group 1 \(rows 1 to 40\) cannot be read: /)
  })

  it('with columns that no form knows, naming them', async () => {
    await expect(read(`${folder}/pairs.plain.parquet`)).resolves.toBeDefined()
    const reading = openDataset(`${folder}/pairs.plain.parquet`, { columns: { text: 'body' } })
    await expect(reading.next()).rejects.toThrow(
      /row 1: there is no column "body" \(columns.text\), only keys "prompt", "completion", "label"/,
    )
  })

  it('with Parquet where bytes come one after the other', async () => {
    const path = join(scratchFolder(), 'x')
    writeFileSync(path, whole)
    const stdin = (async function* () {
      yield whole
    })()
    await expect(openDataset('-', { stdin }).next()).rejects.toThrow(/cannot come from standard input/)
  })
})
