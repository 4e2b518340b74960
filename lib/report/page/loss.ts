/** The loss of a run that grows: a chart that is drawn anew at the width that it has. */
import { lineChart, smooth, usualHalfLife } from '../chart/index.js'
import type { LogLine } from '../live/state.js'

export interface Growing {
  reset(): void
  take(line: LogLine): void
  draw(totalSteps: number): void
}

export function mountLoss(place: HTMLElement): Growing {
  let steps: number[] = []
  let losses: (number | null)[] = []
  let held: [number, number][] = []
  return {
    reset() {
      steps = []
      losses = []
      held = []
    },
    take({ event, step = 0, loss = null }) {
      if (event === 'eval' && loss !== null) held.push([step, loss])
      if (event !== 'step') return
      steps.push(step)
      losses.push(loss)
    },
    draw(totalSteps) {
      const width = Math.round(place.getBoundingClientRect().width)
      if (steps.length < 2 || width < 40) return
      const half = usualHalfLife(steps.length)
      const raw = half > 0 ? [{ x: steps, y: losses, hue: 0, stroke: 'raw' as const }] : []
      const chart = lineChart({
        ...{ width, height: width < 480 ? 250 : 330, title: 'Loss over the run', id: 'loss-chart' },
        description: `${steps.length} steps`,
        xDomain: [0, totalSteps],
        xLabel: 'step',
        lines: [
          ...raw,
          { x: steps, y: smooth(steps, losses, half), hue: 0, name: 'training' },
          ...(held.length > 0
            ? [
                {
                  x: held.map(([step]) => step),
                  y: held.map(([, loss]) => loss),
                  ...{ hue: 1, stroke: 'thin' as const, dots: 'filled' as const, name: 'held out' },
                },
              ]
            : []),
        ],
      })
      place.innerHTML = chart.svg
    },
  }
}
