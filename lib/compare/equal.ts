/** Matches the size of strategies to LoRA's, in trained parameters or planned bytes. */
import { formatBytes } from '../core/bytes.js'
import { ConfigError, LowrankError } from '../core/errors.js'
import { rulesOf, strategyFrom } from '../strategies/index.js'
import type { StrategyConfig } from '../strategies/strategy.js'
import { type Contestant, REFERENCE } from './entries.js'
import type { CompareEntry, CompareResults, Equality } from './results.js'

type Options = Record<string, unknown>

const SIZES = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024]
/** Ratio up to which sizes count as equal. */
const EQUAL_WITHIN = 1.25
/** Ratio beyond which entries of equal rank or time are remarked on. */
const FAR = 1.5

/**
 * The config of a strategy whose size is closest to a target on a logarithmic scale. Strategies of fixed size are
 * returned unchanged. The config's own shape is kept if one of its ranks comes near the target; LoKr's size is limited
 * by its shape, whatever the rank.
 * @param sizeOf size of a strategy; throws a LowrankError if the model does not support it
 * @param within ratio up to which the config's own shape counts as near
 */
export async function nearestSize(
  strategy: StrategyConfig,
  target: number,
  sizeOf: (strategy: StrategyConfig) => Promise<number>,
  within = EQUAL_WITHIN,
): Promise<StrategyConfig> {
  let nearest = strategy
  let least = ratioOf(await sizeOf(strategy), target)
  for (const shape of shapesOf(strategy)) {
    for (const size of SIZES) {
      try {
        const resized = ofSize(shape, size)
        if (resized === undefined) return strategy
        const found = ratioOf(await sizeOf(resized), target)
        if (found < least) [nearest, least] = [resized, found]
      } catch (error) {
        if (!(error instanceof LowrankError)) throw error
      }
    }
    if (least <= within) break
  }
  return nearest
}

/** @throws {ConfigError} for an own entry where sizes are made equal, since it is trained as given */
export function checkOwn(entries: readonly Contestant[], equal: Equality): void {
  const own = entries.find(({ name, isOwn }) => isOwn && name !== REFERENCE)
  if (own === undefined || equal === 'rank' || equal === 'time') return
  throw new ConfigError(
    `compare: equal is ${equal}, but entry ${own.name} has a strategy of its own, which is not resized; expected rank or time. Or name a strategy in its place.`,
    { equal, name: own.name },
  )
}

/** Sentences on entries whose size is not LoRA's, though it was to be matched, or since nothing matched it. */
export function unequalSizes({ entries, equal }: Pick<CompareResults, 'entries' | 'equal'>): string[] {
  if (equal !== 'parameters' && equal !== 'bytes') return unmatched(entries, equal)
  const sizeOf = (entry: CompareEntry) =>
    equal === 'parameters' ? entry.trainable_parameters : entry.planned.bytes
  const told = (size: number) => (equal === 'parameters' ? size.toLocaleString('en-US') : formatBytes(size))
  const what = equal === 'parameters' ? 'trained parameters' : 'planned bytes'
  const reference = entries.find(({ name }) => name === REFERENCE)
  if (reference === undefined) return []
  return entries
    .filter((entry) => ratioOf(sizeOf(entry), sizeOf(reference)) > EQUAL_WITHIN)
    .map(
      (entry) =>
        `${entry.name} misses the ${what} of ${REFERENCE}: ${told(sizeOf(entry))} for ${told(sizeOf(reference))}. No rank or shape of it comes nearer.`,
    )
}

/** A sentence on the numbers that entries train, where these are far from LoRA's. */
function unmatched(entries: readonly CompareEntry[], equal: CompareResults['equal']): string[] {
  const reference = entries.find(({ name }) => name === REFERENCE)?.trainable_parameters
  if (reference === undefined) return []
  const far = entries
    .filter(({ trainable_parameters: own, control_of: of }) => !of && ratioOf(own, reference) > FAR)
    .toSorted((a, b) => b.trainable_parameters - a.trainable_parameters)
    .map(({ name, trainable_parameters: own }) => `${name} ${digits(own / reference)}`)
  return far.length === 0
    ? []
    : [
        `At equal ${equal}, entries train other numbers of parameters than ${REFERENCE}, in multiples of its: ${far.join(', ')}. --equal parameters compares them at about the same.`,
      ]
}

/** A ratio with two significant digits. */
function digits(ratio: number): string {
  return String(Number(ratio.toPrecision(2)))
}

/** How many times larger the larger of two sizes is. */
function ratioOf(size: number, target: number): number {
  return Math.max(size / target, target / size)
}

/** The strategy in its own shape, then in the others that it can have. */
function shapesOf(strategy: StrategyConfig): StrategyConfig[] {
  const options = strategy as unknown as Options
  if ('adapter' in options)
    return shapesOf(options.adapter as StrategyConfig).map((adapter) => strategyFrom({ ...options, adapter }))
  return [strategy, ...(rulesOf(strategy).compared?.shapes?.(strategy) ?? []).map(strategyFrom)]
}

/** The strategy at another rank or block size, with the same scale; undefined if it has neither. */
function ofSize(strategy: StrategyConfig, size: number): StrategyConfig | undefined {
  const options = strategy as unknown as Options
  if ('adapter' in options) {
    const adapter = ofSize(options.adapter as StrategyConfig, size)
    return adapter && strategyFrom({ ...options, adapter })
  }
  const resized = rulesOf(strategy).compared?.resize?.(strategy, size)
  if (resized !== undefined) return strategyFrom(resized)
  if (!('r' in options)) return undefined
  const ratio = size / (options.r as number)
  const scaled = ['loraAlpha', 'alpha']
    .filter((key) => key in options)
    .map((key) => [key, (options[key] as number) * ratio])
  return strategyFrom({ ...options, r: size, ...Object.fromEntries(scaled) })
}
