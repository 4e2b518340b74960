/**
 * The charts of a run by name, as functions of the width: drawn once in the file, and again by the page at its own
 * width.
 */
import {
  barChart,
  extent,
  formatNumber,
  formatSeconds,
  formatShare,
  formatSize,
  formatTick,
  type HeatMap,
  heatMap,
  isNumber,
  type Line,
  type LineChart,
  lineChart,
  type Moment,
  type Part,
  type Plot,
  quantile,
  type ScaleType,
  smooth,
  usualHalfLife,
  type Value,
} from './chart/index.js'
import { confusionOf, type RunPageData } from './run-data.js'
import {
  adapterOf,
  bestStep,
  chosenMetric,
  classifies,
  headline,
  importancesOf,
  measuresOf,
  plannedProcess,
  stepName,
} from './run-words.js'

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
            ...(evaluations.length > 0
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

/** Where the best step is, if evaluations differ. */
function bestMoment(run: RunPageData, view: RunView, xs: number[]): Moment[] {
  const best = run.evaluations.length > 1 ? bestStep(run) : undefined
  if (best === undefined) return []
  return [{ x: xAt(run, view, xs, best.step), name: `best: ${stepName(run)} ${formatNumber(best.step)}` }]
}

/** The metric that chooses the best step, if it is not the loss; of a classifier its accuracy and F1. */
function metricCharts(
  run: RunPageData,
  view: RunView,
  xs: number[],
  axis: Pick<LineChart, 'xDomain' | 'xFormat' | 'xLabel'>,
): Record<string, RunChart> {
  const { evaluations, columns } = run
  const chosen = chosenMetric(run)
  const of = (label: string, read: (one: RunPageData['evaluations'][number]) => Value) => ({
    label,
    values: evaluations.map(read),
  })
  const series = classifies(run)
    ? [of('accuracy', ({ accuracy }) => accuracy ?? null), of('F1', ({ macro_f1 }) => macro_f1 ?? null)]
    : chosen.name === 'loss' || chosen.name === 'perplexity'
      ? []
      : [of(chosen.label, chosen.read)]
  if (series.every(({ values }) => values.every((value) => !isNumber(value)))) return {}
  const isShare = classifies(run) || chosen.format === formatShare
  const best = bestStep(run)
  const rest =
    best === undefined
      ? ''
      : `${measured(run, best)} at ${stepName(run)} ${formatNumber(best.step)}, the best`
  const x = evaluations.map(({ step }) => xAt(run, view, xs, step))
  const lastAt = (index: number) =>
    evaluations.findLast(({ step }) => step <= (columns.step[index] as number))
  return {
    metric: {
      width: 918,
      draw: (width) =>
        lineChart({
          ...{ title: 'Metrics of held-out data', width, height: width < 480 ? 190 : 220, ...axis },
          ...(isShare ? { yDomain: [0, 1.04] as const, yFormat: formatShare } : {}),
          moments: bestMoment(run, view, xs),
          lines: series.map(({ label, values }, index) => ({
            ...{ x, y: values, hue: index + 1, stroke: 'thin', name: label },
            dots: index === 0 ? 'filled' : 'open',
          })),
        }),
      reads: {
        column: columns.step.map((_, index) => {
          const one = lastAt(index)
          return one === undefined ? null : (series[0]?.values[evaluations.indexOf(one)] ?? null)
        }),
        ...{ hue: 1, rest },
        words: (index) => {
          const one = lastAt(index)
          return one === undefined ? '' : `${stepName(run)} ${formatNumber(one.step)} · ${measured(run, one)}`
        },
      },
    },
  }
}

/** The metrics of an evaluation in words: those of a classifier, else the one that chooses. */
function measured(run: RunPageData, one: RunPageData['evaluations'][number]): string {
  const chosen = chosenMetric(run)
  const value = chosen.read(one)
  return classifies(run)
    ? measuresOf(one)
        .map((words) => words.join(' '))
        .join(', ')
    : `${chosen.label} ${isNumber(value) ? chosen.format(value) : 'none'}`
}

/** Rows by class and predicted class, colored by the share of the class. */
function confusionCharts(run: RunPageData): Record<string, RunChart> {
  const matrix = confusionOf(run)?.matrix
  if (matrix === undefined) return {}
  const labels = matrix.map((_, id) => run.start?.labels?.[id] ?? String(id))
  const shares = matrix.map((row) => {
    const sum = row.reduce((total, count) => total + count, 0)
    return row.map((count) => (sum === 0 ? 0 : count / sum))
  })
  return {
    confusion: {
      width: 918,
      draw: (width) => {
        const names = labels.map((label) => shortName(label, width < 480 ? 12 : 24))
        return {
          svg: heatMap({
            ...{ title: 'Rows by class and predicted class', width },
            ...{ rows: names, columns: names, values: shares, shown: matrix, domain: [0, 1] },
            format: (count) => formatNumber(count),
          }),
        }
      },
    },
  }
}

function shortName(name: string, most: number): string {
  return name.length > most ? `${name.slice(0, most - 1)}…` : name
}

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

function ranksCharts(run: RunPageData): Record<string, RunChart> {
  const last = run.ranks.at(-1)
  const initial = adapterOf(run).init_r
  if (last === undefined || typeof initial !== 'number') return {}
  const left = gridOf(last.ranks)
  const { layers, kinds } = left
  const history = run.ranks.map(({ step, ranks }) => ({ step, grid: gridOf(ranks) }))
  const total = run.start?.total_steps ?? last.step
  const columnSum = (grid: (number | null)[][], kind: number) =>
    grid.reduce((sum, row) => sum + (row[kind] ?? 0), 0)
  return {
    ranks: linearsChart('Ranks left', left, { domain: [0, initial] }),
    ...(history.length > 1
      ? {
          rankHistory: {
            width: 918,
            draw: (width: number) => ({
              svg: lineChart({
                ...{ title: 'Ranks left over the run', width, height: 240, fromZero: true, xLabel: 'step' },
                xDomain: [0, total],
                lines: kinds.map((kind, index) => ({
                  x: [0, ...history.map(({ step }) => step)],
                  y: [initial * layers.length, ...history.map(({ grid }) => columnSum(grid.values, index))],
                  ...{ hue: index % 7, stroke: 'thin', name: kind.replace('_proj', '') },
                })),
              }).svg,
            }),
          },
        }
      : {}),
  }
}

function importanceCharts(run: RunPageData): Record<string, RunChart> {
  const found = importancesOf(run)
  if (found === undefined) return {}
  const { importances, kept } = found
  const own = Object.fromEntries(Object.keys(importances).map((path) => [path, kept.has(path) ? 1 : 0]))
  return {
    importances: linearsChart('Importance by the probe', gridOf(importances), { format: formatShare }),
    keptPairs: linearsChart('Pairs of factors', gridOf(own), {
      domain: [0, 1],
      format: (value) => (value === 1 ? 'own' : 'shared'),
    }),
  }
}

/** One cell per linear layer. */
function linearsChart(
  title: string,
  { layers, kinds, values }: ReturnType<typeof gridOf>,
  options: Pick<HeatMap, 'domain' | 'format'>,
): RunChart {
  return {
    width: 918,
    draw: (width) => ({
      svg: heatMap({
        ...{ title, width, rows: layers, values, ...options },
        columns: kinds.map((kind) => (width < 600 ? kind.replace('_proj', '') : kind)),
      }),
    }),
  }
}

/**
 * Arranges numbers by layer and kind of linear layer, parsed from module names such as
 * `model.layers.3.self_attn.q_proj`.
 */
function gridOf(numbers: Readonly<Record<string, number>>) {
  const cells = Object.entries(numbers).map(([path, value]) => {
    const layer = /\.(\d+)\./.exec(path)?.[1]
    return {
      layer: layer === undefined ? 'other' : `layer ${layer}`,
      kind: path.split('.').at(-1) ?? path,
      value,
    }
  })
  const layers = [...new Set(cells.map(({ layer }) => layer))]
  const kinds = [...new Set(cells.map(({ kind }) => kind))]
  const values = layers.map((layer) =>
    kinds.map((kind) => cells.find((cell) => cell.layer === layer && cell.kind === kind)?.value ?? null),
  )
  return { layers, kinds, values }
}

/** Hue by kind, shade by category: see `parts` in the palette. */
export const CATEGORY_COLORS: Readonly<Record<string, number>> = {
  ...{ weights: 0, quantization_constants: 1, paged_weights: 2, adapters: 3, gradients: 4, optimizer: 5 },
  ...{ activations: 6, loss: 7, workspace: 8, kv_cache: 8 },
}

export function categoryName(category: string): string {
  return category.replaceAll('_', ' ')
}

/** The memory record with the most bytes allocated. */
export function mostAllocated({ memory }: RunPageData): RunPageData['memory'][number] | undefined {
  const total = (one: RunPageData['memory'][number]) =>
    Object.values(one.allocated).reduce((sum, bytes) => sum + bytes, 0)
  return memory.reduce<RunPageData['memory'][number] | undefined>(
    (most, one) => (most === undefined || total(one) > total(most) ? one : most),
    undefined,
  )
}

/**
 * True if the engine allocated activations, loss, and workspace as one block, so that only the plan tells them apart.
 */
export function inOneBlock(run: RunPageData): boolean {
  const held = mostAllocated(run)?.allocated
  const planned = run.plan?.rows.find(({ category }) => category === 'loss')?.bytes ?? 0
  return held !== undefined && planned > 0 && (held.loss ?? 0) === 0
}

const BLOCK: readonly string[] = ['activations', 'loss', 'workspace']

export const isInBlock = (category: string) => BLOCK.includes(category)

/** Puts the categories of the block last, so that they are adjacent in charts and tables. */
export function blockLast<Row extends { category: string }>(rows: readonly Row[]): Row[] {
  const [others, block] = [false, true].map((inside) =>
    rows.filter(({ category }) => isInBlock(category) === inside),
  ) as [Row[], Row[]]
  return [...others, ...block]
}

function memoryCharts(run: RunPageData): Record<string, RunChart> {
  const { plan, memory } = run
  if (plan === null) return {}
  const part = (category: string, value: number): Part => ({
    name: categoryName(category),
    value,
    color: CATEGORY_COLORS[category] ?? 8,
  })
  const bars = [
    { name: 'planned', parts: blockLast(plan.rows).map(({ category, bytes }) => part(category, bytes)) },
  ]
  const held = mostAllocated(run)
  const allocated = Object.entries(held?.allocated ?? {}).map(([category, bytes]) => ({ category, bytes }))
  if (held)
    bars.push({
      name: 'allocated',
      parts: blockLast(allocated).map(({ category, bytes }) =>
        category === 'activations' && inOneBlock(run)
          ? { ...part(category, bytes), name: 'activations, loss, and workspace' }
          : part(category, bytes),
      ),
    })
  const rests = memory.length > 1
  const planned = plannedProcess(run)
  return {
    memory: {
      width: 918,
      draw: (width) => ({ svg: barChart({ title: 'Memory at the peak', width, groups: [{ bars }] }) }),
    },
    ...(rests
      ? {
          resident: {
            width: 440,
            draw: (width: number) => ({
              svg: lineChart({
                ...{ title: 'Resident memory of the process', width, height: 190, yTicks: 3, sizes: true },
                ...{ xFormat: (value: number) => `${formatTick(value)} s`, yFormat: formatSize, left: 66 },
                description: `at most ${formatSize(extent(memory.map(({ resident }) => resident))?.[1])}`,
                yDomain: [0, Math.max(planned ?? 0, ...memory.map(({ resident }) => resident)) * 1.12],
                levels:
                  planned === null
                    ? []
                    : [
                        { value: plan.runtime_bytes ?? 0, name: 'Node.js', at: 'left' },
                        { value: planned, name: 'planned with Node.js', at: 'left' },
                      ],
                lines: [
                  {
                    x: memory.map(({ time }) => time),
                    y: memory.map(({ resident }) => resident),
                    hue: 0,
                    area: true,
                  },
                ],
              }).svg,
            }),
          },
        }
      : {}),
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

/** x of an evaluation, which follows a step. */
function xAt({ columns: { step } }: RunPageData, { over }: RunView, xs: number[], at: number): number {
  if (over === 'step') return at
  if (at === 0) return 0
  const index = step.findIndex((value) => (value as number) >= at)
  return xs[index < 0 ? xs.length - 1 : index] ?? 0
}

function lossWords(run: RunPageData, index: number, mean: Value): string {
  const { columns, evaluations } = run
  const step = columns.step[index] as number
  const held = evaluations.findLast((one) => one.step <= step)
  return [
    `${stepName(run)} ${formatNumber(step)}`,
    `training ${formatNumber(columns.loss[index])}${isNumber(mean) ? `, mean ${formatNumber(mean)}` : ''}`,
    ...(held ? [`held out ${formatNumber(held.loss)}`] : []),
    formatSeconds(columns.time[index]),
  ].join(' · ')
}

/** The headline sentences, without markup. */
export function plainWords(run: RunPageData): string {
  return headline(run)
    .map((words) => words.map((word) => (typeof word === 'string' ? word : word.strong)).join(''))
    .join(' ')
}
