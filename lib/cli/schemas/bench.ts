/** Output of `lowrank bench --json`. */
import * as z from 'zod'
import { planRow } from '../../train/records/event-schemas.js'
import { bytes, count } from './fields.js'

const settings = z.object({
  rank: count,
  per_device_train_batch_size: count,
  max_seq_length: count,
  gradient_checkpointing: z.boolean(),
  precision: z.enum(['auto', 'fp32', 'bf16']),
})

export const printed = z.discriminatedUnion('what', [
  z.object({
    what: z.literal('memory'),
    settings,
    bars: z.array(
      z.object({
        model: z.string(),
        method: z.string(),
        planned_bytes: bytes.describe('Peak of the plan'),
        rows: z.array(planRow).readonly().describe('Parts of the peak'),
        measured: z
          .object({
            idle_bytes: bytes.describe('Resident before the model was loaded'),
            idle_anonymous_bytes: bytes.describe('Part that is memory of the process'),
            load_peak_bytes: z.int().describe('Peak above that while it was loaded'),
            peak_bytes: z.int().describe('Peak above it from then to the last step'),
            anonymous_bytes: bytes.describe(
              'Memory of the process in that time, sampled as often, Node.js included',
            ),
            file_bytes: bytes.describe('The same for pages of files'),
            pss_anonymous_bytes: bytes.describe(
              'Like anonymous_bytes, sampled less often, with shared pages counted in part',
            ),
            pss_file_bytes: bytes.describe('The same for pages of files'),
            cached_weight_bytes: bytes
              .optional()
              .describe('Bytes in the page cache of the file that the weights are mapped from'),
          })
          .optional()
          .describe('Absent if the training was only planned'),
      }),
    ),
    out: z.string().optional().describe('The picture, with --out'),
  }),
  z.object({
    what: z.literal('speed'),
    settings: settings.extend({ steps: count, new_tokens: count }),
    methods: z.array(
      z.object({
        method: z.string(),
        training_tokens_per_second: z.number().describe('Median over the steps'),
        share_of_peak: z
          .number()
          .nullable()
          .describe(
            'Products with base weights in a training step against the arithmetic peak; null without one',
          ),
        evaluation_tokens_per_second: z.number(),
        generation_tokens_per_second: z.number().describe('One after the other, the prompt not counted'),
        javascript_share: z.number().describe("Share of the steps' time in which the event loop was busy"),
        longest_block_ms: z.number().describe('Longest time in which nothing else could run on it'),
      }),
    ),
  }),
])
