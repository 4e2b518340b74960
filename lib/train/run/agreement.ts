/**
 * The agreement of the processes that train together: at the start on everything that results depend on, and between
 * steps on the bits of the adapter.
 */
import { RanksError } from '../../core/errors.js'
import { translatedAsync } from '../../native/errors.js'
import { strategyToFile } from '../../strategies/index.js'
import type { Resumable } from '../checkpoints/checkpoint-folder.js'
import { canonical, factsOf, type RunIdentity } from '../checkpoints/run-identity.js'
import type { TrainingState } from '../steps/step.js'
import type { RunSetup } from './run-setup.js'
import { agreeOnFolder, programFacts } from './shared.js'

/** Steps between two comparisons of the adapters, at most. */
const COMPARED_STEPS = 50

export class Agreement {
  readonly #setup: RunSetup

  constructor(setup: RunSetup) {
    this.#setup = setup
  }

  async onFolder(outputDir: string | undefined): Promise<void> {
    const { ranks } = this.#setup
    if (!ranks.isAlone) await agreeOnFolder(ranks, outputDir)
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
