/** Loss against number of trained parameters: VeRA and LoRA at several ranks; as in figure 3 of arXiv 2310.11454. */

import { FIGURE_WIDTH } from '../../../lib/bench/pictures.js'
import { mean } from '../../../lib/core/mean.js'
import { type Line, lineChart } from '../../../lib/report/chart/index.js'
import { lora } from '../../../lib/strategies/lora.js'
import type { StrategyConfig } from '../../../lib/strategies/strategy.js'
import { vera } from '../../../lib/strategies/vera.js'
import { type AtBestRate, runsAtBestRate, type Study, type StudyResult } from '../study.js'

const targetModules = 'all-linear'
const ARMS: readonly { arm: string; ranks: readonly number[]; of: (r: number) => StrategyConfig }[] = [
  { arm: 'VeRA', ranks: [16, 64, 256], of: (r) => vera({ r, targetModules }) },
  { arm: 'LoRA', ranks: [1, 2, 4, 8], of: (r) => lora({ r, loraAlpha: 2 * r, targetModules }) },
]
interface Point extends AtBestRate {
  arm: string
  rank: number
}

export const veraParameters: Study = {
  steps: 150,
  runs: (seeds) => ARMS.reduce((sum, { ranks }) => sum + ranks.length, 0) * runsAtBestRate(seeds),
  run: async (bench): Promise<StudyResult> => {
    const points: Point[] = []
    for (const { arm, ranks, of } of ARMS)
      for (const rank of ranks)
        points.push({ arm, rank, ...(await bench.atBestRate(of(rank), `${arm}, rank ${rank}`)) })
    const title = 'Loss against trained parameters'
    const lines = ARMS.map(({ arm }, hue): Line => {
      const own = points.filter((point) => point.arm === arm).sort((a, b) => a.parameters - b.parameters)
      return {
        ...{ name: arm, hue, dots: 'filled', x: own.map(({ parameters }) => Math.log10(parameters)) },
        y: own.map(({ losses }) => mean(losses)),
        low: own.map(({ losses }) => Math.min(...losses)),
        high: own.map(({ losses }) => Math.max(...losses)),
      }
    })
    const [least, most] = [Math.min, Math.max].map((pick) =>
      pick(...points.map(({ parameters }) => parameters)),
    )
    const places = [1e2, 1e3, 3e3, 1e4, 3e4, 1e5, 3e5, 1e6, 1e7].filter(
      (count) => count > (least as number) * 0.9 && count < (most as number) * 1.1,
    )
    const { svg } = lineChart({
      ...{ title, width: FIGURE_WIDTH, height: 340, lines, yScale: 'log' },
      ...{ xLabel: 'trained parameters', yLabel: 'held-out loss' },
      xDomain: [Math.log10((least as number) * 0.9), Math.log10((most as number) * 1.1)],
      places: places.map((count) => ({ x: Math.log10(count), name: count.toLocaleString('en-US') })),
    })
    const rows = points.flatMap(({ losses, rate, ...point }) =>
      losses.map((loss, i) => ({ ...point, learning_rate: rate, seed: i + 1, loss })),
    )
    return {
      rows,
      title,
      key: `${bench.pointsKey}; from the left, ${ARMS.map(({ arm, ranks }) => `${arm} of rank ${ranks.join(', ')}`).join(' and ')}.`,
      chart: svg,
      reading: readingOf(points),
    }
  },
}

function readingOf(points: readonly Point[]): string {
  const told = ({ arm, rank, parameters, losses }: Point) =>
    `${arm} of rank ${rank} ${mean(losses).toFixed(3)} with ${parameters.toLocaleString('en-US')}`
  const of = (name: string) => points.filter(({ arm }) => arm === name)
  const best = of('VeRA').reduce((a, b) => (mean(b.losses) < mean(a.losses) ? b : a))
  const [least] = of('LoRA')
    .filter(({ losses }) => mean(losses) <= mean(best.losses))
    .sort((a, b) => a.parameters - b.parameters)
  const factor = least ? least.parameters / best.parameters : Number.POSITIVE_INFINITY
  return [
    `All linears, each arm at the best of three learning rates, which the first seed chose. Losses and trained parameters: ${points.map(told).join('; ')}.`,
    least === undefined
      ? `No LoRA here has a loss as low as VeRA’s best, of rank ${best.rank}, which is the paper’s claim and more.`
      : factor > 1
        ? `For the loss of VeRA’s best, of rank ${best.rank}, LoRA takes rank ${least.rank} and ${factor.toFixed(1)} times the parameters, as the paper has it.`
        : `LoRA of rank ${least.rank} reaches the loss of VeRA’s best, of rank ${best.rank}, with no more parameters, which is not what the paper says.`,
  ].join(' ')
}
