/**
 * Rows of SST-2 as JSON lines of prompt and completion: `sst2-train.jsonl`, eight sentences of each client, and
 * `sst2-test.jsonl`, 200 sentences of the development set.
 *
 *   npm run build && node benchmarks/laboratory/sst2.mjs FOLDER OUT [--clients 400]
 *
 * FOLDER has the train.tsv and dev.tsv of SST-2.
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { laboratory } from './load.mjs'

const { sst2 } = await laboratory('tasks')

/** Writes the rows into a folder; returns the files. */
export async function writeSst2(folder, out, clients) {
  const { train, test } = await sst2(folder, { clients, rowsPerClient: 8, testRows: 200 }, 0)
  const files = {}
  for (const [part, rows] of Object.entries({ train, test })) {
    files[part] = join(out, `sst2-${part}.jsonl`)
    const lines = rows.map(({ prompt, completion }) => `${JSON.stringify({ prompt, completion })}\n`)
    writeFileSync(files[part], lines.join(''))
  }
  return files
}

if (process.argv[1] === import.meta.filename) {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { clients: { type: 'string', default: '400' } },
  })
  const [folder, out] = positionals
  if (out === undefined) throw new Error('node benchmarks/laboratory/sst2.mjs FOLDER OUT [--clients N]')
  for (const file of Object.values(await writeSst2(folder, out, Number(values.clients)))) console.log(file)
}
