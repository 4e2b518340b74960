/** Starts Node.js processes: the text worker, measurements, and scripts of this package. */
import { existsSync } from 'node:fs'
import { join, sep } from 'node:path'
import { here } from './here.cjs'
import { packageRoot } from './root.js'

/**
 * The Node.js executable and the environment it needs: LOWRANK_NODE if set, else this process's executable. Electron's
 * runs as Node.js only if told to by an environment variable.
 */
export function nodeProgram(): { execPath: string; env: NodeJS.ProcessEnv } {
  return {
    execPath: process.env.LOWRANK_NODE || process.execPath,
    env: { ...process.env, ELECTRON_RUN_AS_NODE: '1' },
  }
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
