/** The record of a run in its folders: its events in metrics.jsonl and for TensorBoard, its samples, and its page. */

import type { Samples } from '../answers/samples.js'
import { openFolders } from '../folders/output-folder.js'
import { readRun } from '../folders/run-files.js'
import { MetricsFile, recordSamples } from '../records/metrics-file.js'
import { TensorboardFile } from '../records/tensorboard.js'
import type { TrainEvent } from '../steps/events.js'
import type { TrainingState } from '../steps/step.js'
import type { RunSetup } from './run-setup.js'

export class RunRecorder {
  readonly #setup: RunSetup
  #metrics: MetricsFile | undefined
  #board: TensorboardFile | undefined
  #written: TrainEvent | undefined
  /** Name of the run that events are recorded under. */
  #run: string | undefined

  constructor(setup: RunSetup) {
    this.#setup = setup
  }

  /** @param isResumed true for a run from a checkpoint */
  async open(state: TrainingState, isResumed: boolean): Promise<void> {
    const { folders, reportTo } = this.#setup
    if (folders === null) return
    const { runDir } = folders
    const own = isResumed && (await readRun(runDir)) === state.run
    await openFolders(folders, state.run)
    this.#metrics = await MetricsFile.open(runDir, own ? state : null)
    if (reportTo === 'tensorboard') this.#board = await TensorboardFile.open(runDir, own)
    this.#run = state.run
  }

  /** Records an event, unless it is the last one. */
  async emit<Event extends TrainEvent>(event: Event): Promise<Event> {
    if (event === this.#written) return event
    await this.#metrics?.append(event)
    await this.#board?.append(event)
    this.#written = event
    return event
  }

  /** Records an event on the disk, before the checkpoint that covers it. */
  async covered(event: TrainEvent): Promise<void> {
    await this.emit(event)
    await this.#metrics?.sync()
  }

  async fail(error: unknown, step: number): Promise<void> {
    await this.#metrics?.fail(error, step)
  }

  async close(): Promise<void> {
    await this.#metrics?.close()
    await this.#board?.close()
    if (this.#metrics !== undefined) await this.#report()
  }

  /** Adds samples, unless another run has begun in the folder. */
  async samples(samples: Samples): Promise<void> {
    const { folders } = this.#setup
    const { rows, classified = [] } = samples
    const ended = this.#run !== undefined && rows.length + classified.length > 0
    if (folders === null || !ended || (await readRun(folders.runDir)) !== this.#run) return
    await recordSamples(folders.runDir, samples)
    await this.#report()
  }

  /** Writes the page of the run. A failure is only a warning, since the run's result does not depend on the page. */
  async #report(): Promise<void> {
    const { folders, report } = this.#setup
    if (folders === null || report === undefined) return
    try {
      await report(folders)
    } catch (error) {
      process.emitWarning(`the report of the run could not be written: ${(error as Error).message}`, {
        code: 'LOWRANK_REPORT',
      })
    }
  }
}
