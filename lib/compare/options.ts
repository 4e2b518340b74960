/** Options and events of a compare. */
import * as z from 'zod'
import { abortSignal, callback, path } from '../core/arguments.js'
import { flag, integer, positive, text, word } from '../core/schema.js'
import type { CompareTask } from './cells.js'
import { type CustomMetric, DEFAULT_METRICS } from './metrics.js'
import { type CompareResults, EQUALITIES, type Equality } from './results.js'

/** Options of `compare()`. */
export interface CompareOptions {
  /** Names of strategies, or `all`. LoRA is always among them. Default `all`. */
  strategies?: 'all' | readonly string[]
  /** Folder for results.json. Default: `<outputDir of the config>-compare`. */
  outputDir?: string
  /** Trainings of each strategy with its best rate. Default 3. */
  seeds?: number
  /**
   * Take as many seeds as find a difference of so many spreads in 8 of 10 compares, instead of `seeds`; a spread is the
   * standard deviation of one strategy over seeds.
   */
  detect?: number | null
  /** Property that all strategies have in common. Default `rank`. */
  equal?: Equality
  /** Seconds that it may take; seeds and rates are cut to fit, strategies are not. Default null: no limit. */
  budget?: number | null
  /** Metrics on the test rows beside the loss: names, or functions of your own. Default `exact_match`. */
  metrics?: readonly (string | CustomMetric)[]
  /** Train controls, such as LoRA with a larger scale for Delta-LoRA. Default true. */
  controls?: boolean
  /** Training rows that are set aside to choose rates, a tenth of all at most. Default 64. */
  validationRows?: number
  /** Held-out rows that are measured, the first ones. Default null: all. */
  testRows?: number | null
  /** Trainings side by side, in processes of their own, as far as memory allows; threads are divided. Default 1. */
  jobs?: number
  /** Continue the compare in `outputDir`. Default false. */
  resume?: boolean
  /** Replace the results in `outputDir`. Default false. */
  force?: boolean
  /** Command that is recorded as the one to continue with. Default null. */
  command?: string | null
  /** Ends the compare; what was finished is kept. */
  signal?: AbortSignal
  /** Called with each event, as the compare goes on. */
  onEvent?: (event: CompareEvent) => void
}

/** An event of a compare. `results` is the state so far, and must not be changed. */
export type CompareEvent =
  | { event: 'preparing'; what: string; done: number; total: number }
  | { event: 'plan'; jobs: number; results: CompareResults }
  | { event: 'begin'; task: CompareTask; done: number; total: number }
  | { event: 'rung'; name: string; rate: number; steps: number; loss: number | null; results: CompareResults }
  | { event: 'cell'; id: string; results: CompareResults }
  | { event: 'done'; path: string; results: CompareResults }
  | { event: 'warning'; message: string }

const custom = z.strictObject({
  name: text('a name'),
  score: callback<CustomMetric['score']>(),
  higherIsBetter: flag().optional(),
})

export const compareSchema = z.strictObject({
  strategies: z
    .union([z.literal('all'), z.array(text()).min(1)], { error: 'all, or a list of names' })
    .default('all'),
  outputDir: path('a folder').optional(),
  seeds: integer(1).max(100, { error: 'an integer from 1 to 100' }).default(3),
  detect: positive('a number of spreads above 0').nullable().default(null),
  equal: word(EQUALITIES).default('rank'),
  budget: positive('a number of seconds above 0').nullable().default(null),
  metrics: z
    .array(z.union([text(), custom], { error: 'a name, or { name, score }' }))
    .default([...DEFAULT_METRICS]),
  controls: flag().default(true),
  validationRows: integer(2, 'an integer from 2').default(64),
  testRows: integer(2, 'an integer from 2').nullable().default(null),
  jobs: integer(1).max(256, { error: 'an integer from 1 to 256' }).default(1),
  resume: flag().default(false),
  force: flag().default(false),
  command: text().nullable().default(null),
  signal: abortSignal().optional(),
  onEvent: callback<NonNullable<CompareOptions['onEvent']>>().optional(),
})

/** Options with their defaults. */
export type CompareAsked = z.output<typeof compareSchema>
