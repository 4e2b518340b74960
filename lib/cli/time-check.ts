/** Compares the estimated time of a run with its first steps, to correct an estimate that they contradict. */
import type { KnownTime } from '../train/run/run-time.js'
import { counted } from './format.js'
import { secondsText } from './time.js'

/** Steps and seconds after the first step, which also warms up, before the estimate is judged. */
const [LEAST_STEPS, LEAST_SECONDS] = [3, 2]
/** Ratio of times that a busy machine or uneven rows do not explain. */
const FAR = 1.5
/** A correction of fewer seconds is of no use to anyone. */
const LEAST_GAIN = 10

export class TimeCheck {
  readonly #estimate: KnownTime
  #made = 0
  #tokens = 0
  #seconds = 0
  #judged = false

  constructor(estimate: KnownTime) {
    this.#estimate = estimate
  }

  /**
   * Adds a step.
   * @returns the correction, once, if the steps so far contradict the estimate
   */
  add({ tokens, tokensPerSecond }: { tokens: number; tokensPerSecond: number }): string | undefined {
    if (this.#judged || this.#made++ === 0) return undefined
    this.#tokens += tokens
    this.#seconds += tokens / tokensPerSecond
    if (this.#made <= LEAST_STEPS || this.#seconds < LEAST_SECONDS) return undefined
    this.#judged = true
    return this.#correction()
  }

  /** Compares by token, since steps differ in length. */
  #correction(): string | undefined {
    const { secondsPerStep, tokensPerSecond, steps, runSeconds } = this.#estimate
    const ratio = (this.#seconds * tokensPerSecond) / this.#tokens
    if (ratio < FAR && ratio > 1 / FAR) return undefined
    if (runSeconds !== null && Math.abs(ratio - 1) * runSeconds < LEAST_GAIN) return undefined
    const times = `about ${secondsText(ratio * secondsPerStep)} a step instead of ${secondsText(secondsPerStep)}`
    const all =
      steps === null || runSeconds === null
        ? ''
        : `; ${counted(steps, 'step')} take about ${secondsText(ratio * runSeconds)} instead of ${secondsText(runSeconds)}`
    return `Time, corrected: the first ${this.#made} steps were ${ratio > 1 ? 'slower' : 'faster'} than estimated, ${times}${all}.`
  }
}
