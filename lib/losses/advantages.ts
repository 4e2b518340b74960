/** Advantages of sampled answers from their rewards (GRPO, Shao et al. 2024, arXiv 2402.03300). */
import { mean } from '../core/mean.js'

/** Standard deviation that advantages are divided by: of each group, of all rewards of a step, or 1. */
export type ScaleRewards = 'group' | 'batch' | 'none'

/** Added to the deviation, so that rewards which hardly differ are not blown up. */
const EPSILON = 1e-4

/**
 * How much better each answer is than its group: the reward minus the mean of the group, divided by a standard
 * deviation.
 */
export function groupAdvantages(groups: readonly (readonly number[])[], scale: ScaleRewards): number[][] {
  const deviation = scale === 'batch' ? standardDeviation(groups.flat()) : 0
  return groups.map((rewards) => {
    const center = mean(rewards)
    const own = scale === 'group' ? standardDeviation(rewards) : deviation
    const divisor = scale === 'none' ? 1 : own + EPSILON
    return rewards.map((reward) => (reward - center) / divisor)
  })
}

/** The sample standard deviation, with n - 1; 0 for a single value. */
export function standardDeviation(values: readonly number[]): number {
  if (values.length < 2) return 0
  const center = mean(values)
  const squares = values.reduce((sum, value) => sum + (value - center) ** 2, 0)
  return Math.sqrt(squares / (values.length - 1))
}

/** True if all answers of a group have the same reward, so that nothing is learned from them. */
export const isUniform = (rewards: readonly number[]): boolean =>
  rewards.every((reward) => reward === rewards[0])
