/**
 * QLoRA: an adapter over a base in NF4 with double quantization. It wraps any adapter and only sets the run's
 * quantization; the math, files, and initialization remain the adapter's own.
 */

import * as z from 'zod'
import { checkedOptions } from '../core/arguments.js'
import { deepFreeze } from '../core/schema.js'
import { nf4 } from '../weights/quantization.js'
import type { QloraConfig, QloraOptions } from './configs.js'
import { dpDyloraRules } from './dp-dylora.js'
import { loraPlusRules } from './lora-plus.js'
import { withWrappers, wrapping } from './plain.js'
import type { StrategyRules } from './strategy.js'

const adapters = withWrappers(loraPlusRules, dpDyloraRules)

const schema = z.strictObject({
  name: z.literal('qlora'),
  adapter: adapters.schema
    .prefault({ name: 'lora' })
    .describe('The adapter on top of the 4-bit base, with its own options.'),
}) as unknown as z.ZodObject & z.ZodType<QloraConfig>

/**
 * An adapter over NF4 weights with double quantization. Sets the run's quantization: `loadModel` must be called with
 * the same one, and a config that specifies another is an error.
 * @example qlora({ adapter: lora({ r: 64, loraAlpha: 16 }) })
 * @see Dettmers et al. 2023, arXiv 2305.14314
 */
export function qlora(options: QloraOptions = {}): QloraConfig {
  return deepFreeze(checkedOptions(schema, options, 'qlora()', { name: 'qlora' }))
}

const inner = wrapping<QloraConfig>(adapters.rulesIn)

export const qloraRules: StrategyRules<QloraConfig> = {
  ...inner,
  name: 'qlora',
  label: 'QLoRA',
  mark: { hue: 0, shape: 'open' },
  compared: { around: (inner) => ({ name: 'qlora', adapter: inner('lora') }) },
  paper: 'arXiv 2305.14314',
  peftType: 'LORA',
  bases: ['nf4'],
  trainable: 'parameters of the wrapped adapter',
  schema,
  pagesState: true,
  defaults: (config) => ({ ...inner.defaults(config), quantization: nf4({ doubleQuant: true }) }),
}
