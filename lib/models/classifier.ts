/**
 * Classifiers, like transformers' `…ForSequenceClassification`: instead of predicting tokens, the head scores every
 * class from the last token of a text. The head is part not of the base but of the adapter that trains it.
 */
import { ConfigError } from '../core/errors.js'
import { type Graph, nodesOf } from '../graph/graph.js'

/** Module of the scores, also in PEFT's files. */
const SCORE = 'score'

/** The graph with a classification head. @param labels number of classes */
export function classifierGraph(graph: Graph, labels: number): Graph {
  const [head] = nodesOf(graph, 'lm_head')
  const last = graph.nodes.find((node) => 'out' in node && node.out === head?.x)
  const cols = graph.values.find(({ id }) => id === head?.x)?.cols
  if (head === undefined || last === undefined || cols === undefined || labels > graph.vocabSize)
    throw new ConfigError(
      `labels: ${labels} classes are more than the ${graph.vocabSize} rows of the model's embedding.`,
      { labels },
    )
  const weight = `${SCORE}.weight`
  const tied = nodesOf(graph, 'embedding').some((node) => node.weight === head.weight)
  // Drops the scale of token logits, which is not part of the norm.
  const { scale: _, ...norm } = last as typeof last & { scale?: number }
  return {
    ...graph,
    labels,
    weights: [
      ...graph.weights.filter(({ name }) => tied || name !== head.weight),
      { name: weight, rows: labels, cols, kind: 'matrix' },
    ],
    nodes: graph.nodes.map((node) =>
      node === head ? { ...head, path: SCORE, weight } : node === last ? (norm as typeof last) : node,
    ),
  }
}

/** Standard deviation of a head's initial values. */
export function headDeviation(config: Readonly<Record<string, unknown>>): number {
  const { initializer_range: range } = config
  return typeof range === 'number' && range > 0 ? range : 0.02
}
