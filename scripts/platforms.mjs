// Runs the package under other programs and C libraries than this machine's Node.js: Bun, Deno, Node.js for musl, and Node.js for
// Windows under wine, each with the prebuilt addon of its target (scripts/prebuilds.mjs makes them). Prints a table, and
// fails where one fails, runs at a lower level of instructions than Node.js here, or computes losses of other bits.
//
//   platforms.mjs [--only NAME,NAME…] [--isa LEVEL,LEVEL…] [--json FILE] [--record]
//
// Without --isa: at the best level of this machine. What cannot be installed or built here is left out, with the reason.
// --record keeps what was seen in platforms/results.json.
// platforms/runtimes.mjs takes the programs from npm, PyPI, and Debian. wine is Debian's: apt-get install wine64 wine.
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { missingCompiler } from './compilers.mjs'
import { record } from './platforms/results.mjs'
import {
  bun,
  cache,
  deno,
  emulator,
  endWine,
  muslNode,
  run,
  windowsNode,
  wine,
} from './platforms/runtimes.mjs'
import { prebuiltFile } from './targets.mjs'

const program = join('scripts', 'platforms', 'program.mjs')

const RUNTIMES = {
  node: { target: 'linux-x64', command: () => [process.execPath] },
  bun: {
    target: 'linux-x64',
    command: () => [bun()],
  },
  deno: {
    target: 'linux-x64',
    command: () => [deno(), 'run', '-A'],
  },
  musl: { target: 'linux-x64-musl', command: () => [muslNode('24.19.0')] },
  wine: {
    target: 'win32-x64',
    command: () => ['wine', windowsNode()],
    env: wine,
    under: () => emulator('wine'),
    end: endWine,
  },
}

/** Results of program.mjs under a runtime, or `skipped`, the reason that this machine does not have it. */
function observe(name, isa) {
  const { command, env = () => ({}), under = () => undefined } = RUNTIMES[name]
  const output = join(cache, `${name}.json`)
  rmSync(output, { force: true })
  const installed = attempt(() => ({ words: command(), variables: env(), under: under() }))
  if (installed.skipped) return installed
  const [first, ...rest] = installed.words
  const log = join(cache, `${name}.log`)
  // A file: Node.js for Windows under wine cannot write to a pipe.
  const file = openSync(log, 'w')
  try {
    run(first, [...rest, program, output], {
      env: {
        ...process.env,
        LOWRANK_PREBUILD_ONLY: '1',
        ...(isa ? { LOWRANK_ISA: isa } : {}),
        ...installed.variables,
      },
      stdio: ['ignore', file, file],
      timeout: 600_000,
    })
  } catch ({ message }) {
    throw new Error(`${message}${readFileSync(log, 'utf8')}`)
  } finally {
    closeSync(file)
  }
  return { ...JSON.parse(readFileSync(output, 'utf8')), under: installed.under }
}

/** The result of an act that installs something, or the first line of its error as `skipped`. */
function attempt(act) {
  try {
    return act()
  } catch ({ message }) {
    return { skipped: message.split('\n').slice(0, 2).join(' ') }
  }
}

/** Faults of what was seen under a runtime; `expected` is of Node.js at the same level. */
function* faults(seen, expected, best) {
  if (seen.addon !== 'prebuild') yield `the addon is from ${seen.addon}; expected a prebuild`
  if (seen.kept === false) yield 'the addon is unloaded with the worker that loaded it'
  if (seen.isa !== best) yield `it runs at level ${seen.isa}; expected ${best}`
  for (const key of ['drawn', 'saved', 'terminated', 'abort', 'missing', 'typing'])
    if (seen[key] !== expected[key]) yield `${key}: ${seen[key]}; expected ${expected[key]}`
  for (const losses of [...seen.worker, seen.after])
    if (losses.join() !== seen.losses.slice(0, 2).join())
      yield `losses of another thread are ${losses}; expected ${seen.losses.slice(0, 2)}`
  for (const key of ['losses', 'paged'])
    if (seen[key].join() !== expected[key].join())
      yield `${key} are ${seen[key].join(', ')}; expected ${expected[key].join(', ')}`
  if (seen.text !== expected.text)
    yield `text is ${JSON.stringify(seen.text)}; expected ${JSON.stringify(expected.text)}`
}

const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    isa: { type: 'string' },
    json: { type: 'string' },
    record: { type: 'boolean' },
  },
})
const names = values.only?.split(',') ?? Object.keys(RUNTIMES).filter((name) => name !== 'node')
for (const name of names)
  if (!(name in RUNTIMES))
    throw new Error(`there is no runtime '${name}'; expected ${Object.keys(RUNTIMES).join(', ')}`)
mkdirSync(cache, { recursive: true })
const rows = []
for (const isa of values.isa?.split(',') ?? [undefined]) {
  const expected = observe('node', isa)
  rows.push({ name: 'node', ...expected })
  for (const name of names) compare(name, isa, expected)
}

/** Adds what a runtime does at a level to the rows. */
function compare(name, isa, expected) {
  const { target, end } = RUNTIMES[name]
  try {
    if (!existsSync(prebuiltFile(target))) {
      const skipped = missingCompiler(target)
      if (skipped) return rows.push({ name, skipped })
      throw new Error(`there is no addon: npm run build:prebuilds -- --target ${target}`)
    }
    const seen = observe(name, isa)
    if (seen.skipped) return rows.push({ name, ...seen })
    // lowrank uses AMX on Linux only.
    const best = seen.platform.startsWith('win32') && expected.isa === 'amx' ? 'avx512bf16' : expected.isa
    const other = best === expected.isa ? expected : observe('node', best)
    const problems = [...faults(seen, other, best)]
    rows.push({ name, ...seen, problems })
  } catch (error) {
    rows.push({ name, problems: [error.message] })
  } finally {
    end?.()
  }
}

for (const { name, skipped, problems = [] } of rows) {
  if (skipped) console.error(`${name}: left out: ${skipped}`)
  for (const problem of problems) console.error(`${name}: ${problem}`)
  if (problems.length > 0) process.exitCode = 1
}
console.log(`| runtime | platform | level | last loss | seconds | result |
| --- | --- | --- | --- | --- | --- |`)
for (const { name, runtime, platform, isa, losses, seconds, under, problems } of rows) {
  if (losses === undefined) continue
  const named = name === 'musl' ? `${runtime} for musl` : runtime
  const how = under ? ` under ${under}` : ''
  const result = problems?.length > 0 ? 'failed' : 'ok'
  console.log(`| ${[named + how, platform, isa, losses.at(-1), seconds, result].join(' | ')} |`)
  if (values.record && result === 'ok')
    record('runtimes', name, {
      command: `npm run test:platforms -- --only ${name}`,
      ...{ target: RUNTIMES[name].target, runtime: named, under, level: isa, loss: losses.at(-1), seconds },
    })
}
if (values.json) writeFileSync(values.json, `${JSON.stringify(rows, null, 2)}\n`)
