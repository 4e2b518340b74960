// Builds with a sanitizer under out/ and runs the native tests, then vitest, under it.
//
//   sanitize.mjs address|undefined|thread [--part K/N] [vitest argument]...
//
// --part runs every Nth of the native tests, beginning with the Kth.
import { spawnSync } from 'node:child_process'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..')

const sanitizers = {
  address: {
    runtime: 'libasan.so',
    native: { ASAN_OPTIONS: 'detect_stack_use_after_return=0' },
    // Node leaks on purpose at exit; our own leaks show in the native tests, where the check stays on.
    node: { ASAN_OPTIONS: 'detect_leaks=0:detect_stack_use_after_return=0' },
    vitest: [],
  },
  undefined: {
    runtime: undefined,
    native: { UBSAN_OPTIONS: 'halt_on_error=1:print_stacktrace=1' },
    node: { UBSAN_OPTIONS: 'halt_on_error=1:print_stacktrace=1' },
    vitest: [],
  },
  thread: {
    runtime: 'libtsan.so',
    native: { TSAN_OPTIONS: 'halt_on_error=1' },
    // V8 is not instrumented and would be reported. vitest loses the exit code of a fork: a race must stop it.
    node: { TSAN_OPTIONS: 'ignore_noninstrumented_modules=1 halt_on_error=1' },
    vitest: ['--no-file-parallelism'],
  },
}

function run(command, args, env = {}) {
  const { status, stdout } = spawnSync(command, args, {
    cwd: root,
    env: { ...process.env, ...env },
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  if (status === 0) return stdout.trim()
  process.stdout.write(stdout ?? '')
  console.error(`sanitize.mjs: ${[command, ...args].join(' ')} ended with ${status}`)
  process.exit(1)
}

function show(command, args, env) {
  const { status } = spawnSync(command, args, {
    cwd: root,
    env: { ...process.env, ...env },
    stdio: 'inherit',
  })
  if (status !== 0) process.exit(1)
}

const [name, ...rest] = process.argv.slice(2)
const part = rest[0] === '--part' ? rest.splice(0, 2) : []
const sanitizer = sanitizers[name]
if (!sanitizer) {
  console.error(
    `sanitize.mjs: "${name ?? ''}" is no sanitizer: expected ${Object.keys(sanitizers).join(', ')}`,
  )
  process.exit(2)
}
run(process.execPath, ['scripts/native.mjs', 'build', '--sanitize', name])
const tests = run(process.execPath, ['scripts/native.mjs', 'tests', '--sanitize', name])
show(tests, part, sanitizer.native)
// Each thread of a kernel is a fiber there, which ThreadSanitizer does not know.
if (name !== 'thread' && process.platform === 'linux' && process.arch === 'x64')
  show(
    run(process.execPath, ['scripts/native.mjs', 'cuda-tests', '--sanitize', name]),
    part,
    sanitizer.native,
  )

// Node is started directly: npx and npm would carry the preloaded runtime as well.
const runtime = sanitizer.runtime && run(process.env.CXX ?? 'c++', [`-print-file-name=${sanitizer.runtime}`])
const vitest = join('node_modules', 'vitest', 'vitest.mjs')
show(process.execPath, [vitest, 'run', '--project=unit', '--pool=forks', ...sanitizer.vitest, ...rest], {
  ...sanitizer.node,
  ...(runtime ? { LD_PRELOAD: runtime } : {}),
  LOWRANK_NATIVE_PATH: join(root, 'out', name, 'lowrank.node'),
  LOWRANK_NATIVE_TESTS: tests,
})
