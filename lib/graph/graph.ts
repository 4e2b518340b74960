/**
 * The model graph: plain, JSON-serializable data that describes the computation. Model families in lib/models/ build
 * it; the native side validates it, derives the backward pass, and plans the memory. It is independent of adapters and
 * backends; adapters attach to `linear` nodes by path.
 */

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

export type GraphNode = NodeBase &
  /** out = scale row; default scale 1. */
  (
    | { op: 'embedding'; weight: string; scale?: number; out: number }
    /**
     * out = x / rms(x) scale (weight + offset), over the whole row or over groups of columns as wide as the weight;
     * default offset 0.
     */
    | {
        op: 'rms_norm'
        x: number
        weight: string
        eps: number
        scale?: number
        offset?: number
        out: number
      }
    /** out = x W^T (+ bias) (+ residual) */
    | { op: 'linear'; x: number; weight: string; bias?: string; residual?: number; out: number }
    /** out = x, converting the residual stream to an operand. */
    | { op: 'cast'; x: number; out: number }
    /** out = residual + x */
    | { op: 'add'; x: number; residual: number; out: number }
    /** Rotates q and k with one of the graph's rotations, by default the first; positions restart at every sequence. */
    | { op: 'rope'; x: number; heads: number; headDim: number; table?: number; out: number }
    | {
        op: 'attention'
        q: number
        k: number
        v: number
        heads: number
        kvHeads: number
        headDim: number
        scale: number
        layer: number
        /** Maximum number of keys a token attends to, including its own; absent: all preceding keys. */
        window?: number
        out: number
      }
    /** out = silu(gate) up. If both are the same value, its first half is the gate and its second half is up. */
    | { op: 'swiglu'; gate: number; up: number; out: number }
    /** out = gelu(gate) up, using the tanh approximation of GELU; same convention for halves. */
    | { op: 'geglu'; gate: number; up: number; out: number }
    /** out = sigmoid(gate) up; same convention for halves. */
    | { op: 'glu'; gate: number; up: number; out: number }
    /**
     * out = columns of x from `first` on, or those columns of each of `heads` equal parts of x; the slices of a value
     * must cover each column exactly once.
     */
    | { op: 'slice'; x: number; first: number; heads?: number; out: number }
    /**
     * out = C conv(B X), where x holds the columns of B, C, and X in this order, and conv is a causal convolution within
     * each column and sequence; weight [cols, taps] (+ bias). The last tap is for the token itself.
     */
    | { op: 'short_conv'; x: number; weight: string; bias?: string; layer: number; out: number }
    /** out = silu(conv(x)), with the convolution of `short_conv` over all columns of x. */
    | { op: 'silu_conv'; x: number; weight: string; bias?: string; layer: number; out: number }
    /**
     * Gated delta rule (Yang et al. 2024, arXiv 2412.06464). x holds the queries and keys [keyHeads keyDim each] and
     * the values of all heads, in this order; beta and alpha have one column per head. Queries and keys are divided by
     * their norms, queries also by the root of keyDim. Per head and sequence, the state S [keyDim, valueDim] starts at
     * zero: S = e^g S; S = S + k (sigmoid(beta) (v - S^T k))^T; out = S^T q, where
     * g = -exp(weight) softplus(alpha + bias). Each key head serves heads / keyHeads consecutive heads.
     */
    | {
        op: 'gated_delta_rule'
        x: number
        beta: number
        alpha: number
        weight: string
        bias: string
        heads: number
        keyHeads: number
        keyDim: number
        layer: number
        out: number
      }
    /**
     * Selects the rows with a label (training, evaluation) or the requested rows (generation) and multiplies by the
     * head.
     */
    | { op: 'lm_head'; x: number; weight: string }
    /** First node of a part of a model: out = hidden states from the rank with the layers before it. */
    | { op: 'receive'; out: number }
    /** Last node of a part of a model: hands x on to the rank with the layers behind it. */
    | { op: 'send'; x: number }
  )

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

/** Operations that multiply a value by an activation of another. */
export type GatedUnit = 'swiglu' | 'geglu' | 'glu'

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
