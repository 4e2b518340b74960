/** Starts Node.js processes: the text worker, measurements, and scripts of this package. */
import type { ChildProcess } from 'node:child_process'
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, sep } from 'node:path'
import { pathToFileURL } from 'node:url'
import { UnsupportedError } from './errors.js'
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
 * @throws UnsupportedError in a single executable application without LOWRANK_NODE, which would start itself again.
 */
export function nodeProgram(): NodeProgram {
  const named = process.env.LOWRANK_NODE
  if (!named && isSingleExecutable())
    throw new UnsupportedError(
      `lowrank starts processes of Node.js, for tokenizers and chat templates among others, and ${process.execPath} is a single executable application, which would start itself; name a Node.js executable in the environment variable LOWRANK_NODE. See docs/bundlers.md.`,
      { execPath: process.execPath },
    )
  return {
    execPath: named || process.execPath,
    execArgv: plugAndPlay(),
    env: { ...process.env, ELECTRON_RUN_AS_NODE: '1' },
  }
}

function isSingleExecutable(): boolean {
  // Bun and older versions of Deno have no such module.
  const sea = process.getBuiltinModule?.('node:sea') as { isSea?: () => boolean } | undefined
  return sea?.isSea?.() ?? false
}

/**
 * Starts a process.
 * @param what what runs in it, in the plural
 * @throws UnsupportedError where the permissions of Node.js forbid processes.
 */
export function permitted<Child extends ChildProcess>(what: string, start: () => Child): Child {
  try {
    return start()
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'ERR_ACCESS_DENIED') throw cause
    throw new UnsupportedError(
      `${what} run in a child process, which the permissions of Node.js forbid; allow it with --allow-child-process.`,
      {},
      { cause },
    )
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
