// Writes the figures and the transcript of README.md from recorded results, so that none of them is typed by hand:
//
//   readme.mjs            from docs/results, benchmarks/results, and the table of installs in docs/install.md
//   readme.mjs --record   runs the demo first, about a minute on a quiet machine, and keeps its screen in docs/results/demo.json
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { withMarked } from './markdown.mjs'

const root = resolve(import.meta.dirname, '..')
const text = (path) => readFileSync(join(root, path), 'utf8')
const json = (path) => JSON.parse(text(path))
const DEMO = 'docs/results/demo.json'
const MIB = 2 ** 20

/** README.md with its figures as they were recorded. */
export function withFigures(page) {
  return withMarked(page, 'README.md', {
    'what it is': bullets(),
    'picture of memory': picture(),
    'the demo': demo(),
    speed: speed(),
  })
}

const percent = (ratio) => Math.round(100 * ratio)
const extremes = (values) => [Math.min(...values), Math.max(...values)]
const mib = (bytes) => `${Math.round(bytes / MIB)} MiB`
const times = (ratio) => ratio.toFixed(1)

/** The first row of the table of installs is npm with the addon's own package. */
function installed() {
  const page = text('docs/install.md')
  const [, tarball] = /tarball ([\d.]+ MiB)/.exec(page) ?? []
  const row = page
    .split('\n')
    .find((line) => /\| `npm install` \| its own package \| no \| prebuild \|.*\| ok \|/.test(line))
  const [, total] = /([\d.]+ MiB) \| ok \|/.exec(row ?? '') ?? []
  if (tarball === undefined || total === undefined)
    throw new Error('docs/install.md has no row of an install with npm')
  return { tarball, total }
}

/** Rows of the comparison with PEFT at its fastest. */
const fastest = () => json('benchmarks/results/peers-avx512bf16.json')

function bullets() {
  const { tarball, total } = installed()
  const [slowest, quickest] = extremes(fastest().map((row) => row.cpu_speed_ratio))
  const [least, most] = extremes(fastest().map((row) => row.memory_ratio))
  const { bars } = json('docs/results/memory.json')
  const planned = (model) =>
    bars.find((bar) => bar.model.startsWith(model) && bar.method === 'qlora').planned_bytes
  const small = mib(planned('SmolLM2-135M'))
  const large = `${(planned('Llama-2-7B') / 2 ** 30).toFixed(1)} GiB`
  return `- **Small.** One npm package of ${tarball} and the addon for your platform, ${total} with its dependencies ([measured](docs/install.md#every-way)).
- **Fast.** ${times(slowest)} to ${times(quickest)} times the throughput of the fastest PEFT + bitsandbytes configuration on one CPU core, with ${percent(least)} to ${percent(most)} % of its memory ([measured](#performance)).
- **Planned.** QLoRA on a 135M model needs ${small}, and on a 7B model ${large}. Training allocates exactly the planned memory.`
}

function picture() {
  const { command, machine, date } = json('docs/results/memory.json').made
  return `![Memory of full fine-tuning, LoRA, and QLoRA by category, for models from 135M to 70B parameters](docs/images/memory.svg)

<sup>\`${command}\`; the first model is measured on two cores of an ${machine.replaceAll(/\(R\)| Processor$/g, '')} (${date}), the others are planned.</sup>`
}

function demo() {
  const { machine, date, screen } = json(DEMO)
  return `\`\`\`
${screen.join('\n')}
\`\`\`

<sup>\`npx lowrank demo\` on ${machine}, ${date}; long parts are left out.</sup>`
}

const NAMES = {
  'nf4/bf16': 'bf16',
  'nf4/bf16/checkpointing': 'bf16, gradient checkpointing',
  'nf4/fp32': 'fp32',
}

function speed() {
  const rows = fastest().map((row) => [
    NAMES[row.name],
    Math.round(row.tokens_per_cpu_second),
    Math.round(row.peer_tokens_per_cpu_second),
    `${times(row.cpu_speed_ratio)}x`,
    mib(row.measured_bytes),
    mib(row.peer_smallest_bytes),
    `${row.memory_ratio.toFixed(2)}x`,
  ])
  const asInstalled = fastest().map(
    ({ tokens_per_cpu_second, peers }) =>
      tokens_per_cpu_second / peers.find(({ name }) => name === 'nf4').tokens_per_cpu_second,
  )
  const amx = json('benchmarks/results/peers.json')
    .filter(({ threads, shape, name }) => threads === 2 && shape === '4x512' && name in NAMES)
    .map((row) => row.speed_ratio)
  const [least, most] = extremes(json('benchmarks/results/peers-avx2.json').map((row) => row.cpu_speed_ratio))
  const list = (ratios) => `${ratios.slice(0, -1).map(times).join(', ')}, and ${times(ratios.at(-1))}`
  return `| | tokens/s | PEFT, fastest | ratio | peak memory | PEFT, smallest | ratio |
| --- | --: | --: | --: | --: | --: | --: |
${rows.map((cells) => `| ${cells.join(' | ')} |`).join('\n')}

Against PEFT as installed, the ratios on this machine were ${list(asInstalled)}, and on an Intel Xeon with AMX ${list(amx)}. On a processor with AVX2 only, where both compute in fp32, a step is ${least.toFixed(2)} to ${most.toFixed(2)} times faster.`
}

/** Parts of the demo's screen: what it says it does, the plan, one answer before and after, and what was allocated. */
function excerpt(screen) {
  const lines = screen.split('\n').map((line) => line.trimEnd())
  const at = (start, from = 0) => {
    const index = lines.findIndex((line, i) => i >= from && line.startsWith(start))
    if (index < 0) throw new Error(`the demo does not say "${start}"`)
    return index
  }
  const [before, after] = [at('Before:'), at('After:')]
  const end = at('together')
  return [
    lines[at('Teaching')],
    '…',
    lines[at('Planned memory')],
    lines[at('weights')],
    '…',
    lines[at('peak')],
    '',
    ...lines.slice(before, before + 3),
    '…',
    ...lines.slice(after, after + 3),
    '…',
    lines.slice(0, end).findLast((line) => /planned +allocated/.test(line)),
    lines[end],
  ]
}

function recordDemo() {
  const folder = mkdtempSync(join(tmpdir(), 'lowrank-readme-'))
  try {
    const run = spawnSync(
      process.execPath,
      [join(root, 'dist/esm/cli/main.js'), 'demo', '--output', folder, '--force'],
      {
        cwd: folder,
        encoding: 'utf8',
        env: { ...process.env, NO_COLOR: '1', COLUMNS: '100' },
      },
    )
    if (run.status !== 0) throw new Error(run.stderr)
    const machine = `${cpus().length} cores of an ${cpus()[0].model.trim()}`
    const date = new Date().toISOString().slice(0, 10)
    const screen = excerpt(run.stderr + run.stdout)
    writeFileSync(
      join(root, DEMO),
      `${JSON.stringify({ command: 'lowrank demo', machine, date, screen }, null, 2)}\n`,
    )
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

if (process.argv[1] === import.meta.filename) {
  if (process.argv.includes('--record')) recordDemo()
  writeFileSync(join(root, 'README.md'), withFigures(text('README.md')))
}
