/** Reports of private training: they go with the adapter wherever it goes. */

/** Report of a private training run in JSON lines and lowrank.json. */
export interface PrivacyReport {
  /** ε that `rounds` so far have spent. */
  epsilon: number
  delta: number
  /** Epsilon spent by all rounds together. */
  final_epsilon: number
  unit: 'user' | 'example'
  population: number
  /** Expected number of clients or examples in a round. */
  cohort: number
  sampling_rate: number
  sampling: 'poisson'
  noise_multiplier: number
  clipping_norm: number
  rounds: number
  total_rounds: number
  accountant: 'rdp'
  /** True if the guarantee holds; not for simulations, noise from a known key, or partitioned clients. */
  private: boolean
  /** In one sentence. */
  promise: string
}

/** The report of a round. */
export interface RoundPrivacy {
  /** Spent so far. */
  epsilon: number
  /** Ranks in use; null where all always are. */
  rank: number | null
  /** Clients or examples that were drawn. */
  cohort: number
  /**
   * Share of those whose contribution was scaled down, or left out since it was not finite; null where nobody was
   * drawn.
   */
  clipped_share: number | null
}

/** The largest delta that is not remarked on: a tenth of one over the number of those protected. */
export function safeDelta(population: number): number {
  return 1 / (10 * population)
}

/** Remarks on a promise that means less than its epsilon suggests. */
export function privacyRemarks({ delta, population, unit }: PrivacyReport): string[] {
  const safe = safeDelta(population)
  if (delta <= safe) return []
  const whose = unit === 'user' ? 'clients' : 'examples'
  return [
    `delta is ${delta.toPrecision(2)}, and more than ${safe.toPrecision(2)}, a tenth of one over the ${population} ${whose}, would allow revealing some of them completely; lower strategy.delta`,
  ]
}
