/** Standalone strategies, which others may wrap. */
import * as z from 'zod'
import { deepFreeze } from '../core/schema.js'
import { named } from '../core/type-names.js'
import { PLAIN } from './list.js'
import type { StrategyConfig, StrategyRules } from './strategy.js'

/** Schemas of several strategies, for a union discriminated by name. */
export function schemasOf(rules: readonly { schema: z.ZodObject }[]): [z.ZodObject, ...z.ZodObject[]] {
  return rules.map(({ schema }) => schema) as [z.ZodObject, ...z.ZodObject[]]
}

/** An adapter of one of several strategies, by name. */
export function adapterOf(schemas: readonly [z.ZodObject, ...z.ZodObject[]]) {
  return named(z.discriminatedUnion('name', schemas), { type: 'StrategyConfig', from: 'strategies/configs' })
}

/** A standalone adapter. */
export const plainSchema = adapterOf(schemasOf(PLAIN))

/** Rules of a strategy accepted by `plainSchema`. */
export function plainRules(config: StrategyConfig): StrategyRules {
  return PLAIN.find((rules) => rules.name === config.name) as StrategyRules
}

/**
 * Adapters that a general wrapper accepts: standalone strategies, and some wrappers.
 * @param wrappers rules of those wrappers
 */
export function withWrappers(...wrappers: readonly { name: string; schema: z.ZodObject }[]) {
  return {
    schema: adapterOf([...plainSchema.options, ...wrappers.map(({ schema }) => schema)]),
    rulesIn: (config: StrategyConfig) =>
      (wrappers.find(({ name }) => name === config.name) as StrategyRules | undefined) ?? plainRules(config),
  }
}

/**
 * Rules of a strategy that wraps another: delegates everything to the wrapped adapter, except what the wrapper
 * overrides.
 * @param rulesIn looks up the rules of the wrapped config
 */
export function wrapping<Config extends StrategyConfig & { readonly adapter: StrategyConfig }>(
  rulesIn: (adapter: StrategyConfig) => StrategyRules,
) {
  return {
    learningRate: ({ adapter }) => rulesIn(adapter).learningRate(adapter),
    defaults: ({ adapter }) => rulesIn(adapter).defaults(adapter),
    targeting: ({ adapter }) => rulesIn(adapter).targeting(adapter),
    groups: ({ adapter }) => rulesIn(adapter).groups(adapter),
    linears: ({ adapter }, sites) => rulesIn(adapter).linears(adapter, sites),
    copies: ({ adapter }, weights, adapted) => rulesIn(adapter).copies?.(adapter, weights, adapted) ?? [],
    embeddings: ({ adapter }) => rulesIn(adapter).embeddings?.(adapter) ?? false,
    probe: (config) => {
      const probe = rulesIn(config.adapter).probe?.(config.adapter)
      return probe && { ...probe, choose: (norms) => deepFreeze({ ...config, adapter: probe.choose(norms) }) }
    },
    savedAs: ({ adapter }, description, read) => rulesIn(adapter).savedAs?.(adapter, description, read),
    ranked: ({ adapter }) => rulesIn(adapter).ranked?.(adapter),
    privacy: ({ adapter }) => rulesIn(adapter).privacy?.(adapter),
    steps: ({ adapter }) => rulesIn(adapter).steps?.(adapter),
    remarks: ({ adapter }) => rulesIn(adapter).remarks?.(adapter) ?? [],
    toPeft: ({ adapter }) => ({
      peft_type: rulesIn(adapter).peftType,
      ...rulesIn(adapter).toPeft(adapter),
    }),
  } satisfies Partial<StrategyRules<Config>>
}
