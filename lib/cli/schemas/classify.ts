/** Output of `lowrank classify --json`: a line for each text. */
import * as z from 'zod'
import { count } from './fields.js'

export const printed = z.object({
  text: z.string(),
  label: z.string().describe('The likeliest class'),
  probabilities: z.record(z.string(), z.number()).describe('Probability of each class'),
  truncated: z.boolean().describe('Whether the text has more tokens than --max-seq-length'),
  line: count.optional().describe('Line or row of the input, from 1; absent for --text'),
  row: z
    .record(z.string(), z.unknown())
    .optional()
    .describe('The row of the input, if it has columns besides the text'),
})
