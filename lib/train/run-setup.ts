import type { BaseModel } from '../base/base.js'
import type { PlanOptions } from '../native/addon.js'
import type { Beginning } from './checkpoints.js'
import type { RunData } from './data.js'
import type { DataSources } from './dataset.js'
import type { EvaluateProgress } from './evaluate.js'
import type { RunFolders } from './output-folder.js'
import type { MakeSteps, StepSetup } from './step.js'
import type { ReportTo } from './tensorboard.js'

/** The inputs of a run; `Adapter.train` puts them together. */
export interface RunSetup extends StepSetup {
  base: BaseModel
  plans: Record<string, PlanOptions>
  /** Tokenizes, at the first step. `now` is what chat templates take for the time, when a checkpoint says it. */
  data: (now: number | undefined) => Promise<RunData>
  /** Share of the training data that is held out. */
  evalFraction: number
  /** Null for a run that saves nothing. */
  folders: RunFolders | null
  beginning: Beginning
  /** Default: by the gradients of the run's data. */
  makeSteps?: MakeSteps
  /** Names of the data, for the record. */
  sources?: DataSources
  /** Command that repeats the run, for the record. */
  command?: string | null
  /** A program that reads the run's events, beside metrics.jsonl. */
  reportTo?: ReportTo
  /** Writes the page of a run from its record, when it is over. */
  report?: (folders: RunFolders) => Promise<unknown>
  onEvalProgress: ((progress: EvaluateProgress) => void) | undefined
  /** Runs native work while the adapter is kept alive. */
  use: <T>(work: () => Promise<T>) => Promise<T>
  /** Claims the adapter; returns what gives it back when the run is over, however it ends. */
  begin: () => () => void
}
