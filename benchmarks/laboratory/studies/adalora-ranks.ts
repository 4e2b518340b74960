/** Ranks that AdaLoRA keeps at each layer, by type and depth; as in figure 3 of arXiv 2303.10512. */

import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { FIGURE_WIDTH } from '../../../lib/bench/pictures.js'
import { mean } from '../../../lib/core/mean.js'
import { heatMap } from '../../../lib/report/chart/index.js'
import { adalora } from '../../../lib/strategies/adalora.js'
import { placeOf, type Study, type StudyBench, type StudyResult } from '../study.js'

const [FIRST, LAST] = [12, 4]

export const adaloraRanks: Study = {
  steps: 300,
  runs: (seeds) => seeds,
  run: async (bench): Promise<StudyResult> => {
    const strategy = adalora({ initR: FIRST, targetR: LAST, loraAlpha: 32, targetModules: 'all-linear' })
    const ranks = new Map<string, number[]>()
    const losses: number[] = []
    for (const seed of bench.seeds)
      await bench.trained(strategy, { name: 'AdaLoRA', seed }, async (adapter) => {
        losses.push(await bench.loss(adapter))
        for (const [path, rank] of await ranksOf(bench, adapter))
          ranks.set(path, [...(ranks.get(path) ?? []), rank])
      })
    const cells = [...ranks].map(([path, found]) => ({ ...placeOf(path), rank: mean(found) }))
    const types = [...new Set(cells.map(({ type }) => type))]
    const layers = [...new Set(cells.map(({ layer }) => layer))].sort((a, b) => a - b)
    const values = types.map((type) =>
      layers.map((layer) => cells.find((cell) => cell.type === type && cell.layer === layer)?.rank ?? null),
    )
    const title = 'Ranks that AdaLoRA leaves to each linear'
    return {
      rows: cells,
      title,
      key: `Ranks after training from rank ${FIRST} to a mean of ${LAST}, ${bench.overSeeds}; darker is more.`,
      chart: heatMap({
        ...{
          title,
          width: FIGURE_WIDTH,
          rows: types,
          columns: layers.map((layer) => `layer ${layer + 1}`),
          values,
        },
        ...{ domain: [0, FIRST], format: (value: number) => value.toFixed(1) },
      }),
      reading: readingOf(cells, layers, mean(losses)),
    }
  },
}

/** Remaining ranks, from the saved adapter. */
async function ranksOf(
  bench: StudyBench,
  adapter: Parameters<StudyBench['loss']>[0],
): Promise<[string, number][]> {
  return bench.inFolder(async (folder) => {
    await adapter.save(join(folder, 'adapter'))
    const config = JSON.parse(await readFile(join(folder, 'adapter', 'adapter_config.json'), 'utf8')) as {
      rank_pattern: Record<string, boolean[]> | null
    }
    const left = new Map(Object.entries(config.rank_pattern ?? {}))
    return adapter.targets.map((path) => {
      const kept = [...left].find(([name]) => name.includes(path))?.[1]
      return [path, kept ? kept.filter(Boolean).length : FIRST]
    })
  })
}

interface Cell {
  layer: number
  type: string
  rank: number
}

function readingOf(cells: readonly Cell[], layers: readonly number[], loss: number): string {
  const middle = ((layers[0] as number) + (layers.at(-1) as number)) / 2
  const of = (chosen: (cell: Cell) => boolean) => mean(cells.filter(chosen).map(({ rank }) => rank))
  const isMlp = ({ type }: Cell) => /gate|up|down/.test(type)
  const [low, high] = [of(({ layer }) => layer < middle), of(({ layer }) => layer > middle)]
  const [mlp, attention] = [of(isMlp), of((cell) => !isMlp(cell))]
  const most = cells.reduce((best, cell) => (cell.rank > best.rank ? cell : best))
  const least = cells.reduce((worst, cell) => (cell.rank < worst.rank ? cell : worst))
  const claim = high > low && mlp > attention
  return [
    `AdaLoRA from rank ${FIRST} to a mean of ${LAST}, on all linears; held-out loss ${loss.toFixed(3)}.`,
    `Most is left to ${most.type} of layer ${most.layer + 1} (${most.rank.toFixed(1)}), least to ${least.type} of layer ${least.layer + 1} (${least.rank.toFixed(1)}).`,
    `Means: ${high.toFixed(1)} in upper layers and ${low.toFixed(1)} in lower ones, ${mlp.toFixed(1)} in feed-forward linears and ${attention.toFixed(1)} in attention.`,
    claim
      ? 'That is what the paper found: more rank for upper layers and for feed-forward linears.'
      : 'The paper found more rank in upper layers and in feed-forward linears, which these runs do not show in full.',
  ].join(' ')
}
