/** Launchers of MPI, as users call them. */
import { execFileSync } from 'node:child_process'
import { skip } from '../needs.js'

const FAMILIES = {
  'Open MPI': {
    commands: ['mpirun.openmpi', 'mpirun'],
    is: /Open MPI|OpenRTE|PRRTE/,
    // More ranks than cores, as root, without a network.
    flags: ['--oversubscribe', '--bind-to', 'none'],
    env: {
      OMPI_ALLOW_RUN_AS_ROOT: '1',
      OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: '1',
      OMPI_MCA_btl: 'self,vader',
      OMPI_MCA_rmaps_base_oversubscribe: '1',
    },
  },
  MPICH: { commands: ['mpirun.mpich', 'mpiexec.hydra', 'mpirun'], is: /HYDRA|MPICH/, flags: [], env: {} },
} as const

export type MpiFamily = keyof typeof FAMILIES
export const MPI_FAMILIES = Object.keys(FAMILIES) as MpiFamily[]

/** Ways to lose a rank, with each family. */
export const LOST_RANKS = [
  ['SIGSTOP', 'MPICH'],
  ['SIGKILL', 'MPICH'],
  ['SIGSTOP', 'Open MPI'],
  ['SIGKILL', 'Open MPI'],
] as const

export interface Mpirun {
  /** Wraps a command so that so many ranks run it. */
  wrap(ranks: number): (node: string, args: string[]) => [command: string, args: string[]]
  env: NodeJS.ProcessEnv
}

/** Skips the test where the launcher is not installed. */
export function mpirun(family: MpiFamily): Mpirun {
  const { commands, is, flags, env } = FAMILIES[family]
  const command = commands.find((name) => is.test(versionOf(name)))
  if (command === undefined) skip(`${family} is not installed (${commands[0]})`)
  return {
    wrap: (ranks) => (node, args) => [command as string, [...flags, '-n', String(ranks), node, ...args]],
    env,
  }
}

function versionOf(command: string): string {
  try {
    return execFileSync(command, ['--version'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
  } catch {
    return ''
  }
}
