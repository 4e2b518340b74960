/** The checkpoints that a run saves, and the best step among them. */
import { dirname, resolve } from 'node:path'
import type { AdapterState } from '../../base/base.js'
import { ConfigError, FileFormatError } from '../../core/errors.js'
import type { RunFolders } from '../folders/output-folder.js'
import { standing } from '../steps/best.js'
import type { CheckpointEvent } from '../steps/events.js'
import type { TrainingState } from '../steps/step.js'
import { restoreValues, saveCheckpoint } from './checkpoint-file.js'
import { checkpointPath, pruneCheckpoints } from './checkpoint-folder.js'
import { type SavingSetup, savedBy } from './gathered.js'
import type { Checkpoint, RunIdentity } from './run-identity.js'
import { readCheckpoint } from './state-file.js'

interface KeeperSetup extends SavingSetup {
  /** Null for a rank that writes nothing, and for a run that saves nothing. */
  folders: RunFolders | null
}

export class Keeper {
  /** Paths in the order they were saved. */
  readonly paths: string[] = []
  readonly #setup: KeeperSetup
  readonly #state: TrainingState
  readonly #identity: RunIdentity
  /** Folder of the checkpoints; null saves none. */
  readonly #folder: string | null
  /** True for the rank that writes there. */
  readonly #writes: boolean
  /** The last step saved to the folder. */
  #saved = -1

  /**
   * @param place folders of the run, which rank 0 writes to
   * @param state position of the run, which advances
   * @param resumed the checkpoint that the run was resumed from
   */
  constructor(
    setup: KeeperSetup,
    place: RunFolders | null,
    state: TrainingState,
    identity: RunIdentity,
    resumed: string | null,
  ) {
    this.#setup = setup
    this.#state = state
    this.#identity = identity
    this.#writes = setup.folders !== null
    // Ranks with a part of the layers save together, and each loads its own.
    this.#folder = (setup.pipe === undefined ? setup.folders : place)?.runDir ?? null
    if (resumed !== null && this.#folder !== null && resolve(dirname(resumed)) === resolve(this.#folder))
      this.#saved = state.step
  }

  /**
   * Saves a checkpoint of the current step.
   * @returns undefined if there is no folder or the step is already saved
   */
  async save(): Promise<CheckpointEvent | undefined> {
    const { options } = this.#setup
    const folder = this.#folder
    const { step } = this.#state
    const path = await this.#write()
    if (path === undefined || folder === null || !this.#writes) return undefined
    this.paths.push(path)
    if (options.saveTotalLimit !== null) {
      const best = options.loadBestModelAtEnd ? this.#best?.step : undefined
      const kept = new Set([path, ...(best === undefined ? [] : [checkpointPath(folder, best)])])
      await pruneCheckpoints(folder, options.saveTotalLimit, [...kept])
    }
    return { event: 'checkpoint', step, path }
  }

  /** Saves this step if it is the best one so far. */
  async saveBest(): Promise<CheckpointEvent | undefined> {
    const { loadBestModelAtEnd: loads } = this.#setup.options
    return loads && this.#best?.step === this.#state.step ? this.save() : undefined
  }

  /** Saves the seed of private noise before its first use, so that no round is ever released twice. */
  async saveStart(): Promise<void> {
    if (this.#state.step === 0) await this.#write()
  }

  /** @throws {ConfigError} when the best step so far, which may be loaded at the end, is not in the folder */
  async checkBest(): Promise<void> {
    const { options } = this.#setup
    const folder = this.#folder
    const best = this.#best
    if (!options.loadBestModelAtEnd || folder === null || best === undefined) return
    if (best.step === this.#state.step) return
    const path = checkpointPath(folder, best.step)
    const found: Checkpoint | Error = await readCheckpoint(path).catch((error: Error) => error)
    if (!(found instanceof Error) && found.state.run === this.#state.run) return
    const why = found instanceof Error ? found.message : `${path} is of another run.`
    throw new ConfigError(
      `load_best_model_at_end is true, and step ${best.step}, the best so far, no longer exists: ${why} Restore it, or set load_best_model_at_end to false.`,
      { path },
    )
  }

  /**
   * Restores the adapter to the best step, if that is not the last one.
   * @throws {FileFormatError} when its checkpoint is damaged
   */
  async loadBest(): Promise<void> {
    const { base, adapter, options, use } = this.#setup
    const folder = this.#folder
    const best = this.#best
    if (!options.loadBestModelAtEnd || folder === null || best === undefined) return
    if (best.step === this.#state.step) return
    const { path, state } = await readCheckpoint(checkpointPath(folder, best.step))
    if (state.run !== this.#state.run)
      throw new FileFormatError(`${path}, the best step, was replaced by a checkpoint of another run.`, {
        path,
      })
    const load = async () => {
      adapter.version++
      await restoreValues(path, base, adapter)
    }
    await use(() => adapter.turns.run(load))
  }

  get #best() {
    return standing(this.#state.evaluations, this.#setup.options).best
  }

  async #write(): Promise<string | undefined> {
    const { base, ranks } = this.#setup
    const folder = this.#folder
    const { step } = this.#state
    if (folder === null || this.#saved === step || ranks.isBroken) return undefined
    const save = (whole: AdapterState) => saveCheckpoint(folder, base, whole, this.#state, this.#identity)
    const path = await savedBy(this.#setup, save)
    this.#saved = step
    return path
  }
}
