/** Rows with known log-probabilities, and the values and gradients of losses over them. */

/**
 * A row of tokens with its log-probabilities. Arrays have one entry per token, aligned with the scored token;
 * entry 0 is ignored.
 */
export interface ScoredRow {
  readonly tokens: Int32Array
  /** Weight of each token. */
  readonly weights: Float64Array
  /** Log-probability of each token, nats; 0 for tokens that were not scored. */
  readonly logprobs: Float64Array
  /** Log-probabilities under the reference model: one per token, or their weighted sum. */
  readonly reference?: number | Float64Array
  /** Log-probabilities at sampling time. */
  readonly sampled?: Float64Array
  /** Advantage of the row, or one per token. */
  readonly advantages?: number | Float64Array
  /** True if the row is desirable (KTO). */
  readonly label?: boolean
}

/** Divisors of a loss: each term is divided by the count it averages over. */
export interface Denominators {
  readonly tokens: number
  readonly rows: number
  readonly pairs: number
}

/** Sums and counts of metrics that are reported as means. */
export type Metrics = Record<string, { sum: number; count: number }>

/** Value and gradient of a loss over some rows. */
export interface LossValue {
  /** After division by its denominators. */
  loss: number
  /** Gradient with respect to the log-probabilities, one array per row. */
  gradient: Float64Array[]
  metrics: Metrics
}

/** Log-probability of a row: the weighted sum over its tokens, nats. */
export function sumOf({ weights, logprobs }: Pick<ScoredRow, 'weights' | 'logprobs'>): number {
  let sum = 0
  for (let t = 1; t < logprobs.length; t++) sum += (weights[t] as number) * (logprobs[t] as number)
  return sum
}

/** Log-probability of a row under the reference; 0 without one. */
export function referenceOf({ weights, reference }: ScoredRow): number {
  if (reference === undefined || typeof reference === 'number') return reference ?? 0
  return sumOf({ weights, logprobs: reference })
}

/** Sum of the weights of a row. */
export function weightOf({ weights }: Pick<ScoredRow, 'weights'>): number {
  let sum = 0
  for (let t = 1; t < weights.length; t++) sum += weights[t] as number
  return sum
}

/** Weights of a row times a factor. */
export function scaled({ weights }: ScoredRow, factor: number): Float64Array {
  const gradient = weights.map((weight) => weight * factor)
  gradient[0] = 0
  return gradient
}

export function add(metrics: Metrics, name: string, value: number, count = 1): void {
  const of = metrics[name] ?? { sum: 0, count: 0 }
  metrics[name] = { sum: of.sum + value, count: of.count + count }
}

/** Adds the sums and counts of other metrics. */
export function join(metrics: Metrics, more: Metrics): void {
  for (const [name, { sum, count }] of Object.entries(more)) add(metrics, name, sum, count)
}

/** Mean of each metric. */
export function means(metrics: Metrics): Record<string, number> {
  return Object.fromEntries(Object.entries(metrics).map(([name, { sum, count }]) => [name, sum / count]))
}
