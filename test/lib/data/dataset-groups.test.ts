/** Clients of rows, by a column of the data. */
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { DataError } from '../../../lib/core/errors.js'
import { type OpenDatasetOptions, openDataset, type RowsInput } from '../../../lib/data/dataset.js'
import { scratchFile } from '../scratch.js'

async function groups(input: string | RowsInput, groupBy: string, options: OpenDatasetOptions = {}) {
  const found: (string | undefined)[] = []
  for await (const { group } of openDataset(input, { ...options, groupBy })) found.push(group)
  return found
}

const rows = [
  { text: 'a', user: 'u1' },
  { text: 'b', user: 2 },
  { text: 'c', user: true },
  { text: 'd', user: 'u1' },
]
const lines = (all: unknown[]) => all.map((row) => JSON.stringify(row)).join('\n')
const parquet = (name: string) => fileURLToPath(new URL(`../../parity/data/${name}.parquet`, import.meta.url))

describe('the group of a row', () => {
  it.each([
    ['JSON lines', () => scratchFile('rows.jsonl', lines(rows))],
    ['a JSON array', () => scratchFile('rows.json', JSON.stringify(rows))],
    ['CSV', () => scratchFile('rows.csv', 'text,user\na,u1\nb,2\nc,true\nd,u1\n')],
    ['TSV', () => scratchFile('rows.tsv', 'text\tuser\na\tu1\nb\t2\nc\ttrue\nd\tu1\n')],
    ['a program', () => ({ rows, name: 'rows' })],
  ])('comes from the column of %s', async (_, input) => {
    expect(await groups(input(), 'user')).toEqual(['u1', '2', 'true', 'u1'])
  })

  it('comes from a column of Parquet that no form asks for', async () => {
    expect((await groups(parquet('pairs.plain'), 'label')).slice(0, 2)).toEqual(['0', '1'])
    expect((await groups(parquet('chats.zstd'), 'topic')).slice(0, 2)).toEqual(['t0', 't1'])
  })

  it('may come from a column that is also trained on', async () => {
    expect(await groups(scratchFile('rows.jsonl', lines(rows)), 'text')).toEqual(['a', 'b', 'c', 'd'])
  })

  it('is absent without a column', async () => {
    for await (const row of openDataset({ rows, name: 'rows' })) expect('group' in row).toBe(false)
  })

  it.each([
    ['missing', {}, 'user, which identifies the client of a row, is missing'],
    ['null', { user: null }, 'user, which identifies the client of a row, is null'],
    ['a list', { user: ['u1'] }, 'user, which identifies the client of a row, is '],
  ])('that is %s is refused with the line', async (_, more, message) => {
    const path = scratchFile('rows.jsonl', lines([rows[0], { text: 'b', ...more }]))
    const failed = groups(path, 'user')
    await expect(failed).rejects.toThrow(DataError)
    await expect(failed).rejects.toThrow(message)
    await expect(failed).rejects.toThrow(/rows\.jsonl.*2/)
  })

  it('that a table lacks is refused with the row', async () => {
    const path = scratchFile('rows.csv', 'text,user\na,u1\n')
    await expect(groups(path, 'owner')).rejects.toThrow(
      'owner, which identifies the client of a row, is missing',
    )
    await expect(groups(parquet('pairs.plain'), 'owner')).rejects.toThrow(
      'owner, which identifies the client of a row',
    )
    await expect(groups({ rows, name: 'my rows' }, 'owner')).rejects.toThrow(/my rows.*owner/)
  })
})
