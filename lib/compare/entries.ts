/**
 * The entries of a compare: strategies with as many settings in common as possible, and controls, which isolate the
 * reasons why a strategy may beat LoRA.
 */
import { createHash } from 'node:crypto'
import * as z from 'zod'
import { ConfigError } from '../core/errors.js'
import { badValue, nearest, text } from '../core/schema.js'
import { isRecord } from '../core/schema-shape.js'
import {
  INITIAL_RANKS,
  keysOfStrategy,
  listStrategies,
  readStrategy,
  rulesNamed,
  rulesOf,
  strategyFrom,
} from '../strategies/index.js'
import type { LinearSite, StrategyConfig } from '../strategies/strategy.js'

/** An entry of a compare with a strategy of its own, which is trained as given: not resized, and without controls. */
export interface OwnEntry {
  /** Name in the results, of letters, digits, `.`, `-`, and `_`; `lora` makes it the reference. */
  name: string
  /** As `lora()` and the functions of the other strategies return it. */
  strategy: StrategyConfig
}

/** The option `strategies`. */
export type AskedStrategies = 'all' | readonly (string | OwnEntry)[] | null

const NAME = 'a name of letters, digits, dots, dashes, and underscores'

const ownEntry = z.strictObject({
  // Ids of cells are a name, a slash, and a seed.
  name: text(NAME).regex(/^[\w.-]+$/, { error: NAME }),
  strategy: z.custom<StrategyConfig>(isRecord, { error: 'a strategy, such as lora({ r: 64 })' }),
})

/** An item of the option `strategies`. */
export const askedEntry = z.union([text(), ownEntry], { error: 'a name, or { name, strategy }' })

/** A named strategy or control in a compare. */
export interface Contestant {
  name: string
  strategy: StrategyConfig
  /** True if it is trained as given. */
  isOwn?: true
  /** The strategy that this control explains. */
  controlOf?: string
  about?: string
}

/** Baseline strategy for all comparisons. */
export const REFERENCE = 'lora'
type Options = Record<string, unknown>

/** Options with the same meaning in every strategy that has them. */
const SHARED = ['targetModules', 'excludeModules', 'layersToTransform']
/** Options that some strategies declare but reject, such as dropout in Delta-LoRA. */
const SHARED_IF_TAKEN = ['loraDropout', 'useRslora', 'bias']
/** Strategies of a quick answer: the usual one, it on 4-bit weights, the best known variant, and the smallest. */
const USUAL = [REFERENCE, 'qlora', 'dora', 'lokr']

/** Names of all strategies, LoRA first and full fine-tuning last. */
export function allStrategies(): string[] {
  return [...listStrategies().map(({ name }) => name), 'full']
}

/**
 * Validates names and adds LoRA, the baseline.
 * @throws {ConfigError} for an unknown name
 */
export function strategyNames(asked: readonly string[] | 'all'): string[] {
  const known = allStrategies()
  const names = asked === 'all' || asked.includes('all') ? known : [...new Set(asked)]
  for (const name of names) {
    if (known.includes(name)) continue
    const close = nearest(name, known)
    throw new ConfigError(
      `compare: strategy ${JSON.stringify(name)} does not exist; ${close ? `did you mean ${close}?` : `expected all, or some of ${known.join(', ')}.`}`,
      { name, known },
    )
  }
  if (names.length === 0)
    throw badValue({ name: 'compare', spelling: 'camel' }, 'strategies', [], 'all, or at least one name')
  return names.includes(REFERENCE) ? names : [REFERENCE, ...names]
}

/**
 * Reads the strategies of entries of one's own, and fills in their defaults.
 * @throws {ConfigError} for an invalid strategy, naming its entry
 */
export function readEntries(asked: AskedStrategies): AskedStrategies {
  if (asked === 'all' || asked === null) return asked
  return asked.map((one) => {
    if (typeof one === 'string') return one
    const { name, strategy } = one
    return { name, strategy: readStrategy(strategy, { name: `compare: entry ${name}`, ...OWN_SOURCE }) }
  })
}

const OWN_SOURCE = { spelling: 'camel', at: 'strategy' } as const

/**
 * The entries asked for, LoRA first; by default the usual ones, and the config's own. An own entry takes the place of a strategy that is there by `all` or as LoRA is.
 * @param given strategy of the config, whose settings the named ones share
 * @throws {ConfigError} for an unknown name, or a name that is there twice
 */
export function contestants(asked: AskedStrategies, given: StrategyConfig): Contestant[] {
  const items = asked === 'all' ? [asked] : (asked ?? [...USUAL, given.name])
  const own = items.filter((one): one is OwnEntry => typeof one !== 'string')
  const names = items.filter((one) => typeof one === 'string')
  const named = strategyNames(names.length > 0 ? names : [REFERENCE]).filter(
    (name) => names.includes(name) || own.every((one) => one.name !== name),
  )
  const all = [
    ...named.map((name) => contestant(name, given)),
    ...own.map(({ name, strategy }): Contestant => ({ name, strategy, isOwn: true })),
  ]
  const twice = all.find(({ name }, index) => all.findIndex((other) => other.name === name) < index)?.name
  if (twice !== undefined)
    throw new ConfigError(
      `compare: strategies has two entries named ${twice}; expected a name of its own for each. Rename one.`,
      { name: twice },
    )
  return all.toSorted((a, b) => Number(b.name === REFERENCE) - Number(a.name === REFERENCE))
}

/** The adapter inside wrappers such as qlora. */
function innermost(strategy: StrategyConfig): StrategyConfig {
  return 'adapter' in strategy ? innermost(strategy.adapter as StrategyConfig) : strategy
}

/**
 * A strategy with the settings it shares with the config's own strategy: rank, alpha, targets, dropout. The config's
 * own strategy is used unchanged.
 */
export function contestant(name: string, given: StrategyConfig): Contestant {
  if (given.name === name) return { name, strategy: given }
  const plain = innermost(given)
  if (plain.name === name) return { name, strategy: plain }
  const options = (keys: readonly string[]) => optionsOf(name, plain as unknown as Options, keys)
  try {
    return { name, strategy: strategyFrom(options([...SHARED, ...SHARED_IF_TAKEN])) }
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    return { name, strategy: strategyFrom(options(SHARED)) }
  }
}

function optionsOf(name: string, plain: Options, sharedKeys: readonly string[]): Options {
  const { ownRank, around } = rulesNamed(name).compared ?? {}
  if (around) return around((inner) => optionsOf(inner, plain, sharedKeys)) as Options
  const keys = new Set(keysOfStrategy(name))
  const shared = Object.fromEntries(
    sharedKeys.filter((key) => keys.has(key) && plain[key] !== undefined).map((key) => [key, plain[key]]),
  )
  const r = plain.r ?? plain.targetR
  const alpha = plain.loraAlpha ?? plain.alpha
  const ranked = typeof r === 'number' && !ownRank
  const initR = ranked && keys.has('targetR') ? Math.ceil(INITIAL_RANKS * r) : undefined
  // AdaLoRA divides alpha by its initial rank, so alpha grows by the same factor to keep the scale of the others.
  const growth = initR === undefined ? 1 : initR / (r as number)
  return {
    name,
    ...shared,
    ...(ranked && keys.has('r') ? { r } : {}),
    ...(initR === undefined ? {} : { targetR: r, initR }),
    ...(typeof alpha === 'number' && keys.has('loraAlpha') ? { loraAlpha: alpha * growth } : {}),
    ...(alpha !== undefined && keys.has('alpha') ? { alpha } : {}),
  }
}

/** Controls for the given strategies, on a model with these linear layers. */
export function controls(contestants: readonly Contestant[], sites: readonly LinearSite[]): Contestant[] {
  const reference = contestants.find(({ name }) => name === REFERENCE)?.strategy as unknown as Options
  const attention = sites.map(({ path }) => path).filter((path) => /attn|attention/.test(path))
  const isPart = attention.length < sites.length
  const model = {
    attention: isPart ? [...new Set(attention.map((path) => path.split('.').at(-1) as string))] : [],
  }
  const named = contestants.filter(({ isOwn }) => !isOwn)
  return named.flatMap(({ name: controlOf, strategy }) =>
    (rulesOf(strategy).compared?.controls?.(strategy, reference, model) ?? []).map(
      ({ name, about, options }): Contestant => ({ name, strategy: strategyFrom(options), controlOf, about }),
    ),
  )
}

/**
 * The strategy used for a run. Private training does one round per step, and its noise is drawn from the seed so that
 * cells are reproducible.
 */
export function strategyOfRun(
  strategy: StrategyConfig,
  { steps, seed, cohort }: { steps: number; seed: number; cohort: number },
): StrategyConfig {
  if (rulesOf(strategy).privacy?.(strategy) === undefined) return strategy
  const noiseKey = createHash('sha256').update(`compare ${seed}`).digest('hex')
  return strategyFrom({ ...strategy, rounds: steps, noiseKey, cohort })
}
