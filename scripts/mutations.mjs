/**
 * Plants faults in a copy of the sources, one at a time, and runs the tests that should catch each. Prints the test that
 * did, and fails where a fault survives.
 *
 *   npm run test:mutations -- [--only privacy,17] [--list] [--json]
 *   node scripts/mutations.mjs --table
 *
 * `--only` takes areas and numbers of faults, as `--list` prints them. `--table` writes test/mutations/README.md.
 */
import { spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { areas } from '../test/mutations/faults.mjs'
import { table } from './markdown.mjs'

const root = resolve(import.meta.dirname, '..')
const { values: flags } = parseArgs({
  options: {
    only: { type: 'string' },
    list: { type: 'boolean' },
    table: { type: 'boolean' },
    json: { type: 'boolean' },
  },
})
const TABLE_PAGE = `# Planted faults

\`npm run test:mutations\` plants each of these in a copy of the sources and runs the tests beside it, one of which must fail. Made by \`node scripts/mutations.mjs --table\`.

`
/** Generous, since machines are busy at times. */
const LIMIT_MS = 600_000
/** Files of native tests, with what scripts/native.mjs builds for them and the variable that names it. */
const NATIVE_TESTS = {
  'test/native/native.test.ts': ['tests', 'LOWRANK_NATIVE_TESTS'],
  'test/native/emulated.test.ts': ['cuda-tests', 'LOWRANK_CUDA_TESTS'],
}
const CONFIG = 'vitest.mutations.config.mjs'
/** As in `npm test`, but without its setup, which would build everything before every fault. */
const config = `import base from './vitest.config.ts'
const { projects, ...test } = base.test
const experimental = { fsModuleCache: true, fsModuleCachePath: '.vitest-cache' }
export default { test: { ...test, experimental, include: ['test/**/*.test.ts'], globalSetup: ['test/parity/drawn.ts'] } }
`

const faults = Object.entries(areas)
  .flatMap(([area, list]) => list.map((fault) => ({ area, ...fault })))
  .map((fault, index) => ({ number: index + 1, ...fault }))
for (const fault of faults) check(fault)
const only = flags.only?.split(',')
const isNamed = (name) => (fault) => name === fault.area || Number(name) === fault.number
const unknown = only?.find((name) => !faults.some(isNamed(name)))
if (unknown !== undefined)
  stop(
    `--only: ${unknown} is neither an area (${Object.keys(areas).join(', ')}) nor a number from 1 to ${faults.length}`,
  )
const chosen = faults.filter((fault) => only?.some((name) => isNamed(name)(fault)) ?? true)

if (flags.table) {
  const rows = faults.map(({ number, area, what, file, tests, title }) => [
    number,
    area,
    what,
    `\`${file}\``,
    `\`${tests.join(' ')}\`${title === undefined ? '' : `: ${title}`}`,
  ])
  const head = ['', 'area', 'planted fault', 'in', 'caught by']
  writeFileSync(join(root, 'test/mutations/README.md'), `${TABLE_PAGE}${table(head, rows)}\n`)
} else if (flags.list) {
  for (const fault of chosen) console.log(`${fault.area.padEnd(10)}  ${label(fault)}  ${fault.file}`)
} else {
  const copy = mkdtempSync(join(tmpdir(), 'lowrank-mutations-'))
  process.once('SIGINT', () => process.exit(130))
  process.once('exit', () => rmSync(copy, { recursive: true, force: true }))
  process.exitCode = plant(copy) ? 0 : 1
}

function plant(copy) {
  makeCopy(copy)
  const titles = chosen.map(({ title }) => title)
  const clean = run(copy, {
    tests: [...new Set(chosen.flatMap(({ tests }) => tests))],
    ...(titles.includes(undefined) ? {} : { title: [...new Set(titles)].join('|') }),
  })
  if (clean.failed.length > 0 || clean.error)
    stop(`the tests fail without any fault: ${clean.failed[0] ?? clean.error}`)
  const results = chosen.map((fault) => {
    const path = join(copy, fault.file)
    const source = readFileSync(path, 'utf8')
    const started = performance.now()
    writeFileSync(
      path,
      source.replace(fault.find, () => fault.replace),
    )
    if (fault.inPrograms) buildPrograms(copy)
    const { failed, error } = run(copy, fault)
    writeFileSync(path, source)
    if (fault.inPrograms) buildPrograms(copy)
    const seconds = (performance.now() - started) / 1000
    const caught = failed.length >= (fault.least ?? 1)
    const by = caught ? failed[0] : `SURVIVES${failed.length > 0 ? ` ${failed.length} failures` : ''}${error}`
    if (!flags.json) console.log(`${label(fault)}  ${seconds.toFixed(1).padStart(5)} s  ${by}`)
    return { number: fault.number, what: fault.what, file: fault.file, caught, by, seconds }
  })
  const survivors = results.filter(({ caught }) => !caught).length
  if (flags.json) console.log(JSON.stringify(results, null, 2))
  else
    console.log(
      survivors === 0 ? `all ${results.length} caught` : `${survivors} of ${results.length} survive`,
    )
  return survivors === 0
}

/** Everything that git knows or would add, the last build, and the installed packages. */
function makeCopy(copy) {
  const { stdout } = spawnSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
    cwd: root,
    encoding: 'utf8',
    maxBuffer: 64 << 20,
  })
  for (const name of stdout.split('\0').filter((name) => name !== '' && existsSync(join(root, name))))
    cpSync(join(root, name), join(copy, name))
  // Workers and commands run from it, without faults unless a fault is `inPrograms`.
  cpSync(join(root, 'dist'), join(copy, 'dist'), { recursive: true })
  symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'))
  writeFileSync(join(copy, CONFIG), config)
}

/** Compiles the copy's TypeScript, from which its workers and commands run. */
function buildPrograms(copy) {
  const { status, stderr } = spawnSync(process.execPath, ['scripts/typescript.mjs'], {
    cwd: copy,
    encoding: 'utf8',
  })
  if (status !== 0) stop(`the faulty TypeScript does not compile:\n${stderr}`)
}

/** The titles of the tests that fail, and why there are none where vitest itself did not work. */
function run(copy, { file = '', tests, title, least = 1 }) {
  const built = builtFor(copy, file, tests)
  if (built.error) return { failed: [], error: built.error }
  const report = join(copy, 'report.json')
  rmSync(report, { force: true })
  const args = ['run', '--config', CONFIG, '--reporter=json', `--outputFile=${report}`]
  if (least === 1) args.push('--bail=1')
  if (title) args.push('-t', title)
  spawnSync(process.execPath, [join('node_modules', 'vitest', 'vitest.mjs'), ...args, ...tests], {
    cwd: copy,
    env: { ...process.env, ...built.env, LOWRANK_SWEEPS: 'whole' },
    stdio: 'ignore',
    timeout: LIMIT_MS,
  })
  if (!existsSync(report)) return { failed: [], error: ': vitest did not end' }
  const { testResults } = JSON.parse(readFileSync(report, 'utf8'))
  const results = testResults.flatMap(({ assertionResults }) => assertionResults)
  const failed = results.filter(({ status }) => status === 'failed').map(({ fullName }) => fullName)
  const broken = testResults.find(({ status, message }) => status === 'failed' && message)
  const error =
    results.length === 0 ? ': no test ran' : failed.length === 0 && broken ? `: ${broken.message}` : ''
  return { failed, error }
}

/** The native code that the tests of a fault need, and where they find it. */
function builtFor(copy, file, tests) {
  const isNative = file.startsWith('native/')
  const addon = join(isNative ? copy : root, 'build', 'Release', 'lowrank.node')
  const env = { LOWRANK_NATIVE_PATH: addon, LOWRANK_NATIVE_TESTS: '' }
  const parts = tests.flatMap((test) => (NATIVE_TESTS[test] ? [NATIVE_TESTS[test]] : []))
  if (isNative && parts.length < tests.length) parts.push(['build'])
  for (const [part, variable] of parts) {
    const run = spawnSync(process.execPath, ['scripts/native.mjs', part], {
      cwd: copy,
      env: { ...process.env, CCACHE_BASEDIR: copy, CCACHE_NOHASHDIR: '1' },
      encoding: 'utf8',
    })
    if (run.status !== 0) return { error: `: does not build\n${run.stderr}` }
    if (variable) env[variable] = run.stdout.trim().split('\n').at(-1)
  }
  return { env }
}

function check({ number, file, find, replace, tests }) {
  const times = readFileSync(join(root, file), 'utf8').split(find).length - 1
  if (times !== 1 || replace === find)
    stop(`fault ${number} must find its text once in ${file}, and it is there ${times} times: ${find}`)
  const missing = tests.find((test) => !existsSync(join(root, test)))
  if (missing !== undefined) stop(`fault ${number} names ${missing}, which is not there`)
}

function label({ number, what }) {
  const width = Math.max(...faults.map((fault) => fault.what.length))
  return `${String(number).padStart(3)}  ${what.padEnd(width)}`
}

function stop(message) {
  console.error(`mutations.mjs: ${message}`)
  process.exit(2)
}
