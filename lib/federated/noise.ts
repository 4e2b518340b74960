/** How far the noise of private training moves the weights, before anything is trained. */
import type { AdapterSpec } from '../native/addon.js'
import { isLowRank } from '../strategies/index.js'
import type { PrivacyConfig } from '../strategies/strategy.js'
import type { PrivacyPlan } from './privacy.js'

/** Change of weights above which every measured loss was above that before training; see docs/privacy.md. */
const DROWNS = 1.25

/** Noise of a run whose server adds the mean update to the adapter. */
export interface ExpectedNoise {
  /** Norm of the noise in the mean update of a round, as a multiple of the clipping norm. */
  ofUpdate: number
  /**
   * Change of an adapted linear by the noise of all rounds, relative to weights that keep the size of their inputs:
   * 1 / sqrt(inputs) per entry. Root mean square over the linears.
   */
  ofWeights: number
}

/** @returns undefined for updates by an optimizer that scales them */
export function expectedNoise(
  { real, rounds, clippingNorm }: Pick<PrivacyPlan, 'real' | 'rounds' | 'clippingNorm'>,
  { privacyUnit, serverOptimizer, serverLearningRate }: PrivacyConfig,
  { parameters, terms }: AdapterSpec,
): ExpectedNoise | undefined {
  if (privacyUnit !== 'user' || serverOptimizer !== 'sgd') return undefined
  const known = new Map(parameters.map((parameter) => [parameter.name, parameter]))
  const trained = parameters.filter((parameter) => parameter.trained)
  const count = trained.reduce((sum, { rows, cols }) => sum + rows * cols, 0)
  const ofRound = real.deviation / real.cohort
  // The noise of the rounds is independent, so it adds up as in a random walk.
  const variance = rounds * (serverLearningRate * ofRound) ** 2
  const shares = terms.filter(isLowRank).map(({ parameters: { a }, numbers: { rank, scale } }) => {
    const { cols: inputs = 1, trained: moves = false } = known.get(a) ?? {}
    // A starts with this variance, and B at zero.
    const ofA = 1 / (3 * inputs) + (moves ? variance : 0)
    return scale ** 2 * rank * variance * ofA * inputs
  })
  if (shares.length === 0) return undefined
  const mean = shares.reduce((sum, share) => sum + share, 0) / shares.length
  return { ofUpdate: (ofRound * Math.sqrt(count)) / clippingNorm, ofWeights: Math.sqrt(mean) }
}

/** A warning where the noise is larger than the model; one sentence, or none. */
export function noiseRemarks({ ofUpdate, ofWeights }: ExpectedNoise, rounds: number): string[] {
  if (ofWeights < DROWNS) return []
  return [
    `the noise will drown what is learned: in the mean update of a round it has a norm of about ${ofUpdate.toPrecision(2)} times clipping_norm, and ${rounds} rounds of it change the adapted weights by about ${ofWeights.toPrecision(2)} times their usual size; lower strategy.clipping_norm, or use a larger cohort, fewer rounds, or a lower rank`,
  ]
}
