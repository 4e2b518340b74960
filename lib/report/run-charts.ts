/**
 * The charts of a run by name, as functions of the width: drawn once in the file, and again by the page at its own
 * width.
 */
import {
  extent,
  formatNumber,
  formatSeconds,
  formatShare,
  formatTick,
  isNumber,
  type Line,
  type LineChart,
  lineChart,
  quantile,
  smooth,
  type Value,
} from './chart/index.js'
import { bestMoment, type RunChart, type RunView, xAt, xOf } from './run-chart.js'
import type { RunPageData } from './run-data.js'
import { memoryCharts } from './run-memory.js'
import { confusionCharts, metricCharts } from './run-metrics.js'
import { importanceCharts, ranksCharts } from './run-modules.js'
import { hasHeldOutLoss, headline, stepName } from './run-words.js'

export function runCharts(run: RunPageData, view: RunView): Record<string, RunChart> {
  const { columns, evaluations } = run
  const xs = xOf(run, view)
  const end = xs.at(-1) ?? 1
  const from = view.range === 'half' ? end / 2 : view.range === 'tenth' ? end * 0.9 : 0
  const xDomain: [number, number] = [from, end || 1]
  const minutes = view.over === 'time' && end > 180
  const seconds = (value: number) =>
    minutes ? `${formatTick(Number((value / 60).toFixed(1)))} min` : `${formatTick(value)} s`
  const xFormat = view.over === 'time' ? seconds : formatTick
  const xLabel = { step: stepName(run), time: 'since the start', tokens: 'tokens' }[view.over]
  const mean = (values: Value[], halfLife = view.halfLife) =>
    smooth(xOf(run, { over: 'step' }), values, halfLife)
  const shown = (values: Value[]) => values.filter((_, index) => (xs[index] as number) >= from)
  const small = (
    title: string,
    column: Value[],
    hue: number,
    more: Partial<LineChart>,
    halfLife?: number,
  ) => ({
    width: 285,
    draw: (width: number) =>
      lineChart({
        ...{ title, width, height: 140, xDomain, xFormat, yTicks: 3, left: 46, right: 10 },
        lines: withMean(xs, column, mean(column, halfLife), hue),
        ...more,
      }),
  })
  const reads = (
    column: Value[],
    hue: number,
    rest: string,
    words = (value: Value) => formatNumber(value),
  ) => ({
    reads: { column, hue, rest, words: (index: number) => words(column[index] ?? null) },
  })

  const charts: Record<string, RunChart> = {}
  if (columns.step.length > 0) {
    const smoothed = mean(columns.loss)
    const best = bestMoment(run, view, xs)
    const evaluated = {
      x: evaluations.map(({ step }) => xAt(run, view, xs, step)),
      y: evaluations.map(({ loss }) => loss),
    }
    charts.loss = {
      width: 918,
      draw: (width) =>
        lineChart({
          ...{ title: 'Loss', description: plainWords(run), width, height: width < 480 ? 250 : 330 },
          ...{ xDomain, xFormat, xLabel, yScale: view.scale },
          yDomain: lossDomain(shown(columns.loss), shown(smoothed), evaluated, from, view),
          moments: best,
          stops: view.over === 'step' ? run.checkpoints.map((x) => ({ x, name: `checkpoint at ${x}` })) : [],
          lines: [
            ...withMean(xs, columns.loss, smoothed, 0, width < 480 ? 'train' : 'training'),
            ...(hasHeldOutLoss(run)
              ? [{ ...evaluated, hue: 1, stroke: 'thin', dots: 'filled', name: 'held out' } as const]
              : []),
          ],
        }),
      reads: {
        column: columns.loss,
        hue: 0,
        rest: '',
        words: (index) => lossWords(run, index, smoothed[index] ?? null),
      },
    }
    Object.assign(charts, metricCharts(run, view, xs, { xDomain, xFormat, xLabel }))
    charts.rate = {
      ...small('Learning rate', columns.learningRate, 2, { fromZero: true }, 0),
      ...reads(columns.learningRate, 2, `highest ${formatTick(extent(columns.learningRate)?.[1] ?? 0)}`),
    }
    const norm = run.start?.config.max_grad_norm ?? 1
    const clip = run.plan?.privacy || typeof norm !== 'number' || norm === 0 ? [] : [norm]
    const norms = columns.gradNorm.filter((value) => isNumber(value) && value > 0)
    charts.norm = {
      ...small('Gradient norm before clipping', columns.gradNorm, 5, {
        yScale: 'log',
        ...(norms.length > 1
          ? { yDomain: [quantile(norms, 0.002) / 1.15, quantile(norms, 0.998) * 1.15] as const }
          : {}),
        levels: clip.map((value) => ({ value })),
      }),
      // The caption names the level, since norms leave no room beside it.
      ...reads(
        columns.gradNorm,
        5,
        [
          `median ${formatNumber(quantile(columns.gradNorm, 0.5))}`,
          ...clip.map((value) => `clipped above ${formatTick(value)}`),
        ].join('; '),
      ),
    }
    const speed = columns.tokensPerSecond
    const speeds = { fromZero: true, yDomain: [0, (quantile(speed, 0.99) || 1) * 1.15] as const }
    charts.speed = {
      ...small('Tokens per second', speed, 6, speeds, view.halfLife || 4),
      ...reads(speed, 6, `median ${formatNumber(Math.round(quantile(speed, 0.5)))}`, (value) =>
        formatNumber(value === null ? null : Math.round(value)),
      ),
    }
  }
  return {
    ...charts,
    ...rewardCharts(run, small, reads),
    ...privacyCharts(run, small, reads),
    ...ranksCharts(run),
    ...importanceCharts(run),
    ...confusionCharts(run),
    ...memoryCharts(run),
  }
}

type Small = (
  title: string,
  column: Value[],
  hue: number,
  more: Partial<LineChart>,
  halfLife?: number,
) => RunChart
type Reads = (
  column: Value[],
  hue: number,
  rest: string,
  words?: (value: Value) => string,
) => Required<Pick<RunChart, 'reads'>>

function rewardCharts(run: RunPageData, small: Small, reads: Reads): Record<string, RunChart> {
  const { reward } = run.columns
  if (reward.length === 0) return {}
  const rest = `highest ${formatNumber(extent(reward)?.[1] ?? 0)}`
  return { reward: { ...small('Mean reward', reward, 3, {}), ...reads(reward, 3, rest) } }
}

function privacyCharts(run: RunPageData, small: Small, reads: Reads): Record<string, RunChart> {
  const privacy = run.done?.privacy ?? run.plan?.privacy
  const { epsilon, cohort, clipped } = run.columns
  if (!privacy || epsilon.length === 0) return {}
  const promised = privacy.final_epsilon
  const level = { value: promised, name: `promise ${formatNumber(promised)}`, at: 'left' } as const
  const most = Math.max(promised, extent(epsilon)?.[1] ?? 0)
  return {
    epsilon: {
      ...small('Privacy spent', epsilon, 3, { yDomain: [0, most * 1.22 || 1], levels: [level] }, 0),
      ...reads(epsilon, 3, `${formatNumber(epsilon.at(-1))} of ${formatNumber(promised)}`),
    },
    cohort: {
      ...small('In the round', cohort, 2, {
        fromZero: true,
        levels: [{ value: privacy.cohort }],
      }),
      ...reads(cohort, 2, `${formatNumber(privacy.cohort)} expected`),
    },
    clipped: {
      ...small('Share that was clipped', clipped, 4, { yDomain: [0, 1.04], yFormat: formatShare }),
      ...reads(clipped, 4, `median ${formatShare(quantile(clipped, 0.5))}`, formatShare),
    },
  }
}

/** The raw values in a faint color behind their running mean; only the values if there is no smoothing. */
function withMean(x: number[], y: Value[], mean: Value[], hue: number, name?: string): Line[] {
  const named = name === undefined ? {} : { name }
  if (mean.every((value, index) => value === y[index])) return [{ x, y, hue, ...named }]
  return [
    { x, y, hue, stroke: 'raw' },
    { x, y: mean, hue, ...named },
  ]
}

/** Clips the axis at the 99.8th percentile of the raw values, so that one spike does not flatten the rest. */
function lossDomain(
  values: Value[],
  mean: Value[],
  evaluated: { x: number[]; y: number[] },
  from: number,
  view: RunView,
): [number, number] {
  const log = view.scale === 'log'
  const usable = (value: Value | undefined): value is number => isNumber(value) && (!log || value > 0)
  const held = evaluated.y.filter((value, index) => usable(value) && (evaluated.x[index] as number) >= from)
  const shown = values.filter(usable)
  const [low] = extent([...shown, ...held]) ?? [0, 1]
  const high = extent([quantile(shown, 0.998), ...held, ...mean.filter(usable).slice(0, 1)])?.[1] ?? 1
  if (!(high > low)) return [low > 0 ? low / 2 : low - 1, low > 0 ? low * 1.5 : low + 1]
  if (log) {
    const margin = (high / low) ** 0.06
    return [low / margin, high * margin]
  }
  const margin = (high - low) * 0.06
  return [view.range === 'all' && low >= 0 && low < high * 0.3 ? 0 : low - margin, high + margin]
}

function lossWords(run: RunPageData, index: number, mean: Value): string {
  const { columns, evaluations } = run
  const step = columns.step[index] as number
  const held = evaluations.findLast((one) => one.step <= step)
  return [
    `${stepName(run)} ${formatNumber(step)}`,
    `training ${formatNumber(columns.loss[index])}${isNumber(mean) ? `, mean ${formatNumber(mean)}` : ''}`,
    ...(isNumber(held?.loss) ? [`held out ${formatNumber(held.loss)}`] : []),
    formatSeconds(columns.time[index]),
  ].join(' · ')
}

/** The headline sentences, without markup. */
function plainWords(run: RunPageData): string {
  return headline(run)
    .map((words) => words.map((word) => (typeof word === 'string' ? word : word.strong)).join(''))
    .join(' ')
}
