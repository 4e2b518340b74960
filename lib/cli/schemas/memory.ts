/** Output of the memory study in `lowrank figures` and `lowrank bench`. */
import * as z from 'zod'
import { planRow } from '../../train/metrics.js'
import { bytes, count } from './fields.js'

export const memoryStudy = {
  settings: z.object({
    rank: count,
    per_device_train_batch_size: count,
    max_seq_length: count,
    gradient_checkpointing: z.boolean(),
    precision: z.enum(['auto', 'fp32', 'bf16']),
  }),
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
}
