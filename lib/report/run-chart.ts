/** The reader's choices, and the places of steps and evaluations on the x axis, for all charts of a run. */
import {
  formatNumber,
  isNumber,
  type Moment,
  type Plot,
  quantile,
  type ScaleType,
  usualHalfLife,
  type Value,
} from './chart/index.js'
import type { RunPageData } from './run-data.js'
import { bestStep, stepName } from './run-words.js'

/** The reader's display choices. */
export interface RunView {
  over: 'step' | 'time' | 'tokens'
  scale: ScaleType
  range: 'all' | 'half' | 'tenth'
  /** Half-life of the running means, in steps; 0 turns smoothing off. */
  halfLife: number
}

/** Ratio of largest to smallest loss above which a linear axis would hide everything after the initial drop. */
const LOG_FROM = 8

export function usualView({ columns: { loss } }: RunPageData): RunView {
  const positive = loss.filter((value) => isNumber(value) && value > 0)
  const steep = positive.length > 30 && quantile(positive, 0.99) > LOG_FROM * quantile(positive, 0.05)
  return { over: 'step', scale: steep ? 'log' : 'linear', range: 'all', halfLife: usualHalfLife(loss.length) }
}

/** A chart, with its scales if it has an x axis of steps. */
export type Drawn = Pick<Plot, 'svg'> & Partial<Plot>

export interface RunChart {
  /** Initial width, before any script runs. */
  width: number
  draw: (width: number) => Drawn
  /** Readout that follows the cursor: its column, and the text for a value. */
  reads?: { column: Value[]; hue: number; words: (index: number) => string; rest: string }
}

/** x of every step: step number, seconds, or tokens so far. */
export function xOf({ columns }: RunPageData, { over }: Pick<RunView, 'over'>): number[] {
  if (over === 'time') return columns.time.map((value) => value ?? 0)
  if (over === 'step') return columns.step.map((value) => value ?? 0)
  let sum = 0
  return columns.tokens.map((count) => {
    sum += count ?? 0
    return sum
  })
}

/** x of an evaluation, which follows a step. */
export function xAt({ columns: { step } }: RunPageData, { over }: RunView, xs: number[], at: number): number {
  if (over === 'step') return at
  if (at === 0) return 0
  const index = step.findIndex((value) => (value as number) >= at)
  return xs[index < 0 ? xs.length - 1 : index] ?? 0
}

/** Where the best step is, if evaluations differ. */
export function bestMoment(run: RunPageData, view: RunView, xs: number[]): Moment[] {
  const best = run.evaluations.length > 1 ? bestStep(run) : undefined
  if (best === undefined) return []
  return [{ x: xAt(run, view, xs, best.step), name: `best: ${stepName(run)} ${formatNumber(best.step)}` }]
}
