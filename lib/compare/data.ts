/**
 * The data of a compare, read and tokenized once: training rows, validation rows for choosing learning rates, test rows
 * evaluated only at the end of a cell, and general text for measuring forgetting.
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
import { setAside, splitRows } from '../train/rows/held-out.js'
import { dataset } from '../train/sources/data-sources.js'

/** Rows of a compare by purpose. */
export interface CompareData {
  train: Examples
  validation: Examples
  test: Examples
  general: Examples
  /** Prompts and answers of the test rows; null for documents, which have no prompt. */
  questions: readonly (Question | null)[]
  /** Current time as seen by chat templates, ms since 1970. */
  now: number
}

/** Maximum fraction of the training rows set aside for validation. */
const VALIDATION_SHARE = 0.1
/** Seed that keeps the choice of validation rows independent of the shuffling of epochs. */
const VALIDATION = 0x76616c69
/** Everyday English text that no run trains on. */
const GENERAL = join(packageRoot, 'demo', 'general.jsonl')

/**
 * Reads and tokenizes the data of a compare.
 * @param validationRows maximum number of validation rows
 * @param testRows maximum number of test rows, taken from the start; null: all
 * @throws {ConfigError} for a config without held-out data, or with streamed data
 */
export async function readCompareData(
  base: BaseModel,
  config: RunConfig,
  { validationRows, testRows, now }: { validationRows: number; testRows: number | null; now: number },
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
      'compare: the config has no held-out data, which strategies are compared on; set eval_dataset or eval_fraction.',
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
  const { drawn, others } = setAside(all, rows, count, seed, VALIDATION)
  const separate = evalDataset === null ? all : await encodeFile(base, evalDataset, config, control)
  const testable = held?.heldOut ?? ascending(separate.length)
  const test = { data: separate, rows: testRows === null ? testable : testable.subarray(0, testRows) }
  const text = await encodeFile(
    base,
    dataset(GENERAL),
    { ...config, trainOn: 'all', reasoningHistory: 'keep' },
    control,
  )
  return {
    train: { data: all, rows: others },
    validation: { data: all, rows: drawn },
    test,
    general: { data: text, rows: ascending(text.length) },
    questions: questionsOf(test),
    now,
  }
}

/** Number and hash of the rows for each purpose. */
export async function describeData(data: CompareData) {
  const describe = async ({ data, rows }: Examples) => ({
    rows: rows.length,
    hash: await fingerprintRows(data, rows),
  })
  const { train, validation, test, general } = data
  return {
    train: await describe(train),
    validation: await describe(validation),
    test: await describe(test),
    general: await describe(general),
  }
}
