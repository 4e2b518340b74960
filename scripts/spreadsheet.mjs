// Runs the commands of "From a spreadsheet" in docs/recipes.md in an empty folder, and writes them with what they print
// into the page. The package must be built.
//
//   spreadsheet.mjs [--check]     --check: fails if the words of the page differ, whatever its numbers; writes nothing
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { spreadsheet, windows1252 } from './recipes/spreadsheet.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))
const page = join(root, 'docs', 'recipes.md')
const MARKED = /(<!-- spreadsheet -->\n)[\s\S]*?(<!-- end of spreadsheet -->)/
const NEW =
  'customer;message\r\nBjörn;My lamp cost 30 € and doesn’t work.\r\nJürgen;When will “my” clock arrive?\r\n'

const COMMANDS = [
  { call: 'init messages.csv --model node_modules/lowrank/demo/base' },
  { call: 'cat config.yaml' },
  {
    call: 'train config.yaml',
    keep: /^(?:\d+ rows, |Classes: |before training: |step \d+: evaluation|\d+ steps, |Step |The adapter| {2}npx )/,
  },
  { call: "classify config.yaml --text 'The umbrella is broken.' --text 'Please pay my money back.'" },
  { call: 'classify config.yaml new.csv' },
]

const folder = mkdtempSync(join(tmpdir(), 'lowrank-spreadsheet-'))
try {
  mkdirSync(join(folder, 'node_modules'))
  symlinkSync(root, join(folder, 'node_modules', 'lowrank'), 'dir')
  writeFileSync(
    join(folder, 'messages.csv'),
    spreadsheet(readFileSync(join(root, 'examples/recipes/messages.csv'), 'utf8')),
  )
  writeFileSync(join(folder, 'new.csv'), windows1252(NEW))
  const blocks = COMMANDS.map(({ call, keep }) => `\`\`\`\n${shown(call, keep)}\`\`\`\n`)
  const text = readFileSync(page, 'utf8')
  const made = text.replace(MARKED, (_, begin, end) => `${begin}\n${blocks.join('\n')}\n${end}`)
  if (process.argv.includes('--check')) {
    if (wordsOf(made) !== wordsOf(text)) {
      console.error(blocks.join('\n'))
      throw new Error('docs/recipes.md does not show what the commands print; run scripts/spreadsheet.mjs')
    }
  } else writeFileSync(page, made)
} finally {
  rmSync(folder, { recursive: true, force: true })
}

/** A command with what it prints; lines that are not kept are left out. */
function shown(call, keep = /^/) {
  if (call.startsWith('cat ')) return `$ ${call}\n${readFileSync(join(folder, call.slice(4)), 'utf8')}`
  const main = join(root, 'dist', 'esm', 'cli', 'main.js')
  const printed = execFileSync('sh', ['-c', `"$NODE" "$MAIN" ${call} 2>&1`], {
    cwd: folder,
    encoding: 'utf8',
    env: { ...process.env, NODE: process.execPath, MAIN: main, NO_COLOR: '1', LOWRANK_THREADS: '1' },
  })
  const lines = printed
    .replaceAll(`${folder}/`, '')
    .trimEnd()
    .split('\n')
    // A slow machine says how long it waits.
    .filter((line) => !/, \d+ s$/.test(line))
    .map((line) => (keep.test(line) ? line : '…'))
  const once = lines.filter((line, i) => line !== '…' || lines[i - 1] !== '…')
  return `$ npx lowrank ${call}\n${once.join('\n')}\n`
}

/** The words of the page, and no numbers: these depend on the machine. */
function wordsOf(text) {
  return text
    .replace(/\d+(?:[.,]\d+)*/g, '#')
    .replace(/[ \t]+/g, ' ')
    .replace(/(?:…\n)+/g, '')
}
