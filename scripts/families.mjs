// Runs the tests that measure model families against transformers and PEFT, loads merged folders of each with
// transformers, and writes the table of their figures into docs/models.md.
//
//   families.mjs --python PATH
//
// PATH is a Python with the packages of test/parity/requirements.txt.
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { table, withMarked } from './markdown.mjs'

const { python } = parseArgs({ options: { python: { type: 'string' } } }).values
if (python === undefined) throw new Error('pass --python, the path of a Python with transformers')
const root = resolve(import.meta.dirname, '..')
const folder = mkdtempSync(join(tmpdir(), 'lowrank-families-'))
const file = join(folder, 'figures.jsonl')
const merged = join(folder, 'merged')
const tests = ['forward', 'lora', 'gguf'].map((name) => `test/parity/${name}.test.ts`)
try {
  vitest([...tests, '-t', 'gives the'], { LOWRANK_FAMILY_FIGURES: file })
  vitest(['test/parity/merged.test.ts'], { LOWRANK_MERGED_FOLDERS: merged })
  const path = join(root, 'docs/models.md')
  const figures = [...lines(readFileSync(file, 'utf8')), ...mergedFigures()]
  writeFileSync(
    path,
    withMarked(readFileSync(path, 'utf8'), 'docs/models.md', { 'figures of families': familyTable(figures) }),
  )
} finally {
  rmSync(folder, { recursive: true, force: true })
}

function vitest(args, env) {
  execFileSync('npx', ['vitest', 'run', '--project=unit', ...args], {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, ...env },
  })
}

function lines(text) {
  return text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
}

/** What transformers makes of the merged folders. */
function mergedFigures() {
  const script = join(root, 'test/parity/check_merged.py')
  const { status, stdout, stderr } = spawnSync(python, [script, merged], { encoding: 'utf8' })
  if (status !== 0)
    throw new Error(`transformers does not read all merged folders alike:\n${stdout}${stderr}`)
  return lines(stdout).map(({ model, source, relative_error: value }) => ({
    model,
    source,
    what: 'merged',
    value,
  }))
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
        ...['logits', 'gradients', 'generation', 'merged'].map(shown),
      ]
    })
  return table(['`model_type`', 'from', 'logits', 'gradients', 'generation', 'merged'], rows)
}

function familyOf(model) {
  return JSON.parse(readFileSync(join(root, 'test/parity/models', model, 'config.json'), 'utf8')).model_type
}
