/** The factors of a single adapter, for formats that store low-rank products of linears alone. */
import { type ActiveAdapter, atRank } from '../base/base.js'
import { ConfigError, UnsupportedError } from '../core/errors.js'
import { type LowRankPair, lowRankPairs } from '../strategies/convert.js'
import { describeAdapter } from '../strategies/describe.js'
import { adaptedEmbedding } from '../strategies/index.js'
import type { AdapterDescription, ReadFactor } from '../strategies/strategy.js'
import type { Subject } from './drift.js'

/** A format of an adapter alone, with the advice for adapters that it cannot hold. */
export const ADAPTER_FORMATS = {
  'gguf-lora': 'export the merged model as gguf',
  vllm: 'merge the adapter (lowrank merge, or adapter.merge())',
} as const

/**
 * The factors of the adapter that acts on a model, at its rank and weight.
 * @throws {ConfigError} unless there is exactly one
 * @throws {UnsupportedError} for an adapter that is not a sum of low-rank products at linear layers
 */
export function lowRankOf(
  { base, adapters }: Subject,
  format: keyof typeof ADAPTER_FORMATS,
): { adapter: ActiveAdapter; pairs: LowRankPair[] } {
  const adapter = theOnly(adapters, format)
  const { state, weight, rank: wanted } = adapter
  const own: ReadFactor = (name) => state.native.read(name, 'value')
  const cut = wanted === null ? undefined : atRank(state.description, wanted, own)
  const description = cut
    ? describeAdapter(cut.strategy, base.sites, { strict: false, weights: base.weights })
    : state.description
  refuseTrained(description, format)
  const pairs = lowRankPairs(description, base.sites, cut?.read ?? own)
  return { adapter, pairs: pairs.map((pair) => ({ ...pair, scale: weight * pair.scale })) }
}

function refuseTrained({ trained, spec }: AdapterDescription, format: keyof typeof ADAPTER_FORMATS): void {
  const embedding = adaptedEmbedding(spec)
  const whole = trained[0]?.name
  if (embedding === undefined && whole === undefined) return
  throw new UnsupportedError(
    `the adapter ${whole === undefined ? `adapts the embedding ${embedding}` : `trains ${whole} whole`}, but ${format} supports only factors of linears; ${ADAPTER_FORMATS[format]}.`,
    { target: whole ?? embedding },
  )
}

function theOnly(adapters: readonly ActiveAdapter[], format: keyof typeof ADAPTER_FORMATS): ActiveAdapter {
  const [only, other] = adapters
  if (only !== undefined && other === undefined) return only
  throw new ConfigError(
    `${adapters.length === 0 ? 'no adapter acts' : `${adapters.length} adapters act`} on the model, but ${format} writes exactly one; select it with adapters, or write the merged model.`,
    { adapters: adapters.length },
  )
}
