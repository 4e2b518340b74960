/** Charts of what evaluations measure beside the loss: the metric that chooses, and the classes of a classifier. */
import {
  formatNumber,
  formatShare,
  heatMap,
  isNumber,
  type LineChart,
  lineChart,
  type Value,
} from './chart/index.js'
import { bestMoment, type RunChart, type RunView, xAt } from './run-chart.js'
import { confusionOf, type RunPageData } from './run-data.js'
import { bestStep, chosenMetric, classifies, measuresOf, stepName } from './run-words.js'

/** The metric that chooses the best step, if it is not the loss; of a classifier its accuracy and F1. */
export function metricCharts(
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
export function confusionCharts(run: RunPageData): Record<string, RunChart> {
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
