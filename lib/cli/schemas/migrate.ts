/** Events of `lowrank migrate --json`. */
import * as z from 'zod'
import { bytes, count } from './fields.js'
import { printed as trainPrinted } from './train.js'

const share = z.object({
  right: count.describe('Right answers'),
  interval: z.tuple([z.number(), z.number()]).describe('95 % interval of their share, by Wilson'),
})
const discordant = z.object({
  only_first: count.describe('Rows that only the first answers right'),
  only_second: count,
  p: z.number().describe('McNemar’s exact p, of these models on these rows'),
})
export const modelName = z.enum(['base', 'tuned', 'old'])

/** Models and their pairs, each with the fields of its comparison. */
const comparedShape = <Model extends z.ZodRawShape, Pair extends z.ZodRawShape>(
  model: Model,
  pair: Pair,
) => ({
  models: z
    .array(z.object({ name: modelName, answered: count.describe('Held-out rows with an answer'), ...model }))
    .describe('The base, the tuned model, and, with --answers, the old one'),
  pairs: z
    .array(
      z.object({
        ...{ first: modelName, second: modelName, rows: count.describe('Rows that both answered') },
        ...pair,
      }),
    )
    .describe('Every two of them'),
})

/** Part of results.json that is also printed. */
export const comparisonShape = comparedShape(
  {
    exact: share.describe('Word for word'),
    normalized: share.describe('After the normalization'),
    f1: z.number().min(0).max(1).describe('Mean F1 over words'),
  },
  { exact: discordant, normalized: discordant },
)

const interval = z.tuple([z.number(), z.number()]).nullable().describe('Its 95 % interval, by Student’s t')
/** The same of models whose answers a grader scores. */
export const scoredShape = comparedShape(
  { mean: z.number().describe('Mean score'), interval },
  {
    mean: z.number().describe('Mean of the scores of the second minus those of the first'),
    interval,
    p: z.number().describe('p of Student’s paired t-test, of these models on these rows'),
  },
)

const splitEvent = z
  .object({
    event: z.literal('split'),
    rows: count.describe('Rows of the data'),
    repeated: count.describe('Rows that repeat an earlier one, which are left out'),
    train: count,
    held_out: count,
    requests: z.string().describe('The held-out questions as a batch for the old model'),
  })
  .describe('The data was split; comes first')

const plannedEvent = z
  .object({
    event: z.literal('planned'),
    config: z.string().describe('Path of the config of the run'),
    peak_bytes: bytes,
    process_bytes: bytes,
    steps: count.nullable(),
    seconds: z.number().nullable().describe('Estimated time of the steps; null if it is not known'),
  })
  .describe('What training will take, before it begins')

const endShape = {
  results: z.string().describe('Path of results.json'),
  page: z.string().describe('Path of report.html'),
  change: z
    .array(z.string())
    .describe('The command that serves the tuned model, then the lines of code to change'),
}

const migratedEvent = z
  .object({ event: z.literal('migrated'), ...endShape, ...comparisonShape })
  .describe('The held-out rows are answered and compared; comes last')

const gradedEvent = z
  .object({ event: z.literal('graded'), ...endShape, ...scoredShape })
  .describe('With --grader, the answers to the held-out rows are scored and compared; comes last')

export const printed = z.discriminatedUnion('event', [
  ...trainPrinted.options,
  splitEvent,
  plannedEvent,
  migratedEvent,
  gradedEvent,
])
