/**
 * Loss of LoRA+ over the ratio of the two learning rates and the rate of A; as in figures 2 and 3 of arXiv 2402.12354.
 */

import { FIGURE_WIDTH } from '../../../lib/bench/pictures.js'
import { mean } from '../../../lib/core/mean.js'
import { heatMap } from '../../../lib/report/chart/index.js'
import { lora } from '../../../lib/strategies/lora.js'
import { loraPlus } from '../../../lib/strategies/lora-plus.js'
import { rangeOf, type Study, type StudyResult } from '../study.js'

const RATIOS = [1, 2, 4, 8, 16, 32]
const RATES = [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2]
const adapter = lora({ r: 8, loraAlpha: 16, targetModules: 'all-linear' })

export const loraPlusRates: Study = {
  steps: 100,
  runs: (seeds) => seeds * RATIOS.length * RATES.length,
  run: async (bench): Promise<StudyResult> => {
    const cells: { ratio: number; rate: number; loss: number; seeds: number[] }[] = []
    for (const ratio of RATIOS)
      for (const rate of RATES) {
        const strategy = loraPlus({ adapter, loraplusLrRatio: ratio })
        const name = `ratio ${ratio}, rate ${rate}`
        const seeds = await bench.losses(strategy, { name, learningRate: rate })
        cells.push({ ratio, rate, loss: mean(seeds), seeds })
      }
    const best = (ratio: number) =>
      cells.filter((cell) => cell.ratio === ratio).reduce((a, b) => (b.loss < a.loss ? b : a))
    const title = 'Loss of LoRA+ over the ratio and the learning rate'
    const values = RATIOS.map((ratio) =>
      RATES.map((rate) => cells.find((cell) => cell.ratio === ratio && cell.rate === rate)?.loss ?? null),
    )
    const lowest = cells.reduce((a, b) => (b.loss < a.loss ? b : a))
    const plain = best(1)
    const gain = plain.loss - lowest.loss
    const range = rangeOf(plain.seeds)
    return {
      rows: cells.flatMap(({ ratio, rate, seeds }) =>
        seeds.map((loss, i) => ({ ratio, learning_rate: rate, seed: i + 1, loss })),
      ),
      title,
      key: `Losses are ${bench.overSeeds}; lighter is better. B learns at the ratio times the rate, which is that of A.`,
      chart: heatMap({
        ...{
          title,
          width: FIGURE_WIDTH,
          rows: RATIOS.map((ratio) => `ratio ${ratio}${ratio === 1 ? ', LoRA' : ''}`),
          values,
        },
        ...{ columns: RATES.map((rate) => `rate ${rate}`), format: (value: number) => value.toFixed(3) },
        ...{ domain: [lowest.loss, Math.max(...cells.map(({ loss }) => loss))], scale: 'log' as const },
      }),
      reading: [
        `LoRA of rank 8 on all linears; B learns at the ratio times the rate of A, and ratio 1 is LoRA.`,
        `The lowest loss is ${lowest.loss.toFixed(3)} at ratio ${lowest.ratio} and rate ${lowest.rate}; the lowest of ratio 1 is ${plain.loss.toFixed(3)} at rate ${plain.rate}.`,
        bench.seeds.length === 1
          ? 'One seed cannot tell whether that difference is more than chance.'
          : gain > range
            ? `The difference, ${gain.toFixed(3)}, is larger than the range of ratio 1 over its seeds, ${range.toFixed(3)}: a larger rate for B helps here, as the paper says.`
            : `The difference, ${gain.toFixed(3)}, is not larger than the range of ratio 1 over its seeds, ${range.toFixed(3)}: at its own best rate LoRA is as good here, which is not what the paper says.`,
        `At the lowest rate, ${RATES[0]}, ratio ${RATIOS.at(-1)} has ${(values.at(-1)?.[0] ?? 0).toFixed(3)} and ratio 1 ${(values[0]?.[0] ?? 0).toFixed(3)}.`,
      ].join(' '),
    }
  },
}
