// Makes the prebuilt addons, prebuilds/<platform>-<arch>/lowrank[.<libc>].node, and checks what each asks of a system
// (scripts/check-addon.mjs). Any of them can be made on Linux for x64; scripts/targets.mjs has the list.
//
//   prebuilds.mjs [--target NAME,NAME…|all] [--twice]
//
// Without --target: the one for this machine. --twice makes each a second time, without a compiler cache and from a copy of
// the sources in another folder, and fails where a byte differs. Compilers are pinned: Debian 12's, and zig, which is taken
// from PyPI into out/compilers.
import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { TARGETS } from './targets.mjs'

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..')
const compilers = join(root, 'out', 'compilers')

const ZIG = {
  version: '0.17.1',
  hash: 'sha256:ea6cc5d87b033cf0aedfbc8f9549a908cae6c50ac31f1698188fa48a74524b54',
}
const MINGW = { prefix: 'x86_64-w64-mingw32-', major: '12', package: 'g++-mingw-w64-x86-64-posix' }

function fail(message) {
  console.error(`prebuilds: ${message}`)
  process.exit(1)
}

function run(command, args, options = {}) {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: ['ignore', 2, 2], ...options })
  if (status !== 0) fail(`${[command, ...args].join(' ')}: ${error?.message ?? `ended with ${status}`}`)
}

/** zig, installed the first time that it is asked for. */
function zig() {
  const folder = join(compilers, `ziglang-${ZIG.version}`)
  const program = join(folder, 'ziglang', 'zig')
  if (existsSync(program)) return program
  mkdirSync(compilers, { recursive: true })
  const list = join(compilers, 'ziglang.txt')
  writeFileSync(list, `ziglang==${ZIG.version} --hash=${ZIG.hash}\n`)
  const pip = ['-m', 'pip', 'install', '--quiet', '--no-deps', '--require-hashes', '--only-binary', ':all:']
  run('python3', [...pip, '--target', `${folder}.tmp`, '-r', list])
  run('mv', [`${folder}.tmp`, folder])
  return program
}

function mingw() {
  const name = `${MINGW.prefix}g++-posix`
  const { stdout } = spawnSync(name, ['-dumpversion'], { encoding: 'utf8' })
  const major = stdout?.trim().split(/[.-]/)[0]
  if (major !== MINGW.major) {
    const found = major ? `GCC ${major}` : 'none'
    fail(
      `${name} of GCC ${MINGW.major} is needed for Windows; found ${found}. Debian 12: apt-get install ${MINGW.package}`,
    )
  }
  return name
}

/** CMake's description of a cross compiler, or none where scripts/native.mjs knows it. */
function toolchain(name, { compiler, system, processor, triple }) {
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
  // Stripped while it is linked: a signature would not survive it later.
  for (const kind of ['MODULE', 'SHARED']) lines.push(`set(CMAKE_${kind}_LINKER_FLAGS_INIT -s)`)
  const file = join(compilers, `${name}.cmake`)
  mkdirSync(compilers, { recursive: true })
  writeFile(file, `${lines.join('\n')}\n`)
  return file
}

/** Leaves a file that has this text already as it is, for CMake's sake. */
function writeFile(path, text) {
  if (!existsSync(path) || readFileSync(path, 'utf8') !== text) writeFileSync(path, text)
}

/** Builds one target from a folder with the sources, into `out`. */
function build(name, sources, out, env = {}) {
  const target = TARGETS[name]
  const file = toolchain(name, target)
  const arch = { x86_64: 'x64', aarch64: 'arm64' }[target.processor]
  const how = file ? ['--toolchain', file] : ['--arch', arch]
  mkdirSync(dirname(out), { recursive: true })
  run(process.execPath, [join(sources, 'scripts', 'native.mjs'), 'build', ...how, '--out', out], {
    env: { ...process.env, SOURCE_DATE_EPOCH: '0', ...env },
  })
  const own = arch === process.arch
  if (!file) run(own ? 'strip' : `${target.processor}-linux-gnu-strip`, ['--strip-all', out])
}

/** Builds a target from a copy of the sources in another folder and compares the bytes. */
function buildTwice(name, first) {
  const copy = mkdtempSync(join(tmpdir(), 'lowrank-prebuild-'))
  try {
    for (const part of ['native', 'scripts', 'CMakeLists.txt', 'package.json'])
      cpSync(join(root, part), join(copy, part), { recursive: true })
    symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'))
    const second = join(copy, 'lowrank.node')
    build(name, copy, second, { CCACHE_DISABLE: '1' })
    if (!readFileSync(first).equals(readFileSync(second))) fail(`${name}: two builds differ`)
    console.log(`${name}: two builds, the same bytes`)
  } finally {
    rmSync(copy, { recursive: true, force: true })
  }
}

function wanted(list) {
  if (list === 'all') return Object.keys(TARGETS)
  const names = list?.split(',') ?? [`${process.platform}-${process.arch}`]
  for (const name of names)
    if (!(name in TARGETS))
      fail(`there is no target '${name}'; expected ${Object.keys(TARGETS).join(', ')} or all`)
  return names
}

const { values } = parseArgs({ options: { target: { type: 'string' }, twice: { type: 'boolean' } } })
for (const name of wanted(values.target)) {
  const out = join(root, 'prebuilds', TARGETS[name].file)
  build(name, root, out)
  run(process.execPath, ['scripts/check-addon.mjs', '--target', name, out], { stdio: 'inherit' })
  console.log(`${out}: ${statSync(out).size} bytes`)
  if (values.twice) buildTwice(name, out)
}
