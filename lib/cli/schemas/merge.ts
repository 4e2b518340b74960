/** Output of `lowrank merge --json`. */
import * as z from 'zod'
import { count } from './fields.js'

const survivalShares = {
  kept: z.number().describe('Share of the change that the written weights still have, by projection'),
  error: z
    .number()
    .nonnegative()
    .describe('Norm of the difference from the exact sum, relative to the norm of the change'),
}

export const printed = z.object({
  output: z.string().describe('The file or folder that was written'),
  files: z.array(z.string()).readonly().describe('Names inside of it'),
  check: z
    .object({
      kl: z.number().describe('Mean Kullback-Leibler divergence from model and adapter, nats per token'),
      top1_agreement: z.number().min(0).max(1).describe('Share of positions with the same likeliest token'),
      max_abs_logit_error: z.number().nonnegative(),
      positions: count.describe('Tokens that were compared'),
    })
    .nullable()
    .describe('Comparison of the written model, read back; null with --no-check'),
  survival: z
    .object({
      ...survivalShares,
      tensors: z.array(z.object({ name: z.string(), ...survivalShares })),
    })
    .optional()
    .describe('Part of an adapter that survives merging into quantized weights; only there'),
})
