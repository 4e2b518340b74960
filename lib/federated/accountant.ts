/**
 * Privacy accounting: the Rényi divergences of the steps are summed, and the sum is converted to (epsilon,
 * delta). Neighboring datasets differ by the presence of one user, or of one example when examples are
 * protected; each step samples every user independently with the same probability.
 */
import * as z from 'zod'
import { checkedOptions } from '../core/arguments.js'
import { ConfigError } from '../core/errors.js'
import { expm1, log, log1p } from '../core/portable-exp.js'
import { integer, numberWithin, positive } from '../core/schema.js'
import { subsampledGaussianRdp } from './subsampled-gaussian.js'

/** Orders of the Rényi divergence over which epsilon is minimized; the same as in Google's dp_accounting. */
export const ORDERS: readonly number[] = [
  ...Array.from({ length: 99 }, (_, i) => 1 + (i + 1) / 10),
  ...Array.from({ length: 53 }, (_, i) => 11 + i),
  ...[128, 256, 512, 1024],
]

/** Rényi divergences at ORDERS. They add up over steps, even with different settings. */
export type RdpCurve = readonly number[]

/** Options of {@link privacySpent}. */
export interface PrivacyOptions {
  /** Probability that a user takes part in a step, in (0, 1]. */
  samplingRate: number
  /** Standard deviation of the noise divided by the largest change that one user can make to the sum; 0 is no noise. */
  noiseMultiplier: number
  /** Number of steps (rounds) so far. */
  steps: number
  /** The delta of (epsilon, delta), in (0, 1); a meaningful delta is below one over the number of users. */
  delta: number
}

type StepOptions = Pick<PrivacyOptions, 'samplingRate' | 'noiseMultiplier'>

/** An (epsilon, delta)-differential privacy guarantee. */
export interface PrivacySpent {
  /** Infinity without noise. */
  epsilon: number
  /** The order of the Rényi divergence that gives this epsilon; null if epsilon is 0 or infinite. */
  order: number | null
  /**
   * True if `order` is the first or last one tried: the guarantee holds, but other orders might give a smaller
   * epsilon.
   */
  atEndOfOrders: boolean
}

const stepShape = {
  samplingRate: positive('a number above 0, at most 1').max(1, { error: 'a number above 0, at most 1' }),
  noiseMultiplier: numberWithin(0, Number.MAX_VALUE, 'a number from 0'),
}
const delta = positive('a number between 0 and 1').lt(1, { error: 'a number between 0 and 1' })
const targetEpsilon = positive()

const spentSchema = z.strictObject({ ...stepShape, steps: integer(0), delta })
const noiseSchema = z.strictObject({
  targetEpsilon,
  samplingRate: stepShape.samplingRate,
  steps: integer(1),
  delta,
})
const stepsSchema = z.strictObject({ targetEpsilon, ...stepShape, delta })

/**
 * The privacy spent by steps of the Gaussian mechanism on Poisson samples, by Rényi differential privacy.
 * Agrees with opacus. At fractional orders, dp_accounting (0.6.0) takes absolute values of terms that alternate
 * in sign, and skips orders where the resulting sum does not converge: its epsilon is the same below 1, up to
 * 0.3 % larger below 10 and several times as large in the hundreds and thousands.
 */
export function privacySpent(options: PrivacyOptions): PrivacySpent {
  const { steps, delta, ...step } = checkedOptions(spentSchema, options, 'privacySpent()')
  return epsilonAfter(rdpOfStep(step), steps, delta)
}

/**
 * The smallest noise multiplier, to a millionth, with which the steps spend at most the target epsilon.
 * @throws {ConfigError} if no amount of noise reaches the target at this delta
 */
export function noiseMultiplierFor(
  options: Omit<PrivacyOptions, 'noiseMultiplier'> & { targetEpsilon: number },
): number {
  const { targetEpsilon, samplingRate, steps, delta } = checkedOptions(
    noiseSchema,
    options,
    'noiseMultiplierFor()',
  )
  const enough = (noiseMultiplier: number) =>
    epsilonAfter(rdpOfStep({ samplingRate, noiseMultiplier }), steps, delta).epsilon <= targetEpsilon
  let high = 1
  while (!enough(high)) {
    high *= 2
    // Even with zero divergence, the conversion costs an epsilon that depends on delta alone.
    if (high > 2 ** 64)
      throw new ConfigError(
        `noiseMultiplierFor(): no noise gives an epsilon of ${targetEpsilon} at a delta of ${delta} with this accountant. Expected a larger targetEpsilon or delta.`,
        { targetEpsilon, delta },
      )
  }
  let low = high / 2
  while (enough(low)) {
    high = low
    low /= 2
  }
  while (high - low > low * 1e-6) {
    const middle = (low + high) / 2
    if (enough(middle)) high = middle
    else low = middle
  }
  return high
}

/**
 * The most steps that spend at most the target epsilon; 0 if even one step exceeds it.
 * @returns at most Number.MAX_SAFE_INTEGER
 */
export function stepsWithin(options: Omit<PrivacyOptions, 'steps'> & { targetEpsilon: number }): number {
  const { targetEpsilon, delta, ...step } = checkedOptions(stepsSchema, options, 'stepsWithin()')
  const rdp = rdpOfStep(step)
  const within = (steps: number) => epsilonAfter(rdp, steps, delta).epsilon <= targetEpsilon
  if (within(Number.MAX_SAFE_INTEGER)) return Number.MAX_SAFE_INTEGER
  let most = 0
  let tooMany = 1
  while (within(tooMany)) {
    most = tooMany
    tooMany *= 2
  }
  while (tooMany - most > 1) {
    const middle = Math.floor((most + tooMany) / 2)
    if (within(middle)) most = middle
    else tooMany = middle
  }
  return most
}

/** Divergences of one step. Takes milliseconds, so compute it once outside a loop over steps. */
export function rdpOfStep({ samplingRate, noiseMultiplier }: StepOptions): RdpCurve {
  return ORDERS.map((order) => subsampledGaussianRdp(samplingRate, noiseMultiplier, order))
}

/**
 * The guarantee after `steps` steps with the same divergences: the minimum over orders of Canonne, Kamath and
 * Steinke 2020 (arXiv 2004.00010, proposition 12), and 0 where delta covers the total variation that the
 * divergence allows.
 */
export function epsilonAfter(rdp: RdpCurve, steps: number, delta: number): PrivacySpent {
  if (steps === 0) return { epsilon: 0, order: null, atEndOfOrders: false }
  let best = -1
  let epsilon = Infinity
  for (const [index, order] of ORDERS.entries()) {
    const total = steps * (rdp[index] as number)
    // The total variation is at most sqrt(1 - exp(-KL)), and KL is at most the divergence of any order.
    const covered = delta * delta + expm1(-total) > 0
    const here = covered ? 0 : total + log1p(-1 / order) - (log(delta) + log(order)) / (order - 1)
    if (here < epsilon) [best, epsilon] = [index, here]
  }
  if (epsilon <= 0 || epsilon === Infinity)
    return { epsilon: Math.max(0, epsilon), order: null, atEndOfOrders: false }
  return { epsilon, order: ORDERS[best] as number, atEndOfOrders: best === 0 || best === ORDERS.length - 1 }
}
