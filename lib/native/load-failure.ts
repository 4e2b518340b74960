/**
 * Explains why no addon could be loaded: the files tried, what is wrong with each in plain words, and the command that
 * fixes it. Linux's own messages do not say that a file is for another CPU or C library.
 */
import { closeSync, existsSync, openSync, readSync } from 'node:fs'
import { join, relative } from 'node:path'
import { NativeLoadError } from '../core/errors.js'
import { isUniversal, libraryTarget, systemName } from '../core/system.js'
import { addonPackage, addonPackages, libc, prebuilds, targetName } from './prebuilt.js'

/** A file that was tried, and why it did not load. */
export interface Attempt {
  path: string
  error: string
}

/** Describes the problem with one file. `error` was thrown by `bindings` or the dynamic loader. */
export function reason(path: string, error: unknown): string {
  // `bindings` sets `tries` on its error when no file exists.
  if (error instanceof Error && 'tries' in error) return 'no such file'
  const message = error instanceof Error ? error.message : String(error)
  const why = foreign(path) ?? otherLibc(message)
  return why === undefined ? message : `${why} (${message})`
}

/** The error where options of Node.js forbid the addon at a path. */
export function forbidden(path: string, cause: unknown): NativeLoadError {
  const [option, mend] = process.permission
    ? ['--permission', 'add --allow-addons']
    : ['--no-addons', 'remove it']
  return new NativeLoadError(
    `The native addon ${path} was not loaded, because Node.js was started with ${option}, which forbids addons: ${mend}.`,
    { path },
    { cause },
  )
}

function otherLibc(message: string): string | undefined {
  const here = libc()
  if (here.name === 'musl') return 'perhaps made for glibc; this system has musl'
  const [, version] = /version [`']GLIBC_([\d.]+)' not found/.exec(message) ?? []
  return version && `it needs glibc ${version}; this system has ${here.version}`
}

/** Says that a file is for another CPU or system; the messages of dynamic loaders are not helpful. */
export function foreign(path: string, { platform, arch } = process): string | undefined {
  const header = firstBytes(path, 1024)
  if (header === undefined || isUniversal(header)) return undefined
  const target = libraryTarget(header)
  if (target === undefined) return `it is not a ${systemName(platform)} library`
  if (target.platform !== platform)
    return `it is a library for ${systemName(target.platform)}; this is ${systemName(platform)}`
  return arch === target.arch ? undefined : `it is for ${target.arch}; this is ${arch}`
}

/** Undefined if the file cannot be read; the loader's own message then says why. */
function firstBytes(path: string, count: number): Buffer | undefined {
  try {
    const file = openSync(path, 'r')
    try {
      const bytes = Buffer.alloc(count)
      return bytes.subarray(0, readSync(file, bytes, 0, count, 0))
    } finally {
      closeSync(file)
    }
  } catch {
    return undefined
  }
}

/** The error for a package at `root` whose addon could not be loaded from any of the paths tried. */
export function loadFailure(root: string, tried: Attempt[]): NativeLoadError {
  const { node, napi } = process.versions
  const { name, version } = libc()
  const target = `${process.platform}-${process.arch}`
  const platform = [target, name, version].filter(Boolean).join(' ')
  const present = prebuilds(root)
  const published = Object.keys(addonPackages(root))
  const lines = [
    `The native addon could not be loaded on ${platform} (Node ${node}, Node-API ${napi}). Tried:`,
    ...tried.map(({ path, error }) => `  ${path}: ${error}`),
    `Prebuilt addons in this package: ${present.join(', ') || 'none'}.`,
  ]
  if (published.length > 0 && !published.includes(addonPackage()))
    lines.push(`Packages with prebuilt addons: ${published.join(', ')}. None of them is for ${targetName()}.`)
  else if (name === 'musl' && present.length > 0 && !present.some((file) => file.includes('musl')))
    lines.push('None of them is for musl (Alpine).')
  lines.push(remedy(root))
  return new NativeLoadError(lines.join('\n'), { platform: target, libc: name, node, nodeApi: napi, tried })
}

function remedy(root: string): string {
  if (process.env.LOWRANK_NATIVE_PATH) {
    return 'Point LOWRANK_NATIVE_PATH at a lowrank.node built for this machine, or unset it.'
  }
  const script = relative(process.cwd(), join(root, 'scripts', 'native.mjs'))
  const command = existsSync(join(root, 'lib')) ? 'npm run build' : `node ${script} install`
  const tools = libc().name === 'musl' ? 'after "apk add g++ make cmake"' : 'needs CMake and a C++20 compiler'
  const build = `uild it with "${command}" (${tools}).`
  const own = addonPackage()
  const version = addonPackages(root)[own]
  if (version === undefined || prebuilds(root).includes(own)) return `B${build}`
  // npm omits it with --omit=optional, and with a lock file created on another system.
  return `Install the missing package with "npm install --save-optional ${own}@${version}", or b${build}`
}
