/**
 * Change of the magnitude of weights against the change of their direction in the course of training: full fine-tuning,
 * LoRA, and DoRA; as figure 2 of arXiv 2402.09353.
 */
import { HUES, type Line, lineChart } from '../../report/chart/index.js'
import { dora } from '../../strategies/dora.js'
import { full } from '../../strategies/full.js'
import { lora } from '../../strategies/lora.js'
import type { StrategyConfig } from '../../strategies/strategy.js'
import { legend, mean, panels, placeOf, type Study, type StudyResult } from '../study.js'
import { type Matrix, weightsOf } from '../weights.js'

const shape = { r: 8, loraAlpha: 16, targetModules: 'all-linear' } as const
const ARMS: readonly { arm: string; strategy: StrategyConfig }[] = [
  { arm: 'full', strategy: full() },
  { arm: 'LoRA', strategy: lora(shape) },
  { arm: 'DoRA', strategy: dora(shape) },
]
/** Moments of a run at which weights are compared. */
const MOMENTS = 4
/** Linears that the paper shows. */
const SHOWN = /\.(q_proj|v_proj)$/

interface Change {
  arm: string
  seed: number
  step: number
  path: string
  magnitude: number
  direction: number
}

export const doraDirections: Study = {
  steps: 120,
  runs: (seeds) => seeds * ARMS.length,
  run: async (bench): Promise<StudyResult> => {
    const every = Math.max(1, Math.floor(bench.steps / MOMENTS))
    const rows: Change[] = []
    const losses = new Map<string, number[]>()
    let before: Map<string, Matrix> | undefined
    for (const { arm, strategy } of ARMS)
      for (const seed of bench.seeds) {
        const compare = async (step: number, adapter: Parameters<typeof weightsOf>[2]) => {
          const paths = (adapter?.targets ?? []).filter((path) => SHOWN.test(path))
          before ??= await weightsOf(bench, paths, null)
          for (const [path, after] of await weightsOf(bench, paths, adapter))
            rows.push({ arm, seed, step, path, ...changeOf(before.get(path) as Matrix, after) })
        }
        await bench.trained(
          strategy,
          {
            ...{ name: arm, seed },
            onStep: async ({ step }, adapter) => {
              if (step % every === 0 && step < bench.steps) await compare(step, adapter)
            },
          },
          async (adapter) => {
            await compare(bench.steps, adapter)
            losses.set(arm, [...(losses.get(arm) ?? []), await bench.loss(adapter)])
          },
        )
      }
    const title = 'Change of magnitude against change of direction'
    const correlations = ARMS.map(({ arm }) => correlationOf(rows.filter((row) => row.arm === arm)))
    const charts = ARMS.map(({ arm }, i) => chartOf(arm, rows, correlations[i] as number))
    const layers = layersOf(rows).map((layer) => `layer ${layer + 1}`)
    return {
      rows: rows.map(({ path, ...row }) => ({ ...row, ...placeOf(path) })),
      title,
      chart: panels([panels(charts, ARMS.length, title), legend(layers)], 1, title),
      reading: readingOf(correlations, losses, bench.seeds.length),
    }
  },
}

/** Means over output rows: of the absolute change of their norm, and of 1 less the cosine between before and after. */
function changeOf(before: Matrix, after: Matrix): { magnitude: number; direction: number } {
  const { rows, cols } = before
  let [magnitude, direction] = [0, 0]
  for (let row = 0; row < rows; row++) {
    let [old, now, both] = [0, 0, 0]
    for (let col = 0; col < cols; col++) {
      const [a, b] = [before.values[row * cols + col] as number, after.values[row * cols + col] as number]
      old += a * a
      now += b * b
      both += a * b
    }
    magnitude += Math.abs(Math.sqrt(now) - Math.sqrt(old)) / rows
    direction += (1 - both / Math.sqrt(old * now)) / rows
  }
  return { magnitude, direction }
}

function layersOf(rows: readonly Change[]): number[] {
  return [...new Set(rows.map(({ path }) => placeOf(path).layer))].sort((a, b) => a - b)
}

function chartOf(arm: string, rows: readonly Change[], correlation: number): string {
  const own = rows.filter((row) => row.arm === arm)
  const lines = layersOf(own).map((layer, hue): Line => {
    const points = own
      .filter(({ path }) => placeOf(path).layer === layer)
      .sort((a, b) => a.direction - b.direction)
    return {
      ...{ hue: hue % HUES, dots: 'filled', stroke: 'none', x: points.map(({ direction }) => direction) },
      y: points.map(({ magnitude }) => magnitude),
    }
  })
  const most = Math.max(...own.map(({ direction }) => direction))
  return lineChart({
    ...{ title: `${arm}: change of magnitude against change of direction`, width: 270, height: 280, lines },
    ...{ fromZero: true, xDomain: [0, most * 1.05 || 1], left: 64, right: 10 },
    ...{ yLabel: `${arm}: magnitude over direction, r = ${correlation.toFixed(2)}` },
  }).svg
}

/** Pearson's correlation of the two changes. */
function correlationOf(rows: readonly Change[]): number {
  const [x, y] = [rows.map(({ direction }) => direction), rows.map(({ magnitude }) => magnitude)]
  const [mx, my] = [mean(x), mean(y)]
  const covariance = mean(x.map((value, i) => (value - mx) * ((y[i] as number) - my)))
  const deviation = (values: readonly number[], average: number) =>
    Math.sqrt(mean(values.map((value) => (value - average) ** 2)))
  return covariance / (deviation(x, mx) * deviation(y, my) || 1)
}

function readingOf(
  correlations: readonly number[],
  losses: ReadonlyMap<string, number[]>,
  seeds: number,
): string {
  const [ofFull, ofLora, ofDora] = correlations as [number, number, number]
  const told = ARMS.map(({ arm }, i) => `${arm} ${(correlations[i] as number).toFixed(2)}`).join(', ')
  const shown = ARMS.map(({ arm }) => `${arm} ${mean(losses.get(arm) ?? []).toFixed(3)}`).join(', ')
  const nearer = Math.abs(ofDora - ofFull) < Math.abs(ofLora - ofFull)
  return [
    `Each point is a query or value weight at one of ${MOMENTS} moments of training${seeds > 1 ? ' with one seed' : ''}: the mean change of the norms of its output rows, against the mean of 1 less their cosine. Every method has its own default rate; losses at the end: ${shown}.`,
    `Correlations of the two changes: ${told}; the paper has −0.62 for full fine-tuning, 0.83 for LoRA, and −0.31 for DoRA.`,
    ofLora > 0 && ofFull < 0 && nearer
      ? 'These runs show the same: LoRA changes both together, DoRA and full fine-tuning trade one for the other.'
      : nearer
        ? 'DoRA is nearer to full fine-tuning than LoRA is, as the paper says, but the signs differ from its own.'
        : 'DoRA is not nearer to full fine-tuning than LoRA is, so these runs do not show what the paper found.',
  ].join(' ')
}
