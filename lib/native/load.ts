/**
 * Finds and loads the native addon: the file that LOWRANK_NATIVE_PATH names, else a build from source, else the
 * prebuilt binary of this platform. It does not rely on npm's install scripts having run.
 */
import { join, resolve } from 'node:path'
import bindings from 'bindings'
import { packageRoot } from '../root.js'
import { type Attempt, libc, loadFailure, reason } from './load-failure.js'

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

function candidates(): AddonOrigin[] {
  const explicit = process.env.LOWRANK_NATIVE_PATH
  if (explicit) return [{ from: 'env', path: resolve(explicit) }]
  const builds = ['Release', 'Debug'].map((kind) => join(packageRoot, 'build', kind, 'lowrank.node'))
  const folder = join(packageRoot, 'prebuilds', `${process.platform}-${process.arch}`)
  const { name } = libc()
  const names = [...new Set([name && `lowrank.${name}.node`, 'lowrank.node'])].filter(Boolean)
  return [
    ...(process.env.LOWRANK_PREBUILD_ONLY ? [] : builds.map((path) => ({ from: 'build' as const, path }))),
    ...names.map((name) => ({ from: 'prebuild' as const, path: join(folder, name) })),
  ]
}

function load(): { addon: unknown; origin: AddonOrigin } {
  const tried: Attempt[] = []
  for (const origin of candidates()) {
    try {
      // One path at a time: given several, `bindings` keeps no reason but the last one's.
      const addon: unknown = bindings({ bindings: 'lowrank', module_root: packageRoot, try: [[origin.path]] })
      return { addon, origin }
    } catch (error) {
      tried.push({ path: origin.path, error: reason(origin.path, error) })
    }
  }
  throw loadFailure(packageRoot, tried)
}
