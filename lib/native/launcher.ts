/** The program that started this process, if it was one of MPI's, by the variables that it sets. */
import { fstatSync } from 'node:fs'
import type { Environment } from '../core/environment.js'
import type { MpiLauncher } from './lists.js'

/** A launcher, and the rank it assigned to this process. */
export interface Launch {
  launcher: MpiLauncher
  /** The environment variable that identified it. */
  variable: string
  rank: number
  /** Rank within this machine; equal to `rank` if no variable gives it. */
  localRank: number
  /** Number of ranks; 0 if no variable gives it. */
  size: number
  /** Path of an MPI library to use instead of the known ones (LOWRANK_MPI); empty: none. */
  library: string
}

/**
 * The order matters, since Open MPI also sets PMIX_RANK. Slurm's own variables are not used: they indicate tasks, not
 * that MPI should connect them.
 */
const KNOWN: readonly [MpiLauncher, known: string, rank: string, size: string | null][] = [
  ['open_mpi', 'OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE'],
  ['pmi', 'PMI_RANK', 'PMI_RANK', 'PMI_SIZE'],
  ['pmix', 'PMIX_RANK', 'PMIX_RANK', null],
]

/** Launchers' variables for the rank within a machine. */
const LOCAL = ['OMPI_COMM_WORLD_LOCAL_RANK', 'MPI_LOCALRANKID', 'SLURM_LOCALID']

/** Detects the launcher; undefined if there is none, or if LOWRANK_MPI=off. */
export function launchOf(env: Environment): Launch | undefined {
  const library = env.LOWRANK_MPI ?? ''
  if (library === 'off') return undefined
  const found = KNOWN.find(([, known]) => env[known] !== undefined)
  if (found === undefined) return undefined
  const [launcher, variable, rank, size] = found
  const numberIn = (name: string | null) => Number((name !== null && env[name]) || 0)
  const local = LOCAL.find((name) => env[name] !== undefined) ?? rank
  return {
    launcher,
    variable,
    rank: numberIn(rank),
    localRank: numberIn(local),
    size: numberIn(size),
    library,
  }
}

/**
 * Why the launcher cannot be reached; undefined if it may be reachable. MPICH's launcher passes an open socket to its
 * processes, which wrappers such as npx do not pass on.
 */
export function closedWay(env: Environment): string | undefined {
  const { PMI_FD: descriptor } = env
  if (descriptor === undefined) return undefined
  // The descriptor number may have been reused for another file.
  if (isSocket(Number(descriptor))) return undefined
  return `the connection to MPICH's launcher (PMI_FD=${descriptor}) was closed before this process started, as npx does. Start node_modules/.bin/lowrank in place of npx lowrank.`
}

function isSocket(descriptor: number): boolean {
  try {
    return fstatSync(descriptor).isSocket()
  } catch {
    return false
  }
}
