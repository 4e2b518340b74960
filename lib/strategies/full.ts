/**
 * Full fine-tuning: trains every weight of the base, as fp32 copies that replace the frozen ones. It is not an adapter
 * strategy but the baseline for them, and the way to train a model from random weights. It saves a model folder.
 */

import * as z from 'zod'
import { deepFreeze } from '../core/schema.js'
import { shapeOf } from '../graph/graph.js'
import type { FullConfig } from './configs.js'
import type { StrategyRules } from './strategy.js'

const schema = z.strictObject({ name: z.literal('full') }) satisfies z.ZodType<FullConfig>

/**
 * Full fine-tuning of the embedding, linear layers, norms, and head, tied or not. Needs 16 bytes per parameter in
 * addition to the base weights (fp32 copy, gradient, and AdamW's two moments).
 * @example await (await model.attach(full())).train('train.jsonl', { learningRate: 3e-4, outputDir: 'tuned' })
 */
export function full(): FullConfig {
  return deepFreeze(schema.parse({ name: 'full' }))
}

export const fullRules: StrategyRules<FullConfig> = {
  name: 'full',
  label: 'Full fine-tuning',
  mark: { hue: 6, shape: 'filled' },
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
    weights.map((weight) => ({
      name: weight.name,
      rows: weight.rows,
      cols: weight.cols,
      trained: true,
      initializer: { kind: 'weight', weight: weight.name },
      group: 'full',
      tensor: { name: weight.name, shape: shapeOf(weight) },
    })),
  toPeft: () => ({}),
}
