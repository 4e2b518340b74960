/** The overlaid curves of a list of runs. Also runs in the browser. */
import { lineChart, markOf } from './chart/index.js'
import type { ListedRun, RunCurve } from './runs-data.js'

export interface RunsChart {
  width: number
  draw: (width: number) => string
}

/** Runs whose curves are drawn; more would be a tangle, and share marks. */
export const MOST_DRAWN = 21
/** Runs whose names stand at the ends of their curves. */
const MOST_NAMED = 8
/** Share of the longest run from which a curve ends near the edge, where its name stands. */
const NEAR_EDGE = 0.94

export function runsCharts(runs: readonly ListedRun[]): Record<string, RunsChart> {
  const drawn = runs.slice(0, MOST_DRAWN)
  const chart = (
    title: string,
    curveOf: (run: ListedRun) => RunCurve,
    dots: boolean,
  ): RunsChart | undefined => {
    const curves = drawn.map(curveOf)
    if (curves.every(({ x }) => x.length === 0)) return undefined
    const longest = Math.max(...curves.map(({ x }) => x.at(-1) ?? 0))
    return {
      width: 918,
      draw: (width) =>
        lineChart({
          ...{ title, width, height: width < 480 ? 240 : 300, xLabel: 'step' },
          lines: curves.map((curve, index) => {
            const { hue, shape } = markOf(index)
            const { name } = drawn[index] as ListedRun
            const isNamed = drawn.length <= MOST_NAMED && (curve.x.at(-1) ?? 0) >= NEAR_EDGE * longest
            return {
              ...{ ...curve, hue, stroke: 'thin' as const },
              ...(dots ? { dots: shape } : {}),
              ...(isNamed ? { name: name.length > 18 ? `${name.slice(0, 17)}…` : name } : {}),
            }
          }),
        }).svg,
    }
  }
  const charts = {
    heldOut: chart('Held-out loss of each run', ({ heldOut }) => heldOut, true),
    training: chart('Training loss of each run', ({ training }) => training, false),
  }
  return Object.fromEntries(
    Object.entries(charts).filter((entry): entry is [string, RunsChart] => entry[1] !== undefined),
  )
}
