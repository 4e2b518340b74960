/** Output of `lowrank generate` and `lowrank chat` with --json. */
import * as z from 'zod'
import { count } from './fields.js'

export const generation = z.object({
  prompt: z.string(),
  text: z.string().describe('The answer, without special tokens'),
  tokens: count.describe('Tokens of the answer'),
  finish_reason: z.enum(['stop', 'length']).describe('stop: at an end token; length: at --max-new-tokens'),
  tokens_per_second: z.number().nonnegative().describe('Speed of decoding'),
})

export const chat = [
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
] as const
