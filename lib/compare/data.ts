/**
 * The data of a compare, read and tokenized once: rows to train on, of which each seed sets some aside to choose its
 * learning rates; test rows evaluated only with a trained adapter; and general text for measuring forgetting.
 */
import { join } from 'node:path'
import type { BaseModel } from '../base/base.js'
import { ConfigError } from '../core/errors.js'
import { packageRoot } from '../core/root.js'
import { ascending } from '../data/permutation.js'
import type { RunConfig } from '../train/config/config.js'
import { type Question, questionsOf } from '../train/measures/row-measures.js'
import { type Examples, encodeFile } from '../train/rows/data.js'
import { fingerprintRows } from '../train/rows/fingerprint.js'
import { drawRows, setAside, splitRows } from '../train/rows/held-out.js'
import { dataset } from '../train/sources/data-sources.js'
import { checkApart } from './overlap.js'
import type { CompareResults } from './results.js'

/** Rows of a compare by purpose. */
export interface CompareData {
  /** Rows to train on, of which each seed sets some aside. */
  pool: Examples
  test: Examples
  general: Examples
  /** Prompts and answers of the test rows; null for documents, which have no prompt. */
  questions: readonly (Question | null)[]
  /** Current time as seen by chat templates, ms since 1970. */
  now: number
  /** Number of rows that each seed sets aside. */
  validationRows: number
  /** Share of the other rows that each seed trains on. */
  trainShare: number
}

/** The same with the rows of one seed. */
export interface SeedData extends CompareData {
  train: Examples
  validation: Examples
}

/** Options that decide which rows are used. */
export interface RowOptions {
  /** Most validation rows of a seed. */
  validationRows: number
  /** Most test rows; null: all. */
  testRows: number | null
  /** Number of the general text's paragraphs, from the first on; null: all. Later versions have more of them. */
  generalRows: number | null
  /** Share of the rows not set aside that each seed trains on. */
  trainShare: number
}

/** Maximum fraction of the training rows set aside for validation. */
const VALIDATION_SHARE = 0.1
/** Seeds that keep the choices of rows independent of each other and of the shuffling of epochs. */
const VALIDATION = 0x76616c69
const TEST = 0x74657374
const SUBSET = 0x73756273
/** Everyday English text that no run trains on. */
const GENERAL = join(packageRoot, 'demo', 'general.jsonl')

/**
 * Reads and tokenizes the data of a compare.
 * @throws {ConfigError} for a config without held-out data or with streamed data, or for test rows that are also
 * training rows
 */
export async function readCompareData(
  base: BaseModel,
  config: RunConfig,
  { validationRows, testRows, generalRows, trainShare, now }: RowOptions & { now: number },
  signal?: AbortSignal,
): Promise<CompareData> {
  const { dataset: training, evalDataset, evalFraction, seed, initAdapter } = config
  if (initAdapter !== null)
    throw new ConfigError(
      `compare: init_adapter is ${initAdapter}, but every strategy is compared from its own start; leave it out.`,
    )
  if (training.streaming)
    throw new ConfigError(
      'compare: dataset.streaming is true, but compare needs all rows to split them; turn streaming off.',
    )
  if (evalDataset === null && evalFraction === 0)
    throw new ConfigError(
      'compare: the config has no held-out data, which strategies are compared on. Hold out a tenth of the rows with eval_fraction: 0.1 (--set eval_fraction=0.1), or name a file as eval_dataset.',
    )
  const control = { now, signal }
  const all = await encodeFile(base, training, config, control)
  const held = evalDataset === null ? splitRows(all, { fraction: evalFraction, seed }) : undefined
  const rows = held?.train ?? ascending(all.length)
  const count = Math.min(validationRows, Math.floor(rows.length * VALIDATION_SHARE))
  if (count < 1)
    throw new ConfigError(
      `compare: the training data has ${rows.length} rows, but a tenth of them is set aside for validation, so at least 10 are needed.`,
      { rows: rows.length },
    )
  const separate = evalDataset === null ? all : await encodeFile(base, evalDataset, config, control)
  const testable = { data: separate, rows: held?.heldOut ?? ascending(separate.length) }
  const test =
    testRows === null
      ? testable
      : { data: separate, rows: drawRows(separate, testable.rows, testRows, seed, TEST).drawn }
  const pool = { data: all, rows }
  checkApart(pool, test)
  const text = await encodeFile(
    base,
    dataset(GENERAL),
    { ...config, trainOn: 'all', reasoningHistory: 'keep' },
    control,
  )
  return {
    ...{ pool, test, questions: questionsOf(test), now, validationRows: count, trainShare },
    general: { data: text, rows: ascending(Math.min(generalRows ?? text.length, text.length)) },
  }
}

/** The data with the rows that a seed trains on, and those that it sets aside. */
export function seedData(data: CompareData, seed: number): SeedData {
  const { pool, validationRows, trainShare } = data
  const { drawn, others } = setAside(pool.data, pool.rows, validationRows, seed, VALIDATION)
  const count = Math.max(1, Math.round(trainShare * others.length))
  const train = trainShare === 1 ? others : drawRows(pool.data, others, count, seed, SUBSET).drawn
  return {
    ...data,
    train: { data: pool.data, rows: train },
    validation: { data: pool.data, rows: drawn },
  }
}

/**
 * Number of the rows for each purpose, and hashes of those that are the same for all seeds.
 * @param seed the first one, whose draws are counted
 */
export async function describeData(data: CompareData, seed: number): Promise<CompareResults['data']> {
  const describe = async ({ data, rows }: Examples) => ({
    rows: rows.length,
    hash: await fingerprintRows(data, rows),
  })
  const { train, validation } = seedData(data, seed)
  return {
    pool: await describe(data.pool),
    train: { rows: train.rows.length },
    validation: { rows: validation.rows.length },
    test: await describe(data.test),
    general: await describe(data.general),
  }
}
