/**
 * The model graph: plain, JSON-printable data that says what to compute. Families in lib/models/ build it, the native
 * side validates it, derives the backward pass and plans the memory. It knows no adapter and no backend; adapters
 * attach to `linear` nodes by the node's path.
 */

/** A stored tensor of the model, by its Hugging Face name. Vectors have rows = 1. */
export interface GraphWeight {
  name: string
  rows: number
  cols: number
  /** `table` is the embedding (and a tied head); it and a `matrix` may be quantized; a `vector` stays f32. */
  kind: 'matrix' | 'table' | 'vector'
}

/** Rows of a value: one per token, or one per row that the head looks at. */
export type RowKind = 'tokens' | 'head'

export interface GraphValue {
  id: number
  rows: RowKind
  cols: number
  /** `residual` is f32 always; `operand` follows the plan's precision (f32 or bf16). */
  type: 'residual' | 'operand'
}

interface NodeBase {
  /** Module path of the node, e.g. `model.layers.3.mlp.down_proj`; unique. */
  path: string
  /** Index of the recompute segment (the transformer block), or -1 outside any. */
  segment: number
}

export type GraphNode = NodeBase &
  /** out = scale row; a scale that is absent is 1. */
  (
    | { op: 'embedding'; weight: string; scale?: number; out: number }
    /**
     * out = x / rms(x) scale (weight + offset), over the row, or over each group of as many columns as the weight has; an
     * offset that is absent is 0.
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
    /** out = x, of the residual stream, as an operand. */
    | { op: 'cast'; x: number; out: number }
    /** out = residual + x */
    | { op: 'add'; x: number; residual: number; out: number }
    /** Rotates q and k by one of the graph's rotations, absent the first; positions restart at every sequence. */
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
        /** A token sees this many keys at most, its own and those just before it; absent, all before it. */
        window?: number
        out: number
      }
    /** out = silu(gate) up; where both are one value, the gate is its first half, and its second is multiplied. */
    | { op: 'swiglu'; gate: number; up: number; out: number }
    /** out = gelu(gate) up, by the approximation of GELU with tanh; halves as above. */
    | { op: 'geglu'; gate: number; up: number; out: number }
    /** out = columns of x from `first` on; every column of a value that is cut is in one cut. */
    | { op: 'slice'; x: number; first: number; out: number }
    /**
     * Takes the rows with a label (training, evaluation) or the asked-for rows (generation) and multiplies by the head.
     */
    | { op: 'lm_head'; x: number; weight: string }
  )

export interface Graph {
  family: string
  /** Token ids lie in [0, vocabSize). */
  vocabSize: number
  /** Classes that the head of a classifier tells apart; absent where it predicts tokens. */
  labels?: number
  layers: number
  weights: GraphWeight[]
  values: GraphValue[]
  nodes: GraphNode[]
  /** One for each kind of layer that rotates in its own way. */
  ropes: Rotary[]
}

/** Angles of a rotary embedding. */
export interface Rotary {
  /** Radians per position, one per pair of a head's dimensions; where they are fewer, the last dimensions stay. */
  invFreq: number[]
  /** Multiplies cos and sin (1 except for scaled variants). */
  attentionFactor: number
  /** Vectors grow by 1 + rate ln(1 + floor(position / every)). */
  growth?: { rate: number; every: number }
  /** Frequencies of sequences of more tokens than `above`, which is one number for the whole graph. */
  long?: { invFreq: number[]; above: number }
}

export type NodeOf<Op extends GraphNode['op']> = Extract<GraphNode, { op: Op }>

/** The nodes of one operation, in order. */
export function nodesOf<Op extends GraphNode['op']>({ nodes }: Graph, op: Op): NodeOf<Op>[] {
  return nodes.filter((node): node is NodeOf<Op> => node.op === op)
}

/** Heads of the attention, which all layers share. */
export function headsOf(graph: Graph): { heads: number; kvHeads: number; headDim: number } {
  const [{ heads, kvHeads, headDim }] = nodesOf(graph, 'attention') as [NodeOf<'attention'>]
  return { heads, kvHeads, headDim }
}
