/** Output of `lowrank bench --json`. */
import * as z from 'zod'
import { count } from './fields.js'
import { memoryStudy } from './memory.js'

export const bench = z.discriminatedUnion('what', [
  z.object({ what: z.literal('memory'), ...memoryStudy }),
  z.object({
    what: z.literal('speed'),
    settings: memoryStudy.settings.extend({ steps: count, new_tokens: count }),
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
  z.object({
    what: z.literal('kernels'),
    settings: memoryStudy.settings.omit({ gradient_checkpointing: true }).extend({
      precision: z.enum(['fp32', 'bf16']).describe('Type of matrix operands, as resolved'),
      format: z.string().describe('How weights of linears are held'),
      rounds: count,
      level: z.string().describe('Instruction-set level'),
      threads: count,
    }),
    kernels: z.array(
      z.object({
        kernel: z.enum(['linear', 'attention', 'head_loss']),
        name: z.enum(['forward', 'input_gradient', 'adapter_gradient', 'backward', 'forward_backward']),
        shape: z.record(z.string(), z.union([z.number(), z.string()])),
        count: count.describe('Number of calls in a training step'),
        seconds: z.number().describe('Time of a call, the best of the rounds'),
        operations_per_second: z.number().describe('A multiply-add counts as two'),
        share_of_peak: z
          .number()
          .nullable()
          .describe(
            'Share of the rate of a loop of multiply-adds between the rounds; null if the level has none',
          ),
        extra_bytes: z.int().optional().describe('Head and loss: bytes that the first call made resident'),
      }),
    ),
  }),
])
