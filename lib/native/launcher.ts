/** The program that started this process, if it was one of MPI's, by the variables that it sets. */
/** Launchers by how they connect the ranks: Open MPI's own, or any that speaks PMI or PMIx. */
export type Launcher = 'open_mpi' | 'pmi' | 'pmix'

/** A launcher, and the place that it gave this process. */
export interface Launch {
  launcher: Launcher
  /** The variable that it is known by. */
  variable: string
  rank: number
  /** 0 where no variable says it. */
  size: number
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

/** Undefined without a launcher, and with LOWRANK_MPI=off whatever the variables say. */
export function launchOf(env: NodeJS.ProcessEnv): Launch | undefined {
  if (env.LOWRANK_MPI === 'off') return undefined
  const found = KNOWN.find(([, known]) => env[known] !== undefined)
  if (found === undefined) return undefined
  const [launcher, variable, rank, size] = found
  const numberIn = (name: string | null) => Number((name !== null && env[name]) || 0)
  return { launcher, variable, rank: numberIn(rank), size: numberIn(size) }
}
