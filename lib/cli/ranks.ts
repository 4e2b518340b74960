/** A verb among the ranks of an MPI job: the first tells how it goes, and of an error one rank tells. */
import { setTimeout as sleep } from 'node:timers/promises'
import { addon } from '../native/addon.js'
import { launchOf } from '../native/launcher.js'
import { joinRanks, type Ranks } from '../train/ranks.js'
import { exitCodeOf, reportError } from './errors.js'
import { counted } from './format.js'
import { Output } from './output.js'

/** A rank of another machine than the first leaves the word to that one, whose end ends this one as well. */
const WAIT_MS = 2000

/**
 * Joins the ranks, and leaves them when the work of all is done.
 * @param work is given an output that says nothing on all ranks but the first
 */
export async function amongRanks(
  verb: string,
  json: boolean,
  work: (ranks: Ranks, output: Output) => Promise<void>,
): Promise<void> {
  const ranks = await joined()
  if (ranks === undefined) return
  const output = ranks.isFirst ? new Output(json) : Output.silent()
  if (!ranks.isFirst) process.removeAllListeners('warning')
  try {
    await work(ranks, output)
    await ranks.meet('the end', null)
  } catch (caught) {
    const error = await ranks.failed(caught)
    if (ranks.isAlone) throw error
    // Before anyone leaves: launchers end the others when one has ended with an error.
    process.exitCode = ranks.tells ? reportError(error, new Output(json), verb) : exitCodeOf(error)
    if (ranks.isBroken) {
      if (!ranks.tells) await sleep(WAIT_MS)
      addon().endRanks(Number(process.exitCode))
    }
  }
  await ranks.leave()
}

/** Says how many ranks do the work; nothing of a process alone. */
export function noteRanks({ isAlone, size, library }: Ranks, what: string, output: Output): void {
  if (isAlone) return
  const { threads } = addon().cpu()
  output.note(`${what} on ${size} ranks by ${library}, ${counted(threads, 'thread')} each.`)
}

/** Undefined where another rank of this machine tells the error, which all of them have. */
async function joined(): Promise<Ranks | undefined> {
  try {
    return await joinRanks()
  } catch (error) {
    const { rank, localRank } = launchOf(process.env) ?? { rank: 0, localRank: 0 }
    // Launchers end the others when one has ended.
    if (rank > 0) await sleep(WAIT_MS)
    if (localRank === 0) throw error
    process.exitCode = exitCodeOf(error)
    return undefined
  }
}
