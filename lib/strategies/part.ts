/** Adapters of a model whose layers are split over ranks: each rank has the factors of its own layers. */
import { ConfigError, InternalError, UnsupportedError } from '../core/errors.js'
import type { Graph, GraphPart } from '../graph/graph.js'
import { describeAdapter, linearSites, weightSites } from './describe.js'
import { rulesOf } from './index.js'
import type { AdapterDescription, Classes, LinearSite, StrategyConfig, WeightSite } from './strategy.js'

/** The layers that a rank holds of a model. */
export interface LayerPart {
  /** This rank. */
  index: number
  /** Number of ranks. */
  count: number
  /** The rank that computes each module, by path. */
  ranks: ReadonlyMap<string, number>
  /** The linear layers and weights of this rank. */
  sites: LinearSite[]
  weights: WeightSite[]
}

/**
 * @param graph a part of a model
 * @param ranks the rank of each module of the whole
 */
export function layerPart(graph: Graph, ranks: ReadonlyMap<string, number>, classes?: Classes): LayerPart {
  const { index, count } = graph.part as GraphPart
  return { index, count, ranks, sites: linearSites(graph), weights: weightSites(graph, classes) }
}

/** The ranks that hold each factor of an adapter, by name; several for a shared one. */
function holders({ spec, trained }: AdapterDescription, { ranks }: LayerPart): Map<string, Set<number>> {
  const found = new Map<string, Set<number>>()
  const add = (name: string, module: string) => {
    const known = found.get(name) ?? new Set()
    found.set(name, known.add(ranks.get(module) as number))
  }
  for (const { target, parameters } of spec.terms)
    for (const name of Object.values(parameters)) if (name !== undefined) add(name, target)
  const modulesOf = new Map(trained.map(({ name, modules }) => [name, modules]))
  for (const { parameter, weight } of spec.copies ?? [])
    for (const module of modulesOf.get(weight) ?? []) add(parameter, module)
  return found
}

/** The rank that keeps each factor of an adapter, by name. */
export function ownersOf(whole: AdapterDescription, part: LayerPart): Map<string, number> {
  return new Map([...holders(whole, part)].map(([name, ranks]) => [name, Math.min(...ranks)]))
}

/** @throws {UnsupportedError} for a strategy that computes something from all layers at once */
export function checkStrategy(strategy: StrategyConfig): void {
  const rules = rulesOf(strategy)
  const why =
    rules.saves === 'model'
      ? 'it trains the whole model, whose weights no rank holds'
      : rules.privacy?.(strategy)
        ? 'it clips gradients of all layers together'
        : rules.probe?.(strategy)
          ? 'its probe compares all layers'
          : rules.steps?.(strategy)?.byLength
            ? 'it allocates one budget over all layers'
            : undefined
  if (why !== undefined) throw unsupported(strategy, why)
}

function unsupported({ name }: StrategyConfig, why: string): UnsupportedError {
  return new UnsupportedError(
    `strategy ${name} does not go with split: layers, because ${why}. Use split: rows, or another strategy.`,
    { strategy: name },
  )
}

/**
 * Describes the part of an adapter that a rank holds.
 * @throws {UnsupportedError} for a trained factor of layers on several ranks
 * @throws {ConfigError} when a rank has nothing to train
 */
export function describePart(whole: AdapterDescription, part: LayerPart): AdapterDescription {
  const { strategy } = whole
  checkStrategy(strategy)
  const held = holders(whole, part)
  const trained = whole.factors.filter((factor) => factor.trained)
  const shared = trained.find(({ name }) => (held.get(name)?.size ?? 0) > 1)
  if (shared !== undefined)
    throw unsupported(strategy, `${shared.name} is trained by layers on several ranks`)
  for (let rank = 0; rank < part.count; rank++)
    if (!trained.some(({ name }) => held.get(name)?.has(rank)))
      throw new ConfigError(
        `split is layers, but the adapter trains nothing in the layers of rank ${rank}; adapt modules in all layers, or start fewer ranks.`,
        { rank },
      )
  const own = describeAdapter(strategy, part.sites, { strict: false, weights: part.weights })
  const shapes = new Map(whole.factors.map(({ name, rows, cols }) => [name, `${rows} x ${cols}`]))
  for (const { name, rows, cols } of own.factors)
    if (shapes.get(name) !== `${rows} x ${cols}`)
      throw new InternalError(`${name} is ${rows} x ${cols} in its part and ${shapes.get(name)} in the whole`)
  return own
}
