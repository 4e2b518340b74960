/**
 * Writes the data of the demo's task, demo/train.jsonl and demo/test.jsonl: notes of customers, each with the JSON
 * object that it is to become. The people and places of the test occur in none of the notes for training.
 *
 *   node scripts/demo/write_task.mjs
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { writeLines } from './lines.mjs'
import { item } from './text.mjs'
import { Random } from './world.mjs'

const SEED = 2
const TRAIN_ITEMS = 3000
const TEST_ITEMS = 150

/** @param folder that holds train.jsonl and test.jsonl */
export async function writeTask(folder) {
  mkdirSync(folder, { recursive: true })
  const random = new Random(SEED)
  await writeLines(join(folder, 'train.jsonl'), TRAIN_ITEMS, () => item(random, false))
  await writeLines(join(folder, 'test.jsonl'), TEST_ITEMS, () => item(random, true))
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  await writeTask(join(fileURLToPath(new URL('../..', import.meta.url)), 'demo'))
