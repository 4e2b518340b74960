/** A compare, or its verification, on ranks of MPI: rank 0 reads and writes results, and all ranks train. */
import { ConfigError } from '../core/errors.js'
import type { RunConfig } from '../train/config/config.js'
import { refuseLayers } from '../train/config/split.js'
import type { Processes } from '../train/processes/processes.js'
import { begin, carriedOut, checkedCall, compare, concludedAgain, workbenchOptions } from './compare.js'
import { dealtOut } from './deal.js'
import { Meetings } from './meetings.js'
import type { CompareOptions } from './options.js'
import { identityOf } from './prepare.js'
import type { CompareResults } from './results.js'
import {
  checkedVerify,
  configOf,
  repeated,
  repetitionOf,
  type Verification,
  type VerifyOptions,
  type VerifySetting,
  verifyCompare,
} from './verify.js'

/**
 * The same as `compare()`, with the trainings dealt out to ranks. All ranks must call it.
 * @returns the results on rank 0; undefined on the others
 * @throws {ConfigError} naming the first fact in which a rank differs from rank 0
 */
export async function compareOn(
  ranks: Processes,
  config: RunConfig,
  options: CompareOptions,
): Promise<CompareResults | undefined> {
  if (ranks.isAlone) return compare(config, options)
  const { asked, metrics } = checkedCall(config, options)
  checkRanksAndJobs(ranks, asked.jobs)
  refuseLayers('lowrank compare', config)
  const meetings = new Meetings(ranks, asked.signal)
  const call = { config, metrics, asked: { ...asked, signal: meetings.signal } }
  const begun = ranks.isFirst ? begin(call) : undefined
  const start = await ranks.firsts('beginning of a compare', async () => {
    const own = await begun
    return { now: own?.now ?? 0, isFinished: own?.finished !== undefined }
  })
  const own = await begun
  if (start.isFinished) return own?.finished && concludedAgain(own, own.finished)
  const opening = {
    ...{ config, options: workbenchOptions(call, start.now) },
    asked: identityOf(config, asked, metrics),
  }
  return dealtOut(ranks, meetings, opening, own && ((runner, others) => carriedOut(own, runner, others)))
}

/**
 * The same as `verifyCompare()`, with the cells dealt out to ranks. All ranks must call it.
 * @returns the outcome on rank 0; undefined on the others
 * @throws {ConfigError} naming the first fact in which a rank differs from rank 0
 */
export async function verifyOn(
  ranks: Processes,
  path: string,
  options: VerifyOptions,
): Promise<Verification | undefined> {
  if (ranks.isAlone) return verifyCompare(path, options)
  const asked = checkedVerify(path, options)
  const { onCell } = asked
  const meetings = new Meetings(ranks, asked.signal)
  const { signal } = meetings
  const read = ranks.isFirst ? repetitionOf(path, asked) : undefined
  const setting = (await ranks.firsts('cells to verify', async () => (await read)?.setting)) as VerifySetting
  const opening = { config: configOf(setting, path), options: setting.options, asked: {} }
  const own = await read
  return dealtOut(
    ...([ranks, meetings, opening] as const),
    own &&
      ((runner, others) => {
        const entries = own.cells.map(({ entry }) => entry)
        return repeated(own, runner, others(entries), { signal, onCell })
      }),
  )
}

function checkRanksAndJobs({ size }: Processes, jobs: number): void {
  if (jobs === 1) return
  throw new ConfigError(
    `compare: jobs is ${jobs}, but ${size} ranks train side by side already; leave jobs (--jobs) at 1, or start more ranks.`,
    { jobs, ranks: size },
  )
}
