/** The data of runs and evaluations: files named by the user, tokenised in a worker, in micro-batches. */
import { createHash } from 'node:crypto'
import * as z from 'zod'
import type { BaseModel } from '../base.js'
import { DATASET_FORMATS, type DatasetFormat } from '../files/dataset.js'
import { type EncodeProgress, encodeDataset } from '../files/encode-dataset.js'
import type { DatasetStats, EncodedDataset } from '../files/encoded-dataset.js'
import { Batches, splitHeldOut } from '../files/pack.js'
import { deepFreeze, parseOptions, text, word } from '../schema.js'
import type { BatchSource } from './batches.js'
import type { TrainOptions } from './options.js'

/** A data file: JSON lines. */
export interface DatasetConfig {
  readonly path: string
  /** `auto` goes by the keys of the first row. */
  readonly format: DatasetFormat | 'auto'
}

export const datasetObject = z.strictObject({
  path: text('a path'),
  format: word(['auto', ...DATASET_FORMATS]).default('auto'),
}) satisfies z.ZodType<DatasetConfig>

/**
 * Names a data file. It is read when a run or an evaluation starts.
 * @param path JSON lines of `messages`, of `prompt` and `completion`, or of `text`
 * @example dataset('train.jsonl', { format: 'messages' })
 */
export function dataset(path: string, options: Partial<Omit<DatasetConfig, 'path'>> = {}): DatasetConfig {
  return deepFreeze(
    parseOptions(datasetObject, { ...options, path }, { name: 'dataset()', spelling: 'camel' }),
  )
}

/** The data of a run, tokenised. */
export interface RunData {
  train: BatchSource
  evaluation: BatchSource | null
  /** Content hash of the training data. */
  fingerprint: string
  /** What chat templates took for the time, ms since 1970. */
  now: number
  /** What was read, dropped and cut. */
  stats: { train: DatasetStats; evaluation: DatasetStats | null }
}

/** What is read for a run. */
export interface DataSources {
  dataset: DatasetConfig
  evalDataset: DatasetConfig | null
  /** Share of `dataset` held out when there is no `evalDataset`. */
  evalFraction: number
}

/** How reading is watched and stopped. */
export interface DataControl {
  now?: number
  signal?: AbortSignal
  onProgress?: (progress: EncodeProgress) => void
}

type Shape = Pick<TrainOptions, 'perDeviceTrainBatchSize' | 'maxSeqLength' | 'packing' | 'trainOn' | 'seed'>

/** Reads and tokenises the data of a run. An abort rejects with the signal's reason. */
export async function prepareData(
  base: BaseModel,
  sources: DataSources,
  options: Shape,
  control: DataControl = {},
): Promise<RunData> {
  const now = control.now ?? Date.now()
  const encode = (config: DatasetConfig) => encodeFile(base, config, options, { ...control, now })
  const train = await encode(sources.dataset)
  const { evalDataset, evalFraction } = sources
  const held =
    evalFraction > 0 ? splitHeldOut(train.length, { fraction: evalFraction, seed: options.seed }) : null
  const separate = evalDataset === null ? null : await encode(evalDataset)
  const evaluated = separate ?? (held ? train : null)
  return {
    train: new Batches(train, { ...options, ...(held ? { rows: held.train } : {}) }),
    evaluation: evaluated && inOrder(evaluated, options, separate ? undefined : held?.heldOut),
    fingerprint: fingerprintRows(train, held?.train),
    now,
    stats: { train: train.stats, evaluation: separate?.stats ?? null },
  }
}

/** Reads and tokenises the data of an evaluation on its own. */
export async function prepareEvaluation(
  base: BaseModel,
  config: DatasetConfig,
  options: Omit<Shape, 'seed'>,
  control: DataControl = {},
): Promise<BatchSource> {
  return inOrder(
    await encodeFile(base, config, options, { ...control, now: control.now ?? Date.now() }),
    options,
  )
}

async function encodeFile(
  base: BaseModel,
  config: DatasetConfig,
  options: Pick<Shape, 'maxSeqLength' | 'trainOn'>,
  { now, signal, onProgress }: DataControl & { now: number },
): Promise<EncodedDataset> {
  const { maxSeqLength, trainOn } = options
  return encodeDataset(
    config.path,
    { kind: base.files.kind, path: base.files.path },
    { format: config.format, maxSeqLength, trainOn, now: new Date(now) },
    { ...(signal ? { signal } : {}), ...(onProgress ? { onProgress } : {}) },
  )
}

function inOrder(data: EncodedDataset, options: Omit<Shape, 'seed'>, rows?: Uint32Array): Batches {
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

function fingerprintRows(data: EncodedDataset, rows?: Uint32Array): string {
  const hash = createHash('sha256')
  const count = rows?.length ?? data.length
  for (let i = 0; i < count; i++) {
    const row = rows ? (rows[i] as number) : i
    hash.update(data.ids(row)).update(data.labels(row))
  }
  return hash.digest('hex')
}
