// Runs the TypeScript tests on Node.js for Windows under wine, with the prebuilt addon for it, and prints how many passed and
// why others were skipped. The native tests are those of target-tests.mjs.
//
//   windows-tests.mjs [--json FILE] [--minutes N] [--sweeps] [FILE OR FOLDER OF test/]...
//
// --json adds what was seen to a file, test file by test file, so that the tests may be run in parts.
// --sweeps runs the sweeps, whole, in place of the tests.
//
// First: npm run build:ts, and npm run build:prebuilds -- --target win32-x64. On Debian: apt-get install wine wine64
// g++-mingw-w64-x86-64-posix.
// vitest itself runs there; of its dependencies one is native, whose file for Windows is taken from npm.
import { spawn } from 'node:child_process'
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'
import stringify from 'json-stringify-pretty-compact'
import { fail } from './compilers.mjs'
import { cache, endWine, npm, run, WINDOWS_NODE, windowsNode, wine } from './platforms/runtimes.mjs'
import { TARGETS } from './targets.mjs'

const root = resolve(import.meta.dirname, '..')
const { values, positionals } = parseArgs({
  options: {
    json: { type: 'string' },
    minutes: { type: 'string', default: '120' },
    sweeps: { type: 'boolean' },
  },
  allowPositionals: true,
})

/** A path of this machine as wine's programs know it. */
const inWine = (path) => `Z:${resolve(path).replaceAll('/', '\\')}`

const addon = join(root, 'prebuilds', TARGETS['win32-x64'].file)
for (const [file, command] of [
  [addon, 'npm run build:prebuilds -- --target win32-x64'],
  [join(root, 'dist', 'esm', 'index.js'), 'npm run build:ts'],
])
  if (!existsSync(file)) fail(`${file} is missing: ${command}`)

/** Compiles a file of platforms/ for Windows. */
function compiled(name, out, ...flags) {
  run('x86_64-w64-mingw32-g++-posix', [
    '-Os',
    '-s',
    '-static',
    '-o',
    out,
    join('scripts', 'platforms', name),
    ...flags,
  ])
  return out
}

/** vitest's bundler for Windows, with a library beside it that wine lacks. */
function bundler() {
  const { version } = JSON.parse(readFileSync(join(root, 'node_modules', 'rolldown', 'package.json'), 'utf8'))
  const folder = npm('@rolldown/binding-win32-x64-msvc', version)
  compiled('bcryptprimitives.cpp', join(folder, 'bcryptprimitives.dll'), '-shared', '-ladvapi32')
  return join(folder, 'rolldown-binding.win32-x64-msvc.node')
}

mkdirSync(cache, { recursive: true })
const counts = join(cache, 'windows-tests.json')
const log = join(cache, 'windows-tests.log')
rmSync(counts, { force: true })
/** Native tests, and one that compares exported files with llama.cpp, which is not installed for Windows here. */
const EXCLUDED = ['test/native/**', 'test/e2e/gguf.test.ts']
const project = values.sweeps ? 'sweeps' : 'unit'
const args = [
  ...[windowsNode(), 'node_modules/vitest/vitest.mjs', 'run', `--project=${project}`],
  ...EXCLUDED.map((files) => `--exclude=${files}`),
  ...['--pool=forks', '--testTimeout=300000', '--hookTimeout=300000'],
  ...['--reporter=verbose', '--reporter=./scripts/platforms/counts.mjs', ...positionals],
]
const env = {
  ...process.env,
  ...wine(),
  CI: undefined,
  NO_COLOR: '1',
  NODE_OPTIONS: `--import=${pathToFileURL(inWine('scripts/platforms/wine.mjs'), { windows: true })}`,
  LOWRANK_TESTS_BUILT: '1',
  TEST_COUNTS: inWine(counts),
  LOWRANK_CTRL_C: inWine(compiled('ctrl-c.cpp', join(cache, 'ctrl-c.exe'))),
  LOWRANK_NATIVE_PATH: inWine(addon),
  NAPI_RS_NATIVE_LIBRARY_PATH: inWine(bundler()),
}

// A file: Node.js for Windows under wine cannot write to a pipe.
const out = openSync(log, 'w')
const begin = performance.now()
const child = spawn('wine', args, {
  cwd: root,
  env,
  stdio: ['ignore', out, out],
  timeout: Number(values.minutes) * 60_000,
})
const ended = await new Promise((done, failed) => {
  child.on('error', failed)
  child.on('close', (code, signal) => done(code ?? signal))
})
closeSync(out)
endWine()
const seconds = Math.round((performance.now() - begin) / 1000)

if (!existsSync(counts)) fail(`${readFileSync(log, 'utf8')}\nno test ran; wine ended with ${ended}`)
const seen = JSON.parse(readFileSync(counts, 'utf8'))
console.log(`${words(seen.files)} in ${seconds} s (${log})`)
for (const { file, name, message } of seen.failures) console.error(`${file}: ${name}: ${message}`)
if (values.json) record(values.json)
if (!seen.ended) fail(`the tests did not come to their end; wine ended with ${ended}`)
process.exitCode = seen.failures.length === 0 && ended === 0 ? 0 : 1

/** Sums of test files. */
function sums(files) {
  const all = { passed: 0, failed: 0, skipped: 0, reasons: {} }
  for (const { passed, failed, skipped } of Object.values(files)) {
    all.passed += passed
    all.failed += failed
    for (const [reason, count] of Object.entries(skipped)) {
      all.skipped += count
      all.reasons[reason] = (all.reasons[reason] ?? 0) + count
    }
  }
  return all
}

function words(files) {
  const { passed, failed, skipped, reasons } = sums(files)
  const why = Object.entries(reasons).map(([reason, count]) => `  ${count} skipped: ${reason}\n`)
  return `${why.join('')}${passed} passed, ${skipped} skipped, ${failed} failed`
}

/** Puts the test files that ran into a file with those that ran before. */
function record(path) {
  const before = existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')).files : {}
  const merged = Object.entries({ ...before, ...seen.files }).filter(
    ([file]) => existsSync(join(root, file)) && !EXCLUDED.includes(file),
  )
  const files = Object.fromEntries(merged.sort(([a], [b]) => (a < b ? -1 : 1)))
  const under = run('wine', ['--version']).split(' ')[0].replace('-', ' ')
  const result = {
    date: new Date().toISOString().slice(0, 10),
    command: 'npm run test:windows -- --json scripts/platforms/windows-tests.json',
    runtime: `Node ${WINDOWS_NODE}`,
    under,
    seconds: Math.round(Object.values(files).reduce((sum, file) => sum + file.seconds, 0)),
    ...sums(files),
    files,
  }
  // A line for each file.
  writeFileSync(path, `${stringify(result, { maxLength: 1000 })}\n`)
}
