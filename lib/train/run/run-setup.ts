/** The inputs of a run. */

import type { PlanOptions } from '../../native/addon.js'
import type { Beginning } from '../checkpoints/checkpoint-folder.js'
import type { SavingSetup } from '../checkpoints/gathered.js'
import type { RunFolders } from '../folders/output-folder.js'
import type { ReportTo } from '../records/tensorboard.js'
import type { RunData } from '../rows/data.js'
import type { DataSources } from '../sources/data-sources.js'
import type { EvaluateProgress } from '../steps/evaluate.js'
import type { RateSearch } from '../steps/events.js'
import type { MakeSteps } from '../steps/step.js'

/** Assembled by `Adapter.train`. */
export interface RunSetup extends SavingSetup {
  plans: Record<string, PlanOptions>
  /** Tokenizes the data at the first step. `now` is the time for chat templates, if a checkpoint stores it. */
  data: (now: number | undefined) => Promise<RunData>
  /** Share of the training data that is held out. */
  evalFraction: number
  /** Null for a run that saves nothing. */
  folders: RunFolders | null
  beginning: Beginning
  /** Default: gradient steps on the run's data. */
  makeSteps?: MakeSteps
  /** Data sources, for the record. */
  sources?: DataSources
  /** The search that chose the learning rate, for the record. */
  rateSearch?: RateSearch
  /** Command that repeats the run, for the record. */
  command?: string | null
  /** A program that the run's events are also written for, in addition to metrics.jsonl. */
  reportTo?: ReportTo
  /** Writes the page of a completed run from its record. */
  report?: (folders: RunFolders) => Promise<unknown>
  onEvalProgress: ((progress: EvaluateProgress) => void) | undefined
  /** Claims the adapter; returns a function that releases it when the run ends for any reason. */
  begin: () => () => void
}
