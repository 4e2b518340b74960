/**
 * Singular values of the updates learned by LoRA, LoHa, and LoKr with similar numbers of trained parameters; after
 * arXiv 2108.06098 (LoHa's product has rank up to r squared) and 2309.14859 (LyCORIS).
 */

import { FIGURE_WIDTH } from '../../../lib/bench/pictures.js'
import { nearestSize } from '../../../lib/compare/equal.js'
import { mean } from '../../../lib/core/mean.js'
import { formatTick, type Line, lineChart } from '../../../lib/report/chart/index.js'
import { loha } from '../../../lib/strategies/loha.js'
import { lokr } from '../../../lib/strategies/lokr.js'
import { lora } from '../../../lib/strategies/lora.js'
import type { StrategyConfig } from '../../../lib/strategies/strategy.js'
import { dotChart } from '../dot-chart.js'
import { captioned, panels } from '../panels.js'
import { singularValues } from '../singular-values.js'
import { type AtBestRate, runsAtBestRate, type Study, type StudyBench, type StudyResult } from '../study.js'
import { type Matrix, weightsOf } from '../weights.js'

const R = 8
const targetModules = 'all-linear'
const LORA = lora({ r: R, loraAlpha: 2 * R, targetModules })
/** Half the rank, since LoHa has two pairs of factors. */
const LOHA = loha({ r: R / 2, alpha: R / 2, targetModules })
/** Values below this fraction of the largest do not count toward the rank. */
const NOTHING = 1e-3

interface Arm extends AtBestRate {
  arm: string
  /** Singular values relative to the largest, averaged over all layers; shorter spectra end earlier. */
  spectrum: number[]
  /** Mean over the layers. */
  rank: number
}

export const productRanks: Study = {
  steps: 150,
  runs: (seeds) => 3 * (runsAtBestRate(seeds) + 1),
  run: async (bench): Promise<StudyResult> => {
    const strategies: [string, StrategyConfig][] = [
      [`LoRA, rank ${R}`, LORA],
      [`LoHa, rank ${R / 2}`, LOHA],
      ['LoKr', await nearestLokr(bench)],
    ]
    const arms: Arm[] = []
    for (const [arm, strategy] of strategies) {
      const found = await bench.atBestRate(strategy, arm)
      arms.push({ arm, ...found, ...(await spectrumOf(bench, arm, strategy, found.rate)) })
    }
    const title = 'Singular values of the learned change, at equal parameters'
    const lines = arms.map(({ arm, spectrum }, hue): Line => {
      const y = spectrum.filter((value) => value >= NOTHING)
      return { name: arm, hue, dots: 'filled', x: y.map((_, i) => i + 1), y }
    })
    const spectra = lineChart({
      ...{ title, width: FIGURE_WIDTH, height: 320, lines, yScale: 'log' },
      ...{ xLabel: 'index of the singular value', yLabel: 'share of the largest singular value' },
    }).svg
    const quality = dotChart({
      ...{ title: 'Held-out loss', width: FIGURE_WIDTH, format: formatTick },
      rows: arms.map(({ arm, parameters, losses }, hue) => ({
        name: `${arm}: ${parameters.toLocaleString('en-US')} parameters`,
        ...{ mark: { hue, shape: 'filled' as const }, mean: mean(losses), seeds: losses },
      })),
    })
    return {
      rows: arms.flatMap(({ arm, parameters, rate, losses, rank, spectrum }) =>
        spectrum.map((value, i) => ({
          ...{ arm, parameters, learning_rate: rate, loss: mean(losses), rank },
          ...{ index: i + 1, singular_value: value },
        })),
      ),
      title,
      key: 'Lines end with the last singular value above a thousandth of the largest. Loss: means, and seeds below them.',
      chart: panels([spectra, captioned(quality, 'held-out loss')], 1, title),
      reading: readingOf(arms),
    }
  },
}

/** The LoKr config, of any split, whose parameter count is closest to LoRA's. */
async function nearestLokr(bench: StudyBench): Promise<StrategyConfig> {
  const sizeOf = (strategy: StrategyConfig) => parametersOf(bench, strategy)
  return nearestSize(lokr({ r: R, alpha: R, targetModules }), await sizeOf(LORA), sizeOf, 1)
}

async function parametersOf({ model }: StudyBench, strategy: StrategyConfig): Promise<number> {
  const adapter = await model.attach(strategy)
  const { trainableParameters } = adapter
  await adapter.detach()
  return trainableParameters
}

async function spectrumOf(
  bench: StudyBench,
  name: string,
  strategy: StrategyConfig,
  learningRate: number,
): Promise<Pick<Arm, 'spectrum' | 'rank'>> {
  return bench.trained(strategy, { name, seed: 1, learningRate }, async (adapter) => {
    const before = await weightsOf(bench, adapter.targets, null)
    const after = await weightsOf(bench, adapter.targets, adapter)
    const spectra = [...after].map(([path, { rows, cols, values }]) => {
      const old = (before.get(path) as Matrix).values
      const found = singularValues(
        values.map((value, i) => value - (old[i] as number)),
        rows,
        cols,
      )
      return found.map((value) => value / (found[0] || 1))
    })
    const longest = Math.max(...spectra.map(({ length }) => length))
    return {
      spectrum: Array.from({ length: longest }, (_, i) => mean(spectra.map((values) => values[i] ?? 0))),
      rank: mean(spectra.map((values) => values.filter((value) => value >= NOTHING).length)),
    }
  })
}

function readingOf(arms: readonly Arm[]): string {
  const told = arms.map(
    ({ arm, parameters, losses, rank }) =>
      `${arm}: ${parameters.toLocaleString('en-US')} parameters, loss ${mean(losses).toFixed(3)}, rank ${rank.toFixed(1)}`,
  )
  const [loraArm, lohaArm, lokrArm] = arms as [Arm, Arm, Arm]
  const best = arms.reduce((a, b) => (mean(b.losses) < mean(a.losses) ? b : a))
  return [
    `${told.join('; ')}. Each has the best of three learning rates, which the first seed chose. The rank counts singular values of the change of a weight above ${NOTHING} of the largest, and is a mean over all linears.`,
    lohaArm.rank > R
      ? `With two pairs of rank ${R / 2}, LoHa has learned changes of a rank above ${R}, which LoRA cannot with as many parameters, as its paper says; up to ${(R / 2) ** 2} are possible.`
      : `LoHa has not learned changes of a rank above ${R}, which its paper says it can.`,
    lokrArm.rank > loraArm.rank
      ? 'LoKr’s are of a still higher rank than LoRA’s.'
      : 'LoKr’s rank is no higher than LoRA’s.',
    best === loraArm
      ? 'The higher rank does not pay here: LoRA has the lowest loss.'
      : `The lowest loss is that of ${best.arm}.`,
  ].join(' ')
}
