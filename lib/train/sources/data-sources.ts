/** Data as users specify it: what `dataset()` takes and returns, and what a run reads. */

import * as z from 'zod'
import { abortSignal, callback, checkedOptions, path } from '../../core/arguments.js'
import {
  badValue,
  deepFreeze,
  flag,
  integer,
  numberWithin,
  type OptionSource,
  parseOptions,
  text,
  word,
} from '../../core/schema.js'
import { isRecord } from '../../core/schema-shape.js'
import { columnMeaning } from '../../data/dataset/columns.js'
import { encodingName } from '../../data/dataset/decode.js'
import {
  COLUMN_NAMES,
  type ColumnName,
  type Columns,
  DATASET_FORMATS,
  type DatasetFormat,
  FILE_TYPES,
  type FileType,
} from '../../data/dataset.js'
import type { EncodeProgress } from '../../data/encode-dataset.js'
import { EMPTY_ROWS, type EmptyRows, UNENDED, type Unended } from '../../data/encoded-row.js'
import { isRowSource, type RowSource } from '../../data/row-source.js'
import { SPECIAL_TOKENS_IN_CONTENT, type SpecialTokensInContent } from '../../data/special-text.js'
import type { TrainOptions } from '../../options/types.js'
import { isPrivate, rulesOf } from '../../strategies/index.js'
import type { StrategyConfig } from '../../strategies/strategy.js'
import { type Task, taskRules, tasksWhere } from '../../tasks/index.js'

/** A dataset, and how to read it. */
export interface DatasetConfig {
  /** Files, folders, patterns such as `data/*.jsonl`, or `-` for standard input; a name where `rows` are given. */
  readonly path: string | readonly string[]
  /** Rows provided by a program. */
  readonly rows?: RowSource
  /** `auto` detects the format from the keys of the first row. */
  readonly format: DatasetFormat | 'auto'
  /** `auto` detects the type from file names, or from the first bytes if a name is unclear. */
  readonly fileType: FileType | 'auto'
  /** Names in the data for the columns that a format expects. */
  readonly columns: Columns
  /** CSV and TSV: the first line contains the column names. */
  readonly header: boolean
  /** Encoding of text files; `auto` is UTF-8, or UTF-16 with a byte order mark. */
  readonly encoding: string
  /** True if labels, and completions that look like labels, that differ only by white space or case are one. */
  readonly stripLabels: boolean
  /** Treatment of a row or an assistant turn without trained tokens: an error, or dropped. */
  readonly emptyRows: EmptyRows
  /** Treatment of data that never trains the end of an answer: an error, or allowed. */
  readonly unended: Unended
  /** Treatment of special tokens in the text of data: special, plain text, or an error. */
  readonly specialTokensInContent: SpecialTokensInContent
  /** True if rows are read during the run rather than before its first step. */
  readonly streaming: boolean
  /** Size of the shuffle buffer for streaming, in rows; 1 keeps the order of the data. */
  readonly shuffleBufferSize: number
}

const columnName = z
  .union([text(), z.int().min(1).transform(String)], { error: 'the name of a column, or its number from 1' })
  .optional()
const columnsShape = Object.fromEntries(
  COLUMN_NAMES.map((name) => [name, columnName.describe(columnMeaning(name))]),
) as Record<ColumnName, typeof columnName>

const ENCODING_EXPECTED = 'auto, or an encoding such as utf-8, utf-16le, windows-1252, or shift_jis'

const datasetShape = {
  path: z
    .union([path(), z.array(path()).min(1)], { error: 'a path or a list of paths' })
    .describe('Files, folders, patterns such as `data/*.parquet`, or `-` for standard input.'),
  format: word(['auto', ...DATASET_FORMATS])
    .default('auto')
    .describe('Format of the rows. `auto` detects it from the keys of the first row.'),
  fileType: word(['auto', ...FILE_TYPES])
    .default('auto')
    .describe('Type of the files. `auto` detects it from their names, or from their first bytes.'),
  columns: z
    .strictObject(columnsShape, { error: 'a mapping of names' })
    .default({})
    .describe('Names of columns that differ from those of the format.'),
  header: flag().default(true).describe('CSV and TSV: the first line contains the column names.'),
  encoding: z
    .string({ error: ENCODING_EXPECTED })
    .transform((name, context) => {
      const known = name === 'auto' ? name : encodingName(name)
      if (known !== undefined) return known
      context.addIssue({ code: 'custom', message: ENCODING_EXPECTED })
      return z.NEVER
    })
    .default('auto')
    .describe('[Encoding](data.md#encodings) of text files, such as `windows-1252`.'),
  stripLabels: flag()
    .default(false)
    .describe('Make one class of labels that differ only by white space or case.'),
  emptyRows: word(EMPTY_ROWS)
    .default('error')
    .describe(
      'Treatment of rows and assistant turns without a trained token, including those truncated by `max_seq_length`: an error, or drop and count them.',
    ),
  unended: word(UNENDED)
    .default('error')
    .describe('Treatment of data whose answers never end: an error, or allow it.'),
  specialTokensInContent: word(SPECIAL_TOKENS_IN_CONTENT)
    .default('keep')
    .describe(
      'Special tokens such as `<|im_end|>` in the text: keep them as control tokens, escape them to plain text, or report an error.',
    ),
  streaming: flag()
    .default(false)
    .describe(
      'Read rows during the run instead of before its first step; see [Streaming](data.md#streaming). Requires `max_steps`.',
    ),
  shuffleBufferSize: integer(1)
    .default(1000)
    .describe('With streaming: number of rows in the shuffle buffer. 1 keeps the order of the data.'),
}

export const datasetObject = z.strictObject(datasetShape)

/** All optional fields of `DatasetConfig`. */
export type DatasetOptions = Partial<Omit<DatasetConfig, 'path' | 'rows'>> & {
  /** Name of a program's rows in messages. Default `dataset()`. */
  name?: string
}

const { path: _, ...optionShape } = datasetShape
const optionsSchema = z.strictObject({ ...optionShape, name: text().default('dataset()') })

const SOURCE = 'a path, a list of paths, or rows to iterate over'
/** Result of `dataset()`, or an equivalent object. */
const givenSchema = datasetObject.extend({
  rows: z.custom<RowSource>(isRowSource, { error: 'rows to iterate over' }).optional(),
})

/**
 * Specifies data for a run or an evaluation, which reads it when it starts.
 * @param source files, folders, patterns or `-`; or rows as objects: an array, another sync or async iterable,
 * or a function that returns a new iterable for every pass
 * @example dataset('train.csv', { columns: { prompt: 'question', completion: 'answer' } })
 * @example dataset([{ prompt: 'Hello', completion: ' there' }])
 */
export function dataset(
  source: string | readonly string[] | RowSource,
  options: DatasetOptions = {},
): DatasetConfig {
  const { name, ...how } = checkedOptions(optionsSchema, options, 'dataset()')
  const { path, rows } = readSource(source, { name: 'dataset()', spelling: 'camel' }, 'source', SOURCE)
  // A program's own rows must not be frozen.
  const data = Object.freeze({ ...deepFreeze({ path: path ?? name, ...how }), ...(rows ? { rows } : {}) })
  made.add(data)
  return data
}

/** Results of `dataset()`, which need no second check. */
const made = new WeakSet<object>()

/** Paths or rows. Strings are not rows, so a list of strings is a list of paths. */
function readSource(
  given: unknown,
  source: OptionSource,
  argument: string,
  expected: string,
): { path?: string | readonly string[]; rows?: RowSource } {
  const paths = typeof given === 'string' || (Array.isArray(given) && typeof given[0] === 'string')
  if (paths && datasetShape.path.safeParse(given).success)
    return { path: typeof given === 'string' ? given : [...given] }
  if (!paths && isRowSource(given)) return { rows: given }
  throw badValue(source, argument, given, expected)
}

/** Accepted wherever data is expected: the arguments of `dataset()` or its result. */
export type DatasetArgument = DatasetConfig | string | readonly string[] | RowSource

/**
 * @param name the public function that received the data, such as `train()`
 * @throws {ConfigError} that names the argument
 */
export function datasetOf(data: unknown, name: string, argument = 'data'): DatasetConfig {
  const source = { name, spelling: 'camel' } as const
  if (isRecord(data) && made.has(data)) return data as unknown as DatasetConfig
  if (isRecord(data) && 'path' in data && !isRowSource(data))
    return Object.freeze(parseOptions(givenSchema, data, { ...source, at: argument })) as DatasetConfig
  const { path, rows } = readSource(data, source, argument, `${SOURCE}, or what dataset() returns`)
  return dataset(path ?? (rows as RowSource))
}

/** Input data of a run. */
export interface DataSources {
  dataset: DatasetConfig
  evalDataset: DatasetConfig | null
  /** Share of `dataset` held out when there is no `evalDataset`. */
  evalFraction: number
  /** Column of `dataset` that identifies the group (client) of each row. */
  groupBy?: string
  /** Hold out whole groups rather than individual rows. */
  holdOutGroups?: boolean
}

/** Data options shared by runs and probes. */
export const dataShape = {
  /** Parsed by `datasetOf`. */
  evalDataset: z.unknown().optional(),
  evalFraction: numberWithin(0, 1 - Number.EPSILON, 'a number in [0, 1)').default(0),
  signal: abortSignal().optional(),
  onDataProgress: callback<(progress: EncodeProgress) => void>().optional(),
}

/**
 * @throws {ConfigError} when data and task are incompatible, or a strategy does not support the task
 */
export function checkTaskData(
  run: Pick<DataSources, 'dataset' | 'evalDataset'> & { task: Task; strategy: StrategyConfig },
  source: OptionSource,
): void {
  const { task, strategy } = run
  const { rows, runs, samplesAnswers, dropoutWould } = taskRules(task)
  const own = rows.form
  for (const key of ['dataset', 'evalDataset'] as const) {
    const { format = 'auto', streaming } = run[key] ?? {}
    const tasks = tasksWhere((other) => other.rows.form === format)
    if (own === null ? tasks.length > 0 : format !== 'auto' && format !== own)
      throw badValue(
        source,
        `${key}.format`,
        format,
        own === null ? `task ${tasks.join(' or ')} with it` : `${own} with task ${task}`,
      )
    if (streaming && !rows.streamed)
      throw badValue(
        source,
        `${key}.streaming`,
        true,
        `false with task ${task}, which reads its rows before training`,
      )
  }
  const stepsItself = isPrivate(strategy) || rulesOf(strategy).probe?.(strategy) !== undefined
  if (stepsItself && !runs.byOwnSteps) {
    const others = tasksWhere((other) => other.runs.byOwnSteps).join(' or ')
    throw badValue(source, 'task', task, `${others} with strategy ${strategy.name}`)
  }
  if (samplesAnswers && rulesOf(strategy).ranked?.(strategy) !== undefined)
    throw badValue(
      source,
      'task',
      task,
      `another task with strategy ${strategy.name}: all ranks answer, and a step trains only the first`,
    )
  const [key, loraDropout] = dropoutOf(strategy as Wrapping)
  if (dropoutWould !== null && loraDropout > 0)
    throw badValue(source, key, loraDropout, `0 with task ${task}: dropout would ${dropoutWould}`)
}

/** The options of a strategy that may wrap another. */
interface Wrapping {
  readonly adapter?: Wrapping
  readonly loraDropout?: number
}

/** The dropout of a strategy or of the one that it wraps, with its key. */
function dropoutOf({ adapter, loraDropout = 0 }: Wrapping, key = 'strategy'): [key: string, rate: number] {
  return adapter === undefined ? [`${key}.loraDropout`, loraDropout] : dropoutOf(adapter, `${key}.adapter`)
}

/**
 * @param source owner of the options, for messages
 * @throws {ConfigError} when an option needs the length of streamed data
 */
export function checkStreaming(
  { dataset, evalDataset, evalFraction }: DataSources,
  { maxSteps }: Pick<TrainOptions, 'maxSteps'>,
  source: OptionSource,
): void {
  if (evalDataset?.streaming)
    throw badValue(source, 'evalDataset.streaming', true, 'false: an evaluation reads its data as a whole')
  if (!dataset.streaming) return
  if (maxSteps === null)
    throw badValue(source, 'maxSteps', null, 'a number of steps, since the length of a stream is not known')
  if (evalFraction > 0)
    throw badValue(source, 'evalFraction', evalFraction, 'an eval_dataset instead, since dataset is streamed')
}
