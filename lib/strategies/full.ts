/**
 * Full fine-tuning: every weight of the base trains, as fp32 copies of its own that stand in for the frozen ones. Not
 * one of the adapter strategies, but the baseline that they are measured against, and how a model is trained from random
 * weights. What it saves is a model folder.
 */
import * as z from 'zod'
import { deepFreeze } from '../core/schema.js'
import type { StrategyConfig, StrategyRules } from './strategy.js'

/** Options of full fine-tuning: none. */
export interface FullConfig extends StrategyConfig {
  readonly name: 'full'
}

const schema = z.strictObject({ name: z.literal('full') }) satisfies z.ZodType<FullConfig>

/**
 * Full fine-tuning: embedding, linears, norms and head, tied or not. Takes 16 bytes per parameter beside the base's own
 * (copy, gradient and AdamW's two moments, fp32).
 * @example await (await model.attach(full())).train('train.jsonl', { learningRate: 3e-4, outputDir: 'tuned' })
 */
export function full(): FullConfig {
  return deepFreeze(schema.parse({ name: 'full' }))
}

export const fullRules: StrategyRules<FullConfig> = {
  name: 'full',
  paper: 'none',
  peftType: 'none',
  saves: 'model',
  bases: ['fp32', 'fp16', 'bf16'],
  trainable: 'every weight of the base',
  schema,
  learningRate: () => 1e-4,
  defaults: () => ({ quantization: { type: 'none' }, embeddingQuantization: { type: 'none' } }),
  targeting: () => ({ targetModules: 'all-linear', excludeModules: null, layersToTransform: null }),
  groups: () => [{ name: 'full', learningRateFactor: 1 }],
  linears: () => [],
  copies: (_, weights) =>
    weights.map(({ name, rows, cols, kind }) => ({
      name,
      rows,
      cols,
      trained: true,
      initializer: { kind: 'weight', weight: name },
      group: 'full',
      tensor: { name, shape: kind === 'vector' ? [cols] : [rows, cols] },
    })),
  toPeft: () => ({}),
}
