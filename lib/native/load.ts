/**
 * Finds and loads the native addon: LOWRANK_NATIVE_PATH if set, else a build from source, else the prebuilt addon for
 * this platform.
 */
import { spawnSync } from 'node:child_process'
import { join, resolve } from 'node:path'
import bindings from 'bindings'
import { nodeProgram, packageScript } from '../core/node-program.js'
import { packageRoot } from '../core/root.js'
import { type Attempt, forbidden, loadFailure, reason } from './load-failure.js'
import { addonPackage, addonPackages, packagedAddon, prebuilds, prebuiltNames } from './prebuilt.js'

/** Origin of the addon: LOWRANK_NATIVE_PATH, built from source, or prebuilt. */
export interface AddonOrigin {
  from: 'env' | 'build' | 'prebuild'
  path: string
}

let loaded: { addon: unknown; origin: AddonOrigin } | undefined

/**
 * The addon's exports, loaded once per process.
 * @throws {NativeLoadError} when no candidate loads, listing every path tried and why it failed.
 */
export function loadAddon(): unknown {
  loaded ??= load()
  return loaded.addon
}

/** Origin of the addon; loads it if necessary. */
export function addonOrigin(): AddonOrigin {
  loaded ??= load()
  return loaded.origin
}

/** Installed prebuilt addons, and whether each is for this platform. */
export function packagedAddons(): { file: string; fits: boolean }[] {
  const wanted = new Set([...prebuiltNames(), addonPackage()])
  return prebuilds(packageRoot).map((file) => ({ file, fits: wanted.has(file) }))
}

/** Missing requirements for building from source, as reported by the build script; empty if there are none. */
export function missingForBuild(): string[] {
  const script = packageScript('scripts', 'native.mjs')
  const { execPath, env } = nodeProgram()
  if (process.permission?.has('child') === false) return ['the permission to start processes']
  const { stdout, status } = spawnSync(execPath, [script, 'missing'], { encoding: 'utf8', env })
  if (status !== 0) return [`${script}, which does not run`]
  return stdout.split('\n').filter(Boolean)
}

/** Files to try in order, located lazily. */
function* candidates(): Generator<{ path: string; from: AddonOrigin['from']; find?: () => string }> {
  const explicit = process.env.LOWRANK_NATIVE_PATH
  if (explicit) return yield { from: 'env', path: resolve(explicit) }
  const builds = ['Release', 'Debug'].map((kind) => join(packageRoot, 'build', kind, 'lowrank.node'))
  if (!process.env.LOWRANK_PREBUILD_ONLY) for (const path of builds) yield { from: 'build', path }
  // Detecting the C library is slow, so it is done only if needed.
  for (const name of prebuiltNames()) yield { from: 'prebuild', path: join(packageRoot, 'prebuilds', name) }
  const name = addonPackage()
  if (name in addonPackages(packageRoot))
    yield { from: 'prebuild', path: name, find: () => packagedAddon(packageRoot, name) }
}

function load(): { addon: unknown; origin: AddonOrigin } {
  const tried: Attempt[] = []
  for (const { from, path: named, find } of candidates()) {
    let path = named
    try {
      path = find?.() ?? named
      // One path at a time: given several, `bindings` reports only the last one's error.
      const addon: unknown = bindings({ bindings: 'lowrank', module_root: packageRoot, try: [[path]] })
      return { addon, origin: { from, path } }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ERR_DLOPEN_DISABLED') throw forbidden(path, error)
      tried.push({ path, error: reason(path, error) })
    }
  }
  throw loadFailure(packageRoot, tried)
}
