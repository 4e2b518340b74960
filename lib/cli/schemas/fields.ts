/** Fields shared by several verbs. */
import * as z from 'zod'

export const bytes = z.int().nonnegative()

export const count = z.int().nonnegative()

/** The last line of a verb that fails. */
export const errorLine = z
  .object({
    event: z.literal('error'),
    code: z.string().describe('Stable name of the cause; docs/troubleshooting.md has a section for each'),
    message: z.string().describe('For people; the words may change'),
    details: z
      .record(z.string(), z.unknown())
      .describe('What the message is made of, such as a path and a line'),
  })
  .describe('The verb failed; always the last line')

/** Estimated time of a run's steps. */
export const time = z.object({
  seconds_per_step: z.number().positive().describe('For an optimizer step'),
  tokens_per_step: count.describe('Tokens of a step whose micro-batches are full'),
  tokens_per_second: z.number().positive(),
  steps: count.nullable().describe('Steps that remain; null if that depends on data that is not known'),
  run_seconds: z
    .number()
    .nonnegative()
    .nullable()
    .describe('Time of these steps, without evaluations, checkpoints, and loading'),
})
