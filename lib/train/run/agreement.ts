/**
 * The agreement of the processes that train or evaluate together: at the start on everything that results depend on, and
 * between steps on the bits of the adapter.
 */
import { resolve } from 'node:path'
import type { ActiveAdapter, BaseModel } from '../../base/base.js'
import { RanksError } from '../../core/errors.js'
import { packageVersion } from '../../core/root.js'
import { addon } from '../../native/addon.js'
import { translatedAsync } from '../../native/errors.js'
import { strategyToFile } from '../../strategies/index.js'
import { describeBoth } from '../../weights/quantization.js'
import type { Resumable } from '../checkpoints/checkpoint-folder.js'
import { canonical, factsOf, type RunIdentity } from '../checkpoints/run-identity.js'
import type { Processes } from '../processes/processes.js'
import type { EvaluateControl } from '../steps/evaluate.js'
import type { TrainingState } from '../steps/step.js'
import type { RunSetup } from './run-setup.js'

/** Steps between two comparisons of the adapters, at most. */
const COMPARED_STEPS = 50

export class Agreement {
  readonly #setup: RunSetup

  constructor(setup: RunSetup) {
    this.#setup = setup
  }

  /** Rejects processes that would compute different results, before anything is written. */
  async atStart(identity: RunIdentity, state: TrainingState, checkpoint: Resumable | null): Promise<void> {
    const { base, adapter, options, ranks, pipe } = this.#setup
    if (ranks.isAlone) return
    const { strategy } = adapter.description
    await ranks.agree('start', {
      ...programFacts(base),
      ...factsOf(identity, options),
      strategy: canonical(strategyToFile(strategy)),
      checkpoint: checkpoint === null ? 'none' : `${state.run} at step ${state.step}`,
      ...(pipe === undefined ? { adapter: await this.#digest() } : {}),
    })
  }

  /**
   * Every process makes the same updates, so their adapters must stay bit-identical.
   * @param due true to compare them whatever the step
   */
  async afterStep({ step, totalSteps }: TrainingState, due: boolean): Promise<void> {
    const { ranks, pipe } = this.#setup
    if (ranks.isAlone || pipe !== undefined) return
    if (!due && step < totalSteps && step % COMPARED_STEPS !== 0) return
    const digests = await ranks.together('comparison', () => this.#digest())
    const other = digests.findIndex((digest) => digest !== digests[0])
    if (other < 0) return
    throw new RanksError(
      `the adapter of ${ranks.name(other)} is no longer that of ${ranks.name(0)}: a processor or its memory may be faulty. Resume from the newest checkpoint without that machine.`,
      { rank: other },
    )
  }

  #digest(): Promise<string> {
    const { adapter, use } = this.#setup
    return use(() => translatedAsync(() => adapter.native.digest().promise))
  }
}

/** The program version and the kind of processor of a rank. */
export function programFacts({ device }: BaseModel): Record<string, string> {
  return {
    'version of lowrank': packageVersion(),
    'instruction set': addon().cpu().isa,
    device: device === 'cpu' ? 'cpu' : 'cuda',
  }
}

/**
 * Rejects ranks with another output folder, of which only the first rank's would be written.
 * @throws {ConfigError} naming the first difference
 */
export async function agreeOnFolder(ranks: Processes, outputDir: string | undefined): Promise<void> {
  await ranks.agree('output folder', { output_dir: outputDir === undefined ? 'none' : resolve(outputDir) })
}

/**
 * Rejects ranks that would evaluate differently.
 * @param data hash of the rows
 * @throws {ConfigError} naming the first difference
 */
export async function agreeToEvaluate(
  ranks: Processes,
  base: BaseModel,
  adapters: readonly ActiveAdapter[],
  data: string,
  options: object,
): Promise<void> {
  const own = async ({ state, weight, rank }: ActiveAdapter) => {
    const digest = await translatedAsync(() => state.native.digest().promise)
    return `${digest}, weight ${weight}, rank ${rank}`
  }
  await ranks.agree('start of an evaluation', {
    ...programFacts(base),
    'base model': base.files.fingerprint,
    'evaluation data': data,
    quantization: describeBoth(base),
    precision: base.precision,
    options: canonical(options),
    adapters: (await Promise.all(adapters.map(own))).join('; '),
  })
}

/** Distributes an evaluation over ranks, which stop together. */
export function sharedWith(
  ranks: Processes,
  { signal, onProgress }: Omit<EvaluateControl, 'ranks'>,
): EvaluateControl {
  return { signal: ranks.joint(signal), onProgress, ranks }
}
