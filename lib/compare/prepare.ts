/**
 * Prepares a compare: its entries and their sizes, the estimated time, and reductions to fit the budget. A resumed
 * compare takes all of these from its results, after checking that they match.
 */
import { ConfigError, LowrankError, UnsupportedError } from '../core/errors.js'
import { strategyToFile } from '../strategies/index.js'
import { canonical } from '../train/checkpoints/run-identity.js'
import type { RunConfig } from '../train/config/config.js'
import { effortWithin } from './budget.js'
import { type AskedStrategies, type Contestant, contestants, controls, REFERENCE } from './entries.js'
import { nearestSize } from './equal.js'
import type { Metric } from './metrics.js'
import type { CompareAsked } from './options.js'
import { VERSION } from './proof.js'
import type { CompareEntry, CompareResults } from './results.js'
import { newSearch, rateGrid, rungSteps } from './search.js'
import { settingsOf, withoutPaths } from './settings.js'
import { seedsToDetect, simulatedPower } from './statistics/index.js'
import type { Sized, Workbench } from './workbench.js'

/** Effect size, in standard deviations, for which the detection probability is reported before a compare. */
const TOLD_SPREADS = 2
const MOST_SEEDS = 100

/**
 * The initial results of a new compare, or the checked results of a resumed one.
 * @param sideBySide number of trainings at a time that the entries leave memory for
 */
export async function prepared(
  config: RunConfig,
  asked: CompareAsked,
  metrics: readonly Metric[],
  workbench: Workbench,
  earlier: CompareResults | undefined,
  sideBySide: (entries: CompareResults['entries']) => number,
): Promise<CompareResults> {
  const about = await workbench.about()
  const identity = { asked: identityOf(config, asked, metrics), settings: settingsOf(config), ...about }
  if (earlier !== undefined) {
    checkSame(earlier, identity)
    // The same model and data may have moved.
    return { ...earlier, settings: identity.settings, model: identity.model }
  }
  const { onEvent } = asked
  onEvent?.({ event: 'preparing', what: 'base', done: 0, total: 1 })
  const created = new Date(workbench.now).toISOString()
  const base = await workbench.base()
  const { entries, leftOut } = await sizedEntries(config, asked, workbench)
  const rungs = rungSteps(workbench.steps)
  const wanted = seedsOf(asked, entries.length)
  const costs = { entries, base, rungs, jobs: sideBySide(entries) }
  const { seeds, points, seconds, cuts } = effortWithin(costs, wanted, asked.budget)
  const all = Array.from({ length: seeds }, (_, i) => config.seed + i)
  for (const seed of all) {
    const start = seed === config.seed ? base.validation_loss : await workbench.start(seed)
    for (const { config: strategy, searches } of entries)
      searches.push(newSearch(rateGrid(strategy.name, workbench.ownRate(strategy), points), seed, start))
  }
  return {
    ...{ version: VERSION, kind: 'compare', hash: '', created, finished: null, command: asked.command },
    ...identity,
    equal: asked.equal,
    metrics: metrics.map(({ name, higherIsBetter }) => ({
      ...{ name, higher_is_better: higherIsBetter, primary: name === 'loss' },
    })),
    seeds: all,
    plan: {
      ...{ seconds, budget_seconds: asked.budget, rungs, cuts, spent_seconds: 0 },
      power: seeds > 1 ? simulatedPower({ strategies: entries.length, seeds, spreads: TOLD_SPREADS }) : null,
    },
    left_out: leftOut,
    base,
    entries: entries.map(({ config: _, ...entry }) => entry),
    statistics: null,
    remarks: [],
  }
}

/** @throws {ConfigError} when no number of seeds up to the maximum is enough */
function seedsOf({ seeds, detect }: CompareAsked, strategies: number): number {
  if (detect === null) return seeds
  const enough = seedsToDetect({ strategies, spreads: detect }, MOST_SEEDS)
  if (enough !== undefined) return enough
  throw new ConfigError(
    `compare: detect is ${detect}, but ${MOST_SEEDS} seeds do not find a difference of ${detect} spreads among ${strategies} entries in 8 of 10 compares; expected a larger difference.`,
    { detect, strategies },
  )
}

type SizedEntry = CompareEntry & { config: Contestant['strategy'] }

/**
 * Entries with their sizes. An entry that the base model does not support is an error if it was requested by name, and
 * skipped if not.
 */
async function sizedEntries(
  config: RunConfig,
  { strategies, controls: withControls, equal, onEvent }: CompareAsked,
  workbench: Workbench,
): Promise<{ entries: SizedEntry[]; leftOut: CompareResults['left_out'] }> {
  const leftOut: CompareResults['left_out'] = []
  const named = contestants(strategies, config.strategy)
  const isNamed = (name: string) => Array.isArray(strategies) && strategies.includes(name)
  const all = [...named, ...(withControls ? controls(named, workbench.model.base.sites) : [])]
  const entries: SizedEntry[] = []
  let reference: SizedEntry | undefined
  for (const [index, one] of all.entries()) {
    onEvent?.({ event: 'preparing', what: one.name, done: index + 1, total: all.length + 1 })
    try {
      const strategy =
        reference === undefined ? one.strategy : await resized(one.strategy, equal, reference, workbench)
      const sized = await workbench.size(strategy, config.seed)
      if (one.name === 'qlora' && reference?.base_format === sized.baseFormat)
        throw new UnsupportedError(
          `compare: the base is ${sized.baseFormat} for all entries, where qlora is the same as lora.`,
        )
      const entry = entryOf({ ...one, strategy }, sized, workbench.steps)
      if (equal === 'time' && reference !== undefined)
        entry.steps = Math.max(
          1,
          Math.round((workbench.steps * reference.seconds_per_step) / entry.seconds_per_step),
        )
      if (one.name === REFERENCE) reference = entry
      entries.push(entry)
    } catch (error) {
      if (!(error instanceof LowrankError && LEFT_OUT.has(error.code)) || one.name === REFERENCE) throw error
      const reason = error.message.replace(/^\w+(\(\))?: /, '')
      if (one.isOwn || isNamed(one.name)) throw untrainable(one.name, reason, error)
      leftOut.push({ name: one.name, reason })
    }
  }
  return { entries, leftOut }
}

function untrainable(name: string, reason: string, cause: LowrankError): UnsupportedError {
  return new UnsupportedError(
    `compare: strategy ${name} cannot be trained here: ${reason} Leave it out of the strategies.`,
    { strategy: name, reason },
    { cause },
  )
}

/** Error codes that mean a strategy cannot be trained on this model or machine. */
const LEFT_OUT = new Set(['UNSUPPORTED', 'CONFIG', 'OUT_OF_MEMORY'])

async function resized(
  strategy: Contestant['strategy'],
  equal: CompareAsked['equal'],
  reference: CompareEntry,
  workbench: Workbench,
): Promise<Contestant['strategy']> {
  if (equal === 'parameters')
    return nearestSize(strategy, reference.trainable_parameters, (one) => workbench.parameters(one))
  if (equal === 'bytes')
    return nearestSize(strategy, reference.planned.bytes, (one) => workbench.plannedBytes(one))
  return strategy
}

function entryOf({ name, strategy, controlOf, about }: Contestant, sized: Sized, steps: number): SizedEntry {
  return {
    name,
    config: strategy,
    strategy: strategyToFile(strategy),
    ...(controlOf === undefined ? {} : { control_of: controlOf }),
    ...(about === undefined ? {} : { about }),
    base_format: sized.baseFormat,
    trainable_parameters: sized.trainableParameters,
    planned: sized.planned,
    file_bytes: sized.fileBytes,
    steps,
    seconds_per_step: sized.secondsPerStep,
    probe_seconds: sized.probeSeconds,
    searches: [],
    cells: [],
  }
}

/** Options that must be the same when a compare is resumed. */
export function identityOf(
  config: RunConfig,
  asked: CompareAsked,
  metrics: readonly Metric[],
): Record<string, unknown> {
  const { strategies, seeds, detect, equal, budget, controls, validationRows, testRows, trainShare } = asked
  return {
    ...{ strategies: strategiesToFile(strategies), seeds, detect, equal, budget, controls },
    ...{ validation_rows: validationRows, test_rows: testRows, train_share: trainShare },
    metrics: metrics.map(({ name }) => name),
    strategy: strategyToFile(config.strategy),
  }
}

function strategiesToFile(strategies: AskedStrategies) {
  if (strategies === 'all' || strategies === null) return strategies
  return strategies.map((one) =>
    typeof one === 'string' ? one : { name: one.name, strategy: strategyToFile(one.strategy) },
  )
}

type Asked = Pick<CompareResults, 'asked' | 'settings'>
type Inputs = Pick<CompareResults, 'model' | 'data' | 'binary'>

/**
 * @param here options and, if cells will be trained, the model and data
 * @throws {ConfigError} naming the first difference from the stored results
 */
export function checkSame(there: CompareResults, here: Asked & Partial<Inputs>): void {
  const inputs = ({ model, data, binary }: Inputs) => ({
    model: model.hash,
    quantization: model.quantization,
    precision: model.precision,
    ...Object.fromEntries(
      Object.entries(data).map(([name, { rows, hash }]) => [`${name} rows`, hash ?? rows]),
    ),
    'instruction set': binary.level,
    'native addon': binary.hash,
  })
  const trains = here.model && here.data && here.binary
  const was: Record<string, unknown> = {
    ...there.asked,
    ...(trains ? { ...withoutPaths(there.settings), ...inputs(there) } : there.settings),
  }
  const is: Record<string, unknown> = {
    ...here.asked,
    ...(trains ? { ...withoutPaths(here.settings), ...inputs(here as Inputs) } : here.settings),
  }
  for (const key of new Set([...Object.keys(was), ...Object.keys(is)])) {
    if (canonical(was[key] ?? null) === canonical(is[key] ?? null)) continue
    // Results of older versions may lack newer options, which do not affect finished trainings.
    if (!trains && !(key in was)) continue
    const values = [was[key], is[key]].map((value) => JSON.stringify(value) ?? 'absent')
    const isHash = values.some((value) => /^"[0-9a-f]{64}"$/.test(value))
    const how = isHash ? 'has changed' : `is ${values[0]} there and ${values[1]} here`
    throw new ConfigError(
      `compare: the output folder has another compare: ${key} ${how}. Repeat the options of that one to resume it, or name another folder with --output (outputDir).`,
      { key, there: was[key] ?? null, here: is[key] ?? null },
    )
  }
}
