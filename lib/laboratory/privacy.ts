/** Studies of private training: what accuracy it leaves, and what it keeps of a secret. */

import { counterUniform } from '../core/counter-random.js'
import { pow } from '../core/portable-math.js'
import type { Adapter } from '../model/adapter.js'
import type { Model } from '../model/model.js'
import type { TrainOptions } from '../options/options.js'
import { HUES, type Line, lineChart, svgDocument } from '../report/chart/index.js'
import { dpDylora } from '../strategies/dp-dylora.js'
import { dylora } from '../strategies/dylora.js'
import { lora } from '../strategies/lora.js'
import type { StrategyConfig } from '../strategies/strategy.js'
import { dataset } from '../train/dataset.js'
import type { Answer } from '../train/score.js'
import { complaints, SHORT_ROWS, type Task } from './tasks.js'

/** Mean of several seeds, with the lowest and the highest. */
export interface Spread {
  mean: number
  low: number
  high: number
  seeds: number[]
}

/** Callbacks and signal of a study. */
export interface StudyControl {
  signal?: AbortSignal | undefined
  /** Before each training. */
  onRun?: (name: string, done: number, total: number) => void
}

export interface UtilitySettings {
  /** Largest first or not; each is one place of the picture, and so is no noise. */
  epsilons: readonly number[]
  seeds: number
  rounds: number
  cohort: number
  /** Population and cohort that the noise is computed for. */
  simulation: { population: number; cohort: number }
  /** Passes of a client over its rows in a round. */
  localEpochs: number
  learningRate: number
  clippingNorm: number
  /** A key that is known, so that a test draws the same each time. */
  noiseKey?: string
}

export interface UtilityStudy {
  name: 'privacy-utility'
  task: string
  settings: UtilitySettings
  delta: number
  /** Accuracy of the model as it is. */
  base: number
  /** Share of the most frequent answer. */
  majority: number
  arms: { arm: string; points: { epsilon: number | null; noise_multiplier: number; accuracy: Spread }[] }[]
  reading: string
}

/** Noise that nobody sees, for arms without privacy. */
const NO_NOISE = 1e-9

const ARMS: readonly { arm: string; adapter: StrategyConfig }[] = [
  ...[1, 4, 8].map((r) => ({ arm: `DP-LoRA, r = ${r}`, adapter: lora({ r, loraAlpha: 4 * r }) })),
  { arm: 'DP-DyLoRA, r = 8', adapter: dylora({ r: 8, loraAlpha: 16, trainedRanks: 'active' }) },
]

/** Accuracy against epsilon, of adapters of several ranks and of one whose rank the server draws. */
export async function privacyUtility(
  model: Model,
  task: Task,
  settings: UtilitySettings,
  { signal, onRun }: StudyControl = {},
): Promise<UtilityStudy> {
  const { epsilons, seeds, rounds, cohort, simulation, localEpochs, learningRate, clippingNorm } = settings
  const { noiseKey = null } = settings
  const delta = pow(simulation.population, -1.1)
  const rows = dataset([...task.train], { name: task.name, format: 'prompt_completion' })
  const places: (number | null)[] = [...epsilons, null]
  const total = ARMS.length * places.length * seeds
  let done = 0
  const arms: UtilityStudy['arms'] = []
  for (const { arm, adapter } of ARMS) {
    const points: UtilityStudy['arms'][0]['points'] = []
    for (const epsilon of places) {
      const accuracies: number[] = []
      let noise = 0
      for (let seed = 1; seed <= seeds; seed++) {
        onRun?.(
          `${arm}, ${epsilon === null ? 'no noise' : `epsilon ${epsilon}`}, seed ${seed}`,
          done++,
          total,
        )
        const strategy = dpDylora({
          adapter,
          clients: { column: 'user' },
          rounds,
          cohort,
          localEpochs,
          clippingNorm,
          delta,
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
  const study = {
    name: 'privacy-utility' as const,
    task: task.name,
    settings,
    delta,
    base: await accuracy(model, [], task, signal),
    majority: Math.max(...task.labels.map((label) => share(task.test, label))),
    arms,
  }
  return { ...study, reading: readingOf(study, task) }
}

function readingOf(study: Omit<UtilityStudy, 'reading'>, task: Task): string {
  const { settings, arms } = study
  const { simulation, seeds, cohort, rounds } = settings
  return (
    `${task.about} ${arms.length} adapters, ${seeds} seeds each; points are means, bars the lowest and highest. ` +
    `Every round ${cohort} clients of this data train with the noise that the mean over ${simulation.cohort} of ${simulation.population} would have, ${rounds} rounds. ` +
    'It shows what noise leaves of the accuracy at these settings, with one learning rate and one clipping norm for all arms. ' +
    'It does not show what tuning each arm would give, what other tasks, models or populations would, and nothing of it is private, since it is a simulation.'
  )
}

/** Means with their lowest and highest at some places of an x axis without numbers. */
function overPlaces(
  { title, subtitle, xLabel, yLabel }: { title: string; subtitle: string; xLabel: string; yLabel: string },
  places: readonly string[],
  range: readonly [number, number],
  level: { value: number; name: string },
  series: readonly {
    name: string
    points: readonly ({ mean: number; low: number; high: number } | null)[]
  }[],
): string {
  const lines = series.map(({ name, points }, index): Line => {
    // Beside each other, so that spreads do not cover one another.
    const aside = (index - (series.length - 1) / 2) * 0.06
    return {
      ...{ name, hue: index % HUES, dots: 'filled' },
      x: points.map((_, place) => place + aside),
      y: points.map((point) => point?.mean ?? null),
      low: points.map((point) => point?.low ?? null),
      high: points.map((point) => point?.high ?? null),
    }
  })
  const { svg } = lineChart({
    ...{ title, width: 712, height: 340, lines, xLabel, yLabel, yDomain: range, right: 170 },
    xDomain: [-0.5, places.length - 0.5],
    places: places.map((name, x) => ({ x, name })),
    levels: [{ ...level, at: 'left' }],
  })
  return svgDocument(svg, { title, lines: [subtitle] })
}

/** The picture of a study. */
export function privacyUtilityChart(study: UtilityStudy): string {
  const [first] = study.arms
  const series = study.arms.map(({ arm, points }) => ({
    name: arm,
    points: points.map(({ accuracy: found }) => found),
  }))
  const low = Math.min(
    study.majority,
    ...study.arms.flatMap(({ points }) => points.map((point) => point.accuracy.low)),
  )
  const { simulation, seeds } = study.settings
  const words = {
    title: `Accuracy against epsilon: ${study.task}`,
    subtitle: `delta ${study.delta.toExponential(1)}, noise as for ${simulation.cohort} of ${simulation.population} clients a round, ${seeds} seeds`,
    ...{ xLabel: 'epsilon', yLabel: 'accuracy on held-out rows' },
  }
  const places = (first?.points ?? []).map(({ epsilon }) => (epsilon === null ? 'no noise' : String(epsilon)))
  const range = [Math.max(0, Math.floor(low * 10 - 0.5) / 10), 1] as const
  return overPlaces(words, places, range, { value: study.majority, name: 'most frequent answer' }, series)
}

export interface CanarySettings {
  epsilons: readonly number[]
  seeds: number
  rounds: number
  cohort: number
  rows: number
  learningRate: number
  clippingNorm: number
  /** A key that is known, so that a test draws the same each time. */
  noiseKey?: string
}

export interface CanaryStudy {
  name: 'canary'
  settings: CanarySettings
  /** Codes that the inserted one is ranked among, itself included. */
  candidates: number
  /** Exposure that a code has on average that was never seen. */
  chance: number
  points: { epsilon: number | null; exposure: Spread; loss: number | null }[]
  reading: string
}

const CANDIDATES = 256

/**
 * A secret code is put into the data once. After training, it is ranked by its likelihood among codes that were not;
 * exposure is log2 of their number less log2 of its rank.
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
        // Without privacy nothing is clipped, and nothing hides.
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
  const words = {
    title: 'What is left of a secret in the data',
    subtitle: `exposure of a code that is in one of ${study.settings.rows} rows, ${study.settings.seeds} seeds`,
    ...{ xLabel: 'epsilon', yLabel: 'exposure, bits' },
  }
  const places = study.points.map(({ epsilon }) => (epsilon === null ? 'no privacy' : String(epsilon)))
  const series = [{ name: 'DP-LoRA by example', points: study.points.map(({ exposure }) => exposure) }]
  const range = [0, Math.log2(study.candidates)] as const
  return overPlaces(words, places, range, { value: study.chance, name: 'never seen' }, series)
}

/** The secret, and codes that are in no row. */
function codesOf(seed: number): Answer[] {
  const codes = new Set<string>()
  for (let index = 0; codes.size < CANDIDATES; index++)
    codes.add(String(Math.floor(counterUniform(seed, 'codes', index) * 1e4)).padStart(4, '0'))
  return [...codes].map((code) => ({
    prompt: 'The code of the door is',
    completion: ` ${[...code].join(' ')}`,
  }))
}

/** A client's own rows go into one step. */
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
    // Raw text: what these studies measure does not depend on a template.
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

/** Share of held-out rows whose own completion is the likeliest of the task's. */
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
