/** Output of `lowrank chat --json`. */
import * as z from 'zod'
import { count } from './fields.js'
import { printed as generation } from './generate.js'

export const printed = z.discriminatedUnion('event', [
  generation
    .extend({
      event: z.literal('answer'),
      prompt_tokens: count.describe('Tokens of the history with the question'),
      reused_tokens: count.describe('Number of them that were in the cache already'),
      dropped_messages: count.describe('Messages that no longer fit the context'),
    })
    .describe('A turn was answered'),
  z
    .object({
      event: z.literal('adapter'),
      adapters: z.array(z.object({ name: z.string(), weight: z.number().describe('0 is off') })),
    })
    .describe('After /adapter'),
  z.object({ event: z.literal('system'), system: z.string().nullable() }).describe('After /system'),
  z
    .object({ event: z.literal('hold'), results: count.describe('Results that wait for /tool') })
    .describe('After /hold'),
  z
    .object({ event: z.literal('reset') })
    .describe('After /reset, and after /adapter if it changed something'),
  z
    .object({
      event: z.literal('save'),
      path: z.string(),
      messages: count.describe('Number of saved messages'),
    })
    .describe('After /save'),
])
