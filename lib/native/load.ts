/**
 * Finds and loads the native addon: the file that LOWRANK_NATIVE_PATH names, else a build from source, else the
 * prebuilt addon of this platform. It does not rely on npm's install scripts having run.
 */
import { spawnSync } from 'node:child_process'
import { join, resolve } from 'node:path'
import bindings from 'bindings'
import { nodeProgram, packageScript } from '../core/node-program.js'
import { packageRoot } from '../core/root.js'
import { type Attempt, loadFailure, reason } from './load-failure.js'
import { addonPackage, addonPackages, packagedAddon, prebuilds, prebuiltNames } from './prebuilt.js'

/** Origin of the addon: LOWRANK_NATIVE_PATH, built from source, or prebuilt. */
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

/** Origin of the addon; loads it first if necessary. */
export function addonOrigin(): AddonOrigin {
  loaded ??= load()
  return loaded.origin
}

/** The prebuilt addons that are installed, and which of them are for this platform. */
export function packagedAddons(): { file: string; fits: boolean }[] {
  const wanted = new Set([...prebuiltNames(), addonPackage()])
  return prebuilds(packageRoot).map((file) => ({ file, fits: wanted.has(file) }))
}

/** Missing requirements of a build from source, in the build's own words; empty if there are none. */
export function missingForBuild(): string[] {
  const script = packageScript('scripts', 'native.mjs')
  const { execPath, env } = nodeProgram()
  const { stdout, status } = spawnSync(execPath, [script, 'missing'], { encoding: 'utf8', env })
  if (status !== 0) return [`${script}, which does not run`]
  return stdout.split('\n').filter(Boolean)
}

/** Files to try, in order, each found when its turn comes. */
function* candidates(): Generator<{ path: string; from: AddonOrigin['from']; find?: () => string }> {
  const explicit = process.env.LOWRANK_NATIVE_PATH
  if (explicit) return yield { from: 'env', path: resolve(explicit) }
  const builds = ['Release', 'Debug'].map((kind) => join(packageRoot, 'build', kind, 'lowrank.node'))
  if (!process.env.LOWRANK_PREBUILD_ONLY) for (const path of builds) yield { from: 'build', path }
  // Detecting the C library takes a while, so it is done only if it matters.
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
      // One path at a time: given several, `bindings` keeps no reason but the last one's.
      const addon: unknown = bindings({ bindings: 'lowrank', module_root: packageRoot, try: [[path]] })
      return { addon, origin: { from, path } }
    } catch (error) {
      tried.push({ path, error: reason(path, error) })
    }
  }
  throw loadFailure(packageRoot, tried)
}
