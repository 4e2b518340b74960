/** The program that started this process, if it was one of MPI's, by the variables that it sets. */ import { fstatSync } from 'node:fs'

/** Launchers by how they connect the ranks: Open MPI's own, or any that speaks PMI or PMIx. */
export type Launcher = 'open_mpi' | 'pmi' | 'pmix'

/** A launcher, and the place that it gave this process. */
export interface Launch {
  launcher: Launcher
  /** The variable that it is known by. */
  variable: string
  rank: number
  /** Among the ranks of its machine; where no variable says it, `rank`. */
  localRank: number
  /** 0 where no variable says it. */
  size: number
  /** Path of a library in place of those that are known (LOWRANK_MPI); empty: none. */
  library: string
}

/**
 * In this order: Open MPI sets PMIX_RANK as well. Slurm's own variables say that there are tasks, not that MPI is to
 * connect them.
 */
const KNOWN: readonly [Launcher, known: string, rank: string, size: string | null][] = [
  ['open_mpi', 'OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE'],
  ['pmi', 'PMI_RANK', 'PMI_RANK', 'PMI_SIZE'],
  ['pmix', 'PMIX_RANK', 'PMIX_RANK', null],
]

/** Variables of launchers for the rank within a machine. */
const LOCAL = ['OMPI_COMM_WORLD_LOCAL_RANK', 'MPI_LOCALRANKID', 'SLURM_LOCALID']

/** Undefined without a launcher, and with LOWRANK_MPI=off whatever the variables say. */
export function launchOf(env: NodeJS.ProcessEnv): Launch | undefined {
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
 * Why the way to the launcher is closed; undefined where it may be open. MPICH's launcher hands its processes an open socket,
 * which npx, for one, does not hand on.
 */
export function closedWay(env: NodeJS.ProcessEnv): string | undefined {
  const { PMI_FD: descriptor } = env
  if (descriptor === undefined) return undefined
  // Its number may be that of another file by now.
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
