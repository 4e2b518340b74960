// Builds the native tests for a target other than this machine and runs them: those for Windows under wine, those for arm64
// under qemu. On Debian: apt-get install g++-mingw-w64-x86-64-posix wine wine64 g++-aarch64-linux-gnu qemu-user.
//
//   target-tests.mjs TARGET [--record] [argument of the test executable]...
//
// TARGET is one of scripts/targets.mjs that runs on Linux for x64. --record keeps what was seen in platforms/results.json.
import { spawnSync } from 'node:child_process'
import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { buildTests } from './build-tests.mjs'
import { fail } from './compilers.mjs'
import { record } from './platforms/results.mjs'
import { cache, emulator, endWine, wine } from './platforms/runtimes.mjs'

const root = resolve(import.meta.dirname, '..')

/** qemu takes no advice about memory and sets no limit to it, which a few tests are about. */
const EMULATED = { LOWRANK_EMULATED: '1' }
const RUNNERS = {
  'linux-x64': { command: [] },
  'linux-x64-musl': { command: [] },
  'linux-arm64': { command: ['qemu-aarch64', '-L', '/usr/aarch64-linux-gnu'], env: () => EMULATED },
  'linux-arm64-musl': { command: ['qemu-aarch64'], env: () => EMULATED },
  'win32-x64': { command: ['wine'], env: wine, end: endWine },
}

const [name, ...rest] = process.argv.slice(2)
const args = rest.filter((word) => word !== '--record')
if (!(name in RUNNERS))
  fail(`there are no tests for '${name ?? ''}'; expected ${Object.keys(RUNNERS).join(', ')}`)
const { command, env = () => ({}), end } = RUNNERS[name]
const [program, ...words] = [...command, buildTests(name), ...args]
mkdirSync(cache, { recursive: true })
const log = join(cache, `tests-${name}.log`)
// A file: wine mixes up what is written to a pipe.
const file = openSync(log, 'w')
const ran = spawnSync(program, words, {
  cwd: root,
  stdio: ['ignore', file, file],
  env: { ...process.env, ...env() },
})
closeSync(file)
end?.()
const text = readFileSync(log, 'utf8')
process.stdout.write(text)
if (ran.status !== 0) fail(`${name}: ${program} ended with ${ran.error?.message ?? ran.status ?? ran.signal}`)
// A program that was ended from outside may look as if it had passed.
const [, passed, skipped] =
  /^(\d+) passed, 0 failed, (\d+) skipped/m.exec(text)?.map(Number) ?? fail(`${name}: the tests did not end`)
if (rest.includes('--record')) {
  const [under] = command
  record('tests', name, {
    command: `npm run test:target -- ${name}`,
    ...(under && { under: emulator(under) }),
    passed,
    skipped,
  })
}
