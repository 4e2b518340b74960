/** Graphs whose layers are split over ranks: each rank computes a range of them and exchanges hidden states. */
import { ConfigError } from '../core/errors.js'
import type { Graph, GraphNode, GraphValue } from '../graph/graph.js'

/** The layers [first, end) of each rank. The embedding is with the first layer, the head with the last. */
export function layerRanges(layers: number, count: number): { first: number; end: number }[] {
  if (count > layers)
    throw new ConfigError(
      `split is layers, and there are ${count} ranks for the ${layers} layers of the model; start at most ${layers} ranks.`,
      { ranks: count, layers },
    )
  const [least, more] = [Math.floor(layers / count), layers % count]
  const begin = (rank: number) => rank * least + Math.min(rank, more)
  return Array.from({ length: count }, (_, rank) => ({ first: begin(rank), end: begin(rank + 1) }))
}

/** The rank of each node of a whole graph, in order. */
function nodeRanks({ nodes, layers }: Graph, count: number): number[] {
  const ranges = layerRanges(layers, count)
  let rank = 0
  return nodes.map(({ segment }, i) => {
    // Nodes outside of any layer go with the layer behind them, and the last ones with the last.
    const layer = segment >= 0 ? segment : (nodes.slice(i).find((node) => node.segment >= 0)?.segment ?? -1)
    rank = layer >= 0 ? ranges.findIndex(({ end }) => layer < end) : rank
    return rank
  })
}

/** The rank that computes each node of a whole graph, by path. */
export function ranksOfNodes(graph: Graph, count: number): Map<string, number> {
  const ranks = nodeRanks(graph, count)
  return new Map(graph.nodes.map(({ path }, i) => [path, ranks[i] as number]))
}

/** Fields of nodes that are values. */
const INPUTS = ['x', 'q', 'k', 'v', 'gate', 'up', 'beta', 'alpha', 'residual'] as const

function inputsOf(node: GraphNode): number[] {
  const fields = node as Partial<Record<(typeof INPUTS)[number], number>>
  return INPUTS.flatMap((key) => fields[key] ?? [])
}

/** The part of a whole graph that a rank computes. */
export function graphPart(graph: Graph, index: number, count: number): Graph {
  if (count === 1) return graph
  const ranks = nodeRanks(graph, count)
  const own = graph.nodes.filter((_, i) => ranks[i] === index)
  const made = new Set(own.flatMap((node) => ('out' in node ? [node.out] : [])))
  const range = layerRanges(graph.layers, count)[index] as { first: number; end: number }
  const entering = onlyOne(own.flatMap(inputsOf).filter((id) => !made.has(id)))
  const behind = graph.nodes.filter((_, i) => (ranks[i] as number) > index)
  const leaving = onlyOne(behind.flatMap(inputsOf).filter((id) => made.has(id)))
  const kept = [...(entering === undefined ? [] : [entering]), ...made]
  const numbers = new Map(kept.map((id, number) => [id, number]))
  const numbered = (node: GraphNode): GraphNode => {
    const fields = Object.entries(node).map(([key, value]) =>
      key === 'out' || INPUTS.some((name) => name === key)
        ? [key, numbers.get(value as number)]
        : [key, value],
    )
    return Object.fromEntries(fields) as GraphNode
  }
  const outside = { segment: -1 }
  const nodes: GraphNode[] = [
    ...(entering === undefined
      ? []
      : [{ op: 'receive', path: 'receive', ...outside, out: numbers.get(entering) as number } as const]),
    ...own.map(numbered),
    ...(leaving === undefined
      ? []
      : [{ op: 'send', path: 'send', ...outside, x: numbers.get(leaving) as number } as const]),
  ]
  const used = new Set(
    own.flatMap((node) => [
      ...('weight' in node ? [node.weight] : []),
      ...('bias' in node && node.bias !== undefined ? [node.bias] : []),
    ]),
  )
  const added = entering === undefined ? 0 : 1
  return {
    ...graph,
    layers: range.end - range.first,
    weights: graph.weights.filter(({ name }) => used.has(name)),
    values: kept.map((id, number) => ({ ...(graph.values[id] as GraphValue), id: number })),
    nodes,
    part: { index, count, firstNode: ranks.indexOf(index) - added },
  }
}

/** The value that crosses an end of a part; undefined at the ends of the model. */
function onlyOne(values: readonly number[]): number | undefined {
  const [value, ...others] = new Set(values)
  if (others.length === 0) return value
  throw new ConfigError(
    `split is layers, but ${others.length + 1} values of this model go from one layer to the next.`,
    { values: others.length + 1 },
  )
}
