import { incompleteBeta } from './beta.js'

/** P(F > f) for Fisher's F distribution with integer degrees of freedom. */
export function fisherTail(f: number, df: number, otherDf: number): number {
  if (f === Number.POSITIVE_INFINITY) return 0
  const sum = otherDf + df * f
  return incompleteBeta(otherDf / 2, df / 2, otherDf / sum, (df * f) / sum)
}
