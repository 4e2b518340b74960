/**
 * Builds a Graph node by node. Values are numbered in order of creation; each node records the path of its layer and
 * its recompute segment. Shapes are checked natively when the graph is planned.
 */
import type { Activation, Graph, GraphNode, GraphValue, GraphWeight, RowKind } from './graph.js'

/** A value in a graph under construction. */
export type Value = GraphValue

/** A node without the fields that the builder adds: its segment and its output. */
type Description<Node> = Node extends GraphNode ? Omit<Node, 'segment' | 'out'> : never

export class GraphBuilder {
  private readonly weights: GraphWeight[] = []
  private readonly values: GraphValue[] = []
  private readonly nodes: GraphNode[] = []
  private currentSegment = -1

  /** Nodes built by `body` form recompute segment `index` (a transformer block). */
  segment(index: number, body: () => Value): Value {
    this.currentSegment = index
    try {
      return body()
    } finally {
      this.currentSegment = -1
    }
  }

  /** Rows of the embedding table times a constant, one per token: [T, cols]. */
  embedding(path: string, rows: number, cols: number, scale = 1): Value {
    const weight = this.weight(`${path}.weight`, rows, cols, 'table')
    return this.add(cols, 'residual', { op: 'embedding', path, weight, ...(scale === 1 ? {} : { scale }) })
  }

  /**
   * x / rms(x) * scale * (weight + offset), per row, or per group of `width` columns, as for per-head norms of queries
   * and keys.
   */
  rmsNorm(path: string, x: Value, eps: number, { width = x.cols, scale = 1, offset = 0 } = {}): Value {
    const weight = this.weight(`${path}.weight`, 1, width, 'vector')
    const changed = { ...(scale === 1 ? {} : { scale }), ...(offset === 0 ? {} : { offset }) }
    return this.add(x.cols, 'operand', { op: 'rms_norm', path, x: x.id, weight, eps, ...changed })
  }

  /** x W^T (+ bias) (+ residual); with a residual, the result is in the residual stream. */
  linear(path: string, x: Value, out: number, options: { bias?: boolean; residual?: Value } = {}): Value {
    const weight = this.weight(`${path}.weight`, out, x.cols, 'matrix')
    const bias = options.bias ? this.weight(`${path}.bias`, 1, out, 'vector') : undefined
    return this.add(out, options.residual ? 'residual' : 'operand', {
      op: 'linear',
      path,
      x: x.id,
      weight,
      ...(bias === undefined ? {} : { bias }),
      ...(options.residual === undefined ? {} : { residual: options.residual.id }),
    })
  }

  /** The residual stream as an operand, for linear layers that read it without a norm. */
  cast(path: string, x: Value): Value {
    return this.add(x.cols, 'operand', { op: 'cast', path, x: x.id })
  }

  /** residual + x, in the residual stream. */
  residualAdd(path: string, x: Value, residual: Value): Value {
    return this.add(x.cols, 'residual', { op: 'add', path, x: x.id, residual: residual.id })
  }

  /** Rotary position embedding on every head of x: [T, heads * headDim], using the graph's rotation number `table`. */
  rope(path: string, x: Value, heads: number, headDim: number, table = 0): Value {
    const chosen = table === 0 ? {} : { table }
    return this.add(x.cols, 'operand', { op: 'rope', path, x: x.id, heads, headDim, ...chosen })
  }

  /**
   * Causal attention within each packed sequence; q: [T, heads * headDim], k and v: [T, kvHeads * headDim]. With a
   * window, a token attends to the last `window` keys, including its own.
   */
  attention(
    path: string,
    q: Value,
    k: Value,
    v: Value,
    shape: { heads: number; kvHeads: number; headDim: number; scale: number; window?: number },
  ): Value {
    return this.add(q.cols, 'operand', { op: 'attention', path, q: q.id, k: k.id, v: v.id, ...shape })
  }

  /** function(gate) * up */
  gatedUnit(fn: Activation, path: string, gate: Value, up: Value): Value {
    return this.add(gate.cols, 'operand', { op: 'gated_unit', path, gate: gate.id, up: up.id, function: fn })
  }

  /** The same for a fused x whose first half is the gate. */
  gatedHalves(fn: Activation, path: string, x: Value): Value {
    return this.add(x.cols / 2, 'operand', { op: 'gated_unit', path, gate: x.id, up: x.id, function: fn })
  }

  /** Splits the columns of x into parts of these widths, in order; x may not be used otherwise. */
  split(path: string, x: Value, widths: Readonly<Record<string, number>>): Value[] {
    let first = 0
    return Object.entries(widths).map(([name, cols]) => {
      const part = this.add(cols, 'operand', { op: 'slice', path: `${path}.${name}`, x: x.id, first })
      first += cols
      return part
    })
  }

  /**
   * Splits every head of x, [T, heads * width], into parts of these widths, in order: for widths a and b,
   * [T, heads * a] and [T, heads * b]. x may not be used otherwise.
   */
  splitHeads(path: string, x: Value, heads: number, widths: Readonly<Record<string, number>>): Value[] {
    let first = 0
    return Object.entries(widths).map(([name, width]) => {
      const part = this.add(heads * width, 'operand', {
        op: 'slice',
        path: `${path}.${name}`,
        x: x.id,
        first,
        heads,
      })
      first += width
      return part
    })
  }

  /** The head; uses the embedding's weight if the two are tied. */
  lmHead(path: string, x: Value, vocabSize: number, tiedTo?: string): void {
    const weight = tiedTo ?? this.weight(`${path}.weight`, vocabSize, x.cols, 'matrix')
    this.nodes.push({ op: 'lm_head', path, segment: -1, x: x.id, weight })
  }

  finish(rest: Omit<Graph, 'weights' | 'values' | 'nodes'>): Graph {
    return { ...rest, weights: this.weights, values: this.values, nodes: this.nodes }
  }

  /** Adds a weight to those of the graph, for nodes that one family alone has. */
  weight(name: string, rows: number, cols: number, kind: GraphWeight['kind'], shape?: number[]): string {
    this.weights.push({ name, rows, cols, kind, ...(shape && { shape }) })
    return name
  }

  /** Adds a node and its output, [T, cols]. */
  add(cols: number, type: GraphValue['type'], node: Description<GraphNode>): Value {
    const rows: RowKind = 'tokens'
    const value: Value = { id: this.values.length, rows, cols, type }
    this.values.push(value)
    this.nodes.push({ ...node, segment: this.currentSegment, out: value.id } as GraphNode)
    return value
  }
}
