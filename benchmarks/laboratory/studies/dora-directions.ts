/**
 * Change of weight magnitudes against change of directions during training with full fine-tuning, LoRA, and DoRA; as in
 * figure 2 of arXiv 2402.09353.
 */
import { mean } from '../../../lib/core/mean.js'
import { type Line, lineChart } from '../../../lib/report/chart/index.js'
import { dora } from '../../../lib/strategies/dora.js'
import { full } from '../../../lib/strategies/full.js'
import { lora } from '../../../lib/strategies/lora.js'
import type { StrategyConfig } from '../../../lib/strategies/strategy.js'
import { captioned, columnWidth, legend, panels } from '../panels.js'
import { placeOf, type Study, type StudyResult } from '../study.js'
import { type Matrix, weightsOf } from '../weights.js'

const shape = { r: 8, loraAlpha: 16, targetModules: 'all-linear' } as const
const ARMS: readonly { arm: string; strategy: StrategyConfig }[] = [
  { arm: 'Full fine-tuning', strategy: full() },
  { arm: 'LoRA', strategy: lora(shape) },
  { arm: 'DoRA', strategy: dora(shape) },
]
/** Number of points during a run at which weights are compared. */
const MOMENTS = 4
/** Layers shown in the paper. They differ in scale, so each has its own panels and correlation. */
const TYPES = [
  { type: 'q_proj', name: 'query' },
  { type: 'v_proj', name: 'value' },
] as const
/** Number of layer bands, each with its own color. */
const BANDS = 5

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
          const paths = (adapter?.targets ?? []).filter((path) =>
            TYPES.some(({ type }) => placeOf(path).type === type),
          )
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
    const points = averaged(rows)
    const title = 'Change of magnitude against change of direction'
    const correlations = TYPES.map(({ type }) =>
      ARMS.map(({ arm }) => correlationOf(points.filter((row) => row.arm === arm && row.type === type))),
    )
    const bands = bandsOf(points)
    const charts = TYPES.flatMap(({ type, name }, i) =>
      ARMS.map(({ arm }, j) => {
        const own = points.filter((row) => row.arm === arm && row.type === type)
        return chartOf(`${arm}, ${name}: r = ${signed(correlations[i]?.[j] as number)}`, own, bands)
      }),
    )
    const names = bands.map(([first, last], hue) => ({
      name: first === last ? `layer ${first + 1}` : `layers ${first + 1} to ${last + 1}`,
      mark: { hue, shape: 'filled' as const },
    }))
    const mentioned = bench.seeds.length > 1 ? ', mean over seeds' : ''
    return {
      rows: rows.map(({ path, ...row }) => ({ ...row, ...placeOf(path) })),
      title,
      key: `A point is a weight at one of ${MOMENTS} moments of training${mentioned}. Dashed: least squares; r is the correlation.`,
      chart: panels([panels(charts, ARMS.length, title), legend(names)], 1, title),
      reading: readingOf(correlations, losses),
    }
  },
}

interface Point {
  arm: string
  type: string
  layer: number
  step: number
  magnitude: number
  direction: number
}

/** Means over seeds. */
function averaged(rows: readonly Change[]): Point[] {
  const groups = new Map<string, Change[]>()
  for (const row of rows) {
    const key = `${row.arm} ${row.path} ${row.step}`
    groups.set(key, [...(groups.get(key) ?? []), row])
  }
  return [...groups.values()].map((group) => {
    const [{ arm, path, step }] = group as [Change]
    const magnitude = mean(group.map((row) => row.magnitude))
    const direction = mean(group.map((row) => row.direction))
    return { arm, step, ...placeOf(path), magnitude, direction }
  })
}

/** Means over output rows of the absolute change in norm, and of 1 minus the cosine between before and after. */
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

/** First and last layer of each band. */
function bandsOf(points: readonly Point[]): (readonly [number, number])[] {
  const layers = [...new Set(points.map(({ layer }) => layer))].sort((a, b) => a - b)
  const count = Math.min(BANDS, layers.length)
  return Array.from({ length: count }, (_, band) => {
    const [from, to] = [band, band + 1].map((at) => Math.floor((at * layers.length) / count))
    return [layers[from as number] as number, layers[(to as number) - 1] as number] as const
  })
}

function chartOf(title: string, own: readonly Point[], bands: readonly (readonly [number, number])[]) {
  const most = Math.max(...own.map(({ direction }) => direction)) || 1
  const lines = bands.map(([first, last], hue): Line => {
    const points = own
      .filter(({ layer }) => layer >= first && layer <= last)
      .sort((a, b) => a.direction - b.direction)
    return {
      ...{ hue, dots: 'filled', stroke: 'none', x: points.map(({ direction }) => direction) },
      y: points.map(({ magnitude }) => magnitude),
    }
  })
  const chart = lineChart({
    ...{ title, width: columnWidth(ARMS.length), height: 230, lines: [fitted(own), ...lines] },
    ...{ fromZero: true, xDomain: [0, most * 1.05], right: 10, yTicks: 3 },
    ...{ xLabel: 'change of direction', yLabel: 'change of magnitude' },
  }).svg
  return captioned(chart, title)
}

/** The least-squares line over the range of x. */
function fitted(points: readonly Point[]): Line {
  const [x, y] = [points.map(({ direction }) => direction), points.map(({ magnitude }) => magnitude)]
  const [mx, my] = [mean(x), mean(y)]
  const square = mean(x.map((value) => (value - mx) ** 2))
  const slope = mean(x.map((value, i) => (value - mx) * ((y[i] as number) - my))) / (square || 1)
  const ends = [Math.min(...x), Math.max(...x)]
  return { x: ends, y: ends.map((value) => my + slope * (value - mx)), stroke: 'dash', hue: 6 }
}

/** Pearson correlation of the two changes. */
function correlationOf(points: readonly Point[]): number {
  const [x, y] = [points.map(({ direction }) => direction), points.map(({ magnitude }) => magnitude)]
  const [mx, my] = [mean(x), mean(y)]
  const covariance = mean(x.map((value, i) => (value - mx) * ((y[i] as number) - my)))
  const deviation = (values: readonly number[], average: number) =>
    Math.sqrt(mean(values.map((value) => (value - average) ** 2)))
  return covariance / (deviation(x, mx) * deviation(y, my) || 1)
}

function signed(value: number): string {
  return value.toFixed(2).replace('-', '\u2212')
}

function readingOf(
  correlations: readonly (readonly number[])[],
  losses: ReadonlyMap<string, number[]>,
): string {
  const shown = ARMS.map(({ arm }) => `${arm} ${mean(losses.get(arm) ?? []).toFixed(3)}`).join(', ')
  const told = TYPES.map(
    ({ name }, i) =>
      `of ${name} weights ${ARMS.map(({ arm }, j) => `${arm} ${signed(correlations[i]?.[j] as number)}`).join(', ')}`,
  )
  const [ofFull, ofLora, ofDora] = correlations[0] as readonly [number, number, number]
  const nearer = Math.abs(ofDora - ofFull) < Math.abs(ofLora - ofFull)
  const less = ofDora < ofLora
  return [
    `Each point is a query or value weight at one of ${MOMENTS} moments of training: the mean change of the norms of its output rows, against the mean of 1 less their cosine. Every method has its own default rate; losses at the end: ${shown}.`,
    `Correlations of the two changes: ${told.join('; ')}. For query weights of a larger model, the paper has \u22120.62 for full fine-tuning, 0.83 for LoRA, and \u22120.31 for DoRA.`,
    ofLora > 0 && ofFull < 0 && ofDora < 0 && nearer
      ? 'These runs show the same: LoRA changes both together, DoRA and full fine-tuning trade one for the other.'
      : [
          less
            ? 'As in the paper, DoRA ties the two changes of query weights together less than LoRA does.'
            : 'DoRA ties the two changes of query weights together no less than LoRA does, unlike in the paper.',
          nearer
            ? 'It is nearer to full fine-tuning than LoRA is, but the signs differ from the paper’s.'
            : 'It is not nearer to full fine-tuning, so these runs do not show the paper’s main claim.',
        ].join(' '),
  ].join(' ')
}
