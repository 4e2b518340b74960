/** Events of `lowrank demo --json`. */
import * as z from 'zod'
import { trainEvents } from '../../train/records/event-schemas.js'

const score = z.object({ exact_match: z.number().min(0).max(1).describe('Share of answers that are right') })

const demoEvent = z
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

export const printed = z.discriminatedUnion('event', [...trainEvents, demoEvent])
