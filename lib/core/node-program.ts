/** Starts Node.js processes: the text worker, measurements, and scripts of this package. */
import { existsSync } from 'node:fs'
import { join, sep } from 'node:path'
import { here } from './here.cjs'
import { packageRoot } from './root.js'

/**
 * The program, and the environment that it needs: the one that `LOWRANK_NODE` names, else this process's own.
 * Electron's is Node.js only when it is told so.
 */
export function nodeProgram(): { execPath: string; env: NodeJS.ProcessEnv } {
  return {
    execPath: process.env.LOWRANK_NODE || process.execPath,
    env: { ...process.env, ELECTRON_RUN_AS_NODE: '1' },
  }
}

/** A script of this package. Only Electron reads inside its archives; any other program needs the copy beside them. */
export function packageScript(...names: string[]): string {
  return readable(join(packageRoot, ...names))
}

/** A compiled file of `lib/`: of the build that runs, or the ES modules where sources are run directly. */
export function compiledScript(...names: string[]): string {
  const beside = join(here, '..', ...names)
  return existsSync(beside) ? readable(beside) : packageScript('dist', 'esm', ...names)
}

function readable(path: string): string {
  return process.env.LOWRANK_NODE ? path.replaceAll(`.asar${sep}`, `.asar.unpacked${sep}`) : path
}
