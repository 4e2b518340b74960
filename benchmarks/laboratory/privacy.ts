/** Studies of private training: its accuracy, and how well it protects a secret. */

import { FIGURE_WIDTH, figureSvg } from '../../lib/bench/pictures.js'
import { counterUniform } from '../../lib/core/counter-random.js'
import { pow } from '../../lib/core/portable-math.js'
import type { Adapter } from '../../lib/model/adapter.js'
import type { Model } from '../../lib/model/model.js'
import type { TrainOptions } from '../../lib/options/types.js'
import { formatShare, HUES, type Line, lineChart } from '../../lib/report/chart/index.js'
import { dpDylora } from '../../lib/strategies/dp-dylora.js'
import { dylora } from '../../lib/strategies/dylora.js'
import { lora } from '../../lib/strategies/lora.js'
import type { StrategyConfig } from '../../lib/strategies/strategy.js'
import type { Answer } from '../../lib/train/answers/score.js'
import { dataset } from '../../lib/train/sources/data-sources.js'
import { captioned, columnWidth, legend, panels } from './panels.js'
import { complaints, type Domain, SHORT_ROWS, type Task } from './tasks.js'

/** Mean over several seeds, with the minimum and maximum. */
export interface Spread {
  mean: number
  low: number
  high: number
  seeds: number[]
}

/** Callbacks and signal of a study. */
export interface StudyControl {
  signal?: AbortSignal | undefined
  /** Called before each training. */
  onRun?: (name: string, done: number, total: number) => void
}

export interface UtilitySettings {
  /** In any order; each is one category on the x axis, as is training without noise. */
  epsilons: readonly number[]
  seeds: number
  rounds: number
  cohort: number
  /** Population and cohort for which the noise is computed. */
  simulation: { population: number; cohort: number }
  /** Passes of a client over its rows per round. */
  localEpochs: number
  learningRate: number
  clippingNorm: number
  /** A fixed key, for reproducible tests. */
  noiseKey?: string
}

/** Accuracies on one task: a panel of the figure. */
export interface UtilityPanel {
  task: string
  domain: Domain
  /** The question of the task. */
  about: string
  /** Accuracy of the model without an adapter. */
  base: number
  /** Frequency of the most frequent answer. */
  majority: number
  arms: { arm: string; points: { epsilon: number | null; noise_multiplier: number; accuracy: Spread }[] }[]
}

export interface UtilityStudy {
  name: 'privacy-utility'
  settings: UtilitySettings
  delta: number
  panels: UtilityPanel[]
  reading: string
}

/** Negligible noise, for arms without privacy. */
const NO_NOISE = 1e-9

const ARMS: readonly { arm: string; adapter: StrategyConfig }[] = [
  ...[1, 4, 8].map((r) => ({ arm: `DP-LoRA, r = ${r}`, adapter: lora({ r, loraAlpha: 4 * r }) })),
  { arm: 'DP-DyLoRA, r = 8', adapter: dylora({ r: 8, loraAlpha: 16, trainedRanks: 'active' }) },
]

/** Accuracy against epsilon on each task, for adapters of several ranks and one whose rank the server draws. */
export async function privacyUtility(
  model: Model,
  tasks: readonly Task[],
  settings: UtilitySettings,
  { signal, onRun }: StudyControl = {},
): Promise<UtilityStudy> {
  const runs = ARMS.length * (settings.epsilons.length + 1) * settings.seeds
  const panels: UtilityPanel[] = []
  for (const [index, task] of tasks.entries())
    panels.push(
      await panelOf(model, task, settings, {
        signal,
        onRun: (run, done) => onRun?.(`${task.name}, ${run}`, index * runs + done, tasks.length * runs),
      }),
    )
  const study = { name: 'privacy-utility' as const, settings, delta: deltaOf(settings), panels }
  return { ...study, reading: readingOf(study) }
}

function deltaOf({ simulation }: UtilitySettings): number {
  return pow(simulation.population, -1.1)
}

async function panelOf(
  model: Model,
  task: Task,
  settings: UtilitySettings,
  { signal, onRun }: { signal: AbortSignal | undefined; onRun: (run: string, done: number) => void },
): Promise<UtilityPanel> {
  const { epsilons, seeds, rounds, cohort, simulation, localEpochs, learningRate, clippingNorm } = settings
  const { noiseKey = null } = settings
  const rows = dataset([...task.train], { name: task.name, format: 'prompt_completion' })
  const places: (number | null)[] = [...epsilons, null]
  let done = 0
  const arms: UtilityPanel['arms'] = []
  for (const { arm, adapter } of ARMS) {
    const points: UtilityPanel['arms'][0]['points'] = []
    for (const epsilon of places) {
      const accuracies: number[] = []
      let noise = 0
      for (let seed = 1; seed <= seeds; seed++) {
        onRun(`${arm}, ${epsilon === null ? 'no privacy' : `epsilon ${epsilon}`}, seed ${seed}`, done++)
        const strategy = dpDylora({
          adapter,
          clients: { column: 'user' },
          rounds,
          cohort,
          localEpochs,
          clippingNorm,
          delta: deltaOf(settings),
          noiseKey,
          ...(epsilon === null ? { noiseMultiplier: NO_NOISE } : { targetEpsilon: epsilon, simulation }),
        })
        const options = { learningRate, seed, maxSeqLength: task.maxSeqLength }
        const trained = await trainedOn(model, strategy, rows, options, signal)
        try {
          noise = trained.state.privacy.at(-1)?.noise_multiplier ?? 0
          accuracies.push(await accuracy(model, [trained], task, signal))
        } finally {
          await trained.detach()
        }
      }
      points.push({ epsilon, noise_multiplier: epsilon === null ? 0 : noise, accuracy: spread(accuracies) })
    }
    arms.push({ arm, points })
  }
  const base = await accuracy(model, [], task, signal)
  const majority = Math.max(...task.labels.map((label) => share(task.test, label)))
  return { task: task.name, domain: task.domain, about: task.about, base, majority, arms }
}

function readingOf({ settings, panels }: Omit<UtilityStudy, 'reading'>): string {
  const { simulation, seeds, cohort, rounds } = settings
  const at = ({ arms }: UtilityPanel, index: number) =>
    arms.map(({ arm, points }) => ({ arm, accuracy: points.at(index)?.accuracy.mean ?? 0 }))
  const percent = (value: number) => `${Math.round(100 * value)} %`
  const told = panels.map((panel) => {
    const [noisy, free] = [0, -1].map((index) => at(panel, index).sort((a, b) => b.accuracy - a.accuracy)[0])
    return `${panel.task} ${percent(free?.accuracy ?? 0)} without privacy and ${percent(noisy?.accuracy ?? 0)} with it (${noisy?.arm})`
  })
  const meanAt = (index: number) =>
    ARMS.map(({ arm }, i) => {
      const values = panels.map((panel) => at(panel, index)[i]?.accuracy ?? 0)
      return `${arm} ${percent(values.reduce((sum, value) => sum + value, 0) / values.length)}`
    }).join(', ')
  return [
    `${panels.map(({ task, about }) => `${task}: ${about}`).join(' ')}`,
    `Every round ${cohort} clients of this data train with the noise that the mean over ${simulation.cohort} of ${simulation.population.toLocaleString('en-US')} would have, ${rounds} rounds; ${seeds === 1 ? 'one seed' : `${seeds} seeds`}.`,
    `Best accuracies at epsilon ${settings.epsilons[0]}: ${told.join('; ')}.`,
    ...(panels.length > 1
      ? [
          `Means over the tasks: ${meanAt(0)} at epsilon ${settings.epsilons[0]}; ${meanAt(-1)} without privacy.`,
        ]
      : []),
    'It shows what noise leaves of the accuracy at these settings, with one learning rate and one clipping norm for all adapters. It does not show what tuning each would give, or what other models and populations would, and nothing of it is private, since it is a simulation.',
  ].join(' ')
}

/** Means with minimum and maximum, at categories of an x axis. */
interface Places {
  title: string
  width: number
  height: number
  xLabel: string
  yLabel: string
  yFormat?: (value: number) => string
  places: readonly string[]
  range: readonly [number, number]
  level: { value: number; name?: string }
  series: readonly {
    /** Label at the end of its line. */
    name?: string
    points: readonly ({ mean: number; low: number; high: number } | null)[]
  }[]
}

function overPlaces({ places, range, level, series, ...chart }: Places): string {
  const lines = series.map(({ name, points }, index): Line => {
    // Offset horizontally, so that the ranges do not overlap.
    const aside = (index - (series.length - 1) / 2) * 0.06
    return {
      ...{ ...(name === undefined ? {} : { name }), hue: index % HUES, dots: 'filled' },
      x: points.map((_, place) => place + aside),
      y: points.map((point) => point?.mean ?? null),
      low: points.map((point) => point?.low ?? null),
      high: points.map((point) => point?.high ?? null),
    }
  })
  return lineChart({
    ...{ ...chart, lines, yDomain: range, xDomain: [-0.35, places.length - 0.65] },
    places: places.map((name, x) => ({ x, name })),
    levels: [{ ...level, at: 'left' }],
  }).svg
}

/** The figure of a study: one panel per task, all with the same axes. */
export function privacyUtilityChart(study: UtilityStudy): string {
  const { panels: all, settings, delta } = study
  const { simulation, seeds, rounds } = settings
  const columns = all.length === 1 ? 1 : all.length % 3 === 0 || all.length > 4 ? 3 : 2
  const width = columnWidth(columns)
  const lowest = Math.min(
    ...all.flatMap(({ majority, arms }) => [
      majority,
      ...arms.flatMap(({ points }) => points.map(({ accuracy: { low } }) => low)),
    ]),
  )
  const range = [Math.max(0, Math.floor(lowest * 10 - 0.5) / 10), 1.02] as const
  const charts = all.map(({ task, domain, majority, arms }) => {
    const title = `${task} (${domain})`
    const places = (arms[0]?.points ?? []).map(({ epsilon }) => (epsilon === null ? 'none' : String(epsilon)))
    const chart = overPlaces({
      ...{ title, width, height: columns === 1 ? 340 : 220, places, range, level: { value: majority } },
      ...{ xLabel: 'epsilon', yLabel: 'accuracy on held-out rows', yFormat: formatShare },
      series: arms.map(({ points }) => ({ points: points.map(({ accuracy: found }) => found) })),
    })
    return captioned(chart, title)
  })
  const title = 'Accuracy against privacy'
  const arms = (all[0]?.arms ?? []).map(({ arm }, hue) => ({
    name: arm,
    mark: { hue: hue % HUES, shape: 'filled' as const },
  }))
  const few = seeds === 1 ? 'one seed' : `means of ${seeds} seeds, whiskers lowest to highest`
  return figureSvg(panels([panels(charts, columns, title), legend(arms)], 1, title), title, [
    `${rounds} rounds; delta ${delta.toExponential(1)}; noise as for ${simulation.cohort} of ${simulation.population.toLocaleString('en-US')} clients a round; ${few}.`,
    'Smaller epsilon: more privacy; none: trained without noise. Dotted: share of the most frequent answer.',
  ])
}

export interface CanarySettings {
  epsilons: readonly number[]
  seeds: number
  rounds: number
  cohort: number
  rows: number
  learningRate: number
  clippingNorm: number
  /** A fixed key, for reproducible tests. */
  noiseKey?: string
}

export interface CanaryStudy {
  name: 'canary'
  settings: CanarySettings
  /** Number of codes among which the inserted one is ranked, including itself. */
  candidates: number
  /** Average exposure of a code that was never seen. */
  chance: number
  points: { epsilon: number | null; exposure: Spread; loss: number | null }[]
  reading: string
}

const CANDIDATES = 256

/**
 * Inserts a secret code into the data once. After training, the code is ranked by likelihood among codes that were not
 * inserted; exposure is log2 of their number minus log2 of its rank.
 * @see Carlini et al. 2019, arXiv 1802.08232
 */
export async function canary(
  model: Model,
  settings: CanarySettings,
  { signal, onRun }: StudyControl = {},
): Promise<CanaryStudy> {
  const { epsilons, seeds, rounds, cohort, rows, learningRate, clippingNorm, noiseKey = null } = settings
  const places: (number | null)[] = [...epsilons, null]
  const points: CanaryStudy['points'] = []
  let done = 0
  for (const epsilon of places) {
    const exposures: number[] = []
    const losses: number[] = []
    for (let seed = 1; seed <= seeds; seed++) {
      onRun?.(
        `${epsilon === null ? 'no privacy' : `epsilon ${epsilon}`}, seed ${seed}`,
        done++,
        places.length * seeds,
      )
      const size = { clients: rows, rowsPerClient: 1, testRows: 1 }
      const codes = codesOf(seed)
      const secret = codes[0] as Answer
      const data = [...complaints(size, seed).train.slice(0, rows - 1), { ...secret, user: 'canary' }]
      const strategy = dpDylora({
        adapter: lora({ r: 8, loraAlpha: 32 }),
        privacyUnit: 'example',
        rounds,
        cohort,
        delta: 1 / (10 * rows),
        noiseKey,
        // Without privacy, do not clip either, since clipping would hide the code.
        ...(epsilon === null
          ? { noiseMultiplier: NO_NOISE, clippingNorm: 1e6 }
          : { targetEpsilon: epsilon, clippingNorm }),
      })
      const named = dataset(data, { name: 'canary', format: 'prompt_completion' })
      const options = { learningRate, seed, maxSeqLength: SHORT_ROWS }
      const trained = await trainedOn(model, strategy, named, options, signal, (value) => {
        losses.push(value)
      })
      try {
        const likelihoods = await model.logLikelihoods(codes, { adapters: [trained] })
        const own = likelihoods[0] as number
        const rank = likelihoods.filter((value) => value >= own).length
        exposures.push(Math.log2(CANDIDATES) - Math.log2(rank))
      } finally {
        await trained.detach()
      }
    }
    points.push({
      epsilon,
      exposure: spread(exposures),
      loss: losses.length > 0 ? spread(losses).mean : null,
    })
  }
  const ranks = Array.from({ length: CANDIDATES }, (_, i) => Math.log2(CANDIDATES) - Math.log2(i + 1))
  const study = {
    name: 'canary' as const,
    settings,
    candidates: CANDIDATES,
    chance: ranks.reduce((sum, value) => sum + value, 0) / CANDIDATES,
    points,
  }
  return {
    ...study,
    reading:
      `A code of four digits is in one of ${rows} rows. Exposure is ${Math.log2(CANDIDATES)} where the trained model finds it likelier than all of ${CANDIDATES - 1} other codes, and ${study.chance.toFixed(2)} on average where it knows nothing of it. ` +
      `${seeds} seeds; points are means, bars the lowest and highest. It is an attack that anybody can make who has the adapter, not the best one there is: what it does not find, another might, up to what epsilon allows.`,
  }
}

export function canaryChart(study: CanaryStudy): string {
  const { points, settings, chance, candidates } = study
  const title = 'What is left of a secret in the data'
  const chart = overPlaces({
    ...{ title, width: FIGURE_WIDTH, height: 320, xLabel: 'epsilon', yLabel: 'exposure, bits' },
    places: points.map(({ epsilon }) => (epsilon === null ? 'no privacy' : String(epsilon))),
    ...{ range: [0, Math.log2(candidates) + 0.2], level: { value: chance, name: 'never seen' } },
    series: [{ name: 'DP-LoRA by example', points: points.map(({ exposure }) => exposure) }],
  })
  const { seeds, rows, rounds } = settings
  return figureSvg(chart, title, [
    `Exposure of a code that is in one of ${rows} rows, after ${rounds} rounds; ${seeds === 1 ? 'one seed' : `means of ${seeds} seeds, whiskers lowest to highest`}.`,
    `${Math.log2(candidates)} bits: the likeliest of ${candidates} codes. Dotted: the mean of a code that was in no row.`,
  ])
}

/** The secret, and codes that appear in no row. */
function codesOf(seed: number): Answer[] {
  const codes = new Set<string>()
  for (let index = 0; codes.size < CANDIDATES; index++)
    codes.add(String(Math.floor(counterUniform(seed, 'codes', index) * 1e4)).padStart(4, '0'))
  return [...codes].map((code) => ({
    prompt: 'The code of the door is',
    completion: ` ${[...code].join(' ')}`,
  }))
}

/** All rows of a client fit in one step. */
const ONE_STEP = { perDeviceTrainBatchSize: 8, gradientCheckpointing: false } as const

async function trainedOn(
  model: Model,
  strategy: StrategyConfig,
  rows: ReturnType<typeof dataset>,
  options: Partial<TrainOptions> & { seed: number },
  signal: AbortSignal | undefined,
  onLoss?: (last: number) => void,
): Promise<Adapter> {
  const adapter = await model.attach(strategy, { seed: options.seed })
  try {
    let last: number | undefined
    // Raw text, since these studies do not depend on a template.
    const steady = { lrSchedulerType: 'constant', warmupRatio: 0, chatTemplate: false } as const
    for await (const { loss } of adapter.train(rows, {
      ...steady,
      ...ONE_STEP,
      ...options,
      ...(signal ? { signal } : {}),
    }))
      if (!Number.isNaN(loss)) last = loss
    if (last !== undefined) onLoss?.(last)
    return adapter
  } catch (error) {
    await adapter.detach()
    throw error
  }
}

/** Fraction of held-out rows for which the correct completion is the most likely of the task's labels. */
async function accuracy(
  model: Model,
  adapters: Adapter[],
  { test, labels }: Task,
  signal: AbortSignal | undefined,
): Promise<number> {
  const answers = test.flatMap(({ prompt }) => labels.map((completion) => ({ prompt, completion })))
  const found = await model.logLikelihoods(answers, { adapters, signal })
  const right = test.filter(({ completion }, row) => {
    const own = labels.map((_, i) => found[row * labels.length + i] as number)
    return labels[own.indexOf(Math.max(...own))] === completion
  })
  return right.length / test.length
}

function share(rows: readonly Answer[], completion: string): number {
  return rows.filter((row) => row.completion === completion).length / rows.length
}

function spread(seeds: number[]): Spread {
  const mean = seeds.reduce((sum, value) => sum + value, 0) / seeds.length
  return { mean, low: Math.min(...seeds), high: Math.max(...seeds), seeds }
}
