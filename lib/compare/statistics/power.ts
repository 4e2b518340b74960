/**
 * The differences that a number of seeds can detect: before a compare by simulation, after it from its own variances.
 */
import { holm } from './holm.js'
import { type Difference, mixedTest } from './mixed.js'
import { simulatedScores } from './simulate.js'
import { studentQuantile } from './student.js'

/** Significance level for adjusted p-values. */
export const SIGNIFICANT = 0.05

/** Desired probability of detecting the difference. */
export const POWER = 0.8

export interface PowerSettings {
  /** Number of strategies, including the control. */
  strategies: number
  seeds: number
  /** True difference between one strategy and the control, in standard deviations of a strategy over seeds. */
  spreads: number
  simulations?: number
}

/** Fraction of simulated compares that detect the one strategy that differs from the control, on the same items. */
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
 * Smallest number of seeds with which 80% of simulated compares detect a difference of `spreads`; undefined if `most`
 * seeds are not enough.
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

/** Smallest true difference that 80% of compares would detect in this comparison, one of `comparisons`. */
export function detectableDifference({ standardError, df }: Difference, comparisons: number): number {
  return (
    (studentQuantile(1 - SIGNIFICANT / (2 * comparisons), df) + studentQuantile(POWER, df)) * standardError
  )
}
