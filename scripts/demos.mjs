// Installs what is published into an empty folder and runs `lowrank demo` there, as users do: under Node.js, Node.js for
// musl, Node.js for Windows under wine, Bun, and Deno. Prints how long each took, and fails where one fails or answers wrongly.
//
//   demos.mjs [--only NAME,NAME…] [--record]
//
// The packages are those of scripts/packages.mjs, in a registry on this machine that sends on for all others. --record keeps what was
// seen in platforms/results.json.
import { spawn } from 'node:child_process'
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import { serve } from './install-matrix/registry.mjs'
import { packageOf, published } from './packages.mjs'
import { record } from './platforms/results.mjs'
import {
  bun,
  deno,
  emulator,
  endWine,
  muslNode,
  npm,
  run,
  WINDOWS_NODE,
  windowsNode,
  wine,
} from './platforms/runtimes.mjs'

const npmCli = () => join(npm('npm', '11.19.1'), 'bin', 'npm-cli.js')
const main = join('node_modules', 'lowrank', 'dist', 'esm', 'cli', 'main.js')

/** For each runtime: its program, the words that install and that run the demo, and as `shown` what a user types. */
const RUNTIMES = {
  node: {
    target: 'linux-x64',
    name: () => `Node ${process.versions.node}`,
    words: () => [process.execPath],
    install: () => [npmCli(), 'install', 'lowrank'],
    demo: [main, 'demo'],
    shown: ['npm install lowrank', 'npx lowrank demo'],
  },
  musl: {
    target: 'linux-x64-musl',
    name: () => 'Node 24.19.0 for musl',
    words: () => [muslNode('24.19.0')],
    // npm asks /usr/bin/ldd, which is this machine's and not the program's.
    install: () => [npmCli(), 'install', '--libc=musl', 'lowrank'],
    demo: [main, 'demo'],
    shown: ['npm install --libc=musl lowrank', 'npx lowrank demo'],
  },
  wine: {
    target: 'win32-x64',
    name: () => `Node ${WINDOWS_NODE}`,
    words: () => ['wine', windowsNode()],
    // Under wine npm reaches no registry.
    installer: () => [process.execPath],
    install: () => [npmCli(), 'install', '--os=win32', '--cpu=x64', '--ignore-scripts', 'lowrank'],
    demo: [main, 'demo'],
    shown: ['npm install --os=win32 --cpu=x64 --ignore-scripts lowrank', 'npx lowrank demo'],
    env: wine,
    under: () => emulator('wine'),
    end: endWine,
  },
  bun: {
    target: 'linux-x64',
    name: () => 'Bun 1.4.5',
    words: () => [bun()],
    install: () => ['add', 'lowrank'],
    demo: ['run', '--bun', 'lowrank', 'demo'],
    shown: ['bun add lowrank', 'bun run --bun lowrank demo'],
  },
  deno: {
    target: 'linux-x64',
    name: () => 'Deno 2.9.6',
    words: () => [deno()],
    install: () => ['add', 'npm:lowrank'],
    demo: ['run', '-A', 'npm:lowrank', 'demo'],
    shown: ['deno add npm:lowrank', 'deno run -A npm:lowrank demo'],
  },
}

const work = mkdtempSync(join(tmpdir(), 'lowrank-demos-'))

/** Runs a command to its end with what it says in a file, since wine mixes up pipes; resolves to text and seconds. */
function timed(folder, [command, ...args], env) {
  const log = join(work, 'log')
  const file = openSync(log, 'w')
  const begin = performance.now()
  const child = spawn(command, args, { cwd: folder, env, stdio: ['ignore', file, file] })
  return new Promise((done, failed) => {
    child.on('error', failed)
    child.on('close', (code) => {
      closeSync(file)
      const text = readFileSync(log, 'utf8')
      const seconds = Math.round((performance.now() - begin) / 100) / 10
      if (code === 0) done({ text, seconds })
      else failed(new Error(`${[command, ...args].join(' ')} ended with ${code}:\n${text}`))
    })
  })
}

async function show(name, registry) {
  const {
    words,
    install,
    demo,
    env = () => ({}),
    shown,
    target,
    under = () => undefined,
    ...rest
  } = RUNTIMES[name]
  const folder = join(work, name)
  mkdirSync(folder)
  writeFileSync(join(folder, 'package.json'), '{ "name": "user", "private": true, "type": "module" }\n')
  writeFileSync(join(folder, '.npmrc'), `registry=${registry}\n`)
  const program = words()
  const installer = rest.installer?.() ?? program
  // An install's scripts get the program itself when they call node.
  const path = [...(program[0] === 'wine' ? [] : [dirname(program[0])]), process.env.PATH].join(delimiter)
  const inherited = Object.entries(process.env).filter(([key]) => !/^(npm_|LOWRANK_)/.test(key))
  const all = { ...Object.fromEntries(inherited), PATH: path, ...env() }
  try {
    const installed = await timed(folder, [...installer, ...install()], all)
    const seen = await timed(folder, [...program, ...demo], all)
    const [, right] = /^After: (\S+ %) of /m.exec(seen.text) ?? []
    if (right === undefined) throw new Error(`the demo did not end:\n${seen.text}`)
    return {
      ...{ target, runtime: rest.name(), under: under(), right },
      ...{ install: shown[0], installSeconds: installed.seconds, demo: shown[1], demoSeconds: seen.seconds },
    }
  } finally {
    rest.end?.()
  }
}

const { values } = parseArgs({ options: { only: { type: 'string' }, record: { type: 'boolean' } } })
const names = values.only?.split(',') ?? Object.keys(RUNTIMES)
for (const name of names)
  if (!(name in RUNTIMES))
    throw new Error(`there is no runtime '${name}'; expected ${Object.keys(RUNTIMES).join(', ')}`)
try {
  const begin = performance.now()
  const { path, manifest, addons } = published(join(work, 'published'))
  console.log(`packed in ${((performance.now() - begin) / 1000).toFixed(1)} s`)
  const upstream = run('npm', ['config', 'get', 'registry']).trim()
  const { url, close } = await serve({ lowrank: { path, manifest }, ...addons }, upstream)
  for (const name of names) {
    try {
      if (!(packageOf(RUNTIMES[name].target) in addons))
        throw new Error(`there is no addon for ${RUNTIMES[name].target}`)
      const seen = await show(name, url)
      console.log(
        `${name}: installed in ${seen.installSeconds} s, demo in ${seen.demoSeconds} s, ${seen.right} right`,
      )
      if (values.record) record('demos', name, seen)
    } catch (error) {
      console.error(`${name}: ${error.message}`)
      process.exitCode = 1
    }
  }
  close()
} finally {
  rmSync(work, { recursive: true, force: true })
}
