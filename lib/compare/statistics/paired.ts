/** Student's paired t-test over items, for one run of each model. */
import { mean } from '../../core/mean.js'
import { studentQuantile, studentTail } from './student.js'

/** A mean with its 95 % interval by Student's t; null for fewer than two values. */
export interface MeanInterval {
  mean: number
  interval: [low: number, high: number] | null
}

export function meanInterval(values: readonly number[]): MeanInterval {
  const center = values.length === 0 ? 0 : mean(values)
  if (values.length < 2) return { mean: center, interval: null }
  const half = standardError(values, center) * studentQuantile(0.975, values.length - 1)
  return { mean: center, interval: [center - half, center + half] }
}

/**
 * Two-sided p-value for the hypothesis that differences of pairs have the mean 0; 1 where fewer than two are there. Like
 * McNemar's, it applies to these two models on such items.
 * @see Student 1908, The probable error of a mean
 */
export function pairedTest(differences: readonly number[]): number {
  if (differences.length < 2) return 1
  const center = mean(differences)
  if (center === 0) return 1
  const t = Math.abs(center) / standardError(differences, center)
  return Math.min(1, 2 * studentTail(t, differences.length - 1))
}

function standardError(values: readonly number[], center: number): number {
  const square = values.reduce((sum, value) => sum + (value - center) ** 2, 0)
  return Math.sqrt(square / (values.length - 1) / values.length)
}
