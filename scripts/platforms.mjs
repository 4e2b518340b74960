// Runs the package under other programs and C libraries than this machine's Node.js: Bun, Deno, Node.js for musl, and Node.js for
// Windows under wine, each with the prebuilt addon of its target (scripts/prebuilds.mjs makes them). Prints a table, and
// fails where one fails, runs at a lower level of instructions than Node.js here, or, with the same compiler and C library,
// computes other losses.
//
//   platforms.mjs [--only NAME,NAME…] [--isa LEVEL] [--json FILE]
//
// platforms/runtimes.mjs takes the programs from npm, PyPI, and Debian. wine is Debian's: apt-get install wine64 wine.
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { cache, endWine, muslNode, npm, run, windowsNode, wine } from './platforms/runtimes.mjs'
import { TARGETS } from './targets.mjs'

const root = resolve(import.meta.dirname, '..')
const program = join('scripts', 'platforms', 'program.mjs')

const RUNTIMES = {
  node: { target: 'linux-x64', command: () => [process.execPath] },
  bun: {
    target: 'linux-x64',
    same: true,
    command: () => [join(npm('@oven/bun-linux-x64', '1.4.5'), 'bin', 'bun')],
  },
  deno: {
    target: 'linux-x64',
    same: true,
    command: () => [join(npm('@deno/linux-x64-glibc', '2.9.6'), 'deno'), 'run', '-A'],
  },
  musl: { target: 'linux-x64-musl', command: () => [muslNode('24.19.0')] },
  wine: {
    target: 'win32-x64',
    command: () => ['wine', windowsNode()],
    env: wine,
    end: endWine,
  },
}

/** What program.mjs saw under a runtime. */
function observe(name, isa) {
  const { command, env = () => ({}) } = RUNTIMES[name]
  const output = join(cache, `${name}.json`)
  rmSync(output, { force: true })
  const [first, ...rest] = command()
  const log = join(cache, `${name}.log`)
  // A file: Node.js for Windows under wine cannot write to a pipe.
  const file = openSync(log, 'w')
  try {
    run(first, [...rest, program, output], {
      env: { ...process.env, LOWRANK_PREBUILD_ONLY: '1', ...(isa ? { LOWRANK_ISA: isa } : {}), ...env() },
      stdio: ['ignore', file, file],
      timeout: 600_000,
    })
  } catch ({ message }) {
    throw new Error(`${message}${readFileSync(log, 'utf8')}`)
  } finally {
    closeSync(file)
  }
  return JSON.parse(readFileSync(output, 'utf8'))
}

/** Faults of what was seen under a runtime; `expected` is of Node.js at the same level. */
function* faults(name, seen, expected, best) {
  if (seen.addon !== 'prebuild') yield `the addon is from ${seen.addon}; expected a prebuild`
  if (seen.kept === false) yield 'the addon is unloaded with the worker that loaded it'
  if (seen.isa !== best) yield `it runs at level ${seen.isa}; expected ${best}`
  const last = (losses) => losses.at(-1)
  for (const key of ['saved', 'terminated', 'abort', 'missing', 'typing'])
    if (seen[key] !== expected[key]) yield `${key}: ${seen[key]}; expected ${expected[key]}`
  for (const losses of [...seen.worker, seen.after])
    if (losses.join() !== seen.losses.slice(0, 2).join())
      yield `losses of another thread are ${losses}; expected ${seen.losses.slice(0, 2)}`
  if (Math.abs(last(seen.losses) - last(expected.losses)) > 1e-3)
    yield `the last loss is ${last(seen.losses)}; expected ${last(expected.losses)}`
  if (RUNTIMES[name].same && !sameBits(seen, expected)) yield 'losses differ from those of Node.js'
}

function sameBits(seen, expected) {
  return seen.losses.join() === expected.losses.join() && seen.paged.join() === expected.paged.join()
}

const { values } = parseArgs({
  options: { only: { type: 'string' }, isa: { type: 'string' }, json: { type: 'string' } },
})
const names = values.only?.split(',') ?? Object.keys(RUNTIMES).filter((name) => name !== 'node')
mkdirSync(cache, { recursive: true })
const expected = observe('node', values.isa)
const rows = []
for (const name of names) {
  if (!(name in RUNTIMES))
    throw new Error(`there is no runtime '${name}'; expected ${Object.keys(RUNTIMES).join(', ')}`)
  const { target, end } = RUNTIMES[name]
  const file = join('prebuilds', TARGETS[target].file)
  try {
    if (!existsSync(join(root, file)))
      throw new Error(`${file} is missing: npm run build:prebuilds -- --target ${target}`)
    const seen = observe(name, values.isa)
    // AMX is Linux's to give.
    const best = seen.platform.startsWith('win32') && expected.isa === 'amx' ? 'avx512bf16' : expected.isa
    const other = best === expected.isa ? expected : observe('node', best)
    const found = [...faults(name, seen, other, best)]
    for (const fault of found) console.error(`${name}: ${fault}`)
    if (found.length > 0) process.exitCode = 1
    rows.push({ name, ...seen, bits: sameBits(seen, other), ok: found.length === 0 })
  } catch (error) {
    console.error(`${name}: ${error.message}`)
    process.exitCode = 1
  } finally {
    end?.()
  }
}
console.log(`| runtime | platform | level | last loss | same bits as Node.js ${process.versions.node} | seconds | result |
| --- | --- | --- | --- | --- | --- | --- |`)
for (const { name, runtime, platform, isa, losses, bits, seconds, ok } of [
  { name: 'node', ...expected, bits: true, ok: true },
  ...rows,
]) {
  const how = name === 'wine' ? ', under wine' : name === 'musl' ? ' for musl' : ''
  const cells = [
    runtime + how,
    platform,
    isa,
    losses.at(-1),
    bits ? 'yes' : 'no',
    seconds,
    ok ? 'ok' : 'failed',
  ]
  console.log(`| ${cells.join(' | ')} |`)
}
if (values.json) writeFileSync(values.json, `${JSON.stringify({ node: expected, rows }, null, 2)}\n`)
