/** Options and events of a compare. */
import * as z from 'zod'
import { abortSignal, callback, path } from '../core/arguments.js'
import { flag, integer, positive, text, word } from '../core/schema.js'
import { type CustomMetric, customMetricSchema } from '../tasks/metrics.js'
import type { CompareTask } from './cells.js'
import { askedEntry, type OwnEntry } from './entries.js'
import type { Margin } from './margin.js'
import { DEFAULT_METRICS } from './metrics.js'
import { type CompareResults, EQUALITIES, type Equality } from './results.js'

/** Options of `compare()`. */
export interface CompareOptions {
  /**
   * Names of strategies and entries of your own, or `all`. LoRA is always included. Default null: LoRA, QLoRA, DoRA,
   * LoKr, and the strategy of the config.
   */
  strategies?: 'all' | readonly (string | OwnEntry)[] | null
  /** Folder for results.json. Default: `<outputDir of the config>-compare`. */
  outputDir?: string
  /** Number of seeds; with each, every strategy gets a search of its rate and a training. Default 3. */
  seeds?: number
  /**
   * Instead of `seeds`, use as many seeds as needed to detect a difference of this many standard deviations with 80%
   * probability; the standard deviation is that of one strategy across seeds.
   */
  detect?: number | null
  /** Quantity that is equal for all strategies. Default `rank`. */
  equal?: Equality
  /**
   * Time limit in seconds. Seeds and rates are reduced to fit, also during the compare; strategies are not. Default
   * null: no limit.
   */
  budget?: number | null
  /**
   * Differences that do not matter, in the unit of the metric: one number for all metrics, or numbers by name. Entries
   * are then also tested for being equal within them. Default null: those of the results that are resumed, or none; 0
   * takes one away.
   */
  margin?: Margin | null
  /** Metrics on the test rows in addition to the loss: names, or functions of your own. Default `exact_match`. */
  metrics?: readonly (string | CustomMetric)[]
  /** Also train controls, such as LoRA with a larger scale as a control for Delta-LoRA. Default true. */
  controls?: boolean
  /** Training rows that each seed sets aside to choose learning rates, at most a tenth of all rows. Default 64. */
  validationRows?: number
  /** Number of held-out rows to evaluate, drawn by the seed of the config. Default null: all. */
  testRows?: number | null
  /** Share of the other rows that each seed draws to train on, so that results vary with the data too. Default 1. */
  trainShare?: number
  /**
   * Trainings to run in parallel, each in its own process, as far as memory allows; threads are divided among them.
   * Default 1.
   */
  jobs?: number
  /** Resume the compare in `outputDir`. Default false. */
  resume?: boolean
  /** Overwrite the results in `outputDir`. Default false. */
  force?: boolean
  /** Command to show for resuming this compare. Default null. */
  command?: string | null
  /** Stops the compare; finished results are kept. */
  signal?: AbortSignal | undefined
  /** Called with each event during the compare. */
  onEvent?: (event: CompareEvent) => void
}

/** An event of a compare. `results` is the current state and must not be modified. */
export type CompareEvent =
  | { event: 'preparing'; what: string; done: number; total: number }
  | { event: 'plan'; jobs: number; results: CompareResults }
  | { event: 'begin'; task: CompareTask; done: number; total: number }
  | {
      event: 'rung'
      name: string
      seed: number
      rate: number
      steps: number
      loss: number | null
      results: CompareResults
    }
  | { event: 'cell'; id: string; results: CompareResults }
  | { event: 'done'; path: string; results: CompareResults }
  | { event: 'warning'; message: string }

const MARGIN = 'a number from 0'
const limit = z.number({ error: MARGIN }).nonnegative({ error: MARGIN })

const SHARE = 'a share above 0, at most 1'

export const compareSchema = z.strictObject({
  strategies: z
    .union([z.literal('all'), z.array(askedEntry).min(1).readonly()], { error: 'all, or a list of names' })
    .nullable()
    .default(null),
  outputDir: path('a folder').optional(),
  seeds: integer(1).max(100, { error: 'an integer from 1 to 100' }).default(3),
  detect: positive('a number of spreads above 0').nullable().default(null),
  equal: word(EQUALITIES).default('rank'),
  budget: positive('a number of seconds above 0').nullable().default(null),
  margin: z
    .union([limit, z.record(z.string(), limit)], { error: `${MARGIN}, or such numbers by metric` })
    .nullable()
    .default(null),
  metrics: z
    .array(z.union([text(), customMetricSchema], { error: 'a name, or { name, score }' }))
    .default([...DEFAULT_METRICS]),
  controls: flag().default(true),
  validationRows: integer(2, 'an integer from 2').default(64),
  testRows: integer(2, 'an integer from 2').nullable().default(null),
  trainShare: positive(SHARE).max(1, { error: SHARE }).default(1),
  jobs: integer(1).max(256, { error: 'an integer from 1 to 256' }).default(1),
  resume: flag().default(false),
  force: flag().default(false),
  command: text().nullable().default(null),
  signal: abortSignal().optional(),
  onEvent: callback<NonNullable<CompareOptions['onEvent']>>().optional(),
})

/** Options with their defaults. */
export type CompareAsked = z.output<typeof compareSchema>
