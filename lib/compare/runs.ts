/**
 * Compares finished runs: their curves, the held-out rows each answers exactly, and McNemar's test for each pair. Runs
 * do not store per-row results, so each is loaded and evaluated again.
 */
import { isDeepStrictEqual } from 'node:util'
import { ConfigError } from '../core/errors.js'
import type { AskedRow } from '../data/asked-rows.js'
import { encodeDataset } from '../data/encode-dataset.js'
import { ascending } from '../data/permutation.js'
import { groupedBy } from '../model/adapter.js'
import { type LoadOptions, loadModel } from '../model/load.js'
import type { Model } from '../model/model.js'
import { rulesOf } from '../strategies/index.js'
import { answerTo, askingOf } from '../train/answers/samples.js'
import { loadQuantization, type RunConfig } from '../train/config/config.js'
import { encodeOptions, inputOf } from '../train/rows/data.js'
import { type HeldOutShare, splitRows } from '../train/rows/held-out.js'
import { formatOf } from '../train/rows/prompting.js'
import { type DatasetConfig, dataset } from '../train/sources/data-sources.js'
import { lackOf, type RunRecord, readRunRecord } from './run-record.js'
import { mcnemar, wilson } from './statistics/index.js'

export interface CompareRunsOptions {
  /** Data to evaluate on. Default: the rows held out by the runs, which must be the same for all. */
  dataset?: string | undefined
  /** Maximum number of rows to show on which the runs differ. Default 5. */
  shown?: number
  signal?: AbortSignal | undefined
  onWarning?: ((message: string) => void) | undefined
  /** Called during the evaluation of a run. */
  onProgress?: ((folder: string, done: number, total: number) => void) | undefined
}

export interface ComparedRun extends Omit<RunRecord, 'config'> {
  /** null: the run has no configuration. */
  strategy: string | null
  learningRate: number | null
  seed: number | null
  /** Results on the held-out rows; null if the run cannot be evaluated again. */
  items: {
    matched: boolean[]
    exactMatch: number
    interval: [number, number]
    meanTokenAccuracy: number
  } | null
  /** Why `items` is null. */
  lacks: string | null
}

/** How two runs differ on the same rows. */
export interface RunPair {
  /** Indices of the runs. */
  first: number
  second: number
  /** Rows that only the first run answers exactly. */
  onlyFirst: number
  onlySecond: number
  /** p-value of McNemar's exact test for these two adapters; it says nothing about their methods in general. */
  p: number
}

/** A row that some runs answer exactly and others do not. */
export interface FlippedRow {
  /** Index among the held-out rows. */
  row: number
  prompt: string
  expected: string
  /** One per run; null for runs without items. */
  answers: (string | null)[]
  matched: (boolean | null)[]
}

export interface ComparedRuns {
  runs: ComparedRun[]
  /** Number of held-out rows; null if no run has items. */
  rows: number | null
  pairs: RunPair[]
  /** Indices of all rows on which the runs differ. */
  flips: number[]
  /** The first of these rows that have a prompt. */
  shown: FlippedRow[]
}

/** Held-out data of a run. */
interface HeldOutRows {
  data: DatasetConfig
  share: HeldOutShare | undefined
}

/**
 * Compares finished runs.
 * @param folders output folders of at least two runs
 * @throws {ConfigError} for fewer than two folders, a folder that holds no run, or runs with different held-out rows
 */
export async function compareRuns(
  folders: readonly string[],
  options: CompareRunsOptions = {},
): Promise<ComparedRuns> {
  if (folders.length < 2)
    throw new ConfigError('compare: expected the output folders of two runs or more.', { folders })
  const records = await Promise.all(folders.map(readRunRecord))
  const askable = records.map((record) => lackOf(given(record, options)))
  const evaluated = new Map<RunRecord, Evaluated>()
  let asked: { record: RunRecord; rows: readonly (AskedRow | undefined)[] } | undefined
  for (const [index, record] of records.entries()) {
    if (askable[index] !== undefined) continue
    const found = await withRun(record, options, async (model) => {
      const rows = await askedRows(model, record, options)
      if (asked && !isDeepStrictEqual(asked.rows.map(dataOf), rows.map(dataOf)))
        throw different(asked.record, asked.rows.length, record, rows.length)
      asked ??= { record, rows }
      return evaluate(model, record, options)
    })
    evaluated.set(record, found)
  }
  const matched = records.map((record) => evaluated.get(record)?.matched ?? null)
  const rows = matched.find((one) => one !== null)?.length ?? null
  const flips = Array.from({ length: rows ?? 0 }, (_, row) => row).filter(
    (row) => new Set(matched.flatMap((one) => (one === null ? [] : [one[row]]))).size > 1,
  )
  const shown = flips
    .flatMap((row) => {
      const question = asked?.rows[row]
      return question === undefined ? [] : [{ row, question }]
    })
    .slice(0, options.shown ?? 5)
  const answers = new Map<RunRecord, string[]>()
  if (shown.length > 0)
    for (const record of evaluated.keys())
      answers.set(record, await withRun(record, options, (model) => answersOf(model, shown, options)))
  return {
    runs: records.map((record, index) => comparedRun(record, evaluated.get(record), askable[index])),
    rows,
    pairs: pairsOf(matched),
    flips,
    shown: shown.map(({ row, question: { prompt, expected } }, place) => ({
      ...{ row, prompt, expected },
      answers: records.map((record) => answers.get(record)?.[place] ?? null),
      matched: matched.map((one) => one?.[row] ?? null),
    })),
  }
}

interface Evaluated {
  matched: boolean[]
  exactMatch: number
  meanTokenAccuracy: number
}

/** The run with its held-out data replaced by the given data, if any. */
function given(record: RunRecord, { dataset: path }: CompareRunsOptions): RunRecord {
  if (path === undefined || record.config === null) return record
  return { ...record, config: { ...record.config, evalDataset: dataset(path), evalFraction: 0 } }
}

function comparedRun(
  { config, ...record }: RunRecord,
  found: Evaluated | undefined,
  lacks: string | undefined,
): ComparedRun {
  const hits = found?.matched.filter(Boolean).length ?? 0
  return {
    ...record,
    strategy: config?.strategy.name ?? null,
    learningRate: typeof config?.learningRate === 'number' ? config.learningRate : null,
    seed: config?.seed ?? null,
    items: found ? { ...found, interval: wilson(hits, found.matched.length) } : null,
    lacks: lacks ?? null,
  }
}

function pairsOf(matched: readonly (readonly boolean[] | null)[]): RunPair[] {
  return matched.flatMap((a, first) =>
    matched.flatMap((b, second) => {
      if (a === null || b === null || second <= first) return []
      const onlyFirst = a.filter((hit, row) => hit && !b[row]).length
      const onlySecond = b.filter((hit, row) => hit && !a[row]).length
      return [{ first, second, onlyFirst, onlySecond, p: mcnemar(onlyFirst, onlySecond) }]
    }),
  )
}

/** Loads the model of a run with only its adapter active. */
async function withRun<T>(
  { config: own, outputDir }: RunRecord,
  { signal, onWarning }: CompareRunsOptions,
  work: (model: Model) => Promise<T>,
): Promise<T> {
  const config = own as RunConfig
  const isModel = rulesOf(config.strategy).saves === 'model'
  const { precision, pagedWeights, device, threads, revision } = config
  const options: LoadOptions = {
    ...{ precision, pagedWeights, device, threads, ...(isModel ? {} : loadQuantization(config)) },
    ...(revision === null || isModel ? {} : { revision }),
    signal,
    ...(onWarning ? { onWarning } : {}),
  }
  const model = await loadModel(isModel ? outputDir : config.model, options)
  try {
    if (!isModel) await model.loadAdapter(outputDir, { signal })
    return await work(model)
  } finally {
    await model.dispose()
  }
}

function heldOutOf(record: RunRecord, options: CompareRunsOptions): HeldOutRows {
  const {
    evalDataset,
    evalFraction,
    dataset: training,
    seed,
    strategy,
  } = given(record, options).config as RunConfig
  if (evalDataset !== null) return { data: evalDataset, share: undefined }
  const { groupBy, holdOutGroups } = groupedBy(strategy)
  const grouped = holdOutGroups && groupBy !== undefined ? { groupBy } : {}
  return { data: training, share: { fraction: evalFraction, seed, ...grouped } }
}

async function evaluate(model: Model, record: RunRecord, options: CompareRunsOptions): Promise<Evaluated> {
  const { maxSeqLength, trainOn, trainOnReasoning, trainEmptyThink, reasoningHistory } =
    record.config as RunConfig
  const { data, share } = heldOutOf(record, options)
  const { signal, onProgress } = options
  const { matched, exactMatch, meanTokenAccuracy } = await model.exactMatch(data, {
    ...{
      maxSeqLength,
      trainOn,
      trainOnReasoning,
      trainEmptyThink,
      reasoningHistory,
      signal,
      ...(share ? { heldOut: share } : {}),
    },
    onProgress: ({ batches, totalBatches }) => onProgress?.(record.folder, batches, totalBatches),
  })
  return { matched, exactMatch, meanTokenAccuracy }
}

/** The held-out rows as text, in evaluation order; undefined for rows without a prompt. */
async function askedRows(
  { base }: Model,
  record: RunRecord,
  options: CompareRunsOptions,
): Promise<(AskedRow | undefined)[]> {
  const { data, share } = heldOutOf(record, options)
  const found = new Map<number, AskedRow>()
  const { kind, path } = base.files
  const shape = {
    ...encodeOptions(data, record.config as RunConfig, 0),
    ...(share?.groupBy ? { groupBy: share.groupBy } : {}),
  }
  const encoded = await encodeDataset(inputOf(data), { kind, path }, shape, {
    ...(options.signal ? { signal: options.signal } : {}),
    onAsked: (rows) => {
      for (const row of rows) found.set(row.index, row)
    },
  })
  const rows = share ? splitRows(encoded, share).heldOut : ascending(encoded.length)
  return [...rows].map((row) => found.get(row))
}

/** A row without how the run renders it. */
function dataOf(row: AskedRow | undefined): AskedRow | undefined {
  if (row === undefined) return undefined
  const { around: _, ...data } = row
  return data
}

async function answersOf(
  model: Model,
  rows: readonly { question: AskedRow }[],
  { signal }: CompareRunsOptions,
): Promise<string[]> {
  const found: string[] = []
  const adapters = model.adapters.map(({ state }) => ({ state, weight: 1, rank: null }))
  const format = formatOf(model.base, adapters)
  for (const { question } of rows)
    found.push((await answerTo(askingOf(question, format), model.base, adapters, signal)).text)
  return found
}

function different(first: RunRecord, firstRows: number, second: RunRecord, secondRows: number): ConfigError {
  const [one, other] = [first, second].map(({ config }) => config?.reasoningHistory)
  if (one !== other)
    return new ConfigError(
      `${first.folder} has reasoning_history: ${one} and ${second.folder} ${other}, so they answer other examples of the same chats and cannot be compared; compare runs that have the same.`,
      { first: first.folder, second: second.folder },
    )
  const rows = firstRows === secondRows ? 'other rows' : `${secondRows} rows`
  return new ConfigError(
    `${first.folder} held out ${firstRows} rows and ${second.folder} ${rows}, so their answers cannot be compared; name data for both with --dataset.`,
    { first: first.folder, second: second.folder },
  )
}
