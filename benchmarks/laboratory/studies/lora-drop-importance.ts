/**
 * Importance of linear layers by depth, and which ones LoRA-drop keeps: measured by the outputs of their pairs, as in
 * arXiv 2402.07721, and by the norms of the weight updates.
 */

import { withSession } from '../../../lib/base/base.js'
import { mean } from '../../../lib/core/mean.js'
import type { Adapter } from '../../../lib/model/adapter.js'
import { EVAL_PLAN, evaluationPlans } from '../../../lib/planning/plans.js'
import { heatMap } from '../../../lib/report/chart/index.js'
import { lora } from '../../../lib/strategies/lora.js'
import { linearsToKeep, loraDrop } from '../../../lib/strategies/lora-drop.js'
import { prepareEvaluation } from '../../../lib/train/rows/data.js'
import { evaluateBatches } from '../../../lib/train/steps/evaluate.js'
import { captioned, columnWidth, panels } from '../panels.js'
import { placeOf, rangeOf, type Study, type StudyBench, type StudyResult } from '../study.js'
import { type Matrix, weightsOf } from '../weights.js'

const shape = { r: 8, loraAlpha: 16, targetModules: 'all-linear' } as const
const THRESHOLD = 0.8
const choice = { threshold: THRESHOLD, scope: 'type' } as const
/** Fraction of a run's steps used by the probe. */
const PROBE = 0.1

const WAYS = ['outputs', 'weights'] as const
type Way = (typeof WAYS)[number]
type Values = Map<string, number>

export const loraDropImportance: Study = {
  steps: 150,
  runs: (seeds) => seeds * (WAYS.length + 2),
  run: async (bench): Promise<StudyResult> => {
    const found: Record<Way, Values>[] = []
    const losses = { LoRA: [] as number[], outputs: [] as number[], weights: [] as number[] }
    const kept: Record<Way, Map<string, number>> = { outputs: new Map(), weights: new Map() }
    for (const seed of bench.seeds) {
      const steps = Math.max(2, Math.round(PROBE * bench.steps))
      const importances = await bench.trained(lora(shape), { name: 'probe', seed, steps }, (adapter) =>
        importancesOf(bench, adapter),
      )
      found.push(importances)
      losses.LoRA.push(
        await bench.trained(lora(shape), { name: 'LoRA', seed }, (adapter) => bench.loss(adapter)),
      )
      const byOutputs = keptByOutputs(bench, importances.outputs)
      for (const way of WAYS) {
        const keep = way === 'outputs' ? byOutputs : asManyBy(importances.weights, byOutputs)
        for (const path of keep) kept[way].set(path, (kept[way].get(path) ?? 0) + 1 / bench.seeds.length)
        const strategy = loraDrop({ ...shape, threshold: THRESHOLD, keep })
        const name = `LoRA-drop by ${way}`
        losses[way].push(await bench.trained(strategy, { name, seed }, (adapter) => bench.loss(adapter)))
      }
    }
    const cells = cellsOf(found, kept)
    const title = 'Importance of linears in LoRA-drop'
    return {
      rows: cells,
      title,
      key: `Shares are of all linears of a type, ${bench.overSeeds}; each map of shares has its own scale. Below: linears that keep a pair of their own, with every seed (own) or with a share of the seeds.`,
      chart: mapsOf(cells, title),
      reading: readingOf(cells, losses),
    }
  },
}

/** A type rather than an interface, so that it can be used as a data row. */
type Cell = {
  layer: number
  type: string
  /** Fraction of the importance of its type, averaged over seeds. */
  outputs: number
  weights: number
  /** Fraction of seeds with which it kept its own pair. */
  kept_by_outputs: number
  kept_by_weights: number
}

/** Heat maps, layer by type: of the importance by both ways, each with its own scale, and of the kept pairs. */
function mapsOf(cells: readonly Cell[], title: string): string {
  const types = [...new Set(cells.map(({ type }) => type))]
  const layers = [...new Set(cells.map(({ layer }) => layer))].sort((a, b) => a - b)
  const columns = layers.map((layer) => `layer ${layer + 1}`)
  const map = (
    name: string,
    key: Way | 'kept_by_outputs' | 'kept_by_weights',
    format: (value: number) => string,
    most = Math.max(...cells.map((cell) => cell[key])),
  ) => {
    const values = types.map((type) =>
      layers.map((layer) => cells.find((one) => one.type === type && one.layer === layer)?.[key] ?? null),
    )
    const domain = [0, most] as const
    return captioned(
      heatMap({ title: name, width: columnWidth(2), rows: types, columns, values, format, domain }),
      name,
    )
  }
  const percent = (value: number) => `${(100 * value).toFixed(0)}%`
  const keptText = (value: number) => (value === 1 ? 'own' : value === 0 ? '' : percent(value))
  return panels(
    [
      map('Importance by outputs', 'outputs', percent),
      map('Importance by weights', 'weights', percent),
      map('Kept by outputs', 'kept_by_outputs', keptText, 1),
      map('Kept by weights, as many of each type', 'kept_by_weights', keptText, 1),
    ],
    2,
    title,
  )
}

async function importancesOf(bench: StudyBench, adapter: Adapter): Promise<Record<Way, Values>> {
  const before = await weightsOf(bench, adapter.targets, null)
  const after = await weightsOf(bench, adapter.targets, adapter)
  const weights = new Map(
    [...after].map(([path, { values }]) => {
      const old = (before.get(path) as Matrix).values
      return [path, Math.sqrt(values.reduce((sum, value, i) => sum + (value - (old[i] as number)) ** 2, 0))]
    }),
  )
  return { outputs: await outputNorms(bench, adapter), weights }
}

/** Norms of the pairs' contributions to the outputs of their layers, on the training rows that a probe would use. */
async function outputNorms(bench: StudyBench, adapter: Adapter): Promise<Values> {
  const { base } = bench.model
  const { signal } = bench.settings
  const options = { ...bench.shape, trainOn: 'completions', logitsMemory: 'auto' } as const
  return adapter.use(async (state) => {
    const { source } = await prepareEvaluation(base, bench.test, options, signal ? { signal } : {})
    const plans = evaluationPlans(options, base)
    const measured = { [EVAL_PLAN]: { ...plans[EVAL_PLAN], outputNorms: true } } as typeof plans
    const norms = await withSession(base, [{ state, weight: 1, rank: null }], measured, async (session) => {
      await evaluateBatches(session, EVAL_PLAN, source, { signal })
      return session.outputNorms().promise
    })
    return new Map(state.description.spec.terms.map(({ target }, i) => [target, norms[i] as number]))
  })
}

/** The most important layers of each type, the same number as in `kept`, so that only the selection differs. */
function asManyBy(values: Values, kept: readonly string[]): string[] {
  const type = (path: string) => placeOf(path).type
  const sorted = [...values].sort(([, a], [, b]) => b - a).map(([path]) => path)
  return sorted.filter((path) => {
    const alike = sorted.filter((other) => type(other) === type(path))
    return alike.indexOf(path) < kept.filter((other) => type(other) === type(path)).length
  })
}

function keptByOutputs({ model }: StudyBench, values: Values): string[] {
  const norms = model.base.sites.flatMap((site) => {
    const value = values.get(site.path)
    return value === undefined ? [] : [{ site, value }]
  })
  return linearsToKeep(norms, choice)
}

function cellsOf(found: readonly Record<Way, Values>[], kept: Record<Way, Map<string, number>>): Cell[] {
  const paths = [...(found[0] as Record<Way, Values>).outputs.keys()]
  const share = (way: Way, path: string) =>
    mean(
      found.map((one) => {
        const alike = [...one[way]].filter(([other]) => placeOf(other).type === placeOf(path).type)
        const all = alike.reduce((sum, [, value]) => sum + value, 0)
        return (one[way].get(path) as number) / (all || 1)
      }),
    )
  return paths.map((path) => ({
    ...placeOf(path),
    ...{ outputs: share('outputs', path), weights: share('weights', path) },
    kept_by_outputs: kept.outputs.get(path) ?? 0,
    kept_by_weights: kept.weights.get(path) ?? 0,
  }))
}

function readingOf(cells: readonly Cell[], losses: Readonly<Record<'LoRA' | Way, number[]>>): string {
  const count = Number(cells.reduce((sum, cell) => sum + cell.kept_by_outputs, 0).toFixed(1))
  const spread = (key: Way) => Math.max(...cells.map((cell) => cell[key])).toFixed(2)
  const differ = cells.filter((cell) => cell.kept_by_outputs !== cell.kept_by_weights).length
  const told = (name: 'LoRA' | Way) => mean(losses[name]).toFixed(3)
  const gain = mean(losses.weights) - mean(losses.outputs)
  const range = Math.max(rangeOf(losses.outputs), rangeOf(losses.weights))
  return [
    `A LoRA of rank 8 on all linears is trained for a tenth of the steps. Shares are of all linears of a type; those with ${THRESHOLD * 100} % of the importance by outputs together keep a pair of their own, the others of a type share one. By weights, as many of each type are chosen.`,
    `Of ${cells.length} linears ${count} keep their own, and ${differ} are judged differently by outputs and by weights; the largest share is ${spread('outputs')} by outputs and ${spread('weights')} by weights.`,
    `Losses after training: LoRA ${told('LoRA')}, LoRA-drop by outputs ${told('outputs')}, by weights ${told('weights')}.`,
    losses.outputs.length === 1
      ? 'One seed does not show which is the better guide; the paper argues for outputs.'
      : Math.abs(gain) <= range
        ? `That is a smaller difference than seeds make (${range.toFixed(3)}), so these runs do not show which is the better guide; the paper argues for outputs.`
        : gain > 0
          ? 'Outputs are the better guide here, as the paper argues.'
          : 'Outputs are the worse guide here; the paper argues for them.',
  ].join(' ')
}
