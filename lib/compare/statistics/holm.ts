/**
 * P-values adjusted for the number of comparisons, in the given order. Calling those below 0.05 differences keeps the
 * chance of any false positive per family at or below 5%.
 * @see Holm 1979, A simple sequentially rejective multiple test procedure
 */
export function holm(pValues: readonly number[]): number[] {
  const adjusted = new Array<number>(pValues.length)
  const ascending = pValues.map((p, index) => ({ p, index })).sort((a, b) => a.p - b.p)
  let largest = 0
  for (const [place, { p, index }] of ascending.entries()) {
    largest = Math.max(largest, Math.min(1, (pValues.length - place) * p))
    adjusted[index] = largest
  }
  return adjusted
}
