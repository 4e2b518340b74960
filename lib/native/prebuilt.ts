/**
 * Locates prebuilt addons. The published package lists a package per platform in its optional dependencies; a package
 * built from a checkout contains its addons in prebuilds/.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'

const SCOPE = '@lowrank/'

/** The C library of this process; the version is known only for glibc. */
export function libc(): { name: '' | 'glibc' | 'musl'; version?: string } {
  if (process.platform !== 'linux') return { name: '' }
  const report = process.report.getReport() as unknown as { header: { glibcVersionRuntime?: string } }
  const version = report.header.glibcVersionRuntime
  return version ? { name: 'glibc', version } : { name: 'musl' }
}

/** The platform as named in scripts/targets.mjs: `linux-x64`, `linux-x64-musl`, `win32-x64`, … */
export function targetName(): string {
  return `${process.platform}-${process.arch}${libc().name === 'musl' ? '-musl' : ''}`
}

/** Name of the package with the addon for this platform. */
export function addonPackage(): string {
  return `${SCOPE}${targetName()}`
}

/** Packages with prebuilt addons that the package at `root` depends on, and their versions; none in a checkout. */
export function addonPackages(root: string): Record<string, string> {
  const { optionalDependencies = {} } = manifest(join(root, 'package.json'))
  return Object.fromEntries(Object.entries(optionalDependencies).filter(([name]) => name.startsWith(SCOPE)))
}

/**
 * The addon in a package that the one at `root` depends on.
 * @throws Error when it is not installed, or has the wrong version.
 */
export function packagedAddon(root: string, name: string): string {
  const addon = resolved(root, name)
  if (addon === undefined) throw new Error('not installed')
  const { version } = manifest(join(dirname(addon), 'package.json'))
  const expected = addonPackages(root)[name]
  if (version !== expected) throw new Error(`its version is ${version}; expected ${expected}`)
  return addon
}

function resolved(root: string, name: string): string | undefined {
  try {
    return createRequire(join(root, 'package.json')).resolve(`${name}/lowrank.node`)
  } catch {
    return undefined
  }
}

function manifest(path: string): { version?: string; optionalDependencies?: Record<string, string> } {
  try {
    return JSON.parse(readFileSync(path, 'utf8'))
  } catch {
    return {}
  }
}

/** Possible file names of this platform's addon in prebuilds/. */
export function prebuiltNames(): string[] {
  const { name } = libc()
  const files = [...(name ? [`lowrank.${name}.node`] : []), 'lowrank.node']
  return files.map((file) => `${process.platform}-${process.arch}/${file}`)
}

/** Prebuilt addons installed with the package at `root`: `linux-x64/lowrank.glibc.node`, `@lowrank/linux-x64`. */
export function prebuilds(root: string): string[] {
  const installed = Object.keys(addonPackages(root)).filter((name) => resolved(root, name) !== undefined)
  const folder = join(root, 'prebuilds')
  if (!existsSync(folder)) return installed
  const carried = readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .flatMap(({ name }) => readdirSync(join(folder, name)).map((file) => `${name}/${file}`))
  return [...carried, ...installed]
}
