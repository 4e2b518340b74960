/**
 * The MPI libraries of this machine, opened in a process of its own: a library may start threads, patch functions of
 * the C library, or crash, and another one may not bear what it did.
 */
import { spawnSync } from 'node:child_process'
import { compiledScript, nodeProgram } from '../core/node-program.js'
import type { MpiReport } from './addon.js'
import { addonOrigin } from './load.js'

export function mpiLibraries(): MpiReport {
  if (process.permission?.has('child') === false)
    return without('the permission to start processes is missing')
  const { execPath, execArgv, env } = nodeProgram()
  const { stdout, signal, status, error } = spawnSync(
    execPath,
    [...execArgv, compiledScript('native', 'mpi-child.js')],
    { encoding: 'utf8', env: { ...env, LOWRANK_NATIVE_PATH: addonOrigin().path }, timeout: 60_000 },
  )
  if (error === undefined && status === 0) return JSON.parse(stdout) as MpiReport
  const end = error?.message ?? (signal ? `signal ${signal}` : `exit code ${status}`)
  return without(`the process that opens the libraries ended early: ${end}`)
}

function without(reason: string): MpiReport {
  return { libraries: [], reasons: [reason] }
}
