/** Two one-sided tests of equivalence. */
import type { Difference } from './mixed.js'
import { studentTail } from './student.js'

/**
 * P-value for the hypothesis that two strategies differ by `margin` or more: small where they are equal for any purpose
 * that ignores such differences. It is the larger one of two one-sided tests, not adjusted for multiple comparisons.
 * @param margin above 0, in the unit of the difference
 * @see Schuirmann 1987, A comparison of the two one-sided tests procedure and the power approach
 */
export function equivalenceTest(
  { difference, standardError, df }: Pick<Difference, 'difference' | 'standardError' | 'df'>,
  margin: number,
): number {
  const nearer = margin - Math.abs(difference)
  if (standardError === 0) return nearer > 0 ? 0 : 1
  return studentTail(nearer / standardError, df)
}
