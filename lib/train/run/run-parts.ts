/** The parts of a run, each with one job, and their assembly. */
import { translated } from '../../native/errors.js'
import { optimizerState } from '../../options/optimizers.js'
import { MemoryReport } from '../../planning/memory-report.js'
import type { RunFolders } from '../folders/output-folder.js'
import { LayerPipe } from '../processes/pipe.js'
import { Agreement } from './agreement.js'
import { RunControl } from './control.js'
import { RunRecorder } from './run-recorder.js'
import type { RunSetup } from './run-setup.js'
import { RunStart } from './run-start.js'

export interface RunParts {
  setup: RunSetup
  /** Folders of the run. Only rank 0 writes there. */
  place: RunFolders | null
  memory: MemoryReport
  control: RunControl
  start: RunStart
  agreement: Agreement
  recorder: RunRecorder
}

export function partsOf(given: RunSetup): RunParts {
  const { base, adapter, options, plans, ranks, folders: place } = given
  const control = new RunControl(given.signal)
  const setup = {
    ...given,
    pipe: base.part === null ? undefined : new LayerPipe(ranks, base.part),
    folders: ranks.isFirst ? place : null,
    signal: ranks.joint(control.signal),
  }
  const state = optimizerState(options, adapter.description.strategy)
  const trained = { adapter: adapter.native, state }
  const memory = new MemoryReport(translated(() => base.native.plan([trained], plans)))
  const agreement = new Agreement(setup)
  const start = new RunStart(setup, place, agreement, memory)
  return { setup, place, memory, control, start, agreement, recorder: new RunRecorder(setup) }
}
