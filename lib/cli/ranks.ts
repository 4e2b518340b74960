/** Runs a verb on the ranks of an MPI job: rank 0 shows progress, and a single rank reports an error. */
import { setTimeout as sleep } from 'node:timers/promises'
import { addon } from '../native/addon.js'
import { launchOf } from '../native/launcher.js'
import { joinRanks, type Processes } from '../train/processes/processes.js'
import { exitCodeOf, reportError } from './errors.js'
import { counted } from './format.js'
import { Output } from './output.js'

/** How long a rank waits for the one that reports the error, whose exit also ends the others. */
const WAIT_MS = 2000

/** How long a rank waits after its report: MPICH's launcher drops what it has not read once a rank ends the job. */
const REPORTED_MS = 500

/**
 * Joins the ranks, and leaves them when all have finished their work.
 * @param work called with an output that is silent on all ranks except rank 0
 * @param join default: later runs of this process are those of all ranks
 */
export async function amongRanks(
  verb: string,
  json: boolean,
  work: (ranks: Processes, output: Output) => Promise<void>,
  join: () => Promise<Processes> = joinRanks,
): Promise<void> {
  const ranks = await joined(join)
  if (ranks === undefined) return
  const output = ranks.isFirst ? new Output(json) : Output.silent()
  if (!ranks.isFirst) process.removeAllListeners('warning')
  try {
    await work(ranks, output)
    await ranks.meet('the end', null)
  } catch (caught) {
    const error = await ranks.failed(caught)
    if (ranks.isAlone) throw error
    // Rank 0 may have the same error, and its end ends this rank.
    if (ranks.isBroken && !ranks.isFirst) await sleep(WAIT_MS)
    // Report the error before any rank leaves, because launchers end the others once one has ended with an error.
    process.exitCode = ranks.tells ? reportError(error, new Output(json), verb) : exitCodeOf(error)
    if (ranks.isBroken) {
      await sleep(ranks.tells ? REPORTED_MS : WAIT_MS)
      addon().endRanks(Number(process.exitCode))
    }
  }
  if (!(await ranks.leave())) addon().endRanks(Number(process.exitCode ?? 0))
}

/** Prints the number of ranks that do the work; nothing for a single process. */
export function noteRanks({ isAlone, size, library }: Processes, what: string, output: Output): void {
  if (isAlone) return
  const { threads } = addon().cpu()
  output.note(`${what} on ${size} ranks by ${library}, ${counted(threads, 'thread')} each.`)
}

/**
 * Joins the ranks. Undefined if that failed and another rank of this machine reports the error, which all ranks
 * have.
 */
async function joined(join: () => Promise<Processes>): Promise<Processes | undefined> {
  try {
    return await join()
  } catch (error) {
    const { rank, localRank } = launchOf(process.env) ?? { rank: 0, localRank: 0 }
    // Wait, because launchers end the other ranks once one has ended.
    if (rank > 0) await sleep(WAIT_MS)
    if (localRank === 0) throw error
    process.exitCode = exitCodeOf(error)
    return undefined
  }
}
