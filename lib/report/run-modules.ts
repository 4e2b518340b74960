/** Charts with a cell for each linear layer: ranks left, importance, and pairs of factors. */
import { formatShare, type HeatMap, heatMap, lineChart } from './chart/index.js'
import type { RunChart } from './run-chart.js'
import type { RunPageData } from './run-data.js'
import { adapterOf, importancesOf } from './run-words.js'

export function ranksCharts(run: RunPageData): Record<string, RunChart> {
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

export function importanceCharts(run: RunPageData): Record<string, RunChart> {
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
