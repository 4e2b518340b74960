/** Surveys all rows of a file for a config: encoding, type, format, columns, classes, and lengths. */
import { isAscii } from 'node:buffer'
import { fileBytes } from '../../data/dataset/bytes.js'
import { detectEncoding, ENCODING_SAMPLE } from '../../data/dataset/encoding.js'
import { expandPaths } from '../../data/dataset/files.js'
import {
  type Columns,
  type DatasetForm,
  type DatasetRow,
  type FileType,
  openDataset,
  rawRows,
  rowError,
  type TypedRow,
} from '../../data/dataset.js'
import { noRows } from '../../data/encode-dataset.js'
import { classOf, formOf, openingOf, rulesOf } from '../../data/forms/index.js'
import { type LabelCount, LabelCounts, mergeTwins, nearTwins } from '../../data/labels.js'
import type { WorkerTokenizer } from '../../data/worker-tokenizer.js'
import { type Task, taskRules } from '../../tasks/index.js'
import { UsageError } from '../errors.js'
import { type Guess, guessTask } from './guess.js'

/** Rows whose columns and values are looked at for the task. */
const SAMPLE = 1000
/** Rows whose tokens are counted. */
const COUNTED = 2000
const ROWS_AT_ONCE = 32
const NO_LIMIT = 2 ** 31 - 1
/** Bytes of a token, at least, in the text of most languages. */
const BYTES_PER_TOKEN = 2.5
/** Tokens that a chat template adds to a row, at most. */
const TEMPLATE_TOKENS = 64

/** Data, and what to train on it. */
export interface Survey extends Guess {
  fileType: FileType | undefined
  /** Encoding of the files, if it is not UTF-8. */
  encoding: string | undefined
  rows: number
  /** Rows of each class, the largest first; null without classes. */
  classes: readonly LabelCount[] | null
  /** Spellings of labels that differ only by white space or case, and become one class. */
  twins: readonly LabelCount[][]
  /** Tokens of the longest row. */
  longestRow: number
  /** True if tokens were counted, false if they were estimated from the number of characters. */
  counted: boolean
  /** A short text of the data to try the model with. */
  example: string
}

/**
 * Reads data to its end.
 * @param tokenizer of the model; without one, tokens are estimated
 * @throws {DataError} when a row cannot be trained on, naming it
 * @throws {UsageError} when it cannot be seen what to train on
 */
export async function surveyOf(
  path: string,
  { columns, task }: { columns: Columns; task?: Task },
  tokenizer: WorkerTokenizer | null,
): Promise<Survey> {
  const encoding = await encodingOf(path)
  const form = encoding === undefined ? {} : { encoding }
  const sample = await sampleOf(path, form)
  if (sample.length === 0) throw noRows(path)
  const { fileType } = sample[0] as TypedRow
  const guess = asTask(
    guessTask(
      sample.map(({ value }) => value),
      columns,
    ),
    task,
  )
  const labels = new LabelCounts(Number.POSITIVE_INFINITY)
  const lengths = new Lengths(tokenizer)
  let rows = 0
  let example = ''
  for await (const row of openDataset(path, { ...form, format: guess.format, columns: guess.columns })) {
    rows++
    const label = classOf(row)
    if (label !== undefined) labels.add(label)
    const question = openingOf(row)
    if (label !== undefined && question === '') throw rowError(row, 'the text is empty; remove the row')
    if (question !== '' && (example === '' || question.length < example.length)) example = question
    await lengths.add(row)
  }
  const longestRow = await lengths.longest()
  const twins = nearTwins(labels.classes)
  const classes = twins.length === 0 ? labels.classes : mergeTwins(labels.classes)
  if (taskRules(guess.task).classes && classes.length < 2)
    throw new UsageError(
      `${path} has one class, ${classes[0]?.label}; a classifier needs at least two. To train on the texts, pass --task causal_lm.`,
    )
  return {
    ...guess,
    ...{ fileType, encoding, rows, longestRow, counted: tokenizer !== null, example, twins },
    classes: taskRules(guess.task).classes ? classes : null,
  }
}

/** The encoding of the first file that is not UTF-8; undefined if all are, or it is unknown. */
async function encodingOf(path: string): Promise<string | undefined> {
  for (const file of await expandPaths([path], undefined)) {
    if (/\.parquet$/i.test(file)) continue
    const encoding = detectEncoding(await foreignPart(file)) ?? 'utf-8'
    if (encoding !== 'utf-8') return encoding
  }
  return undefined
}

/** Bytes of a file from its first chunk with other characters than those of ASCII on; empty if it has none. */
async function foreignPart(path: string): Promise<Uint8Array> {
  const parts: Uint8Array[] = []
  let length = 0
  for await (const chunk of fileBytes(path)) {
    if (length === 0 && isAscii(chunk) && !chunk.includes(0)) continue
    parts.push(chunk)
    length += chunk.length
    if (length >= ENCODING_SAMPLE) break
  }
  return Buffer.concat(parts)
}

async function sampleOf(path: string, form: DatasetForm): Promise<TypedRow[]> {
  const sample: TypedRow[] = []
  for await (const row of rawRows(path, { ...form, allColumns: true })) {
    sample.push(row)
    if (sample.length === SAMPLE) break
  }
  return sample
}

/** The guess, for a task that the user names. */
function asTask(guess: Guess, task: Task | undefined): Guess {
  if (task === undefined || task === guess.task) return guess
  const needs = taskRules(task).rows.form
  if (needs === guess.format) return { ...guess, task }
  const answers = needs === null ? formOf(guess.format).untasked?.(guess.columns) : undefined
  if (answers !== undefined) return { task, ...answers }
  throw new UsageError(
    `--task ${task} needs rows of ${needs ?? 'prompts and answers'}, and these are of ${guess.format}.`,
  )
}

/** Lengths of rows in tokens. */
class Lengths {
  readonly #tokenizer: WorkerTokenizer | null
  readonly #waiting: DatasetRow[] = []
  #longest = 0
  #count = 0

  constructor(tokenizer: WorkerTokenizer | null) {
    this.#tokenizer = tokenizer
  }

  async add(row: DatasetRow): Promise<void> {
    // Documents are split into rows as long as they may be.
    if ('document' in row && row.document) return
    const isCounted = this.#tokenizer !== null && this.#count++ < COUNTED
    if (!isCounted) this.#longest = Math.max(this.#longest, estimated(row))
    else if (this.#waiting.push(row) === ROWS_AT_ONCE) await this.#encode()
  }

  async longest(): Promise<number> {
    await this.#encode()
    return this.#longest
  }

  async #encode(): Promise<void> {
    const rows = this.#waiting.splice(0)
    if (rows.length === 0) return
    const labels = [...new Set(rows.flatMap((row) => classOf(row) ?? []))]
    for (const row of rows) {
      const { encoded } = (await this.#tokenizer?.encodeRow(row, { maxSeqLength: NO_LIMIT, labels })) ?? {}
      if (typeof encoded === 'object') this.#longest = Math.max(this.#longest, longestAnswer(encoded))
    }
  }
}

/** Tokens of a row, or of the longer of its two answers. */
const longestAnswer = ({ fullLength, split }: { fullLength: number; split?: number }): number =>
  split === undefined ? fullLength : Math.max(split, fullLength - split)

function estimated(row: DatasetRow): number {
  const rules = rulesOf(row)
  if ('answers' in rules) return Math.max(...rules.answers(row).map(estimated))
  const { path: _, ...texts } = row
  return Math.ceil(Buffer.byteLength(JSON.stringify(texts)) / BYTES_PER_TOKEN) + TEMPLATE_TOKENS
}
