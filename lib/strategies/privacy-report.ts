/** Reports of private training, stored with the adapter. */

/** Report of a private training run in JSON lines and lowrank.json. */
export interface PrivacyReport {
  /** ε spent so far. */
  epsilon: number
  delta: number
  /** ε after all planned rounds. */
  final_epsilon: number
  unit: 'user' | 'example'
  population: number
  /** Expected number of clients or examples per round. */
  cohort: number
  sampling_rate: number
  sampling: 'poisson'
  noise_multiplier: number
  clipping_norm: number
  rounds: number
  total_rounds: number
  accountant: 'rdp'
  /** True if the guarantee holds; false for simulations, noise from a known key, or partitioned clients. */
  private: boolean
  /** The guarantee, in one sentence. */
  promise: string
}

/** The report of a round. */
export interface RoundPrivacy {
  /** ε spent so far. */
  epsilon: number
  /** Number of ranks in use; null for adapters with a fixed rank. */
  rank: number | null
  /** Number of clients or examples sampled. */
  cohort: number
  /**
   * Fraction of contributions that were clipped, or dropped because they were not finite; null if none were sampled.
   */
  clipped_share: number | null
}

/** Largest delta that gets no warning: a tenth of one over the population. */
export function safeDelta(population: number): number {
  return 1 / (10 * population)
}

/** Warnings about guarantees that are weaker than their epsilon suggests. */
export function privacyRemarks({ delta, population, unit }: PrivacyReport): string[] {
  const safe = safeDelta(population)
  if (delta <= safe) return []
  const whose = unit === 'user' ? 'clients' : 'examples'
  return [
    `delta is ${delta.toPrecision(2)}, and more than ${safe.toPrecision(2)}, a tenth of one over the ${population} ${whose}, would allow revealing some of them completely; lower strategy.delta`,
  ]
}
