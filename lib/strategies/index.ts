/** Registry of the strategies: standalone ones, and wrappers around them. */
import * as z from 'zod'
import { ConfigError } from '../core/errors.js'
import { addForeignKeys } from '../core/foreign-keys.js'
import { quote } from '../core/quote.js'
import { deepFreeze, nearest, type OptionSource, parseOptions, toFileKeys } from '../core/schema.js'
import { dpDyloraRules } from './dp-dylora.js'
import { fullRules } from './full.js'
import { PLAIN } from './list.js'
import { loraPlusRules } from './lora-plus.js'
import { schemasOf } from './plain.js'
import { qloraRules } from './qlora.js'
import type { PeftFields, StrategyConfig, StrategyRules } from './strategy.js'

export { INITIAL_RANKS } from './adalora.js'
export { HEAD, targetNames } from './targets.js'
export { adaptedEmbedding, isLowRank } from './terms.js'

const all = [...PLAIN, loraPlusRules, dpDyloraRules, qloraRules] as unknown as readonly StrategyRules[]
const registry = new Map<string, StrategyRules>(
  [...all, fullRules as unknown as StrategyRules].map((rules) => [rules.name, rules]),
)

addForeignKeys('Adapter', all)

/** Options of every strategy, discriminated by `name`. */
export const strategySchema = z.discriminatedUnion(
  'name',
  schemasOf([...all, fullRules]),
) as unknown as z.ZodType<StrategyConfig>

/** The rules of a strategy. */
export function rulesOf(config: StrategyConfig): StrategyRules {
  const rules = registry.get(config.name)
  if (rules === undefined) throw unknownStrategy(config.name)
  return rules
}

/** The rules of a strategy by its name. */
export const rulesNamed = (name: string): StrategyRules => rulesOf({ name })

/** True if the strategy trains with noise, so that only the adapter may be shared. */
export function isPrivate(strategy: StrategyConfig): boolean {
  return rulesOf(strategy).privacy?.(strategy) !== undefined
}

/** The rules for reading an adapter folder with this `peft_type` and these fields; undefined if there are none. */
export function rulesForPeft(peftType: string, fields: PeftFields): StrategyRules | undefined {
  return [...registry.values()].find(
    (rules) =>
      rules.peftType === peftType &&
      rules.fromPeft !== undefined &&
      (rules.ownsPeft === undefined || rules.ownsPeft(fields)),
  )
}

/** Prefixes of tensor names in adapter folders, following the module's path. */
export function peftPrefixes(): string[] {
  return [...new Set(all.flatMap(({ peftPrefix }) => peftPrefix ?? []))]
}

/** `peft_type`s that can be read. */
export function knownPeftTypes(): string[] {
  return [...new Set(all.map((rules) => rules.peftType))]
}

/**
 * Validates plain data, such as parsed JSON, as a strategy config and fills in the defaults.
 * @throws {ConfigError} for an unknown name or key, or an invalid value
 */
export function strategyFrom(strategy: unknown): StrategyConfig {
  return readStrategy(strategy, { name: 'strategyFrom()', spelling: 'camel', at: 'strategy' })
}

/** Like `strategyFrom`, for a strategy in a file or a function argument. */
export function readStrategy(value: unknown, source: OptionSource): StrategyConfig {
  return deepFreeze(parseOptions(strategySchema, value, source))
}

/** The option names of a strategy, in camelCase; undefined for an unknown strategy. */
export function keysOfStrategy(name: string): string[] | undefined {
  const rules = registry.get(name)
  return rules && Object.keys(rules.schema.shape)
}

/** A strategy's config with snake_case keys, as in files. */
export function strategyToFile(config: StrategyConfig): Record<string, unknown> {
  return toFileKeys(strategySchema, config) as Record<string, unknown>
}

/** A row of `lowrank strategies`. */
export interface StrategyEntry {
  name: string
  paper: string
  peft_type: string
  bases: readonly string[]
  trainable: string
  /** Default peak learning rate. */
  learning_rate: number
}

/** Lists the adapter strategies; full fine-tuning is not included. */
export function listStrategies(): StrategyEntry[] {
  return all.map(({ name, paper, peftType, bases, trainable }) => {
    const config = strategyFrom({ name })
    return {
      name,
      paper,
      peft_type: peftType,
      bases,
      trainable,
      learning_rate: rulesOf(config).learningRate(config),
    }
  })
}

function unknownStrategy(name: string): ConfigError {
  const names = [...registry.keys()]
  const close = nearest(name, names)
  return new ConfigError(
    `strategy ${quote(name)} does not exist; ${close ? `did you mean ${close}?` : `known: ${names.join(', ')}.`}`,
    { name, known: names },
  )
}
