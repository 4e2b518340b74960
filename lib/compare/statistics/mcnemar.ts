/**
 * Exact p-value for the hypothesis that two checkpoints are equally often correct on the same items. It applies to
 * these two checkpoints, not to the methods that produced them.
 * @param onlyFirst number of items that only the first gets right
 * @param onlySecond number of items that only the second gets right
 * @see McNemar 1947, Note on the sampling error of the difference between correlated proportions or percentages
 */
export function mcnemar(onlyFirst: number, onlySecond: number): number {
  const count = onlyFirst + onlySecond
  const fewer = Math.min(onlyFirst, onlySecond)
  if (2 * fewer === count) return 1
  // Starts from the largest term, the binomial coefficient of `fewer`; each further term is a fraction of the previous
  // one.
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
