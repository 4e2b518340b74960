// Runs the tests that measure model families against transformers and PEFT, and writes the table of their
// figures into docs/models.md.
//
//   families.mjs
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { table, withMarked } from './markdown.mjs'

const root = resolve(import.meta.dirname, '..')
const folder = mkdtempSync(join(tmpdir(), 'lowrank-families-'))
const file = join(folder, 'figures.jsonl')
const tests = ['forward', 'lora', 'gguf'].map((name) => `test/parity/${name}.test.ts`)
try {
  execFileSync('npx', ['vitest', 'run', '--project=unit', ...tests, '-t', 'gives the'], {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, LOWRANK_FAMILY_FIGURES: file },
  })
  const path = join(root, 'docs/models.md')
  const figures = readFileSync(file, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
  writeFileSync(
    path,
    withMarked(readFileSync(path, 'utf8'), 'docs/models.md', { 'figures of families': familyTable(figures) }),
  )
} finally {
  rmSync(folder, { recursive: true, force: true })
}

/** A row for each family and source, with the largest figures of its models. */
function familyTable(figures) {
  const largest = new Map()
  for (const { model, source, what, value } of figures) {
    const key = `${familyOf(model)} ${source}`
    const row = largest.get(key) ?? {}
    row[what] = Math.max(row[what] ?? 0, value)
    largest.set(key, row)
  }
  const rows = [...largest]
    .sort(([a], [b]) => a.localeCompare(b))
    .map(([key, row]) => {
      const [family, source] = key.split(' ')
      const shown = (what) => (row[what] === undefined ? '–' : row[what].toExponential(0))
      return [
        `\`${family}\``,
        source === 'gguf' ? 'GGUF' : 'folder',
        ...['logits', 'gradients', 'generation'].map(shown),
      ]
    })
  return table(['`model_type`', 'from', 'logits', 'gradients', 'generation'], rows)
}

function familyOf(model) {
  return JSON.parse(readFileSync(join(root, 'test/parity/models', model, 'config.json'), 'utf8')).model_type
}
