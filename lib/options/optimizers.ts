/** Optimizers as plain settings; the arithmetic is native. */

import { isDeepStrictEqual } from 'node:util'
import * as z from 'zod'
import { checkedOptions } from '../core/arguments.js'
import { ConfigError } from '../core/errors.js'
import { deepFreeze, flag, numberWithin, parseBytes, positive } from '../core/schema.js'
import { named } from '../core/type-names.js'
import type { OptimizerStep, StateSpec } from '../native/addon.js'
import { rulesOf } from '../strategies/index.js'
import type { StrategyConfig } from '../strategies/strategy.js'
import type { Adafactor, AdamW, Lion, Optimizer, PagedAdamW, Sgd } from './types.js'

const NAMES = [
  'adamw',
  'adamw_8bit',
  'paged_adamw',
  'paged_adamw_8bit',
  'lion',
  'lion_8bit',
  'adafactor',
  'sgd',
] as const

const LEAST_RESIDENT = 1 << 20

const beta = () => numberWithin(0, 1 - Number.EPSILON, 'a number in [0, 1)')
const betas = (first: number, second: number) =>
  z.tuple([beta(), beta()], { error: 'two numbers in [0, 1)' }).default([first, second])
const weightDecay = numberWithin(0, Number.MAX_VALUE, 'a number from 0')
  .nullable()
  .default(null)
  .describe("Overrides the run's `weight_decay`.")

const adamwShape = {
  betas: betas(0.9, 0.999).describe('Decay rates of the two moments.'),
  eps: positive().default(1e-8).describe('Added to the denominator.'),
  weightDecay,
}
const ADAMW = {
  type: 'AdamW',
  about:
    'Settings of AdamW, with the arithmetic of torch.optim.AdamW. `adamw_8bit` stores both moments as block-wise 8-bit numbers, except for tensors with fewer than 4096 elements.',
}
const PAGED = {
  type: 'PagedAdamW',
  about:
    "Settings of AdamW whose moments are paged to disk beyond a memory budget. The results equal AdamW's.",
}
const LION = {
  type: 'Lion',
  about:
    'Settings of Lion, whose updates are the sign of the momentum times the learning rate. `lion_8bit` stores the momentum as block-wise 8-bit numbers, except for tensors with fewer than 4096 elements.',
}
const bytesOf = (size: number | string) => (typeof size === 'string' ? (parseBytes(size) ?? 0) : size)
const pagedShape = {
  ...adamwShape,
  resident: z
    .union([z.int(), z.string()], { error: 'a size from 1MiB, as in 64MiB' })
    .refine((size) => bytesOf(size) >= LEAST_RESIDENT, { error: 'a size from 1MiB, as in 64MiB' })
    .default('256MiB')
    .describe('Memory for the moments, including the page cache; the rest is on disk.'),
}
const lionShape = {
  betas: betas(0.9, 0.99).describe('Weight of the moment in a step, and its decay rate.'),
  weightDecay,
}
const schemas = {
  adamw: named(z.strictObject({ type: z.literal('adamw'), ...adamwShape }), ADAMW),
  adamw_8bit: named(z.strictObject({ type: z.literal('adamw_8bit'), ...adamwShape }), ADAMW),
  paged_adamw: named(z.strictObject({ type: z.literal('paged_adamw'), ...pagedShape }), PAGED),
  paged_adamw_8bit: named(z.strictObject({ type: z.literal('paged_adamw_8bit'), ...pagedShape }), PAGED),
  lion: named(z.strictObject({ type: z.literal('lion'), ...lionShape }), LION),
  lion_8bit: named(z.strictObject({ type: z.literal('lion_8bit'), ...lionShape }), LION),
  adafactor: named(
    z.strictObject({
      type: z.literal('adafactor'),
      eps: z
        .tuple([positive(), positive()], { error: 'two numbers above 0' })
        .default([1e-30, 1e-3])
        .describe('Added to squared gradients, and the minimum parameter scale for `scale_parameter`.'),
      clipThreshold: positive().default(1).describe('Root mean square to which an update is clipped.'),
      decayRate: z
        .number({ error: 'a number below 0' })
        .lt(0, { error: 'a number below 0' })
        .default(-0.8)
        .describe('Step t keeps `1 - t^decay_rate` of the running squares.'),
      scaleParameter: flag()
        .default(false)
        .describe('Multiply the learning rate by the root mean square of the parameter.'),
      weightDecay,
    }),
    {
      type: 'Adafactor',
      about: "Settings of Adafactor without momentum, with the arithmetic of transformers' Adafactor.",
    },
  ),
  sgd: named(
    z.strictObject({
      type: z.literal('sgd'),
      momentum: beta()
        .default(0)
        .describe('Momentum: share of the previous step that is added to the next one.'),
      weightDecay,
    }),
    {
      type: 'Sgd',
      about: 'Settings of stochastic gradient descent, with the arithmetic of torch.optim.SGD.',
    },
  ),
} satisfies Record<Optimizer['type'], z.ZodType>

/** Settings of all optimizers. */
export const optimizerSettings = Object.values(schemas) as unknown as [z.ZodObject, ...z.ZodObject[]]

/** Schema of the `optimizer` option: a name, or an optimizer with settings. */
export const optimizerSchema = z.union(
  [
    z.enum(NAMES),
    named(z.discriminatedUnion('type', optimizerSettings), { type: 'Optimizer', from: 'options/types' }),
  ],
  {
    error: `one of ${NAMES.join(', ')}, or settings`,
  },
) as unknown as z.ZodType<Optimizer['type'] | Optimizer>

function parsed<Kind extends Optimizer>(
  type: Kind['type'],
  options: Partial<Omit<Kind, 'type'>>,
  name: string,
): Kind {
  const schema = schemas[type] as unknown as z.ZodType<Kind>
  return deepFreeze(checkedOptions(schema, options, name, { type }))
}

/**
 * AdamW with its settings.
 * @see Loshchilov and Hutter 2017, arXiv 1711.05101
 */
export function adamW(options: Partial<Omit<AdamW, 'type'>> = {}): AdamW {
  return parsed('adamw', options, 'adamW()')
}

/**
 * AdamW with 8-bit moments, one byte per element. The second moment is stored as its square root, so that small values
 * in a block of large ones do not become 0.
 * @see Dettmers et al. 2021, arXiv 2110.02861
 */
export function adamW8bit(options: Partial<Omit<AdamW, 'type'>> = {}): AdamW {
  return parsed('adamw_8bit', options, 'adamW8bit()')
}

/**
 * AdamW whose moments are paged to disk when they exceed `resident`. The results equal those of `adamW()`.
 * @example pagedAdamW({ resident: '64MiB' })
 */
export function pagedAdamW(options: Partial<Omit<PagedAdamW, 'type'>> = {}): PagedAdamW {
  return parsed('paged_adamw', options, 'pagedAdamW()')
}

/** `pagedAdamW()` with the 8-bit moments of `adamW8bit()`. */
export function pagedAdamW8bit(options: Partial<Omit<PagedAdamW, 'type'>> = {}): PagedAdamW {
  return parsed('paged_adamw_8bit', options, 'pagedAdamW8bit()')
}

/**
 * Lion with its settings. It needs a learning rate 3 to 10 times smaller than AdamW's.
 * @see Chen et al. 2023, arXiv 2302.06675
 */
export function lion(options: Partial<Omit<Lion, 'type'>> = {}): Lion {
  return parsed('lion', options, 'lion()')
}

/** Lion with 8-bit momentum, one byte per element. */
export function lion8bit(options: Partial<Omit<Lion, 'type'>> = {}): Lion {
  return parsed('lion_8bit', options, 'lion8bit()')
}

/**
 * Adafactor with its settings. For a matrix it stores only row and column means of the second moment.
 * @see Shazeer and Stern 2018, arXiv 1804.04235
 */
export function adafactor(options: Partial<Omit<Adafactor, 'type'>> = {}): Adafactor {
  return parsed('adafactor', options, 'adafactor()')
}

/** Stochastic gradient descent with its settings. */
export function sgd(options: Partial<Omit<Sgd, 'type'>> = {}): Sgd {
  return parsed('sgd', options, 'sgd()')
}

/** Default settings by name, cached because every step looks them up. */
const usual = new Map<Optimizer['type'], Optimizer>()

/** Resolves the option's value to an optimizer. */
export function optimizerOf(given: Optimizer['type'] | Optimizer | null): Optimizer {
  const value = given ?? 'adamw'
  if (typeof value !== 'string') return value
  const known = usual.get(value) ?? parsed(value, {}, 'optimizer')
  usual.set(value, known)
  return known
}

/** The shortest form for a config file: the name, plus any settings that differ from the defaults. */
export function shortOptimizer(
  optimizer: Optimizer,
): Optimizer['type'] | (Partial<Optimizer> & { type: string }) {
  const usual: Record<string, unknown> = { ...optimizerOf(optimizer.type) }
  const own = Object.entries(optimizer).filter(([key, value]) => !isDeepStrictEqual(value, usual[key]))
  return own.length > 0 ? { type: optimizer.type, ...Object.fromEntries(own) } : optimizer.type
}

/** Which kinds of AdamW state the strategy supports: paged, and 8-bit. */
export function statesOf(strategy: StrategyConfig): { paged: boolean; eightBit: boolean } {
  const rules = rulesOf(strategy)
  const whole = !rules.ranked?.(strategy)?.counted
  return {
    // Not for private training of clients, which keeps all state in memory, nor for ranks that are updated one by one.
    paged: whole && rules.privacy?.(strategy)?.privacyUnit !== 'user',
    eightBit: whole,
  }
}

/**
 * AdamW with the same settings but different storage of its moments.
 * @param resident memory budget of paged moments
 */
export function adamWHeld(
  { betas, eps, weightDecay }: Pick<AdamW, 'betas' | 'eps' | 'weightDecay'>,
  eightBit = false,
  resident?: string,
): AdamW | PagedAdamW {
  const settings = { betas, eps, weightDecay }
  if (resident === undefined) return { type: eightBit ? 'adamw_8bit' : 'adamw', ...settings }
  return { type: eightBit ? 'paged_adamw_8bit' : 'paged_adamw', ...settings, resident }
}

/** Converts an optimizer's settings for a native step. */
export function nativeOptimizer(
  optimizer: Optimizer,
): Pick<OptimizerStep, 'kind' | 'beta1' | 'beta2' | 'epsilon' | 'adafactor'> {
  switch (optimizer.type) {
    case 'sgd':
      return { kind: 'sgd', beta1: optimizer.momentum, beta2: 0, epsilon: 0 }
    case 'adafactor': {
      const { eps, clipThreshold, decayRate, scaleParameter } = optimizer
      const adafactor = { epsilon: eps[0], leastScale: eps[1], clipThreshold, decayRate, scaleParameter }
      return { kind: 'adafactor', beta1: 0, beta2: 0, epsilon: 0, adafactor }
    }
    case 'lion':
    case 'lion_8bit':
      return { kind: 'lion', beta1: optimizer.betas[0], beta2: optimizer.betas[1], epsilon: 0 }
    default:
      return {
        kind: 'adamw',
        beta1: optimizer.betas[0],
        beta2: optimizer.betas[1],
        epsilon: optimizer.eps,
      }
  }
}

/**
 * The optimizer state that a run keeps.
 * @param folder for paged state; not needed for plans
 * @throws {ConfigError} for an optimizer that cannot train the strategy
 */
export function optimizerState(
  options: { optimizer: Optimizer['type'] | Optimizer | null; optimizerInBackward: boolean },
  strategy: StrategyConfig,
  folder?: string,
): StateSpec {
  const optimizer = optimizerOf(options.optimizer)
  const eightBit = optimizer.type.endsWith('8bit')
  const rules = rulesOf(strategy)
  const paging =
    'resident' in optimizer
      ? { resident: bytesOf(optimizer.resident), ...(folder === undefined ? {} : { folder }) }
      : {}
  const inBackward = options.optimizerInBackward ? { inBackward: true } : {}
  const refuse = (why: string) =>
    new ConfigError(
      `optimizer is ${optimizer.type}, and ${strategy.name} ${why}; use adamw, lion, or sgd with it.`,
      { optimizer: optimizer.type, strategy: strategy.name },
    )
  if (rules.ranked?.(strategy)?.counted && (eightBit || optimizer.type === 'adafactor'))
    throw refuse(`updates each rank on its own, which ${eightBit ? '8-bit blocks' : 'it'} cannot`)
  const privacy = rules.privacy?.(strategy)
  if (privacy?.privacyUnit === 'user' && privacy.serverOptimizer === 'adam') {
    // The server's moments take the place of a client's between rounds.
    if (optimizer.type === 'adafactor') throw refuse('has a server that keeps Adam moments')
    return { kind: 'adamw', eightBit, ...paging }
  }
  const { kind } = nativeOptimizer(optimizer)
  const momentum = optimizer.type === 'sgd' ? { momentum: optimizer.momentum > 0 } : {}
  return { kind, eightBit, ...momentum, ...paging, ...inBackward }
}
