/** Prints the estimated time of a run, as text and as JSON. */
import type { KnownTime } from '../train/run/run-time.js'
import { counted, digits, formatCount, formatDuration } from './format.js'
import type { Printed } from './schemas.js'

/** `about 0.77 s a step of 512 tokens (668 tokens/s); 300 steps take about 3 min 51 s, …` */
export function timeText({
  secondsPerStep,
  tokensPerStep,
  tokensPerSecond,
  steps,
  runSeconds,
}: KnownTime): string {
  const step = `about ${secondsText(secondsPerStep)} a step of ${counted(tokensPerStep, 'token')} (${digits(tokensPerSecond)} tokens/s)`
  if (steps === null || runSeconds === null) return step
  const take = steps === 1 ? 'step takes' : 'steps take'
  return `${step}; ${formatCount(steps)} ${take} about ${secondsText(runSeconds)}, evaluations and checkpoints not counted`
}

/** `1 min 12 s`, `1.20 s`, `2.1 ms`. */
export function secondsText(seconds: number): string {
  if (seconds >= 10) return formatDuration(seconds)
  return seconds >= 0.1 ? `${digits(seconds)} s` : `${(1000 * seconds).toPrecision(2)} ms`
}

export function timeData(time: KnownTime): NonNullable<Printed<'plan'>['time']> {
  return {
    seconds_per_step: time.secondsPerStep,
    tokens_per_step: time.tokensPerStep,
    tokens_per_second: time.tokensPerSecond,
    steps: time.steps,
    run_seconds: time.runSeconds,
  }
}
