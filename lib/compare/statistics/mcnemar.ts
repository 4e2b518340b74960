/**
 * Exact p-value that two checkpoints are equally often right on the same items. It speaks of these two checkpoints, not
 * of the methods that made them.
 * @param onlyFirst items that the first alone has right
 * @param onlySecond items that the second alone has right
 * @see McNemar 1947, Note on the sampling error of the difference between correlated proportions or percentages
 */
export function mcnemar(onlyFirst: number, onlySecond: number): number {
  const count = onlyFirst + onlySecond
  const fewer = Math.min(onlyFirst, onlySecond)
  if (2 * fewer === count) return 1
  // From the largest term down: the binomial coefficient of `fewer`, then each as a fraction of the one before.
  let logarithm = -count * Math.LN2
  for (let i = 1; i <= fewer; i++) logarithm += Math.log((count - fewer + i) / i)
  let term = 1
  let sum = 1
  for (let k = fewer; k > 0 && term > 1e-18; k--) {
    term *= k / (count - k + 1)
    sum += term
  }
  return Math.min(1, 2 * Math.exp(logarithm) * sum)
}
