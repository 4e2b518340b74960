/** Student's t distribution, for any positive degrees of freedom. */
import { halfStep, incompleteBeta } from './beta.js'

/** P(T > t). */
export function studentTail(t: number, df: number): number {
  if (Number.isNaN(t)) return Number.NaN
  if (t < 0) return 1 - studentTail(-t, df)
  const square = t * t
  if (square === Number.POSITIVE_INFINITY) return 0
  // The continued fraction converges for the middle near t = 0, and for the tail beyond it.
  if (square < 1) return 0.5 * (1 - incompleteBeta(0.5, df / 2, square / (df + square), df / (df + square)))
  return 0.5 * incompleteBeta(df / 2, 0.5, df / (df + square), square / (df + square))
}

/** The t with P(T > t) = 1 - `probability`. */
export function studentQuantile(probability: number, df: number): number {
  if (probability === 0.5) return 0
  if (probability < 0.5) return -studentQuantile(1 - probability, df)
  const tail = 1 - probability
  if (tail === 0) return Number.POSITIVE_INFINITY
  let low = 0
  let high = 1
  while (studentTail(high, df) > tail) {
    low = high
    high *= 2
  }
  // Newton's method on the logarithm of the tail, bracketed by shrinking bounds.
  let t = (low + high) / 2
  for (let round = 0; round < 200; round++) {
    const here = studentTail(t, df)
    if (here > tail) low = t
    else high = t
    const step = (here / density(t, df)) * Math.log(here / tail)
    const next = t + step > low && t + step < high ? t + step : (low + high) / 2
    if (Math.abs(next - t) <= 1e-15 * t) return next
    t = next
  }
  return t
}

function density(t: number, df: number): number {
  return (halfStep(df / 2) / Math.sqrt(df * Math.PI)) * Math.exp((-(df + 1) / 2) * Math.log1p((t * t) / df))
}
