/**
 * What a task states about itself, in its own file: its options, its rows, its loss, and what it asks of plans,
 * evaluations, ranks, and the other options of a run. Shared code reads these fields and never compares the name of a
 * task. To add one, write such a file and run `node scripts/records.mjs`.
 */
import type * as z from 'zod'
import type { ForeignKeys } from '../core/foreign-values.js'
import type { DatasetFormat } from '../data/dataset.js'
import type { NamedLoss } from '../losses/index.js'
import type { LossRules } from '../losses/loss.js'
import type { Metric } from './metrics.js'

/** An option of a task. In a run it is null for its default, and for other tasks. */
export interface TaskOption {
  readonly schema: z.ZodType
  /** Description of the option in the documentation, a clause without a period. */
  readonly about: string
  /** Absent if the task requires the option, or derives it from others. */
  readonly default?: unknown
  /** The default in words, where it is not a value. */
  readonly defaultText?: string
}

/** Values of another option of the run that a task does not support. */
export interface Refusal {
  readonly key: string
  refuses(value: unknown): boolean
  /** What is expected instead. */
  readonly expected: string
}

/** The options of a run, by name. */
export type RunFacts = Readonly<Record<string, unknown>>

/** What `lowrank init` writes for a task. */
export interface InitialConfig {
  /** The comment on the key `task`; null for the task of a config without it. */
  readonly comment: string | null
  /** Keys of the task, each with a comment. */
  readonly entries: readonly (readonly [key: string, value: number, comment: string])[]
  readonly perDeviceTrainBatchSize: number
}

export interface TaskRules<Name extends string = string> {
  readonly name: Name
  /** What the run learns, for the documentation: an infinitive clause without a period. */
  readonly about: string
  /** Link to the page that describes its data. */
  readonly page?: string
  /** Its own options by name. Several tasks may have one of the same name with other values. */
  readonly options: Readonly<Record<string, TaskOption>>
  /** Rules between options. @throws the error that `bad` makes */
  check?(options: RunFacts, bad: (key: string, value: unknown, expected: string) => Error): void
  /** Refused values of other options of the run, in the order of checks. */
  readonly refuses: readonly Refusal[]
  readonly rows: {
    /** The format that its rows must have; null for any that no other task requires. */
    readonly form: DatasetFormat | null
    /** True for a pair of answers, each a sequence of its own. */
    readonly paired: boolean
    /** True if a micro-batch has exactly the requested number of rows, whatever their lengths and `packing`. */
    readonly counted: boolean
    /** True if training may begin before all rows are read. */
    readonly streamed: boolean
    /** True if a chat may become an example of each of its answers (`reasoningHistory: drop`). */
    readonly perAnswer: boolean
  }
  /** True if the model has a head for classes, in place of the one that writes text. */
  readonly classes: boolean
  /** True if each step samples answers to the prompts of its rows, and learns from their rewards. */
  readonly samplesAnswers: boolean
  /** The loss over log-probabilities. Absent: the cross-entropy that the engine computes itself. */
  loss?(options: RunFacts): NamedLoss
  /**
   * Log-probabilities that the model at the start of the run gives to each sequence (`sequences`), and to each prompt
   * with the answer to another (`mismatched`); kept with the checkpoints.
   */
  readonly reference: 'sequences' | 'mismatched' | null
  readonly plan: {
    /** True if each position has a weight in the loss. */
    readonly rowWeights: boolean
    /** True if the weights depend on log-probabilities, so that the head runs twice. */
    readonly twoPasses: boolean
  }
  readonly evaluation: {
    readonly metrics: readonly Metric[]
    /** True if evaluations may answer rows. */
    readonly answers: boolean
  }
  readonly runs: {
    /** True if a run may have several processes. */
    readonly onRanks: boolean
    /** True if the layers of a run may be split over processes. */
    readonly byLayers: boolean
    /** True if strategies with steps of their own, such as private rounds, can train it. */
    readonly byOwnSteps: boolean
    /** True if short runs are compared by their loss: strategies with one another, and learning rates. */
    readonly compared: boolean
    /** Why the time of a step cannot be estimated; null if it can. */
    readonly untimed: string | null
  }
  /** Other programs' names for its options. */
  readonly foreign?: ForeignKeys
  /** True if learning rates far below those of the strategies are usual. */
  readonly lowRates: boolean
  /** What dropout would do, if adapters may have none; null if they may. */
  readonly dropoutWould: string | null
  /** What `lowrank init` writes; null if data alone is not enough for a config. */
  readonly init: InitialConfig | null
}

/** Infers the name of a task. */
export const taskRulesOf = <const Name extends string>(rules: TaskRules<Name>): TaskRules<Name> => rules

/** The options of a loss as those of a task, with the texts, bounds, and defaults of the loss. */
export function lossOptions<Schema extends z.ZodObject>(
  { schema }: LossRules<string, Schema>,
  keys: readonly (keyof Schema['shape'] & string)[],
): Record<string, TaskOption> {
  return Object.fromEntries(
    keys.map((key) => {
      const option = schema.shape[key] as z.ZodDefault<z.ZodType>
      const [first = '', ...rest] = (option.description as string).replace(/\.$/, '')
      const about = first.toLowerCase() + rest.join('')
      return [key, { schema: option.unwrap(), default: option.def.defaultValue, about }]
    }),
  )
}

/** A loss with those of its options that a run sets, and the defaults of the others. */
export function lossWith(loss: LossRules, run: RunFacts): NamedLoss {
  const set = Object.keys(loss.schema.shape).flatMap((key) => (run[key] == null ? [] : [[key, run[key]]]))
  return { name: loss.name, ...loss.schema.parse(Object.fromEntries(set)) } as NamedLoss
}
