/**
 * Pinned compilers for targets other than this machine: Debian 12's, and zig, which is taken from PyPI into out/compilers.
 */
import { spawnSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { TARGETS } from './targets.mjs'

const root = resolve(import.meta.dirname, '..')
const compilers = join(root, 'out', 'compilers')

const ZIG = {
  version: '0.17.1',
  hash: 'sha256:ea6cc5d87b033cf0aedfbc8f9549a908cae6c50ac31f1698188fa48a74524b54',
}
const MINGW = { prefix: 'x86_64-w64-mingw32-', major: '12', package: 'g++-mingw-w64-x86-64-posix' }

/** Ends the script. */
export function fail(message) {
  console.error(message)
  process.exit(1)
}

/** Runs a command whose words go to stderr, and fails with it. */
export function run(command, args, options = {}) {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: ['ignore', 2, 2], ...options })
  if (status !== 0) fail(`${[command, ...args].join(' ')}: ${error?.message ?? `ended with ${status}`}`)
}

/** Folder that zig is installed to, when it is first asked for. */
export const zigFolder = join(compilers, `ziglang-${ZIG.version}`)

/** zig, installed the first time that it is asked for. */
function zig() {
  const program = join(zigFolder, 'ziglang', 'zig')
  if (existsSync(program)) return program
  mkdirSync(compilers, { recursive: true })
  const list = join(compilers, 'ziglang.txt')
  writeFileSync(list, `ziglang==${ZIG.version} --hash=${ZIG.hash}\n`)
  const pip = ['-m', 'pip', 'install', '--quiet', '--no-deps', '--require-hashes', '--only-binary', ':all:']
  const args = [...pip, '--target', `${zigFolder}.tmp`, '-r', list]
  const { status, stderr, error } = spawnSync('python3', args, { encoding: 'utf8' })
  if (status !== 0)
    throw new Error(
      `zig ${ZIG.version} was not installed from PyPI: ${error?.message ?? stderr.trim().split('\n').at(-1)}`,
    )
  renameSync(`${zigFolder}.tmp`, zigFolder)
  return program
}

function mingw() {
  const name = `${MINGW.prefix}g++-posix`
  const major = versionOf(name)?.split(/[.-]/)[0]
  if (major === MINGW.major) return name
  const found = major ? `GCC ${major}` : 'none'
  throw new Error(
    `${name} of GCC ${MINGW.major} is needed for Windows; found ${found}. Debian 12: apt-get install ${MINGW.package}`,
  )
}

function versionOf(compiler) {
  const { status, stdout } = spawnSync(compiler, ['-dumpfullversion', '-dumpversion'], { encoding: 'utf8' })
  return status === 0 ? stdout.trim() : undefined
}

/** Name and version of a target's compiler. */
export function compilerName(target) {
  const { compiler, processor } = TARGETS[target]
  if (compiler === 'zig') return `zig ${ZIG.version}`
  if (compiler === 'mingw') return `${MINGW.prefix}g++ ${versionOf(mingw())}`
  const name = archOf(target) === process.arch ? 'g++' : `${processor}-linux-gnu-g++`
  return `${name} ${versionOf(name)}`
}

/** Reason why this machine cannot build for a target, or undefined. Installs zig where it is needed. */
export function missingCompiler(target) {
  try {
    compilerOf(target)
    if (compilerName(target).endsWith('undefined')) return `there is no compiler for ${target}`
  } catch ({ message }) {
    return message
  }
  return undefined
}

/** The file that describes a compiler to CMake, or none where scripts/native.mjs knows it. */
function toolchain(name) {
  const { compiler, system, processor, triple } = TARGETS[name]
  if (compiler === 'gcc') return undefined
  const lines = [`set(CMAKE_SYSTEM_NAME ${system})`, `set(CMAKE_SYSTEM_PROCESSOR ${processor})`]
  if (compiler === 'mingw') {
    lines.push(`set(CMAKE_CXX_COMPILER ${mingw()})`)
  } else {
    // One program of one word, as CMake and ccache take it.
    const wrapper = join(compilers, name, 'clang++')
    mkdirSync(dirname(wrapper), { recursive: true })
    writeFile(wrapper, `#!/bin/sh\nexec '${zig()}' c++ -target ${triple} "$@"\n`)
    chmodSync(wrapper, 0o755)
    lines.push(`set(CMAKE_CXX_COMPILER ${wrapper})`)
    if (system === 'Darwin') lines.push('set(CMAKE_INSTALL_NAME_TOOL true)')
  }
  // Stripped while it is linked: a signature would not survive it later. For macOS, -s leaves the names of functions.
  const strip = system === 'Darwin' ? '"-s -Wl,-x"' : '-s'
  for (const kind of ['MODULE', 'SHARED']) lines.push(`set(CMAKE_${kind}_LINKER_FLAGS_INIT ${strip})`)
  const file = join(compilers, `${name}.cmake`)
  mkdirSync(compilers, { recursive: true })
  writeFile(file, `${lines.join('\n')}\n`)
  return file
}

/** Arguments of scripts/native.mjs that build for a target. */
export function compilerOf(name) {
  const file = toolchain(name)
  return file ? ['--toolchain', file] : ['--arch', archOf(name)]
}

/** Node's name of a target's processor. */
export function archOf(name) {
  return { x86_64: 'x64', aarch64: 'arm64', arm64: 'arm64' }[TARGETS[name].processor]
}

/** Leaves a file that has this text already as it is, for CMake's sake. */
function writeFile(path, text) {
  if (!existsSync(path) || readFileSync(path, 'utf8') !== text) writeFileSync(path, text)
}
