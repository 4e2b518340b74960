/**
 * LoRA+: a higher learning rate for B than for A. It wraps any adapter and only assigns its factors to optimizer
 * groups; the math, files, and initial values remain the adapter's own.
 */

import * as z from 'zod'
import { checkedOptions } from '../core/arguments.js'
import { deepFreeze, numberWithin, positive } from '../core/schema.js'
import type { LoraPlusConfig, LoraPlusOptions } from './configs.js'
import { dpDyloraRules } from './dp-dylora.js'
import { withWrappers, wrapping } from './plain.js'
import type { Factor, LinearAdapter, StrategyRules } from './strategy.js'

// In private training the rates apply to a client's own steps, or to a sum that already includes noise, so the
// guarantee is unaffected.
const adapters = withWrappers(dpDyloraRules)

const schema = z.strictObject({
  name: z.literal('lora-plus'),
  adapter: adapters.schema.prefault({ name: 'lora' }).describe('Strategy whose parameters are trained.'),
  loraplusLrRatio: numberWithin(1, Number.MAX_VALUE, 'a number from 1')
    .default(16)
    .describe(
      "Learning rate of `B` divided by the one of `A`. The paper's script for RoBERTa uses 80, its README 20.",
    ),
  loraplusLrEmbedding: positive()
    .default(1e-6)
    .describe('Learning rate of `A` and `B` of an adapted embedding.'),
}) as unknown as z.ZodObject & z.ZodType<LoraPlusConfig>

/**
 * Trains B `loraplusLrRatio` times faster than A. The run's `learningRate` is A's, so use a lower one than for plain
 * LoRA; the authors recommend about half. With ratio 1 the result is bit-identical to the wrapped adapter.
 * @throws {ConfigError} for an unknown option or a ratio below 1
 * @example loraPlus({ loraplusLrRatio: 16, adapter: lora({ r: 16, loraAlpha: 32 }) })
 * @see Hayou, Ghosh and Yu 2024, arXiv 2402.12354; PEFT's `create_loraplus_optimizer`
 */
export function loraPlus(options: LoraPlusOptions = {}): LoraPlusConfig {
  return deepFreeze(checkedOptions(schema, options, 'loraPlus()', { name: 'lora-plus' }))
}

/** Group for the factors of a wrapped adapter that train faster. */
const fast = (group: string) => `${group}_b`

/** Group for the factors of an embedding. */
const embedding = (group: string) => `${group}_embedding`

const inFastGroup = (factor: Factor): Factor =>
  factor.role === 'b' ? { ...factor, group: fast(factor.group) } : factor

const regrouped = (answer: LinearAdapter): LinearAdapter => ({
  ...answer,
  factors: answer.factors.map((factor) =>
    answer.term.kind === 'embedding' ? { ...factor, group: embedding(factor.group) } : inFastGroup(factor),
  ),
})

const inner = wrapping<LoraPlusConfig>(adapters.rulesIn)

export const loraPlusRules: StrategyRules<LoraPlusConfig> = {
  ...inner,
  name: 'lora-plus',
  label: 'LoRA+',
  mark: { hue: 1, shape: 'filled' },
  compared: {
    around: (inner) => ({ name: 'lora-plus', adapter: inner('lora') }),
    controls: (_, reference) => [
      {
        name: 'lora+b-rate',
        about: 'LoRA with B at twice the learning rate: the least of LoRA+.',
        options: { name: 'lora-plus', adapter: reference, loraplusLrRatio: 2 },
      },
    ],
  },
  foreign: {
    loraplus_lr_ratio: { here: 'strategy.loraplus_lr_ratio', note: 'an option of the strategy lora-plus' },
    'loraplus_lr_embedding embedding_lr': {
      here: 'strategy.loraplus_lr_embedding',
      note: 'an option of the strategy lora-plus',
    },
  },
  paper: 'arXiv 2402.12354',
  peftType: 'LORA',
  bases: ['fp32', 'fp16', 'bf16', 'nf4', 'fp4', 'int8', 'gguf'],
  trainable: 'parameters of the wrapped adapter, B at a higher learning rate',
  schema,
  // Keeps the geometric mean of the two rates equal to the wrapped adapter's rate.
  learningRate: (config) => inner.learningRate(config) / Math.sqrt(config.loraplusLrRatio),
  groups: (config) =>
    inner.groups(config).flatMap((group) => [
      group,
      {
        ...group,
        name: fast(group.name),
        learningRateFactor: group.learningRateFactor * config.loraplusLrRatio,
      },
      { ...group, name: embedding(group.name), learningRate: config.loraplusLrEmbedding },
    ]),
  linears: (config, sites) => inner.linears(config, sites).map(regrouped),
  copies: (config, weights, adapted) => inner.copies(config, weights, adapted).map(inFastGroup),
}
