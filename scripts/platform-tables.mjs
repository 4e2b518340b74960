// Writes what is known of each platform, from platforms/results.json and platforms/windows-tests.json, into docs/install.md,
// README.md, and lib/native/platforms.ts, which `lowrank doctor` reads.
//
//   platform-tables.mjs [--check]     with --check nothing is written; exits 1 where a file is not up to date
//
// `npm run test:everywhere` makes the results again.
import { readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { markdown } from './install-matrix/tables.mjs'
import { table, withMarked } from './markdown.mjs'
import { results } from './platforms/results.mjs'
import { TARGETS } from './targets.mjs'

const root = resolve(import.meta.dirname, '..')
const { addons, tests, runtimes, demos, installs } = results()
const onWindows = JSON.parse(readFileSync(join(root, 'scripts/platforms/windows-tests.json'), 'utf8'))

const PLATFORMS = {
  'linux-x64': ['Linux, x64, glibc 2.28 or newer', 'AVX2, AVX-512, AVX-512 BF16, and AMX'],
  'linux-arm64': ['Linux, arm64, glibc 2.28 or newer', 'NEON and NEON BF16'],
  'linux-x64-musl': ['Linux, x64, musl (Alpine)', 'AVX2, AVX-512, AVX-512 BF16, and AMX'],
  'linux-arm64-musl': ['Linux, arm64, musl (Alpine)', 'NEON and NEON BF16'],
  'win32-x64': ['Windows, x64', 'AVX2, AVX-512, and AVX-512 BF16'],
  'darwin-arm64': ['macOS 11 or newer, Apple processors', 'NEON and NEON BF16'],
  'darwin-x64': ['macOS 11 or newer, x64', 'AVX2, AVX-512, and AVX-512 BF16'],
}

const list = (words) =>
  words.length < 3 ? words.join(' and ') : `${words.slice(0, -1).join(', ')}, and ${words.at(-1)}`

/** Names of programs that ran something for a target. */
const programs = (seen, target) =>
  Object.values(seen)
    .filter((each) => each.target === target)
    .map(({ runtime }) => runtime)

/** Versions of Node.js that trained with a target's addon under qemu, in rows of the install matrix. */
function trained(target) {
  const rows = target === 'linux-arm64' ? (installs.matrix?.installs ?? []) : []
  const ended = rows.filter(({ node, skipped, problem }) => /under qemu/.test(node) && !skipped && !problem)
  return ended.map(({ node }) => `Node ${node.split(' ')[0]}`)
}

const counted = ({ passed, failed, skipped }, tests) =>
  [`${passed} ${tests} pass`, failed && `${failed} fail`, skipped && `${skipped} are skipped`]
    .filter(Boolean)
    .join(', ')

/** Knowledge of a target, in a word and in whole. */
function known(target) {
  const tested = tests[target]
  const [ran, shown] = [programs(runtimes, target), programs(demos, target)]
  const all = [tested, ...Object.values(runtimes), ...Object.values(demos)].filter(
    (each) => each === tested || each.target === target,
  )
  const plans = trained(target)
  const seen = [...all.filter(Boolean), ...(plans.length > 0 ? [{ under: 'qemu' }] : [])]
  if (seen.length === 0) {
    const { compiler } = addons[target] ?? {}
    return {
      how: compiler ? 'links only' : 'not built',
      what: compiler ? `built by ${compiler}, and the file checked; never run` : '',
    }
  }
  const under = seen.find((each) => each.under)?.under
  const what = [
    tested && counted(tested, 'native tests'),
    target === 'win32-x64' && counted(onWindows, 'TypeScript tests'),
    ran.length > 0 && `training, generation, and aborts work under ${list(ran)}`,
    shown.length > 0 && `an install and the demo work under ${list(shown)}`,
    plans.length > 0 && `an install, training, and generation work under ${list(plans)}`,
  ].filter(Boolean)
  return { how: under ? `runs under ${under}` : 'runs on hardware', what: what.join('; ') }
}

const mib = (bytes) => `${(bytes / 2 ** 20).toFixed(1)} MiB`
const size = (target) => (addons[target]?.bytes ? mib(addons[target].bytes) : '')

/** Reason why each addon is a package of its own. */
function sizes() {
  const all = Object.values(addons).reduce((sum, { bytes }) => sum + bytes, 0)
  const rest = installs.matrix && `, and the rest of \`lowrank\` has ${mib(installs.matrix.tarball.unpacked)}`
  return `All addons together have ${mib(all)}${rest ?? ''}, so each is a package of its own.`
}

function platformTable() {
  const rows = Object.keys(TARGETS).map((target) => {
    const [platform, kernels] = PLATFORMS[target]
    const { how, what } = known(target)
    return [platform, `\`@lowrank/${target}\``, size(target), kernels, what ? `${how}: ${what}` : how]
  })
  return table(['platform', 'package with the addon', 'size', 'kernels', 'known'], rows)
}

/** The same words, without the details. */
function shortTable() {
  const rows = Object.keys(TARGETS).map((target) => [PLATFORMS[target][0], known(target).how])
  return table(['platform', 'known'], rows)
}

const where = ({ runtime, under }) => (under ? `${runtime}, under ${under}` : runtime)

function runtimeTable() {
  const rows = Object.values(runtimes).map((each) => [
    ...[where(each), each.target, each.level, each.loss, each.seconds, each.date],
  ])
  return table(['runtime', 'addon', 'level', 'last loss', 'seconds', 'seen'], rows)
}

function demoTable() {
  const rows = Object.values(demos).map((each) => [
    ...[
      where(each),
      each.target,
      `\`${each.install}\``,
      each.installSeconds,
      `\`${each.demo}\``,
      each.demoSeconds,
    ],
    each.right,
    each.date,
  ])
  return table(['runtime', 'addon', 'install', 'seconds', 'demo', 'seconds', 'right answers', 'seen'], rows)
}

function source() {
  const lines = Object.keys(TARGETS).map((target) => {
    const { how, what } = known(target)
    const [key, text] = [`  '${target}':`, `'${what ? `${how}: ${what}` : how}',`]
    // As the formatter has it.
    return key.length + 1 + text.length > 110 ? `${key}\n    ${text}` : `${key} ${text}`
  })
  return `/** Made by scripts/platform-tables.mjs: what has been seen of the platforms that have a prebuilt addon. */
export const PLATFORMS: Readonly<Record<string, string>> = {
${lines.join('\n')}
}
`
}

const read = (path) => {
  try {
    return readFileSync(join(root, path), 'utf8')
  } catch {
    return ''
  }
}
const files = {
  'docs/install.md': withMarked(read('docs/install.md'), 'docs/install.md', {
    sizes: sizes(),
    platforms: platformTable(),
    runtimes: runtimeTable(),
    demos: demoTable(),
    installs: installs.matrix ? markdown(installs.matrix).trim() : '',
  }),
  'README.md': withMarked(read('README.md'), 'README.md', { platforms: shortTable() }),
  'lib/native/platforms.ts': source(),
}
const stale = Object.keys(files).filter((path) => files[path] !== read(path))
if (!process.argv.includes('--check')) for (const path of stale) writeFileSync(join(root, path), files[path])
else if (stale.length > 0) {
  console.error(`not up to date: ${stale.join(', ')}; node scripts/platform-tables.mjs writes them`)
  process.exitCode = 1
}
