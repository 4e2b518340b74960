/** The differences that a number of seeds can find: before a compare by simulation, after it from its own variances. */
import { holm } from './holm.js'
import { type Difference, mixedTest } from './mixed.js'
import { simulatedScores } from './simulate.js'
import { studentQuantile } from './student.js'

/** Adjusted p-values below this are called differences. */
export const SIGNIFICANT = 0.05

/** Share of compares that should find the difference. */
export const POWER = 0.8

export interface PowerSettings {
  /** Strategies, the control included. */
  strategies: number
  seeds: number
  /** True difference of one strategy to the control, in spreads; a spread is a strategy's deviation over seeds. */
  spreads: number
  simulations?: number
}

/** Share of simulated compares that find the one strategy that differs from the control, on the same items. */
export function simulatedPower({ strategies, seeds, spreads, simulations = 2000 }: PowerSettings): number {
  const means = Array.from({ length: strategies }, (_, s) => (s === 1 ? spreads : 0))
  let found = 0
  for (let run = 0; run < simulations; run++) {
    const { p } = mixedTest(simulatedScores({ seeds, items: 1, means, itemSpread: 0, noise: 0 }, 0, run))
    const [adjusted] = holm(means.slice(1).map((_, s) => p(s + 1, 0)))
    if ((adjusted as number) < SIGNIFICANT) found++
  }
  return found / simulations
}

/**
 * Least number of seeds of which 8 in 10 simulated compares find a difference of `spreads`, or undefined if `most` do not
 * suffice.
 */
export function seedsToDetect(
  { strategies, spreads, simulations }: Omit<PowerSettings, 'seeds'>,
  most = 100,
): number | undefined {
  const suffices = (seeds: number) =>
    simulatedPower({ strategies, seeds, spreads, ...(simulations === undefined ? {} : { simulations }) }) >=
    POWER
  let enough = 2
  while (!suffices(enough)) {
    if (enough >= most) return undefined
    enough = Math.min(most, 2 * enough)
  }
  let few = enough / 2
  while (enough - few > 1) {
    const middle = Math.floor((few + enough) / 2)
    if (suffices(middle)) enough = middle
    else few = middle
  }
  return enough
}

/** Smallest true difference that this comparison, one of `comparisons`, would have found in 8 of 10 compares. */
export function detectableDifference({ standardError, df }: Difference, comparisons: number): number {
  return (
    (studentQuantile(1 - SIGNIFICANT / (2 * comparisons), df) + studentQuantile(POWER, df)) * standardError
  )
}
