import {
  type Difference,
  holm,
  mixedTest,
  unstableControl,
} from '../../../../lib/compare/statistics/index.js'
import { simulatedScores } from '../../../../lib/compare/statistics/simulate.js'

export interface Simulated {
  strategies: number
  seeds: number
  /** Difference of the first strategy after the control. */
  spreads: number
  itemSpread: number
  noise: number
  compares: number
  /** Deviation of the second strategy after the control, and of the others if more than one has it. */
  unstable?: number
  unstableCount?: number
  unstableControl?: number
}

const ITEMS = 20

/** Shares of simulated compares that find the difference, that claim a false one, that remark on the control, and in which a strategy leaves the pool. */
export function simulated(setting: Simulated) {
  const { strategies, seeds, spreads: planted, itemSpread, noise, compares } = setting
  const means = Array.from({ length: strategies }, (_, s) => (s === 1 ? planted : 0))
  const { unstable = 1, unstableCount = 1, unstableControl: control = 1 } = setting
  const spreads = means.map((_, s) => (s === 0 ? control : s >= 2 && s < 2 + unstableCount ? unstable : 1))
  let found = 0
  let claimed = 0
  let remarked = 0
  let leaving = 0
  const differences: Difference[] = []
  for (let run = 0; run < compares; run++) {
    const scores = simulatedScores({ seeds, items: ITEMS, means, spreads, itemSpread, noise }, 1234, run)
    const { difference, residualVariances, left } = mixedTest(scores)
    const rows = means.slice(1).map((_, s) => difference(s + 1, 0))
    differences.push(rows[0] as Difference)
    const adjusted = holm(rows.map(({ p }) => p)).map((p) => p < 0.05)
    if (adjusted[0]) found++
    if (adjusted.some((is, s) => is && (planted === 0 || s > 0))) claimed++
    if (left.size > 0) leaving++
    if (unstableControl(residualVariances, 0) !== null) remarked++
  }
  return {
    found: found / compares,
    claimed: claimed / compares,
    remarked: remarked / compares,
    left: leaving / compares,
    differences,
  }
}
