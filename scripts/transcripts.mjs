// Runs the commands that pages of docs/ show, each page's in one empty folder, and writes them with what they print into
// the page. The package must be built.
//
//   transcripts.mjs [--check] [--model FILE] [recipes] [quickstart]
//
//   --check   fails if the words of a page differ, whatever its numbers; writes nothing
//
//   --model   the GGUF file that the quick start uses, which is left out without it
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { withMarked } from './markdown.mjs'
import { spreadsheet, windows1252 } from './recipes/spreadsheet.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))

/** A command, which of its lines are kept (default all), and the marked place where it is shown. */
const PAGES = {
  recipes: {
    prepare: spreadsheetFiles,
    places: {
      spreadsheet: [
        { call: 'init messages.csv --model node_modules/lowrank/demo/base' },
        { call: 'cat config.yaml' },
        {
          call: 'train config.yaml',
          keep: /^(?:\d+ rows, |Classes: |before training: |step \d+: evaluation|\d+ steps, |Step |The adapter| {2}npx )/,
        },
        { call: "classify config.yaml --text 'The umbrella is broken.' --text 'Please pay my money back.'" },
        { call: 'classify config.yaml new.csv' },
      ],
    },
  },
  quickstart: {
    prepare: quickstartFiles,
    places: {
      'the data as the model sees it': [
        { call: 'inspect train.jsonl --model SmolLM2-135M-Instruct.Q4_1.gguf --rows 1' },
      ],
      'the plan': [{ call: 'plan config.yaml' }],
      training: [
        {
          call: 'train config.yaml',
          leave:
            /^(?:step |Time, corrected: |(?:weights|quantization_constants|adapters|gradients|optimizer|activations|loss|workspace) |-+$)/,
        },
      ],
      generation: [{ call: 'generate config.yaml --prompt "What is lowrank?" "Does it need Python?"' }],
      export: [{ call: 'export --adapter out --format gguf --output tuned.gguf' }],
    },
  },
}

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: { check: { type: 'boolean', default: false }, model: { type: 'string' } },
})
const all = Object.keys(PAGES).filter((name) => name !== 'quickstart' || options.model !== undefined)
for (const name of positionals.length > 0 ? positionals : all) transcribe(name, PAGES[name])

function transcribe(name, { prepare, places }) {
  const folder = mkdtempSync(join(tmpdir(), 'lowrank-transcript-'))
  const page = join(root, 'docs', `${name}.md`)
  try {
    mkdirSync(join(folder, 'node_modules'))
    symlinkSync(root, join(folder, 'node_modules', 'lowrank'), 'dir')
    const text = readFileSync(page, 'utf8')
    prepare(folder, text)
    const blocks = Object.entries(places).map(([place, commands]) => [
      place,
      commands.map((command) => `\`\`\`\n${shown(command, folder)}\`\`\``).join('\n\n'),
    ])
    const made = withMarked(text, page, Object.fromEntries(blocks))
    if (!options.check) writeFileSync(page, made)
    else if (wordsOf(made) !== wordsOf(text)) {
      console.error(blocks.map(([, block]) => block).join('\n'))
      throw new Error(
        `docs/${name}.md does not show what the commands print; run scripts/transcripts.mjs ${name}`,
      )
    }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

function spreadsheetFiles(folder) {
  const csv = readFileSync(join(root, 'examples/recipes/messages.csv'), 'utf8')
  writeFileSync(join(folder, 'messages.csv'), spreadsheet(csv))
  const rows =
    'customer;message\r\nBjörn;My lamp cost 30 € and doesn’t work.\r\nJürgen;When will “my” clock arrive?\r\n'
  writeFileSync(join(folder, 'new.csv'), windows1252(rows))
}

/** The files of the page itself, and the model. */
function quickstartFiles(folder, page) {
  const { model } = options
  if (model === undefined) throw new Error('pass --model, the GGUF file that docs/quickstart.md uses')
  symlinkSync(resolve(model), join(folder, 'SmolLM2-135M-Instruct.Q4_1.gguf'))
  const block = (language) => new RegExp(`\`\`\`${language}\\n([^]*?)\`\`\``).exec(page)[1]
  writeFileSync(join(folder, 'train.jsonl'), block('json'))
  writeFileSync(join(folder, 'config.yaml'), block('yaml'))
}

/** A command with what it prints; of lines that are left out, an ellipsis. */
function shown({ call, keep = /^/, leave = /(?!)/ }, folder) {
  if (call.startsWith('cat ')) return `$ ${call}\n${readFileSync(join(folder, call.slice(4)), 'utf8')}`
  const main = join(root, 'dist', 'esm', 'cli', 'main.js')
  const printed = execFileSync('sh', ['-c', `"$NODE" "$MAIN" ${call} 2>&1`], {
    cwd: folder,
    encoding: 'utf8',
    env: {
      ...process.env,
      NODE: process.execPath,
      MAIN: main,
      NO_COLOR: '1',
      LOWRANK_THREADS: '1',
      LOWRANK_MEASURE: 'on',
    },
  })
  const lines = printed
    .replaceAll(`${folder}/`, '')
    .trimEnd()
    .split('\n')
    // A slow machine says how long it waits.
    .filter((line) => !/, \d+ s$/.test(line))
    .map((line) => (keep.test(line) && !leave.test(line) ? line.trimEnd() : '…'))
  const once = lines.filter((line, i) => line !== '…' || lines[i - 1] !== '…')
  return `$ npx lowrank ${call}\n${once.join('\n')}\n`
}

/** The words of the page, without what depends on the machine: numbers with their units, line breaks, a model's answers. */
function wordsOf(text) {
  return text
    .replace(/^ {2}(?:base|tuned) .*\n(?: {12}.*\n)*/gm, '')
    .replace(/\(measured on this machine[^)]*\)/g, '')
    .replace(/precision (?:bf16|fp32)/g, 'precision')
    .replace(/\d+(?:[.,]\d+)*(?:e[-+]?\d+)?(?:\s(?:B|KiB|MiB|GiB|ms|s|min)\b)?/g, '#')
    .replace(/#(?: #)+/g, '#')
    .replace(/(?:…\n)+/g, '')
    .replace(/\s+/g, ' ')
}
