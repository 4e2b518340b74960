// Makes prebuilds/<platform>-<arch>/lowrank.<libc>.node through prebuildify and checks what the files ask of a
// machine (scripts/check-addon.mjs).
//
//   prebuilds.mjs [--arch x64,arm64]     this machine's architecture when none is named; others need a cross compiler
import { spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..')
const prebuildify = createRequire(import.meta.url).resolve('prebuildify/bin.js')
const linux = process.platform === 'linux'

function run(command, args, env = {}) {
  const { status } = spawnSync(command, args, {
    cwd: root,
    env: { ...process.env, ...env },
    stdio: 'inherit',
  })
  if (status !== 0) process.exit(status ?? 1)
}

/**
 * node-gyp wants Node's headers, and downloads them, even for a target that compiles nothing. What it reads of them is
 * one file, which may as well say that there are two configurations and nothing more.
 */
function headers() {
  const folder = join(root, 'out', 'headers')
  mkdirSync(join(folder, 'include', 'node'), { recursive: true })
  const configurations = "{'target_defaults': {'configurations': {'Release': {}, 'Debug': {}}}}\n"
  writeFileSync(join(folder, 'include', 'node', 'common.gypi'), configurations)
  return { npm_config_nodedir: folder }
}

function build(arch) {
  const folder = join(root, 'prebuilds', `${process.platform}-${arch}`)
  rmSync(folder, { recursive: true, force: true })
  const options = ['--napi', '--strip', '--name', 'lowrank', '--arch', arch]
  if (linux) options.push('--tag-libc')
  if (linux && arch !== process.arch) {
    const processor = { x64: 'x86_64', arm64: 'aarch64' }[arch]
    options.push('--strip-bin', `${processor}-linux-gnu-strip`)
  }
  run(process.execPath, [prebuildify, ...options], headers())
  return readdirSync(folder).map((name) => join(folder, name))
}

const { values } = parseArgs({ options: { arch: { type: 'string', default: process.arch } } })
const files = values.arch.split(',').flatMap(build)
// prebuildify takes the addon out of build/, where a checkout runs it from.
run(process.execPath, ['scripts/native.mjs', 'build'])
for (const file of files) {
  if (linux && file.includes('.glibc.')) run(process.execPath, ['scripts/check-addon.mjs', file])
  console.log(`${file}: ${statSync(file).size} bytes`)
}
