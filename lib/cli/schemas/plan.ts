/** Output of `lowrank plan --json`. */
import * as z from 'zod'
import { planRow, privacyReport } from '../../train/records/event-schemas.js'
import { bytes, count, time } from './fields.js'

const workCounts = z.object({
  launches: count,
  multiply_adds: z.number().nonnegative().describe('Of products'),
  bytes_moved: bytes.describe('Read from memory and written to it, each operand once a launch'),
  workspace_bytes: bytes.describe('The most that a launch needs'),
  by_kernel: z.array(
    z.object({
      kernel: z.string(),
      launches: count,
      multiply_adds: z
        .number()
        .nonnegative()
        .describe('Of products; 0 for kernels whose time is that of their memory'),
      bytes_moved: bytes,
      workspace_bytes: bytes.describe('The most that a launch needs'),
    }),
  ),
})

export const printed = z.object({
  model: z.string(),
  method: z.string().describe('Name of the strategy'),
  trainable_parameters: count.describe('Numbers that train'),
  total_parameters: count.describe('All numbers of base and adapter'),
  peak_bytes: bytes.describe('Most bytes that training will hold at once'),
  pinned_bytes: bytes.optional().describe('Pinned memory of the host in addition, on a GPU'),
  rows: z.array(planRow).readonly().describe('Parts of the peak; they add up to peak_bytes'),
  process: z
    .object({
      bytes: bytes.describe('The whole process, as the system counts it'),
      runtime_bytes: bytes.describe('Part of Node.js and JavaScript'),
      data_bytes: bytes.describe('Part of the data'),
    })
    .describe('Estimated, from a short run on this machine'),
  ranks: z
    .object({
      count,
      rank_bytes: bytes.describe('The whole process of a rank'),
      shared_bytes: bytes.describe('Part of it that ranks on one machine share, if the weights are cached'),
      machine_bytes: bytes.describe('All of them, with the shared part counted once'),
      layers: z
        .array(
          z.strictObject({
            first: count.describe('Its first layer, from 0'),
            last: count.describe('Its last layer'),
            weight_bytes: bytes.describe('Its weights'),
            save_bytes: bytes.describe(
              'On rank 0: the adapter of all ranks, which it holds while it saves it',
            ),
            bytes: bytes.describe('Its process, with all of these'),
          }),
        )
        .optional()
        .describe('With split: layers: those of each rank'),
    })
    .optional()
    .describe('With --ranks: memory of the ranks on one machine, estimated'),
  time: time.nullable().describe('Estimated; null if it is not known'),
  card: z
    .object({
      name: z.string(),
      memory_bytes: bytes,
      own_bytes: bytes.describe("Not a run's: the driver's, and what fragments"),
      fits: z.boolean(),
      least_operations: z
        .number()
        .nonnegative()
        .describe('Floating-point operations of products in an optimizer step'),
      least_bytes: z
        .number()
        .nonnegative()
        .describe('Bytes moved in it, each operand of a kernel once a launch'),
      bus_bytes: bytes.describe('Bytes that come to the card over its bus in an optimizer step'),
      least_seconds: z
        .number()
        .nonnegative()
        .nullable()
        .describe(
          "Of a step at the card's published rates, which no real run reaches; null if these are not known",
        ),
    })
    .optional()
    .describe(
      'With --device cuda:NAME: the card that was planned for; peak_bytes and rows are then of its memory',
    ),
  arena_bytes: bytes.describe('The block that activations, loss and workspace share'),
  peak_at: z.string().describe('Where in the model the peak is'),
  quantization: z.string().describe('How the frozen linears are held, as resolved'),
  embedding_quantization: z.string().describe('How embedding and head are held, as resolved'),
  precision: z.enum(['fp32', 'bf16']).describe('Type of matrix operands, as resolved'),
  privacy: privacyReport.optional(),
  timeline: z
    .object({
      resident_bytes: bytes.describe('Held throughout: all but the arena'),
      steps: z.array(
        z.object({
          phase: z.enum(['forward', 'recompute', 'backward']),
          kernel: z.string(),
          node: z.string().describe('Path in the model'),
          live_bytes: bytes.describe('Bytes of the arena in use'),
          multiply_adds: z.number().nonnegative().describe('Multiply-adds of products with base weights'),
        }),
      ),
    })
    .optional()
    .describe('With --timeline: the steps of the plan in order'),
  kernels: workCounts
    .extend({
      uploaded_bytes: bytes.describe('The micro-batch'),
      downloaded_bytes: z.record(z.string(), bytes).describe('By what the host reads'),
      stashed_bytes: bytes.describe('Activations that are offloaded'),
      fetched_bytes: bytes.describe('Activations that come back'),
      update: workCounts
        .optional()
        .describe(
          "The optimizer's update after the last micro-batch; absent if it is made in the backward pass",
        ),
    })
    .optional()
    .describe('With --kernels: the work of a micro-batch, counted without weights and without computing'),
  fit: z
    .object({
      budget_bytes: bytes,
      choices: z.array(
        z.object({
          per_device_train_batch_size: count,
          gradient_accumulation_steps: count,
          gradient_checkpointing: z.boolean(),
          activation_offloading: z.literal(true).optional().describe('If it differs from what was asked for'),
          optimizer_in_backward: z.literal(true).optional().describe('If it differs from what was asked for'),
          optimizer: z
            .union([z.string(), z.looseObject({ type: z.string() })])
            .optional()
            .describe('If it differs from what was asked for, as in a config'),
          paged_weights: z
            .union([z.literal(true), z.string()])
            .optional()
            .describe('If it differs from what was asked for, as in a config'),
          peak_bytes: bytes,
          multiply_adds: z.number().nonnegative().describe('For an optimizer step'),
          activation_bytes_moved: bytes.describe(
            'Bytes of activations on disk that a micro-batch writes and reads',
          ),
          state_bytes_moved: bytes.describe(
            'Bytes of paged optimizer state that an optimizer step reads and writes',
          ),
          base_bytes_read: bytes.describe(
            'Bytes of a paged base that a micro-batch reads from the disk, or fetches to a GPU',
          ),
        }),
      ),
    })
    .optional()
    .describe(
      'With --fit: what fits; first what changes neither optimizer nor paged_weights, then what changes least, each by speed. All other fields describe the first',
    ),
})
