/** Rows whose log-probabilities are known, and what a loss says of them. */

/** A row of tokens as a loss sees it. Arrays are per token, aligned with the token that is scored; entry 0 counts for nothing. */
export interface ScoredRow {
  readonly tokens: Int32Array
  /** Weight of each token. */
  readonly weights: Float64Array
  /** Log-probability of each token, nats; 0 where it was not scored. */
  readonly logprobs: Float64Array
  /** Log-probabilities by the reference: of each token, or their weighted sum. */
  readonly reference?: number | Float64Array
  /** Log-probabilities when the tokens were drawn. */
  readonly sampled?: Float64Array
  /** Advantage of the row, or of each token. */
  readonly advantages?: number | Float64Array
  /** True if the row is desirable (KTO). */
  readonly label?: boolean
}

/** Divisors of a loss: each of its terms is divided by the one that it is a mean over. */
export interface Denominators {
  readonly tokens: number
  readonly rows: number
  readonly pairs: number
}

/** Sum and count of something that is reported as a mean. */
export type Metrics = Record<string, { sum: number; count: number }>

/** A loss of some rows. */
export interface LossValue {
  /** After its division. */
  loss: number
  /** Gradient of the loss with respect to the log-probabilities: an array per row. */
  gradient: Float64Array[]
  metrics: Metrics
}

/** Log-probability of a row: the weighted sum over its tokens, nats. */
export function sumOf({ weights, logprobs }: Pick<ScoredRow, 'weights' | 'logprobs'>): number {
  let sum = 0
  for (let t = 1; t < logprobs.length; t++) sum += (weights[t] as number) * (logprobs[t] as number)
  return sum
}

/** The same by the reference; 0 without one. */
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

/** Adds the sums of more rows. */
export function join(metrics: Metrics, more: Metrics): void {
  for (const [name, { sum, count }] of Object.entries(more)) add(metrics, name, sum, count)
}

/** Means. */
export function means(metrics: Metrics): Record<string, number> {
  return Object.fromEntries(Object.entries(metrics).map(([name, { sum, count }]) => [name, sum / count]))
}
