/** Retrains cells of a finished compare and checks that the results are bit-identical. */
import { randomInt } from 'node:crypto'
import { existsSync } from 'node:fs'
import { isAbsolute } from 'node:path'
import * as z from 'zod'
import { abortSignal, callback, checkedOptions, checkedPath } from '../core/arguments.js'
import { ConfigError, UnsupportedError } from '../core/errors.js'
import { integer } from '../core/schema.js'
import { addon } from '../native/addon.js'
import { strategyToFile } from '../strategies/index.js'
import { canonical } from '../train/checkpoints/run-identity.js'
import { type RunConfig, resolveConfig } from '../train/config/config.js'
import { applyOverrides } from '../train/config/overrides.js'
import { LocalRunner, type Outcome, type Runner, searchOf } from './cells.js'
import { METRIC_NAMES, metricsOf } from './metrics.js'
import { checkProof, differenceOf, VERSION } from './proof.js'
import { recordVerified } from './record-verified.js'
import type { CompareCell, CompareEntry, CompareResults } from './results.js'
import { readResults, resultsPath } from './results-file.js'
import { hashedSettings, settingsOf } from './settings.js'
import type { WorkbenchOptions } from './workbench.js'

/** Options of `verifyCompare()`. */
export interface VerifyOptions {
  /** Number of cells to verify, chosen at random. Default null: all. */
  cells?: number | null
  /** Where the model and the data are now, if they moved: `model=…`, `dataset=…`, `eval_dataset=…`. */
  overrides?: readonly string[]
  signal?: AbortSignal | undefined
  /** Called after each cell. */
  onCell?: (cell: VerifiedCell, done: number, total: number) => void
}

/** A retrained cell. */
export interface VerifiedCell {
  id: string
  /** Hash in the stored results. */
  expected: string
  /** Hash after retraining. */
  found: string
  same: boolean
  /** The first value that differs, in words; null if none does. */
  difference: string | null
}

/** Outcome of a verification. */
export interface Verification {
  /** True if all cells have the same hash as before. */
  same: boolean
  cells: VerifiedCell[]
  /**
   * True if the native addon is the same build that produced the results; another build may still produce identical
   * bits.
   */
  sameBinary: boolean
  /** Why the outcome is not recorded in the results, such as a folder that cannot be written; null if it is. */
  unrecorded: string | null
}

const PLACES = { error: "a list of texts such as 'model=base'" }

const optionsSchema = z.strictObject({
  cells: integer(1).nullable().default(null),
  overrides: z.array(z.string(PLACES), PLACES).readonly().default([]),
  signal: abortSignal().optional(),
  onCell: callback<NonNullable<VerifyOptions['onCell']>>().optional(),
})

/**
 * Checks that `results.json` agrees with itself, then retrains cells and compares their hashes. The outcome is
 * recorded in the results and on their page. The model and data are where they were, or where `overrides` says.
 * @param path of results.json, or of its folder
 * @throws {FileFormatError} for results that were edited by hand, also where their hashes were made again, naming what
 * does not follow from the rest
 * @throws {ConfigError} when the model or data has changed, or there are no cells
 * @throws {UnsupportedError} when the CPU's instruction set differs, which changes the bits
 * @example const { same } = await verifyCompare('out-compare', { cells: 10 })
 */
export async function verifyCompare(path: string, options: VerifyOptions = {}): Promise<Verification> {
  const asked = checkedVerify(path, options)
  const repetition = await repetitionOf(path, asked)
  const { setting, file } = repetition
  const runner = await LocalRunner.open(configOf(setting, file), {
    ...setting.options,
    signal: asked.signal,
  })
  try {
    return await repeated(repetition, runner, [], asked)
  } finally {
    await runner.close()
  }
}

/** Options with their defaults. */
type VerifyAsked = z.output<typeof optionsSchema>

export function checkedVerify(path: string, options: VerifyOptions): VerifyAsked {
  checkedPath(path, 'verifyCompare()', 'path', 'results.json of a compare, or its folder')
  return checkedOptions(optionsSchema, options, 'verifyCompare()')
}

/** Cells to train again. */
interface Repetition {
  file: string
  results: CompareResults
  cells: readonly { entry: CompareEntry; cell: CompareCell }[]
  setting: VerifySetting
}

/** Config and options that open the workbench of a compare again, as plain data. */
export interface VerifySetting {
  /** In snake_case, as in config files. */
  config: Record<string, unknown>
  options: Omit<WorkbenchOptions, 'signal'>
}

/** The config of a compare, from its results. */
export function configOf({ config }: VerifySetting, file: string): RunConfig {
  return resolveConfig(config, { name: file, spelling: 'snake' }, '/')
}

/** Chooses the cells to train again, at random unless all are. */
export async function repetitionOf(
  path: string,
  { cells: count, overrides }: Pick<VerifyAsked, 'cells' | 'overrides'>,
): Promise<Repetition> {
  const results = await readResults(path)
  const file = resultsPath(path)
  if (results.version !== VERSION)
    throw new UnsupportedError(
      `compare: ${file} is of version ${results.version}, whose rates and test rows were chosen in another way; only results of version ${VERSION} can be repeated. Run the compare again.`,
      { path: file, version: results.version },
    )
  checkLevel(results, file)
  const all = results.entries.flatMap((entry) => entry.cells.map((cell) => ({ entry, cell })))
  if (all.length === 0)
    throw new ConfigError(`compare: ${file} has no trained cells yet, so there is nothing to verify.`, {
      path: file,
    })
  const config = await placedConfig(results, file, overrides)
  const {
    validation_rows: validationRows,
    test_rows: testRows,
    train_share: trainShare,
  } = results.asked as { validation_rows: number; test_rows: number | null; train_share: number }
  const known = results.metrics.map(({ name }) => name).filter((name) => METRIC_NAMES.includes(name as never))
  const now = Date.parse(results.created)
  // The general text grows at its end, so its first paragraphs are those of older results.
  const generalRows = results.data.general.rows
  const options = { validationRows, testRows, generalRows, trainShare, metrics: metricsOf(known), now }
  const setting = { config, options }
  checkProof(results, configOf(setting, file), file)
  return { file, results, setting, cells: drawn(all, count ?? all.length) }
}

/**
 * Trains cells again, and records in the results which had the same hash, also if it is stopped.
 * @param others runners beside `runner`
 */
export async function repeated(
  { file, results, cells }: Repetition,
  runner: LocalRunner,
  others: readonly Runner[],
  { signal, onCell }: Pick<VerifyAsked, 'signal' | 'onCell'>,
): Promise<Verification> {
  const { model, data, binary } = await runner.workbench.about()
  checkInputs(results, { model, data }, file)
  const found: VerifiedCell[] = []
  let unrecorded: string | null = null
  const left = [...cells.entries()]
  let done = 0
  const work = async (one: Runner) => {
    for (let next = left.shift(); next !== undefined; next = left.shift()) {
      signal?.throwIfAborted()
      const [index, { entry, cell }] = next
      const again = await trainedAgain(one, results, entry, cell)
      const same = again.hash === cell.hash
      const difference = same ? null : differenceOf(cell, again)
      const verified = { id: cell.id, expected: cell.hash, found: again.hash, same, difference }
      found[index] = verified
      onCell?.(verified, ++done, cells.length)
    }
  }
  const working = [runner, ...others].map(work)
  try {
    await Promise.all(working)
  } catch (error) {
    for (const other of others) other.abandon?.(error)
    throw error
  } finally {
    // The model must not be freed while it is in use.
    await Promise.allSettled(working)
    const run = { at: new Date().toISOString(), level: binary.level, addon: binary.hash }
    const records = found.flatMap((one) => (one ? [{ ...recordOf(one), ...run }] : []))
    unrecorded = await recordVerified(file, records)
  }
  return {
    same: found.every((one) => one.same),
    cells: found,
    sameBinary: binary.hash === results.binary.hash,
    unrecorded,
  }
}

const recordOf = ({ found: _, ...cell }: VerifiedCell) => cell

async function trainedAgain(
  runner: Runner,
  results: CompareResults,
  entry: CompareEntry,
  { rate, seed }: CompareCell,
): Promise<CompareCell> {
  // Use the rate of the cell, whatever the search chose.
  const searches = [{ ...searchOf(entry, seed), chosen: rate }]
  const task = { kind: 'cell' as const, name: entry.name, seed }
  const outcome = await runner.run(task, { ...results, entries: [{ ...entry, searches }] })
  return (outcome as Extract<Outcome, { kind: 'cell' }>).cell
}

/** The config of the compare, with the model and the data at their present places, as plain data. */
async function placedConfig(
  { settings, asked }: CompareResults,
  file: string,
  overrides: readonly string[],
): Promise<VerifySetting['config']> {
  const asCompared = { ...settings, strategy: asked.strategy }
  const source = { name: file, spelling: 'snake' } as const
  const { parse } = await import('yaml')
  const raw = structuredClone(asCompared)
  applyOverrides(parse, raw, overrides)
  const config = resolveConfig(raw, source, process.cwd())
  const same = [config, resolveConfig(asCompared, source, process.cwd())].map((one) =>
    canonical({ strategy: strategyToFile(one.strategy), settings: hashedSettings(one) }),
  )
  if (same[0] === same[1]) {
    checkPlaces(config, file)
    return { ...settingsOf(config), strategy: strategyToFile(config.strategy) }
  }
  throw new ConfigError(
    `compare: ${overrides.join(', ')} changes more than the places of the model and the data; expected model=…, dataset=… or eval_dataset=…, since a verification repeats the compare in ${file}.`,
    { overrides, path: file },
  )
}

/** @throws {ConfigError} naming what is not where it was, and how to say where it is */
function checkPlaces({ model, dataset, evalDataset }: RunConfig, file: string): void {
  for (const [key, paths] of Object.entries({
    model,
    dataset: dataset.path,
    eval_dataset: evalDataset?.path,
  }))
    for (const path of [paths ?? []].flat())
      if (isAbsolute(path) && !/[*?]/.test(path) && !existsSync(path))
        throw new ConfigError(
          `compare: ${path}, the ${key} of ${file}, is not there. If it is elsewhere, say where: --set ${key}=… (overrides).`,
          { key, path },
        )
}

function checkLevel({ binary }: CompareResults, path: string): void {
  const { isa, levels } = addon().cpu()
  if (binary.level === isa) return
  const advice = levels.includes(binary.level)
    ? `set LOWRANK_ISA=${binary.level} to compute with that one`
    : `verify it on a machine that has ${binary.level}`
  throw new UnsupportedError(
    `compare: ${path} was made with the instruction set ${binary.level}, and this process uses ${isa}, whose results have other bits; ${advice}.`,
    { path, there: binary.level, here: isa },
  )
}

/** @throws {ConfigError} naming what has changed */
function checkInputs(
  there: CompareResults,
  here: Pick<CompareResults, 'model' | 'data'>,
  path: string,
): void {
  const changed = [
    ...(there.model.hash === here.model.hash ? [] : [`the model ${there.model.name}`]),
    ...Object.entries({ pool: 'training rows', test: 'test rows', general: 'general text' })
      .filter(([name]) => hashIn(there, name) !== hashIn(here, name))
      .map(([, what]) => `the ${what}`),
  ]
  if (changed.length === 0) return
  throw new ConfigError(
    `compare: ${path} cannot be verified: ${changed.join(', ')} changed since. Restore what was compared.`,
    { path, changed },
  )
}

function hashIn({ data }: Pick<CompareResults, 'data'>, name: string): string | undefined {
  return data[name as keyof CompareResults['data']]?.hash
}

/** Chooses `count` items at random, keeping their order. */
function drawn<T>(list: readonly T[], count: number): T[] {
  const left = list.map((_, index) => index)
  while (left.length > count) left.splice(randomInt(left.length), 1)
  return left.map((index) => list[index] as T)
}
