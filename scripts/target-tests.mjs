// Builds the native tests for a target other than this machine and runs them: those for Windows under wine, those for arm64
// under qemu. On Debian: apt-get install g++-mingw-w64-x86-64-posix wine wine64 g++-aarch64-linux-gnu qemu-user.
//
//   target-tests.mjs TARGET [argument of the test executable]...
//
// TARGET is one of scripts/targets.mjs that runs on Linux for x64.
import { spawnSync } from 'node:child_process'
import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { compilerOf, fail } from './compilers.mjs'
import { cache, endWine, wine } from './platforms/runtimes.mjs'

const root = resolve(import.meta.dirname, '..')

/** qemu takes no advice about memory and sets no limit to it, which a few tests are about. */
const EMULATED = { LOWRANK_EMULATED: '1' }
const RUNNERS = {
  'linux-x64-musl': { command: [] },
  'linux-arm64': { command: ['qemu-aarch64', '-L', '/usr/aarch64-linux-gnu'], env: () => EMULATED },
  'linux-arm64-musl': { command: ['qemu-aarch64'], env: () => EMULATED },
  'win32-x64': { command: ['wine'], suffix: '.exe', env: wine, end: endWine },
}

/** The test executable of a target. */
function build(name) {
  const args = ['scripts/native.mjs', 'tests', ...compilerOf(name)]
  const built = spawnSync(process.execPath, args, {
    cwd: root,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  if (built.status !== 0) fail(`the tests for ${name} were not built; the reason is above`)
  return built.stdout.trim().split('\n').at(-1)
}

const [name, ...args] = process.argv.slice(2)
if (!(name in RUNNERS))
  fail(`there are no tests for '${name ?? ''}'; expected ${Object.keys(RUNNERS).join(', ')}`)
const { command, suffix = '', env = () => ({}), end } = RUNNERS[name]
const [program, ...rest] = [...command, build(name) + suffix, ...args]
mkdirSync(cache, { recursive: true })
const log = join(cache, `tests-${name}.log`)
// A file: wine mixes up what is written to a pipe.
const file = openSync(log, 'w')
const ran = spawnSync(program, rest, {
  cwd: root,
  stdio: ['ignore', file, file],
  env: { ...process.env, ...env() },
})
closeSync(file)
end?.()
process.stdout.write(readFileSync(log, 'utf8'))
if (ran.status !== 0) fail(`${name}: ${program} ended with ${ran.error?.message ?? ran.status ?? ran.signal}`)
