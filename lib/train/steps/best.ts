/**
 * The best evaluation of a run, and early stopping. Both depend only on the list of evaluations, which
 * checkpoints store, so a resumed run makes the same decisions as an uninterrupted one.
 */

import { resolve } from 'node:path'
import { badValue, type OptionSource } from '../../core/schema.js'
import type { TrainOptions } from '../../options/types.js'
import { isPrivate } from '../../strategies/index.js'
import type { StrategyConfig } from '../../strategies/strategy.js'
import { type CustomMetric, isGreaterBetter, type Metric, metricName } from '../../tasks/metrics.js'
import type { DatasetConfig } from '../sources/data-sources.js'
import type { Evaluation } from './evaluate.js'

/** An evaluation between two steps. */
export interface RunEvaluation extends Evaluation {
  /** Optimizer steps made before it; 0 is an evaluation before the first step. */
  step: number
}

type BestOptions = Pick<
  TrainOptions,
  | 'loadBestModelAtEnd'
  | 'metricForBestModel'
  | 'greaterIsBetter'
  | 'earlyStoppingPatience'
  | 'earlyStoppingThreshold'
  | 'evalSteps'
>

/** The best and last evaluations of a run, and whether it should stop early. */
export interface Standing {
  /** The best evaluation, the earliest one on a tie; undefined before the first evaluation. */
  best: RunEvaluation | undefined
  last: RunEvaluation | undefined
  /** True if the metric has not improved for `earlyStoppingPatience` evaluations. */
  stops: boolean
}

/** The metric of an evaluation; NaN when it was not measured. */
export function metricOf(metric: Metric | CustomMetric, evaluation: Evaluation): number {
  if (typeof metric !== 'string') return evaluation.scores?.[metric.name] ?? Number.NaN
  const { loss, perplexity, exactMatch, meanTokenAccuracy, f1, macroF1, ...ofPairs } = evaluation
  const named: Record<Metric, number | undefined> = {
    loss,
    perplexity,
    exact_match: exactMatch,
    mean_token_accuracy: meanTokenAccuracy,
    accuracy: ofPairs.accuracy,
    f1: f1 ?? macroF1,
    rewards_accuracies: ofPairs.rewardsAccuracies,
    rewards_margins: ofPairs.rewardsMargins,
    reward: ofPairs.reward,
  }
  return named[metric] ?? Number.NaN
}

/** An evaluation that does not improve by more than `earlyStoppingThreshold` counts toward the patience. */
export function standing(evaluations: readonly RunEvaluation[], options: BestOptions): Standing {
  const { metricForBestModel: metric, earlyStoppingPatience: patience, earlyStoppingThreshold } = options
  const sign = isGreaterBetter(metric) ? -1 : 1
  let best: RunEvaluation | undefined
  let lowest = Number.NaN
  let without = 0
  for (const evaluation of evaluations) {
    const value = sign * metricOf(metric, evaluation)
    const gain = Number.isNaN(lowest) ? Number.POSITIVE_INFINITY : lowest - value
    without = gain > earlyStoppingThreshold ? 0 : without + 1
    if (best === undefined || gain > 0) [best, lowest] = [evaluation, value]
  }
  return { best, last: evaluations.at(-1), stops: patience !== null && without >= patience }
}

/** True if a periodic action is due after this step. */
export function isDue(every: number | null, step: number): boolean {
  return every !== null && step % every === 0
}

/** True if evaluations decide which adapter is kept or when the run stops. */
export function decides({ loadBestModelAtEnd, earlyStoppingPatience }: BestOptions): boolean {
  return loadBestModelAtEnd || earlyStoppingPatience !== null
}

/** The strategy, data, and output of a run. */
interface RunShape {
  strategy: StrategyConfig
  dataset: DatasetConfig
  evalDataset: DatasetConfig | null
  evalFraction: number
  outputDir: string | null
}

/** @throws {ConfigError} when there is nothing to evaluate, or the best step cannot be determined or cannot be saved */
export function checkBest(options: BestOptions, run: RunShape, source: OptionSource): void {
  const { metricForBestModel, greaterIsBetter, loadBestModelAtEnd: loads, evalSteps } = options
  const greater = isGreaterBetter(metricForBestModel)
  if (greaterIsBetter !== null && greaterIsBetter !== greater)
    throw badValue(
      source,
      'greaterIsBetter',
      greaterIsBetter,
      `${greater}, or nothing: of ${metricName(metricForBestModel)}, ${greater ? 'more' : 'less'} is better`,
    )
  const spelled = (camel: string, snake: string) => (source.spelling === 'snake' ? snake : camel)
  const heldOut = `held-out data beside it: ${spelled('evalDataset', 'eval_dataset')} or ${spelled('evalFraction', 'eval_fraction')}`
  const hasHeldOut = run.evalDataset !== null || run.evalFraction > 0
  if (!decides(options)) {
    if (evalSteps !== null && !hasHeldOut) throw badValue(source, 'evalSteps', evalSteps, heldOut)
    return
  }
  const [key, value] = loads
    ? (['loadBestModelAtEnd', true] as const)
    : (['earlyStoppingPatience', options.earlyStoppingPatience] as const)
  const needs = (what: string) => badValue(source, key, value, what)
  if (!hasHeldOut) throw needs(heldOut)
  if (evalSteps === null)
    throw needs(
      `${spelled('evalSteps', 'eval_steps')} beside it; without, only the start and the end are evaluated`,
    )
  if (loads && run.outputDir === null)
    throw needs('an outputDir beside it, where the best checkpoint is kept')
  if (evaluatesPrivateData(run))
    throw needs(
      `a public ${spelled('evalDataset', 'eval_dataset')} in private training: a choice based on private rows reveals information about them`,
    )
}

/** True if a private run evaluates on private data; its evaluations then must not drive decisions. */
export function evaluatesPrivateData({
  strategy,
  dataset,
  evalDataset,
}: Pick<RunShape, 'strategy' | 'dataset' | 'evalDataset'>): boolean {
  return isPrivate(strategy) && (evalDataset === null || sharesData(dataset, evalDataset))
}

/** True if two datasets have a file in common. */
export function sharesData(one: DatasetConfig, other: DatasetConfig): boolean {
  if (one.rows !== undefined || other.rows !== undefined) return one.rows === other.rows
  const pathsOf = ({ path }: DatasetConfig) => [path].flat().map((each) => resolve(each))
  const paths = pathsOf(one)
  return pathsOf(other).some((path) => paths.includes(path))
}

/** The selected step and the reason. */
export interface BestReport {
  /** Step of the best evaluation. */
  step: number
  /** Name of the metric. */
  metric: string
  value: number
  /** Step of the last evaluation. */
  lastStep: number
  lastValue: number
  /** Step of the adapter that the run returns. */
  keptStep: number
}

/** Undefined for a run without evaluations. */
export function bestReport(
  evaluations: readonly RunEvaluation[],
  options: BestOptions,
  step: number,
): BestReport | undefined {
  const { best, last } = standing(evaluations, options)
  if (best === undefined || last === undefined) return undefined
  const { metricForBestModel: metric, loadBestModelAtEnd: loads } = options
  return {
    step: best.step,
    metric: metricName(metric),
    value: metricOf(metric, best),
    lastStep: last.step,
    lastValue: metricOf(metric, last),
    keptStep: loads ? best.step : step,
  }
}
