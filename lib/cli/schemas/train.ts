/** Events of `lowrank train` and `lowrank demo` with --json, in addition to those of metrics.jsonl. */
import * as z from 'zod'
import { classifiedRows, sampleRows, samplesHeldOut } from '../../train/records/event-schemas.js'
import { time } from './fields.js'

const score = z.object({ exact_match: z.number().min(0).max(1).describe('Share of answers that are right') })

export const timeEvent = time
  .extend({ event: z.literal('time') })
  .describe('Estimated time of the steps; after `plan`, if it is known')

export const liveEvent = z
  .object({ event: z.literal('live'), url: z.string().describe('With its token') })
  .describe('With --live: the page of the run is served here; comes first')

/** Output of `lowrank watch --json`. */
export const watched = z.object({
  url: z.string().describe('URL of the page, with its token'),
  output_dir: z.string(),
})

export const samplesEvent = z
  .object({
    event: z.literal('samples'),
    held_out: samplesHeldOut,
    rows: sampleRows,
    classified: classifiedRows.optional(),
    command: z.string().nullable().describe('Command that repeats one of the tuned answers'),
  })
  .describe('Rows answered after the run, by default three; comes before done')

export const demoEvent = z
  .object({
    event: z.literal('demo'),
    before: score,
    after: score,
    samples: z.array(
      z.object({
        prompt: z.string(),
        expected: z.string(),
        before: z.string().describe("The base model's answer"),
        after: z.string().describe("The tuned model's answer"),
      }),
    ),
  })
  .describe('How the model answers held-out questions before and after; comes before done')
