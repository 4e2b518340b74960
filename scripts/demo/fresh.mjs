/**
 * Asks a tuned demo model notes that are in no file: written from a seed of their own, about the people and places of the
 * test. Prints how many of them it answers exactly.
 *
 *   npx lowrank demo && node scripts/demo/fresh.mjs lowrank-demo [SEED]
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { loadModel, nf4 } from '../../dist/esm/index.js'
import { writeLines } from './lines.mjs'
import { item } from './text.mjs'
import { Random } from './world.mjs'

const NOTES = 300
const [adapter, seed = '987654'] = process.argv.slice(2)
const folder = mkdtempSync(join(tmpdir(), 'lowrank-fresh-'))
const model = await loadModel(resolve(import.meta.dirname, '../../demo/base'), { quantization: nf4() })
try {
  const notes = join(folder, 'notes.jsonl')
  const random = new Random(Number(seed))
  await writeLines(notes, NOTES, () => item(random, true))
  await model.loadAdapter(adapter)
  const { exactMatch } = await model.exactMatch(notes)
  console.log(`${(100 * exactMatch).toFixed(1)} % of ${NOTES} fresh notes are answered exactly right.`)
} finally {
  await model.dispose()
  rmSync(folder, { recursive: true })
}
