/**
 * Loss at every inference rank: DyLoRA, LoRA truncated to its first ranks, and LoRA trained at that rank; arXiv
 * 2210.07558.
 */

import { FIGURE_WIDTH } from '../../../lib/bench/pictures.js'
import { mean } from '../../../lib/core/mean.js'
import { type Line, lineChart } from '../../../lib/report/chart/index.js'
import { dylora } from '../../../lib/strategies/dylora.js'
import { lora } from '../../../lib/strategies/lora.js'
import type { Study, StudyResult, StudyRow } from '../study.js'

const R = 8
const RANKS = [1, 2, 3, 4, 5, 6, 7, 8]
/** Ranks at which a separate LoRA is trained. */
const TRAINED = [1, 2, 4, 8]
const shape = { r: R, loraAlpha: 16, targetModules: 'all-linear' } as const

/** Losses by arm and rank, one per seed. */
type Found = Map<string, Map<number, number[]>>

const [DYLORA, CUT, OWN] = ['DyLoRA', `LoRA of rank ${R}, cut`, 'LoRA of each rank']

export const dyloraRanks: Study = {
  steps: 400,
  runs: (seeds) => seeds * (2 + TRAINED.length),
  run: async (bench): Promise<StudyResult> => {
    const found: Found = new Map([DYLORA, CUT, OWN].map((arm) => [arm, new Map()]))
    const add = (arm: string, rank: number, loss: number) => {
      const byRank = found.get(arm) as Map<number, number[]>
      byRank.set(rank, [...(byRank.get(rank) ?? []), loss])
    }
    for (const seed of bench.seeds) {
      await bench.trained(dylora(shape), { name: DYLORA, seed }, async (adapter) => {
        for (const rank of RANKS) {
          adapter.rank = rank
          add(DYLORA, rank, await bench.loss(adapter))
        }
      })
      // Training all ranks in every step is plain LoRA, whose scale must not grow when truncated as DyLoRA's does, so
      // the adapter's weight compensates.
      const always = RANKS.map((rank) => (rank === R ? 1 : 0))
      await bench.trained(
        dylora({ ...shape, rankDistribution: always }),
        { name: CUT, seed },
        async (adapter) => {
          for (const rank of RANKS) {
            adapter.rank = rank
            adapter.weight = rank / R
            add(CUT, rank, await bench.loss(adapter))
          }
        },
      )
      for (const r of TRAINED)
        await bench.trained(lora({ ...shape, r }), { name: `LoRA of rank ${r}`, seed }, async (adapter) =>
          add(OWN, r, await bench.loss(adapter)),
        )
    }
    const title = 'Loss at every inference rank'
    const lines = [...found].map(([name, byRank], hue): Line => {
      const points = [...byRank].sort(([a], [b]) => a - b)
      return {
        ...{ name, hue, dots: 'filled', x: points.map(([rank]) => rank) },
        y: points.map(([, losses]) => mean(losses)),
        low: points.map(([, losses]) => Math.min(...losses)),
        high: points.map(([, losses]) => Math.max(...losses)),
      }
    })
    const rows = [...found].flatMap(([arm, byRank]) =>
      [...byRank].flatMap(([rank, losses]) =>
        losses.map((loss, i): StudyRow => ({ arm, rank, seed: i + 1, loss })),
      ),
    )
    const { svg } = lineChart({
      ...{
        title,
        width: FIGURE_WIDTH,
        height: 340,
        lines,
        yScale: 'log',
        xLabel: 'rank in use',
        yLabel: 'held-out loss',
      },
      places: RANKS.map((rank) => ({ x: rank, name: String(rank) })),
    })
    const key = `${bench.pointsKey}; alpha is ${shape.loraAlpha} at every rank.`
    return { rows, title, key, chart: svg, reading: readingOf(found) }
  },
}

function readingOf(found: Found): string {
  const at = (arm: string, rank: number) => mean(found.get(arm)?.get(rank) ?? [])
  const ranks = [1, 2, 4, R]
  const listed = (arm: string) => ranks.map((rank) => at(arm, rank).toFixed(3)).join(', ')
  const survives = ranks.slice(0, -1).every((rank) => at(DYLORA, rank) < at(CUT, rank))
  const price = at(DYLORA, R) - at(OWN, R)
  return [
    `Losses at ranks ${ranks.join(', ')}: DyLoRA, trained once, ${listed(DYLORA)}; LoRA of rank ${R} cut to its first ranks ${listed(CUT)}; a LoRA trained for each rank ${listed(OWN)}.`,
    survives
      ? 'As the paper says, DyLoRA can be cut to any rank where LoRA cannot.'
      : 'DyLoRA is not better than a cut LoRA at every rank here, which the paper claims.',
    `At its full rank DyLoRA ${price > 0 ? `has a loss ${price.toFixed(3)} above` : `is no worse than`} LoRA's.`,
    'All arms have the same learning rate.',
  ].join(' ')
}
