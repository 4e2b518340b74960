/** Output of `lowrank init --json`. */
import * as z from 'zod'
import { count } from './fields.js'

export const printed = z.object({
  config: z.string().describe('Path of the config that was written'),
  model: z.string(),
  dataset: z.string(),
  file_type: z.string().nullable(),
  encoding: z.string().describe('Encoding of the files, as TextDecoder names it'),
  format: z.string().describe('Format of the rows'),
  task: z.string(),
  columns: z.record(z.string(), z.string()).describe('Expected names with the names in the data'),
  rows: count,
  held_out: count.describe('Rows that are held out by eval_fraction'),
  classes: z
    .array(z.object({ label: z.string(), rows: count }))
    .readonly()
    .nullable()
    .describe('Classes of a classifier, the largest first'),
  strip_labels: z.boolean().describe('Whether labels that differ by white space or case become one class'),
  longest_row: count.describe('Tokens of the longest row; 0 for documents, which are split'),
  next: z.array(z.string()).readonly().describe('The next commands'),
})
