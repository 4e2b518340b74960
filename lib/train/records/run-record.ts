/** Facts that a run records besides its progress: its inputs, its memory, and the ranks of an allocating strategy. */
import type { BaseModel } from '../../base/base.js'
import { packageVersion } from '../../core/root.js'
import { toFileKeys } from '../../core/schema.js'
import { addon, type Category } from '../../native/addon.js'
import { fileOptions, trainSchema } from '../../options/options.js'
import { rulesOf } from '../../strategies/index.js'
import { describeBoth } from '../../weights/quantization.js'
import { canonical } from '../checkpoints/run-identity.js'
import type { RunData } from '../rows/data.js'
import type { DataSources } from '../sources/data-sources.js'
import type { MemoryEvent, RanksEvent, StartEvent } from '../steps/events.js'
import type { StepSetup, Steps, TrainingState } from '../steps/step.js'

/** Limits per kind of line: the most lines in a run, and the fewest steps between two of them. */
const MEMORY = { lines: 100, steps: 10 }
const RANKS = { lines: 50, steps: 1 }

/** The inputs of a run. */
interface Told extends Pick<StepSetup, 'adapter' | 'options'> {
  base: BaseModel
  /** Share of the training data that is held out. */
  evalFraction: number
  sources?: DataSources
  /** Command that repeats the run. */
  command?: string | null
}

/** @param state position of the run, including steps made before it was resumed */
export function startEvent(
  { base, adapter, options, evalFraction, sources, command }: Told,
  state: TrainingState,
  data: RunData,
  resumed: boolean,
): StartEvent {
  const { description } = adapter
  const { schema, label } = rulesOf(description.strategy)
  const { isa, threads } = addon().cpu()
  const trained = description.spec.parameters.filter((parameter) => parameter.trained)
  const defaults = fileOptions(trainSchema.parse({}))
  const used = fileOptions(options)
  const evaluates = data.evaluationExamples !== null && data.evaluationFingerprint !== null
  return {
    event: 'start',
    version: packageVersion(),
    model: { name: base.name, fingerprint: base.files.fingerprint },
    strategy: toFileKeys(schema, description.strategy) as Record<string, unknown>,
    strategyLabel: label,
    trainableParameters: trained.reduce((sum, { rows, cols }) => sum + rows * cols, 0),
    ...(base.labels === null ? {} : { labels: base.labels }),
    data: {
      name: sources ? nameOf(sources.dataset) : null,
      rows: data.examples?.rows.length ?? data.stats.train?.rows ?? null,
      hash: data.fingerprint,
    },
    evaluation: evaluates
      ? {
          name: sources?.evalDataset ? nameOf(sources.evalDataset) : null,
          rows: data.stats.evaluation?.rows ?? data.evaluationExamples?.rows.length ?? null,
          hash: data.evaluationFingerprint ?? '',
        }
      : null,
    device: base.device,
    level: isa,
    threads,
    totalSteps: state.totalSteps,
    config: {
      ...(describeBoth(base) === 'none' ? {} : { quantization: describeBoth(base) }),
      precision: base.precision,
      ...(evalFraction === 0 ? {} : { eval_fraction: evalFraction }),
      ...Object.fromEntries(
        Object.entries(used).filter(([key, value]) => canonical(value) !== canonical(defaults[key])),
      ),
    },
    command: command ?? null,
    resumedFrom: resumed ? state.step : null,
  }
}

/** Records changes between steps, a limited number of times per run. */
export class Recorder {
  readonly #steps: Steps
  #ranks = ''

  constructor(steps: Steps) {
    this.#steps = steps
  }

  /**
   * @param step optimizer steps so far
   * @param begins true before the first step of the run
   */
  *after(step: number, begins = false): Generator<MemoryEvent | RanksEvent, void, void> {
    const { totalSteps, ranksLeft } = this.#steps
    const last = step >= totalSteps
    const due = (rate: typeof MEMORY) =>
      begins || last || step % Math.max(rate.steps, Math.ceil(totalSteps / rate.lines)) === 0
    if (due(MEMORY)) yield memoryEvent(step)
    if (ranksLeft === undefined || !due(RANKS)) return
    const ranks = JSON.stringify(ranksLeft)
    if (ranks !== this.#ranks) yield { event: 'ranks', step, ranks: ranksLeft }
    this.#ranks = ranks
  }
}

function memoryEvent(step: number): MemoryEvent {
  const { rss } = addon().residentBytes()
  const held = Object.entries(addon().allocated()).filter(([, bytes]) => bytes > 0)
  return {
    event: 'memory',
    step,
    allocated: Object.fromEntries(held) as Partial<Record<Category, number>>,
    residentBytes: rss,
  }
}

function nameOf({ path }: DataSources['dataset']): string {
  return typeof path === 'string' ? path : path.join(', ')
}
