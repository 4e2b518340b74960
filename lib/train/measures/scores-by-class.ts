/** Scores of classes as the public interface computes them: the matrix may come from anywhere. */
import { badArgument } from '../../core/arguments.js'
import { type ClassScores, type ConfusionMatrix, classScores } from '../steps/class-metrics.js'

const isMatrix = (value: unknown): value is ConfusionMatrix =>
  Array.isArray(value) &&
  value.every((row) => Array.isArray(row) && row.length === value.length && row.every((count) => count >= 0))

/**
 * The scores of each class, in the order of the matrix.
 * @throws {ConfigError} unless the matrix is square, of counts
 */
export function scoresByClass(matrix: ConfusionMatrix): ClassScores[] {
  if (!isMatrix(matrix)) throw badArgument(matrix, 'scoresByClass()', 'matrix', 'a square matrix of counts')
  return classScores(matrix)
}
