/**
 * The model graph: plain, JSON-serializable data that describes the computation. Model families in lib/models/ build
 * it; the native side validates it, derives the backward pass, and plans the memory. It is independent of adapters and
 * backends; adapters attach to `linear` nodes by path.
 */
import type { Operation } from './nodes.js'

export type { Activation } from './nodes.js'

/** A stored tensor of the model, by its Hugging Face name. Vectors have rows = 1. */
export interface GraphWeight {
  name: string
  rows: number
  cols: number
  /** `table` is the embedding (and a tied head). A `table` or `matrix` may be quantized; a `vector` is always f32. */
  kind: 'matrix' | 'table' | 'vector'
  /** Shape in files, if other than that of the kind, as for the kernel of a convolution. */
  shape?: number[]
}

/** Shape of a weight in Hugging Face folders. */
export function shapeOf({ kind, rows, cols, shape }: Omit<GraphWeight, 'name'>): number[] {
  return shape ?? (kind === 'vector' ? [cols] : [rows, cols])
}

/** Rows of a value: one per token, or one per row that the head processes. */
export type RowKind = 'tokens' | 'head'

export interface GraphValue {
  id: number
  rows: RowKind
  cols: number
  /** `residual` is always f32; `operand` has the plan's precision (f32 or bf16). */
  type: 'residual' | 'operand'
}

interface NodeBase {
  /** Module path of the node, e.g. `model.layers.3.mlp.down_proj`; unique. */
  path: string
  /** Index of the recompute segment (the transformer block), or -1 outside any. */
  segment: number
}

export type GraphNode = NodeBase & Operation

export interface Graph {
  family: string
  /** Token ids are in [0, vocabSize). */
  vocabSize: number
  /** Number of classes of a classifier's head; absent for a language model. */
  labels?: number
  layers: number
  weights: GraphWeight[]
  values: GraphValue[]
  nodes: GraphNode[]
  /** One per kind of layer with its own rotation. */
  ropes: Rotary[]
  /** Absent for a whole model. */
  part?: GraphPart
}

/** The place of a graph that has only the layers of one of several ranks. */
export interface GraphPart {
  /** The rank that computes it. */
  index: number
  /** Number of ranks. */
  count: number
  /** Index of its first node in the whole graph. */
  firstNode: number
}

/** Angles of a rotary embedding. */
export interface Rotary {
  /**
   * Radians per position, one per pair of a head's dimensions; if there are fewer, the last dimensions are not rotated.
   */
  invFreq: number[]
  /** Multiplies cos and sin (1 except for scaled variants). */
  attentionFactor: number
  /** Vectors are scaled by 1 + rate ln(1 + floor(position / every)). */
  growth?: { rate: number; every: number }
  /** Frequencies for sequences of more than `above` tokens, a threshold shared by the whole graph. */
  long?: { invFreq: number[]; above: number }
}

export type NodeOf<Op extends GraphNode['op']> = Extract<GraphNode, { op: Op }>

/** All nodes of one operation, in order. */
export function nodesOf<Op extends GraphNode['op']>({ nodes }: Graph, op: Op): NodeOf<Op>[] {
  return nodes.filter((node): node is NodeOf<Op> => node.op === op)
}

/** Sizes of gated delta rules, which are the same in all layers that have them; undefined without such layers. */
export function deltaRuleOf(graph: Graph) {
  const [rule] = nodesOf(graph, 'gated_delta_rule')
  const [convolution] = nodesOf(graph, 'silu_conv')
  if (rule === undefined) return undefined
  const kernel = graph.weights.find(({ name }) => name === convolution?.weight)
  const cols = (id: number) => graph.values[id]?.cols ?? 0
  return {
    keyHeads: rule.keyHeads,
    valueHeads: rule.heads,
    keyDim: rule.keyDim,
    valueDim: cols(rule.out) / rule.heads,
    taps: kernel?.shape?.[2] ?? 0,
  }
}

/** Attention heads, which are the same in all layers. */
export function headsOf(graph: Graph): { heads: number; kvHeads: number; headDim: number } {
  const [{ heads, kvHeads, headDim }] = nodesOf(graph, 'attention') as [NodeOf<'attention'>]
  return { heads, kvHeads, headDim }
}
