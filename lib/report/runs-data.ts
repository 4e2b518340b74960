/** Data of a list of runs for its page, from their records. Also runs in the browser. */
import { formatNumber, isNumber, smooth, thin, usualHalfLife, type Value } from './chart/index.js'
import type { RunPageData, RunState } from './run-data.js'
import { bestStep, chosenMetric, hasHeldOutLoss, lastLoss, methodOf } from './run-words.js'

/** A curve, in ascending order of steps. */
export interface RunCurve {
  x: number[]
  y: Value[]
}

/** A run in the list. */
export interface ListedRun {
  /** Its folder within the list's folder. */
  name: string
  state: RunState
  method: string
  model: string | null
  steps: number
  totalSteps: number | null
  /** Smoothed. */
  training: RunCurve
  heldOut: RunCurve
  /** Mean training loss of the last steps, nats. */
  loss: Value
  /** Last held-out loss, nats. */
  heldOutLoss: Value
  /** The best value of the metric that chooses the best step, in words. */
  best: string
  seconds: number | null
  peakBytes: number | null
  /** Time of the first line, in seconds since 1970. */
  began: number | null
}

/** Points of a training curve that a page draws. */
const POINTS = 300

export function listedRun(name: string, run: RunPageData): ListedRun {
  const { columns, evaluations, start, done, plan } = run
  const steps = columns.step as number[]
  const smoothed = smooth(steps, columns.loss, usualHalfLife(steps.length))
  const kept = thin(steps, smoothed, [steps[0] ?? 0, steps.at(-1) ?? 0], POINTS)
  const [best, metric] = [bestStep(run), chosenMetric(run)]
  const value = best && metric.read(best)
  const measured = hasHeldOutLoss(run) ? evaluations : []
  return {
    ...{ name, state: run.state, method: start ? methodOf(run) : '' },
    model: start?.model.name ?? null,
    steps: steps.at(-1) ?? 0,
    totalSteps: start?.total_steps ?? null,
    training: {
      x: kept.map((index) => steps[index] as number),
      y: kept.map((index) => smoothed[index] ?? null),
    },
    heldOut: { x: measured.map(({ step }) => step), y: measured.map(({ loss }) => loss) },
    loss: lastLoss(run),
    heldOutLoss: evaluations.at(-1)?.loss ?? null,
    best:
      best && isNumber(value) ? `${metric.label} ${metric.format(value)} at ${formatNumber(best.step)}` : '',
    seconds: run.began === null || run.ended === null ? null : run.ended - run.began,
    peakBytes: done?.peak_rss_bytes ?? plan?.peak_bytes ?? null,
    began: run.began,
  }
}
