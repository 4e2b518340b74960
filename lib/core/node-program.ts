/** Starts Node.js processes: the text worker, measurements, and scripts of this package. */
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, sep } from 'node:path'
import { pathToFileURL } from 'node:url'
import { here } from './here.cjs'
import { packageRoot } from './root.js'

/** How to start a process of Node.js. */
export interface NodeProgram {
  execPath: string
  /** Options that the process needs to find packages. */
  execArgv: string[]
  env: NodeJS.ProcessEnv
}

/**
 * The Node.js executable, and the options and the environment it needs: LOWRANK_NODE if set, else this process's
 * executable. Electron's runs as Node.js only if told to by an environment variable.
 */
export function nodeProgram(): NodeProgram {
  return {
    execPath: process.env.LOWRANK_NODE || process.execPath,
    execArgv: plugAndPlay(),
    env: { ...process.env, ELECTRON_RUN_AS_NODE: '1' },
  }
}

/**
 * Options that load the resolvers of Yarn's Plug'n'Play, if this process has them. A child has lost them if it does not
 * get NODE_OPTIONS, or if they were options of this process.
 */
function plugAndPlay(): string[] {
  if (!('pnp' in process.versions)) return []
  const resolver = createRequire(join(packageRoot, 'package.json')).resolve('pnpapi')
  const loader = join(dirname(resolver), '.pnp.loader.mjs')
  const modules = existsSync(loader) ? ['--experimental-loader', pathToFileURL(loader).href] : []
  return ['--require', resolver, ...modules]
}

/**
 * Path of a script in this package. Only Electron can read inside its archives; other programs need the unpacked copy
 * next to them.
 */
export function packageScript(...names: string[]): string {
  return readable(join(packageRoot, ...names))
}

/**
 * Path of a compiled file of `lib/`: from the running build, or from the ES modules if the sources are run directly.
 */
export function compiledScript(...names: string[]): string {
  const beside = join(here, '..', ...names)
  return existsSync(beside) ? readable(beside) : packageScript('dist', 'esm', ...names)
}

function readable(path: string): string {
  return process.env.LOWRANK_NODE ? path.replaceAll(`.asar${sep}`, `.asar.unpacked${sep}`) : path
}
