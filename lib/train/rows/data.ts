/** The data of runs and evaluations, tokenized in a worker and packed into micro-batches. */
import type { BaseModel } from '../../base/base.js'
import { badArgument } from '../../core/arguments.js'
import type { AskedRow } from '../../data/asked-rows.js'
import {
  canReread,
  checkLearnable,
  type DatasetInput,
  type EncodeControl,
  type EncodeDatasetOptions,
  type EncodeProgress,
  encodeChunks,
  encodeDataset,
  inputName,
} from '../../data/encode-dataset.js'
import type { DatasetStats, EncodedDataset } from '../../data/encoded-dataset.js'
import type { RowPrompting } from '../../data/encoded-row.js'
import { Batches } from '../../data/pack.js'
import { ascending } from '../../data/permutation.js'
import { rowsOfChunks, shuffleBuffer, streamBatches } from '../../data/stream.js'
import type { PromptFormat } from '../../formats/prompt-format.js'
import type { TrainOptions } from '../../options/types.js'
import { taskRules } from '../../tasks/index.js'
import type { TokenizerOfModel } from '../../tokenizer/source.js'
import type { DataSources, DatasetConfig } from '../sources/data-sources.js'
import { sampleRows as drawnRows } from '../sources/sample.js'
import type { BatchSource, BatchStream } from './batches.js'
import { fingerprintRows } from './fingerprint.js'
import { type HeldOutShare, splitRows } from './held-out.js'
import { promptingOf } from './prompting.js'
import { type AskedRows, chooseRows, sharedTools, unseenRows } from './rows-to-ask.js'

/** Input for the row reader. */
export function inputOf({ path, rows }: DatasetConfig): DatasetInput {
  return rows === undefined ? path : { rows, name: [path].flat().join() }
}

/** Rows of a dataset, by index. */
export interface Examples {
  data: EncodedDataset
  rows: Uint32Array
}

/** The data of a run, tokenized. */
export interface RunData {
  train: BatchSource | BatchStream
  /** The rows trained on; null for streamed data. */
  examples: Examples | null
  evaluation: BatchSource | null
  /** The held-out rows. */
  evaluationExamples: Examples | null
  /** Content hash of the held-out data. */
  evaluationFingerprint: string | null
  /** Content hash of the training data; for a stream, of how it is shuffled, since its cursors carry content hashes. */
  fingerprint: string
  /** Prompt format of the rows read so far; null before the first. */
  format: () => PromptFormat | null
  /** Rows to ask when the run is over, among the rows read so far. */
  asked: () => AskedRows
  /** JSON of the tools that all rows of the training data have, as far as they are kept as text. */
  tools: () => string | undefined
  /** Held-out rows that can be asked, among the rows read so far. */
  unseen: () => readonly AskedRow[]
  /** Current time as seen by chat templates, ms since 1970. */
  now: number
  /** Counts of rows read, dropped, and truncated; null for streamed data. */
  stats: { train: DatasetStats | null; evaluation: DatasetStats | null }
}

/** Callbacks and signal for reading data. */
export interface DataControl {
  now?: number
  signal?: AbortSignal | undefined
  onProgress?: ((progress: EncodeProgress) => void) | undefined
  /** Rows to keep as text, to be asked when the run is over. Default 0. */
  sampleRows?: number
}

type Shape = Pick<TrainOptions, 'perDeviceTrainBatchSize' | 'maxSeqLength' | 'packing' | 'trainOn' | 'seed'> &
  Partial<Pick<TrainOptions, 'task' | 'evalGenerate' | ThoughtOption>> &
  PromptingShape

type ThoughtOption = 'trainOnReasoning' | 'trainEmptyThink' | 'reasoningHistory'

/** Prompt format of rows: from the options of a run, or as recorded with an adapter. */
type PromptingShape = Partial<Pick<TrainOptions, 'chatTemplate' | 'trainingTemplate'>> & {
  prompting?: RowPrompting
}

/** Reads and tokenizes the data of a run. An abort rejects with the signal's reason. */
export async function prepareData(
  base: BaseModel,
  sources: DataSources,
  options: Shape,
  control: DataControl = {},
): Promise<RunData> {
  const now = control.now ?? Date.now()
  const { sampleRows = 0 } = control
  const askable = { train: [] as AskedRow[], separate: [] as AskedRow[] }
  const collecting = (rows: AskedRow[]) =>
    sampleRows === 0 && !options.evalGenerate
      ? {}
      : { onAsked: (found: readonly AskedRow[]) => void rows.push(...found) }
  const encode = (config: DatasetConfig, rows: AskedRow[], form: ReadForm = {}, own: DataControl = {}) =>
    encodeFile(base, config, { ...options, ...form }, { ...control, ...own, ...collecting(rows), now })
  const askedOf = (apart: boolean, heldOut?: Uint32Array) => {
    const unseen = () => unseenRows(askable.train, apart ? askable.separate : null, heldOut)
    const tools = () => sharedTools(askable.train)
    return { unseen, tools, asked: () => chooseRows(sampleRows, askable.train, unseen()) }
  }
  const { evalDataset, evalFraction, groupBy, holdOutGroups } = sources
  if (sources.dataset.streaming) {
    const separate = evalDataset === null ? null : await encode(evalDataset, askable.separate)
    let format: PromptFormat | null = null
    const onFormat = (found: PromptFormat | null) => {
      format = found
    }
    return {
      train: streamOf(base, sources.dataset, options, {
        ...control,
        ...collecting(askable.train),
        now,
        onFormat,
      }),
      format: () => format,
      ...askedOf(separate !== null),
      examples: null,
      ...(await heldOut(separate, options)),
      fingerprint: `streamed, shuffle_buffer_size ${sources.dataset.shuffleBufferSize}`,
      now,
      stats: { train: null, evaluation: separate?.stats ?? null },
    }
  }
  const train = await encode(sources.dataset, askable.train, groupBy === undefined ? {} : { groupBy })
  const share = { fraction: evalFraction, seed: options.seed }
  const grouped = holdOutGroups && groupBy !== undefined ? { groupBy } : {}
  const held = evalFraction > 0 ? splitRows(train, { ...share, ...grouped }) : null
  // Progress of the held-out data continues the counts of the training data.
  const onProgress = ({ rows, tokens }: EncodeProgress) =>
    control.onProgress?.({ rows: train.stats.rows + rows, tokens: train.stats.tokens + tokens })
  const spellings = train.stats.classes.map(({ label }) => label)
  const separate =
    evalDataset === null ? null : await encode(evalDataset, askable.separate, { spellings }, { onProgress })
  const evaluated = separate ?? (held ? train : null)
  return {
    train: new Batches(train, { ...options, ...(held ? { rows: held.train } : {}) }),
    format: () => train.format,
    ...askedOf(separate !== null, held?.heldOut),
    examples: { data: train, rows: held?.train ?? ascending(train.length) },
    ...(await heldOut(evaluated, options, separate ? undefined : held?.heldOut)),
    fingerprint: await fingerprintRows(train, held?.train),
    now,
    stats: { train: train.stats, evaluation: separate?.stats ?? null },
  }
}

/**
 * Reads and tokenizes a sample of a run's training data, without held-out rows. The sample is returned both as
 * training data and in order. An abort rejects with the signal's reason.
 */
export async function prepareSample(
  base: BaseModel,
  { dataset, evalDataset, evalFraction }: DataSources,
  options: Shape,
  fraction: number,
  control: DataControl = {},
): Promise<RunData & { sample: BatchSource }> {
  const now = control.now ?? Date.now()
  const data = await encodeFile(base, dataset, options, { ...control, now })
  const held = evalDataset === null && evalFraction > 0
  const { train } = held
    ? splitRows(data, { fraction: evalFraction, seed: options.seed })
    : { train: ascending(data.length) }
  return sampleOf({ data, rows: train }, options, fraction, now)
}

/** A sample of tokenized rows, both as training data and in order. */
export async function sampleOf(
  { data, rows: all }: Examples,
  options: Shape,
  fraction: number,
  now: number,
): Promise<RunData & { sample: BatchSource }> {
  const rows = drawnRows(data, all, fraction, options.seed)
  return { ...(await dataOf({ data, rows }, options, now)), sample: inOrder(data, options, rows) }
}

/** Run data that trains on tokenized rows, without evaluation. */
export async function dataOf({ data, rows }: Examples, options: Shape, now: number): Promise<RunData> {
  return {
    train: new Batches(data, { ...options, rows }),
    format: () => data.format,
    asked: () => chooseRows(0, [], []),
    tools: () => undefined,
    unseen: () => [],
    examples: { data, rows },
    ...(await heldOut(null, options)),
    fingerprint: await fingerprintRows(data, rows),
    now,
    stats: { train: data.stats, evaluation: null },
  }
}

/** Rows in order, `perBatch` of them in each batch. */
export function rowsInOrder({ data, rows }: Examples, maxSeqLength: number, perBatch = 1): BatchSource {
  return inOrder(data, { maxSeqLength, packing: false, perDeviceTrainBatchSize: perBatch }, rows)
}

/** Reads and tokenizes evaluation data: all rows, or the share that a run held out. */
export async function prepareEvaluation(
  base: BaseModel,
  config: DatasetConfig,
  { heldOut, ...options }: Omit<Shape, 'seed'> & { heldOut?: HeldOutShare | undefined },
  control: DataControl = {},
): Promise<{
  source: BatchSource
  examples: Examples
  format: PromptFormat | null
  fingerprint: () => Promise<string>
}> {
  if (config.streaming)
    throw badArgument(
      true,
      'evaluate()',
      'dataset.streaming',
      'false: an evaluation reads its data as a whole',
    )
  const grouped = heldOut?.groupBy === undefined ? {} : { groupBy: heldOut.groupBy }
  const data = await encodeFile(
    base,
    config,
    { ...options, ...grouped },
    { ...control, now: control.now ?? Date.now() },
  )
  const rows = heldOut && splitRows(data, heldOut).heldOut
  const fingerprint = () => fingerprintRows(data, rows)
  const examples = { data, rows: rows ?? ascending(data.length) }
  return { source: inOrder(data, options, rows), examples, format: data.format, fingerprint }
}

/** How the rows of one dataset are read, beside its config. */
type ReadForm = Pick<EncodeDatasetOptions, 'groupBy' | 'spellings'>

/** Reads and tokenizes all rows of a dataset. */
export async function encodeFile(
  base: BaseModel,
  config: DatasetConfig,
  { groupBy, spellings, ...options }: RowShape & ReadForm,
  { now, signal, onProgress, onAsked }: DataControl & Pick<EncodeControl, 'onAsked'> & { now: number },
): Promise<EncodedDataset> {
  const { labels } = base
  const how = {
    ...encodeOptions(config, { ...options, labels }, now),
    ...(groupBy === undefined ? {} : { groupBy }),
    ...(spellings === undefined ? {} : { spellings }),
  }
  return encodeDataset(inputOf(config), tokenizerOf(base), how, { signal, onProgress, onAsked })
}

function tokenizerOf({ files: { kind, path } }: BaseModel): TokenizerOfModel {
  return { kind, path }
}

type RowShape = Pick<Shape, 'maxSeqLength' | 'trainOn' | 'task' | keyof PromptingShape | ThoughtOption> & {
  /** Classes of a classifier. */
  labels?: readonly string[] | null
}

/** Options of tokenization. */
export function encodeOptions(
  config: DatasetConfig,
  {
    maxSeqLength,
    trainOn,
    trainOnReasoning,
    trainEmptyThink,
    reasoningHistory,
    trainingTemplate,
    chatTemplate = true,
    prompting,
    task,
    labels = null,
  }: RowShape,
  now: number,
): EncodeDatasetOptions {
  const { format, fileType, columns, header, encoding, stripLabels } = config
  const { emptyRows, unended, specialTokensInContent } = config
  const form = {
    format: (labels === null ? taskRules(task).rows.form : 'classification') ?? format,
    fileType,
    columns,
    header,
    encoding,
    stripLabels,
    emptyRows,
    unended,
    specialTokensInContent,
  }
  return {
    ...form,
    maxSeqLength,
    trainOn,
    ...(trainOnReasoning === undefined ? {} : { trainOnReasoning }),
    ...(trainEmptyThink === undefined ? {} : { trainEmptyThink }),
    ...(reasoningHistory === undefined ? {} : { reasoningHistory }),
    ...(taskRules(task).samplesAnswers ? { asPrompts: true } : {}),
    labels,
    now: new Date(now),
    prompting: prompting ?? promptingOf(chatTemplate, trainingTemplate),
  }
}

/** Most tokens passed on at once; the reader stays a few times as many ahead of packing. */
const STREAM_CHUNK_TOKENS = 1 << 14

function streamOf(
  base: BaseModel,
  config: DatasetConfig,
  options: Shape,
  {
    now,
    signal,
    onProgress,
    onFormat,
    onAsked,
  }: DataControl &
    Required<Pick<EncodeControl, 'onFormat'>> &
    Pick<EncodeControl, 'onAsked'> & { now: number },
): BatchStream {
  const input = inputOf(config)
  const rows = async function* (stopped: AbortSignal, filling: () => boolean) {
    const control = {
      signal: signal ? AbortSignal.any([signal, stopped]) : stopped,
      onFormat,
      // For data read as a whole, the stats contain the remarks.
      onRemarks: (remarks: readonly string[]) => {
        for (const remark of remarks) base.warn(`${remark}.`)
      },
      onAsked,
      chunkTokens: Math.min(STREAM_CHUNK_TOKENS, options.perDeviceTrainBatchSize * options.maxSeqLength),
      onProgress: (progress: EncodeProgress) => {
        if (filling()) onProgress?.(progress)
      },
    }
    const chunks = encodeChunks(input, tokenizerOf(base), encodeOptions(config, options, now), control)
    const { stats } = yield* rowsOfChunks(chunks)
    checkLearnable(input, stats, encodeOptions(config, options, now))
  }
  return {
    name: inputName(input),
    rereadable: canReread(input),
    async *pass(epoch, stopped) {
      let filling = true
      const shuffled = shuffleBuffer(
        rows(stopped, () => filling),
        config.shuffleBufferSize,
        options.seed,
        epoch,
      )
      for await (const batch of streamBatches(shuffled, options, epoch)) {
        filling = false
        yield batch
      }
    },
  }
}

type HeldOut = Pick<RunData, 'evaluation' | 'evaluationExamples' | 'evaluationFingerprint'>

async function heldOut(
  data: EncodedDataset | null,
  options: Omit<Shape, 'seed'>,
  rows?: Uint32Array,
): Promise<HeldOut> {
  if (data === null) return { evaluation: null, evaluationExamples: null, evaluationFingerprint: null }
  return {
    evaluation: inOrder(data, options, rows),
    evaluationExamples: { data, rows: rows ?? ascending(data.length) },
    evaluationFingerprint: await fingerprintRows(data, rows),
  }
}

function inOrder(
  data: EncodedDataset,
  options: Pick<Shape, 'perDeviceTrainBatchSize' | 'maxSeqLength' | 'packing'>,
  rows?: Uint32Array,
): Batches {
  const { perDeviceTrainBatchSize, maxSeqLength, packing } = options
  return new Batches(data, {
    perDeviceTrainBatchSize,
    maxSeqLength,
    packing,
    shuffle: false,
    seed: 0,
    ...(rows ? { rows } : {}),
  })
}
