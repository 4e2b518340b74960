/** The strategies by name: those that stand on their own, and those that wrap one of them. */
import * as z from 'zod'
import { ConfigError } from '../core/errors.js'
import { quote } from '../core/quote.js'
import { deepFreeze, nearest, type OptionSource, parseOptions, toFileKeys } from '../core/schema.js'
import { dpDyloraRules } from './dp-dylora.js'
import { fullRules } from './full.js'
import { loraPlusRules } from './lora-plus.js'
import { plain, schemasOf } from './plain.js'
import { qloraRules } from './qlora.js'
import type { PeftFields, StrategyConfig, StrategyRules } from './strategy.js'

const all = [...plain, loraPlusRules, dpDyloraRules, qloraRules] as unknown as readonly StrategyRules[]
const registry = new Map<string, StrategyRules>(
  [...all, fullRules as unknown as StrategyRules].map((rules) => [rules.name, rules]),
)

/** Every strategy's options; `name` tells them apart. */
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

/** True if it trains with noise, so that only the adapter may be shared. */
export function isPrivate(strategy: StrategyConfig): boolean {
  return rulesOf(strategy).privacy?.(strategy) !== undefined
}

/** The rules that read adapter folders of a `peft_type` with these fields, if there are any. */
export function rulesForPeft(peftType: string, fields: PeftFields): StrategyRules | undefined {
  return [...registry.values()].find(
    (rules) =>
      rules.peftType === peftType &&
      rules.fromPeft !== undefined &&
      (rules.ownsPeft === undefined || rules.ownsPeft(fields)),
  )
}

/** Prefixes of tensor names in adapter folders, after the module's path. */
export function peftPrefixes(): string[] {
  return [...new Set(all.flatMap(({ peftPrefix }) => peftPrefix ?? []))]
}

/** `peft_type`s that can be read. */
export function knownPeftTypes(): string[] {
  return [...new Set(all.map((rules) => rules.peftType))]
}

/**
 * A strategy's config from plain data such as parsed JSON, checked, with defaults filled in.
 * @throws {ConfigError} for an unknown name, key or a bad value
 */
export function strategyFrom(strategy: unknown): StrategyConfig {
  return readStrategy(strategy, { name: 'strategyFrom()', spelling: 'camel', at: 'strategy' })
}

/** The same, of a file or an argument of a function. */
export function readStrategy(value: unknown, source: OptionSource): StrategyConfig {
  return deepFreeze(parseOptions(strategySchema, value, source))
}

/** The options of a strategy by its name, in camelCase; undefined for a name that there is none of. */
export function keysOfStrategy(name: string): string[] | undefined {
  const rules = registry.get(name)
  return rules && Object.keys(rules.schema.shape)
}

/** A strategy's config with the keys that files use. */
export function strategyToFile(config: StrategyConfig): Record<string, unknown> {
  return toFileKeys(strategySchema, config) as Record<string, unknown>
}

/** One line of `lowrank strategies`. */
export interface StrategyEntry {
  name: string
  paper: string
  peft_type: string
  bases: readonly string[]
  trainable: string
  /** Peak rate of a run that is given none. */
  learning_rate: number
}

/** The adapter strategies with their sources; full fine-tuning is none of them. */
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
