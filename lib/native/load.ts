/**
 * Finds and loads the native addon: the file that LOWRANK_NATIVE_PATH names, else a build from source, else the
 * prebuilt binary of this platform. It does not rely on npm's install scripts having run.
 */
import { join, resolve } from 'node:path'
import bindings from 'bindings'
import { NativeLoadError } from '../errors.js'
import { packageRoot } from '../root.js'

/** Which file the addon came from: named by LOWRANK_NATIVE_PATH, built from source, or prebuilt. */
export interface AddonOrigin {
  from: 'env' | 'build' | 'prebuild'
  path: string
}

let loaded: { addon: unknown; origin: AddonOrigin } | undefined

/**
 * The addon's exports; loaded once per process.
 * @throws {NativeLoadError} when no candidate loads; it lists every path tried and why it failed.
 */
export function loadAddon(): unknown {
  loaded ??= load()
  return loaded.addon
}

/** Where the addon was loaded from; loads it first if need be. */
export function addonOrigin(): AddonOrigin {
  loaded ??= load()
  return loaded.origin
}

/** The C library a binary must be made for; empty where a platform has only one. */
function libc(): string {
  if (process.platform !== 'linux') return ''
  const report = process.report.getReport() as unknown as { header: { glibcVersionRuntime?: string } }
  return report.header.glibcVersionRuntime ? 'glibc' : 'musl'
}

function candidates(): AddonOrigin[] {
  const explicit = process.env.LOWRANK_NATIVE_PATH
  if (explicit) return [{ from: 'env', path: resolve(explicit) }]
  const builds = ['Release', 'Debug'].map((kind) => join(packageRoot, 'build', kind, 'lowrank.node'))
  const folder = join(packageRoot, 'prebuilds', `${process.platform}-${process.arch}`)
  const names = [...new Set([libc() && `lowrank.${libc()}.node`, 'lowrank.node'])].filter(Boolean)
  return [
    ...(process.env.LOWRANK_PREBUILD_ONLY ? [] : builds.map((path) => ({ from: 'build' as const, path }))),
    ...names.map((name) => ({ from: 'prebuild' as const, path: join(folder, name) })),
  ]
}

function load(): { addon: unknown; origin: AddonOrigin } {
  const tried: { path: string; error: string }[] = []
  for (const origin of candidates()) {
    try {
      // One path at a time: given several, `bindings` keeps no reason but the last one's.
      const addon: unknown = bindings({ bindings: 'lowrank', module_root: packageRoot, try: [[origin.path]] })
      return { addon, origin }
    } catch (error) {
      tried.push({ path: origin.path, error: reason(error) })
    }
  }
  throw failure(tried)
}

function reason(error: unknown): string {
  // `bindings` sets `tries` on the error it makes when no file exists.
  if (error instanceof Error && 'tries' in error) return 'no such file'
  return error instanceof Error ? error.message : String(error)
}

function failure(tried: { path: string; error: string }[]): NativeLoadError {
  const { node, napi } = process.versions
  const platform = [`${process.platform}-${process.arch}`, libc()].filter(Boolean).join(' ')
  const remedy = process.env.LOWRANK_NATIVE_PATH
    ? 'Point LOWRANK_NATIVE_PATH at a lowrank.node built for this machine, or unset it.'
    : 'Build it here with "npm rebuild lowrank --build-from-source" (needs CMake and a C++20 compiler).'
  const lines = tried.map(({ path, error }) => `  ${path}: ${error}`)
  return new NativeLoadError(
    `The native addon could not be loaded on ${platform} (Node ${node}, Node-API ${napi}). Tried:\n${lines.join('\n')}\n${remedy}`,
    { platform: `${process.platform}-${process.arch}`, libc: libc(), node, nodeApi: napi, tried },
  )
}
