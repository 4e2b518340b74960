/**
 * The start of a run, from folders and options to its state: room in memory, the lock of its folder, the checkpoint that it
 * is resumed from, its data, the agreement of its processes, and its steps.
 */
import { randomUUID } from 'node:crypto'
import { existsSync } from 'node:fs'
import { breather } from '../../core/breather.js'
import { dropoutRemarks } from '../../formats/dropout.js'
import { makeFolder } from '../../io/atomic-folder.js'
import { removeLeftovers } from '../../io/temporary.js'
import { translated, translatedAsync } from '../../native/errors.js'
import { optimizerState } from '../../options/optimizers.js'
import { remarksOnRate } from '../../options/rates.js'
import { MemoryReport } from '../../planning/memory-report.js'
import { checkRoom } from '../../planning/room.js'
import { privacyRemarks } from '../../strategies/privacy-report.js'
import { restoreCheckpoint } from '../checkpoints/checkpoint-file.js'
import { checkpointOf, type Damaged, type Resumable } from '../checkpoints/checkpoint-folder.js'
import { Keeper } from '../checkpoints/keeper.js'
import {
  checkLength,
  continuedEvaluations,
  identityOf,
  type RunIdentity,
} from '../checkpoints/run-identity.js'
import { outputsOf, type RunFolders, type RunOutputs, scratchFolder } from '../folders/output-folder.js'
import { lockRun, type RunLock } from '../folders/run-lock.js'
import { gradientSteps } from '../objectives/gradient-steps.js'
import { checkRanks } from '../processes/processes.js'
import type { RunData } from '../rows/data.js'
import type { Steps, TrainingState } from '../steps/step.js'
import { type Agreement, agreeOnFolder } from './agreement.js'
import { EvaluationSchedule } from './evaluation-schedule.js'
import { noteFormat } from './run-adapter.js'
import type { RunSetup } from './run-setup.js'

/** The checkpoint that a run was resumed from. */
export interface Resumed {
  path: string
  /** Optimizer steps made before the checkpoint. */
  step: number
  /** Later checkpoints that cannot be used. */
  damaged: readonly Damaged[]
}

/** A run that has begun. */
export interface Begun {
  data: RunData
  state: TrainingState
  identity: RunIdentity
  steps: Steps
  evaluation: EvaluationSchedule
  kept: Keeper
}

const WAYS_ON = {
  resume: 'resume: true',
  force: 'force: true',
  elsewhere: 'another outputDir',
}

export class RunStart {
  /** Those on the data of private training are added while the run starts. */
  readonly remarks: string[]
  /** Known one after the other while the run starts. */
  data: Pick<RunData, 'stats' | 'format' | 'asked' | 'tools'> | undefined
  state: TrainingState | undefined
  resumed: Resumed | null = null
  kept: Keeper | undefined
  /** Steps of this run, without those before it was resumed. */
  stepsLeft: number | undefined
  readonly #setup: RunSetup
  /** Folders of the run. Only rank 0 writes there. */
  readonly #place: RunFolders | null
  readonly #agreement: Agreement
  readonly #memory: MemoryReport
  readonly #breathe = breather()
  #lock: RunLock | undefined
  #steps: Steps | undefined

  constructor(setup: RunSetup, place: RunFolders | null, agreement: Agreement, memory: MemoryReport) {
    this.#setup = setup
    this.#place = place
    this.#agreement = agreement
    this.#memory = memory
    const { base, adapter, options, rateSearch } = setup
    this.remarks = [
      ...(rateSearch ? [] : remarksOnRate(options, adapter.description.strategy)),
      ...dropoutRemarks(base.files.config),
    ]
  }

  async begin(): Promise<Begun> {
    const { base, options, evalFraction, folders } = this.#setup
    await this.#enter()
    const checkpoint = await checkpointOf(this.#place, this.#setup.beginning, this.#outputs, WAYS_ON)
    const data = await this.#read(checkpoint)
    const evaluation = new EvaluationSchedule(this.#setup, data)
    noteFormat(this.#setup, data.format())
    await this.#breathe()
    const identity = identityOf(base, options, evalFraction, data)
    const state = await this.#restore(checkpoint, identity)
    const steps = await this.#stepsOf(checkpoint, state, data)
    const kept = new Keeper(this.#setup, this.#place, state, identity, checkpoint?.path ?? null)
    this.kept = kept
    await kept.checkBest()
    if (folders !== null) {
      await makeFolder(folders.outputDir)
      this.#lock ??= await lockRun(folders.outputDir)
    } else await removeLeftovers(scratchFolder(folders))
    if (checkpoint !== null) {
      const { path, damaged } = checkpoint
      this.resumed = { path, step: state.step, damaged }
    }
    return { data, state, identity, steps, evaluation, kept }
  }

  /** Releases the data. */
  async close(): Promise<void> {
    await this.#steps?.close()
    this.#steps = undefined
  }

  /** Unlocks the folder. */
  release(): void {
    this.#lock?.release()
  }

  async #enter(): Promise<void> {
    const { signal, beginning, folders, ranks } = this.#setup
    signal?.throwIfAborted()
    if (!beginning.force) this.#checkRoom()
    await this.#breathe()
    // Lock before looking for the newest checkpoint, which another run may be writing.
    if (folders !== null && existsSync(folders.outputDir)) this.#lock = await lockRun(folders.outputDir)
    await agreeOnFolder(ranks, this.#place?.outputDir)
  }

  /** @throws {OutOfMemoryError} when the run needs far more memory than there is, beside the loaded model */
  #checkRoom(): void {
    const { base, adapter, options } = this.#setup
    const memory = this.#memory
    const held = new MemoryReport(translated(() => base.native.plan([], {})))
    const needed =
      base.device === 'cpu' ? memory.peakBytes - held.peakBytes : memory.pinnedBytes - held.pinnedBytes
    checkRoom(
      memory,
      { needed, available: process.availableMemory() },
      {
        ...options,
        strategy: adapter.description.strategy,
        quantization: base.quantization.type,
        embeddingQuantization: base.embeddingQuantization.type,
      },
      'force: true trains all the same.',
    )
  }

  /** The files that the run itself writes; the command line saves the config. */
  get #outputs(): RunOutputs {
    const { adapter, options, report } = this.#setup
    const more = { config: false, report: report !== undefined }
    return outputsOf(adapter.description.strategy, options.task, more)
  }

  async #read(checkpoint: Resumable | null): Promise<RunData> {
    const { ranks, signal } = this.#setup
    const then = checkpoint?.identity.now
    const now = ranks.isAlone ? then : await ranks.firsts('time', async () => then ?? Date.now())
    const data = await this.#setup.data(now)
    signal?.throwIfAborted()
    // Not the rows, which programs need no longer when the run is over.
    const { stats, format, asked, tools } = data
    this.data = { stats, format, asked, tools }
    return data
  }

  /** The state of a new run, or that of the checkpoint, on which all processes agree. */
  async #restore(checkpoint: Resumable | null, identity: RunIdentity): Promise<TrainingState> {
    const { base, options, ranks, use } = this.#setup
    await this.#restartAdapter()
    const state = await use(() =>
      checkpoint === null ? this.#newState() : this.#restored(checkpoint, identity),
    )
    this.state = state
    checkRanks(options, state.ranks, ranks)
    await this.#agreement.atStart(identity, state, checkpoint)
    if (this.#sumsGradients) await ranks.connect(base.device)
    return state
  }

  async #restartAdapter(): Promise<void> {
    const { adapter, options, folders, use } = this.#setup
    const scratch = scratchFolder(folders)
    const optimizer = optimizerState(options, adapter.description.strategy, scratch)
    if (optimizer.resident !== undefined) await makeFolder(scratch)
    await use(async () => {
      adapter.version++
      await adapter.turns.run(() => translatedAsync(() => adapter.native.restart(optimizer).promise))
      adapter.optimizer = optimizer
    })
  }

  async #restored(checkpoint: Resumable, identity: RunIdentity): Promise<TrainingState> {
    const { base, adapter, options } = this.#setup
    const state = await restoreCheckpoint(checkpoint, base, adapter, identity)
    return { ...state, evaluations: continuedEvaluations(checkpoint, identity, options) }
  }

  async #newState(): Promise<TrainingState> {
    const { ranks, pipe } = this.#setup
    // Ranks with a part of the layers all read the checkpoints of the run, which contain its id.
    const run = await ranks.firsts('id of the run', async () => randomUUID())
    return {
      ...{ run, step: 0, totalSteps: 0, cursor: { epoch: 0, microBatch: 0 }, evaluations: [] },
      totals: { tokens: 0, supervisedTokens: 0, lossSum: 0, seconds: 0 },
      ranks: pipe === undefined ? ranks.size : 1,
    }
  }

  /** True if each step sums the gradients of all ranks at its end. */
  get #sumsGradients(): boolean {
    const { makeSteps, options, pipe } = this.#setup
    return makeSteps === undefined && pipe === undefined && !options.optimizerInBackward
  }

  async #stepsOf(checkpoint: Resumable | null, state: TrainingState, data: RunData): Promise<Steps> {
    const { adapter, options, makeSteps = gradientSteps } = this.#setup
    const steps: Steps = await makeSteps(this.#setup, state, data)
    this.#steps = steps
    if (steps.privacy) this.remarks.push(...privacyRemarks(steps.privacy))
    this.remarks.push(...(steps.remarks ?? []))
    if (checkpoint !== null) checkLength(checkpoint, options, adapter.description.strategy, steps.totalSteps)
    state.totalSteps = steps.totalSteps
    this.stepsLeft = steps.totalSteps - state.step
    return steps
  }
}
