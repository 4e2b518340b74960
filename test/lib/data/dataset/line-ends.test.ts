/** Files whose lines end as on Windows hold the same as those of other systems. */
import { writeFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { type DatasetRow, type OpenDatasetOptions, openDataset } from '../../../../lib/data/dataset.js'
import { loadConfig } from '../../../../lib/train/config/config.js'
import { scratchFile } from '../../scratch.js'

async function read(name: string, text: string, options: OpenDatasetOptions): Promise<unknown[]> {
  const rows: unknown[] = []
  for await (const row of openDataset(scratchFile(name, text), options)) {
    const { path: _, ...rest } = row as DatasetRow & { path: string }
    rows.push(rest)
  }
  return rows
}

const chat = '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b\\nc"}]}'

test.each([
  ['rows.jsonl', `${chat}\n\n${chat}\n`, {}],
  ['rows.json', `[\n  ${chat},\n  ${chat}\n]\n`, {}],
  ['rows.csv', 'prompt,completion\n"a, b",c\nd,e\n', {}],
  ['rows.tsv', 'prompt\tcompletion\na b\tc\nd\te\n', {}],
  ['note.txt', 'The first line.\n\nThe last one.\n', {}],
  ['lines.txt', 'one\ntwo\n\nthree', { fileType: 'lines' }],
] as const)('%s', async (name, text, options) => {
  const expected = await read(name, text, options)
  expect(expected.length).toBeGreaterThan(0)
  expect(JSON.stringify(expected)).not.toContain('\\r')
  expect(await read(name, text.replaceAll('\n', '\r\n'), options)).toEqual(expected)
})

test('a config, also with a byte order mark', async () => {
  const text = 'model: m\nstrategy:\n  name: lora\n  r: 4\ndataset:\n  path: data.jsonl\n# The end.\n'
  const path = scratchFile('run.yaml', text)
  const expected = await loadConfig(path)
  writeFileSync(path, `\ufeff${text.replaceAll('\n', '\r\n')}`)
  expect(await loadConfig(path)).toEqual(expected)
})
