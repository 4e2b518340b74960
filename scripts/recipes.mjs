// Writes the data of the recipes that is made up by rule, into examples/recipes. All of it is invented; chat.jsonl and
// messages.csv are written by hand.
//
//   recipes.mjs [--check]     --check: fails if a file differs, and writes none
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { handbook } from './recipes/handbook.mjs'
import { notes, wordy } from './recipes/notes.mjs'
import { mixed, preferences } from './recipes/preferences.mjs'
import { sums } from './recipes/sums.mjs'
import { TOOLS, toolChats } from './recipes/tool-chats.mjs'

const folder = fileURLToPath(new URL('../examples/recipes/', import.meta.url))
const read = (name) => readFileSync(join(folder, name), 'utf8')
/** JSON as the formatter has it, with lists of words in one line. */
const indented = (value) =>
  JSON.stringify(value, null, 2).replace(
    /\[\n([^[\]{}]*)\n *\]/g,
    (_, words) => `[${words.trim().replace(/\s+/g, ' ')}]`,
  )
const lines = (rows) => `${rows.map((row) => JSON.stringify(row)).join('\n')}\n`

const pairs = preferences(read('chat.jsonl'))

const files = {
  'extraction.jsonl': lines(notes(160, false)),
  'extraction-test.jsonl': lines(notes(24, true)),
  'rewards-before.jsonl': lines(wordy(notes(320, false))),
  'reasoning.jsonl': lines(sums(60)),
  'tools.jsonl': lines(toolChats(48)),
  'tools.json': `${indented(TOOLS)}\n`,
  'preference.jsonl': lines(pairs),
  'preference-before.jsonl': lines(mixed(pairs)),
  'handbook.jsonl': lines(handbook(['terse', 'told'])),
  'handbook-test.jsonl': lines(handbook(['asked'])),
}

const check = process.argv.includes('--check')
for (const [name, text] of Object.entries(files)) {
  if (!check) writeFileSync(join(folder, name), text)
  else if (read(name) !== text)
    throw new Error(`examples/recipes/${name} is not what scripts/recipes.mjs writes; run it`)
}
