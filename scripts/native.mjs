// Builds the native code with CMake. Users meet it where no prebuilt addon fits, developers through `npm run build`.
// It ships in the package, so it needs nothing but Node.
//
//   native.mjs build [--out FILE]     the addon; FILE defaults to build/Release/lowrank.node
//   native.mjs tests                  the native test executable; prints its path last
//   native.mjs cuda-tests             that of the tests of CUDA's kernels, which run on the CPU of Linux on x64
//   native.mjs kernel-study           the program of benchmarks/kernels; prints its path last
//     all take --sanitize NAME, --debug and, to cross-compile on Linux, --arch x64|arm64 or --toolchain FILE, a toolchain
//     file of CMake's
//   native.mjs missing                what a build from source lacks on this machine, one thing a line
//   native.mjs install                the addon of an installed package, which keeps nothing else of the build
//
// Environment: LOWRANK_WERROR=1 makes warnings errors, LOWRANK_JOBS limits the parallel compilers, CXX names one.
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs'
import { availableParallelism } from 'node:os'
import { basename, dirname, join, relative, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..')
const defaultOutput = join(root, 'build', 'Release', 'lowrank.node')

function fail(message) {
  console.error(`\n${message.trim().replace(/^/gm, 'lowrank: ')}\n`)
  process.exit(1)
}

function libc() {
  if (process.platform !== 'linux') return ''
  return process.report.getReport().header.glibcVersionRuntime ? 'glibc' : 'musl'
}

function platform() {
  return [`${process.platform}-${process.arch}`, libc()].filter(Boolean).join(' ')
}

function prebuilds() {
  const folder = join(root, 'prebuilds')
  if (!existsSync(folder)) return []
  return readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .flatMap(({ name }) => readdirSync(join(folder, name)).map((file) => `${name}/${file}`))
}

function output(command, args, input) {
  const run = spawnSync(command, args, { encoding: 'utf8', input })
  return run.status === 0 ? run.stdout : undefined
}

/** Names of processors in CMake and Debian, for cross-compiling Linux addons. */
const processors = { x64: 'x86_64', arm64: 'aarch64' }

function crossCompiler(arch) {
  if (process.platform !== 'linux' || !(arch in processors)) {
    fail(`cannot build for ${arch} on ${platform()}: cross-compiling goes from Linux to x64 or arm64`)
  }
  return `${processors[arch]}-linux-gnu-g++`
}

/** Missing requirements of a build from source, in the words of their packages. */
function missingTools(cross) {
  const missing = []
  const cmake = output('cmake', ['--version'])
  const [major, minor] =
    /(\d+)\.(\d+)/
      .exec(cmake ?? '')
      ?.slice(1)
      .map(Number) ?? []
  if (cmake === undefined) missing.push('CMake 3.22 or newer (no "cmake" on PATH)')
  else if (major < 3 || (major === 3 && minor < 22))
    missing.push(`CMake 3.22 or newer (this one is ${major}.${minor})`)
  if (!['ninja', 'make', 'gmake'].some((tool) => output(tool, ['--version']) !== undefined)) {
    missing.push('make or ninja')
  }
  // The candidates and their order are CMake's.
  const candidates = cross ? [cross] : [process.env.CXX, 'c++', 'g++', 'clang++']
  const compiler = candidates.find((c) => c && output(c, ['--version']) !== undefined)
  const program =
    '#include <bit>\n#include <span>\n#include <stop_token>\nint main() { return std::popcount(0u); }\n'
  if (compiler === undefined && cross) {
    missing.push(`the cross compiler (no "${cross}" on PATH; Debian and Ubuntu have it as a package)`)
  } else if (compiler === undefined) {
    missing.push(
      'a C++20 compiler: g++ 11 or newer, or clang++ 14 or newer (no "c++", "g++" or "clang++" on PATH)',
    )
  } else if (output(compiler, ['-std=c++20', '-x', 'c++', '-fsyntax-only', '-'], program) === undefined) {
    missing.push(
      `a C++20 compiler: g++ 11 or newer, or clang++ 14 or newer ("${compiler}" cannot compile C++20)`,
    )
  }
  return missing
}

function checkTools(cross) {
  const missing = missingTools(cross)
  if (missing.length === 0) return
  fail(`
cannot build the native addon from source. Missing:
${missing.map((m) => `  - ${m}`).join('\n')}
Install it, then run the command again:
  Debian, Ubuntu:  apt-get install g++ make cmake
  Fedora, RHEL:    dnf install gcc-c++ make cmake
  Alpine:          apk add g++ make cmake
This machine is ${platform()}; prebuilt addons in this package: ${prebuilds().join(', ') || 'none'}.`)
}

/** Two builds in one tree would corrupt it: the second waits for the first. */
async function withLock(file, work) {
  mkdirSync(dirname(file), { recursive: true })
  for (let told = false; ; ) {
    try {
      const handle = openSync(file, 'wx')
      writeSync(handle, String(process.pid))
      closeSync(handle)
      break
    } catch (error) {
      if (error.code !== 'EEXIST') throw error
    }
    const owner = Number(readFileSync(file, { encoding: 'utf8', flag: 'a+' }))
    if (owner > 0 && !isAlive(owner)) {
      rmSync(file, { force: true })
      continue
    }
    if (!told) console.error(`lowrank: waiting for another build (process ${owner}, ${relative(root, file)})`)
    told = true
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200)
  }
  process.once('exit', () => rmSync(file, { force: true }))
  await work()
  rmSync(file, { force: true })
}

function isAlive(pid) {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return error.code === 'EPERM'
  }
}

/** Says something to the user; stdout is for this script's own result. */
function tell(text) {
  process.stderr.write(`lowrank: ${text}\n`)
}

/** Seconds until the first line on how far a build is, and between two. */
const [FIRST_SECONDS, NEXT_SECONDS] = [2, 10]

/** Tells how far a build is, and how long the rest will take. */
class BuildProgress {
  #begin = performance.now()
  #next = FIRST_SECONDS

  /** @param line of ninja, `[12/80] …`, of make, `[ 15%] …`, or anything else */
  read(line) {
    const [, done, total = 100] = /^\[\s*(\d+)(?:\/(\d+)|%)\]/.exec(line) ?? []
    const seconds = (performance.now() - this.#begin) / 1000
    const share = done / total
    const left =
      share > 0 && share < 1 && seconds >= FIRST_SECONDS
        ? `, about ${spoken(seconds / share - seconds)} left`
        : ''
    if (process.stderr.isTTY && done !== undefined) {
      const width = process.stderr.columns - left.length - 1
      process.stderr.write(`\r\u001b[K${line.slice(0, width)}${left}`)
      return
    }
    process.stderr.write(`${line}\n`)
    if (left === '' || seconds < this.#next) return
    this.#next = seconds + NEXT_SECONDS
    tell(`${Math.round(100 * share)} % is built${left}`)
  }
}

function spoken(seconds) {
  return seconds < 90 ? `${Math.ceil(seconds)} s` : `${Math.ceil(seconds / 60)} min`
}

/** Runs a command whose words go to stderr, since stdout is for this script's own result. Returns its exit status. */
async function run(command, args, env) {
  const progress = new BuildProgress()
  const child = spawn(command, args, { cwd: root, env, stdio: ['ignore', 'pipe', 2] })
  createInterface({ input: child.stdout }).on('line', (line) => progress.read(line))
  const [status] = await once(child, 'close')
  if (process.stderr.isTTY) process.stderr.write('\n')
  return status
}

/** Configures if needed and builds one target; returns the build tree. */
async function cmake(target, { sanitize, debug, arch = process.arch, toolchain }) {
  const cross = arch === process.arch ? undefined : crossCompiler(arch)
  if (!toolchain) checkTools(cross)
  // Not under build/, which node-gyp empties.
  const kind = sanitize ?? (debug ? 'debug' : 'release')
  const name = [kind, ...(cross ? [arch] : toolchain ? [basename(toolchain, '.cmake')] : [])].join('-')
  const tree = join(root, 'out', name)
  const configure = [
    '-S',
    root,
    '-B',
    tree,
    `-DCMAKE_BUILD_TYPE=${debug ? 'Debug' : 'Release'}`,
    `-DLOWRANK_SANITIZE=${sanitize ?? ''}`,
    `-DLOWRANK_WERROR=${process.env.LOWRANK_WERROR === '1' ? 'ON' : 'OFF'}`,
  ]
  if (cross) {
    configure.push('-DCMAKE_SYSTEM_NAME=Linux', `-DCMAKE_SYSTEM_PROCESSOR=${processors[arch]}`)
    configure.push(`-DCMAKE_CXX_COMPILER=${cross}`)
  }
  if (toolchain) configure.push(`-DCMAKE_TOOLCHAIN_FILE=${resolve(toolchain)}`)
  const cache = join(tree, 'CMakeCache.txt')
  // CMake refuses a tree made at another path, as after moving or copying the checkout.
  if (existsSync(cache) && !readFileSync(cache, 'utf8').includes(`CMAKE_HOME_DIRECTORY:INTERNAL=${root}\n`)) {
    rmSync(tree, { recursive: true, force: true })
  }
  const fresh = !existsSync(cache)
  if (fresh && output('ninja', ['--version']) !== undefined) configure.push('-G', 'Ninja')
  const jobs = process.env.LOWRANK_JOBS ?? String(availableParallelism())
  // Under node-gyp this runs inside make, whose job server is not ours.
  const { MAKEFLAGS, MFLAGS, MAKELEVEL, ...env } = process.env
  await withLock(join(root, 'out', `${name}.lock`), async () => {
    for (const args of [configure, ['--build', tree, '--target', target, '--parallel', jobs]]) {
      if ((await run('cmake', args, env)) !== 0)
        fail(`the native build failed; the reason is above (command: cmake ${args.join(' ')})`)
    }
  })
  return tree
}

async function build(options) {
  const tree = await cmake('lowrank', options)
  if (options.sanitize && !options.out) return
  const out = resolve(options.out ?? defaultOutput)
  // Renamed into place: writing over an addon that a running process has mapped would crash that process.
  const temporary = `${out}.${process.pid}.tmp`
  mkdirSync(dirname(out), { recursive: true })
  copyFileSync(join(tree, 'lowrank.node'), temporary)
  renameSync(temporary, out)
}

async function install() {
  tell('building from source, which takes a few minutes')
  await build({})
  rmSync(join(root, 'out'), { recursive: true, force: true })
}

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    sanitize: { type: 'string' },
    debug: { type: 'boolean' },
    arch: { type: 'string' },
    toolchain: { type: 'string' },
    out: { type: 'string' },
  },
})
const PROGRAMS = {
  tests: 'lowrank_tests',
  'cuda-tests': 'lowrank_cuda_tests',
  'kernel-study': 'lowrank_kernel_study',
}
const [command = ''] = positionals
if (command === 'build') await build(values)
else if (command in PROGRAMS) console.log(join(await cmake(PROGRAMS[command], values), PROGRAMS[command]))
else if (command === 'missing') process.stdout.write(missingTools().join('\n'))
else if (command === 'install') await install()
else
  fail(
    `native.mjs: unknown command "${command}": expected build, ${Object.keys(PROGRAMS).join(', ')}, missing or install`,
  )
