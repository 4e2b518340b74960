/** Output of `lowrank generate --json`. */
import * as z from 'zod'
import { count } from './fields.js'

export const printed = z.object({
  prompt: z.string(),
  text: z.string().describe('The answer, without special tokens'),
  tokens: count.describe('Tokens of the answer'),
  finish_reason: z.enum(['stop', 'length']).describe('stop: at an end token; length: at --max-new-tokens'),
  tokens_per_second: z.number().nonnegative().describe('Speed of decoding'),
})
