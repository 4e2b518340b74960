/**
 * The search of `learning_rate: auto`. A run at rising rates finds the rate at which the loss falls fastest (the range
 * test of Smith 2017, arXiv 1506.01186); short runs at rates around it choose among them by held-out loss.
 */
import type { BaseModel } from '../base/base.js'
import type { Model } from '../model/model.js'
import { ownRate } from '../options/rates.js'
import type { StrategyConfig } from '../strategies/strategy.js'
import { type RunConfig, trainOptions } from '../train/config/config.js'
import { Processes } from '../train/processes/processes.js'
import { windowsOf } from '../train/rows/batches.js'
import { type Examples, prepareData, type RunData } from '../train/rows/data.js'
import { drawRows, setAside } from '../train/rows/held-out.js'
import type { RateSearch } from '../train/steps/events.js'
import { addRung, chooseRate, halfDecades, newSearch, nextRungs, type RungAsked } from './search.js'
import { mean, type SearchSetup, trained, validationLosses } from './training.js'

/** Most of a run's steps that a search may take, as a share. */
const MOST_SHARE = 0.15
/** Limits on the steps at rising rates, and on those of each short run. */
const RISING = [40, 100] as const
const SHORT = [20, 60] as const
/** Short runs at most: three, and one beyond an edge. */
const RUNS = 4
/** Rows whose loss decides; at most a tenth of the training rows, if these are needed. */
const ROWS = 64
const ROWS_SHARE = 0.1
/** Separates the choice of these rows from other random orders. */
const VALIDATION = 0x72617465
/** The rising rates, as factors on the strategy's default. */
const [LOWEST, HIGHEST] = [1 / 300, 1000]
const LARGEST_RATE = 1
const SMOOTHING = 0.9
/** The first smoothed losses, which are means of few steps, do not count. */
const UNSETTLED = 5
/** Rising rates end when the smoothed loss is this many times its lowest. */
const BLOWN_UP = 4

/** Progress of a search, for display. */
export interface RateProgress {
  /** Rate of a short run; null for the run at rising rates. */
  rate: number | null
  /** Steps of the search so far, on this rank. */
  steps: number
  /** Most steps that the first rank can make. */
  mostSteps: number
}

/** The model and options of a search. */
export interface RateSearchAsked {
  model: Model
  config: RunConfig
  /** The strategy after its probe, if it has one. */
  strategy: StrategyConfig
  /** Ranks that share the short runs; all of them must search. Default: this process alone. */
  ranks?: Processes
  signal?: AbortSignal | undefined
  onStep?: (progress: RateProgress) => void
}

/** Steps of the two stages. */
export interface SearchSizes {
  rising: number
  short: number
}

/** Sizes of the stages within the share of a run that a search may take; undefined for a run that is too short. */
export function searchSizes(totalSteps: number): SearchSizes | undefined {
  const within = (steps: number, [least, most]: readonly [number, number]) =>
    Math.min(Math.max(Math.floor(steps), least), most)
  const budget = MOST_SHARE * totalSteps
  const sizes = { rising: within(budget / 3, RISING), short: within(budget / (1.5 * RUNS), SHORT) }
  return mostSteps(sizes) <= budget ? sizes : undefined
}

const mostSteps = ({ rising, short }: SearchSizes) => rising + RUNS * short
const LEAST_STEPS = mostSteps({ rising: RISING[0], short: SHORT[0] })

/** Most steps of the first rank: the rising rates, its share of the first short runs, and one run beyond an edge. */
const mostStepsOfFirst = ({ rising, short }: SearchSizes, ranks: number) =>
  rising + (Math.ceil((RUNS - 1) / ranks) + 1) * short

/** Means of losses over about the last ten, without a bias toward 0 at the start. */
function smoothed(losses: readonly number[]): number[] {
  let average = 0
  return losses.map((loss, k) => {
    average = SMOOTHING * average + (1 - SMOOTHING) * loss
    return average / (1 - SMOOTHING ** (k + 1))
  })
}

/** True if the losses at rising rates show that higher rates are of no use. */
export function hasBlownUp(losses: readonly (number | null)[]): boolean {
  if (losses.some((loss) => loss === null)) return true
  const smooth = smoothed(losses as readonly number[])
  return (smooth.at(-1) as number) > BLOWN_UP * Math.min(...smooth)
}

/** Index of the steepest fall of the smoothed losses; undefined if they never fall. */
export function steepestFall(losses: readonly number[]): number | undefined {
  const smooth = smoothed(losses)
  let lowest = 0
  let found: number | undefined
  for (let k = UNSETTLED; k + 1 < smooth.length; k++) {
    const slope = (smooth[k + 1] as number) - (smooth[k - 1] as number)
    if (slope >= lowest) continue
    lowest = slope
    found = k
  }
  return found
}

/**
 * Finds a learning rate for a run. It depends on the config and on the batch of a step, which grows with the ranks, and
 * leaves nothing behind. An abort rejects with the signal's reason.
 * @returns the default of the strategy, with a reason, for a run that is too short to search
 */
export async function searchRate(asked: RateSearchAsked): Promise<RateSearch> {
  const { model, config, strategy, ranks = Processes.alone(), signal } = asked
  const begun = performance.now()
  const usual = ownRate(strategy, config.optimizer)
  const { optimizer, ...rest } = trainOptions(config)
  const options = {
    ...{ ...rest, optimizer: optimizer ?? ('adamw' as const) },
    // Each run of the search is that of one rank, with the batch of all.
    gradientAccumulationSteps: rest.gradientAccumulationSteps * ranks.size,
  }
  const data = await read(model.base, config, signal)
  const { totalSteps } = windowsOf(data.train, options, 1)
  const found = (learningRate: number, reason: string | null, made: Partial<RateSearch> = {}) => ({
    ...{ learningRate, reason, rates: [], steps: 0, ...made },
    seconds: (performance.now() - begun) / 1000,
  })
  const sizes = searchSizes(totalSteps)
  if (sizes === undefined)
    return found(
      usual,
      `a search takes at least ${LEAST_STEPS} steps, more than ${100 * MOST_SHARE} % of the run's ${totalSteps}`,
    )
  const rows = searchRows(data, config.seed)
  if (rows === undefined) return found(usual, 'a search needs at least 10 rows')
  const setup: SearchSetup = { model, data: { ...rows, now: data.now }, options, signal }
  let steps = 0
  const onStep = (rate: number | null) => () => {
    steps++
    asked.onStep?.({ rate, steps, mostSteps: mostStepsOfFirst(sizes, ranks.size) })
  }
  const start = mean(await validationLosses(setup, null))
  const center = await ranks.firsts('rising rates', async () =>
    ranks.isFirst ? centerOf(setup, strategy, usual, sizes.rising, onStep(null)) : usual,
  )
  const search = newSearch(
    [-1, 0, 1].map((half) => halfDecades(center, half)),
    config.seed,
    start,
  )
  const run = async ({ rate, steps: length }: RungAsked) => {
    const short = { strategy, rate, steps: length, seed: config.seed, of: totalSteps, onStep: onStep(rate) }
    return trained(setup, short, async (adapter, { diverged, seconds }) => {
      const items = diverged ? [] : await validationLosses(setup, adapter)
      return { rate, rung: { steps: length, loss: diverged ? null : mean(items), items, seconds } }
    })
  }
  for (;;) {
    const next = nextRungs(search, [sizes.short], { refines: false })
    if (next.length === 0) break
    const made = await ranks.together('short runs', async () => {
      const own: Awaited<ReturnType<typeof run>>[] = []
      for (const [index, asked] of next.entries())
        if (index % ranks.size === ranks.rank) own.push(await run(asked))
      return own
    })
    for (const { rate, rung } of made.flat()) addRung(search, rate, rung)
  }
  const all = (await ranks.meet('steps of a search', steps)).reduce((sum, own) => sum + own, 0)
  chooseRate(search, [sizes.short])
  const rates = search.rates.map(({ rate, rungs }) => ({ rate, loss: rungs[0]?.loss ?? null }))
  const chosen = rates.find(({ rate }) => rate === search.chosen)
  return chosen?.loss == null
    ? found(usual, 'all rates of the search diverged', { rates, steps: all })
    : found(chosen.rate, null, { rates, steps: all })
}

function read(base: BaseModel, config: RunConfig, signal: AbortSignal | undefined): Promise<RunData> {
  const { dataset, evalDataset, evalFraction } = config
  return prepareData(base, { dataset, evalDataset, evalFraction }, config, { signal })
}

/**
 * Rows to train on and rows to measure: held-out ones, or training rows that the search does not train on; undefined
 * for too few rows.
 */
function searchRows(
  { examples, evaluationExamples }: RunData,
  seed: number,
): { train: Examples; validation: Examples } | undefined {
  const { data, rows } = examples as Examples
  if (evaluationExamples !== null) {
    const { data: held, rows: from } = evaluationExamples
    const { drawn } = drawRows(held, from, ROWS, seed, VALIDATION)
    return { train: { data, rows }, validation: { data: held, rows: drawn } }
  }
  const count = Math.min(ROWS, Math.floor(ROWS_SHARE * rows.length))
  if (count < 1) return undefined
  const { drawn, others } = setAside(data, rows, count, seed, VALIDATION)
  return { train: { data, rows: others }, validation: { data, rows: drawn } }
}

/** The rate at which the loss of a run at rising rates falls fastest; the default if it never falls. */
async function centerOf(
  setup: SearchSetup,
  strategy: StrategyConfig,
  usual: number,
  steps: number,
  onStep: () => void,
): Promise<number> {
  const highest = Math.min(LARGEST_RATE, HIGHEST * usual)
  const factor = (step: number) => ((LOWEST * usual) / highest) ** (1 - step / (steps - 1))
  const rising = { strategy, rate: highest, steps, seed: setup.options.seed }
  const losses = await trained(
    setup,
    { ...rising, schedule: factor, until: hasBlownUp, onStep },
    async (_, found) => found.losses,
  )
  const fall = steepestFall(losses.filter((loss) => loss !== null))
  return fall === undefined ? usual : halfDecades(highest * factor(fall), 0)
}
