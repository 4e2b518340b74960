/** Guesses the task, the format, and the columns of rows from the names and values of their columns. */
import { quote } from '../../core/quote.js'
import { isRecord } from '../../core/schema-shape.js'
import type { ColumnName, Columns, DatasetFormat } from '../../data/dataset.js'
import { isWhole, recognized } from '../../data/forms/index.js'
import { type Task, taskOfForm } from '../../tasks/index.js'
import { UsageError } from '../errors.js'

/** A task, and how its rows are read. */
export interface Guess {
  task: Task
  format: DatasetFormat
  /** Columns with other names than the format expects. */
  columns: Columns
}

/** Rows of a format, for the first task that learns from them. */
const guessOf = (format: DatasetFormat, columns: Columns): Guess => ({
  task: taskOfForm(format),
  format,
  columns,
})

const PROMPTS = ['prompt', 'question', 'query', 'input', 'instruction', 'request', 'source', 'user']
const ANSWERS = ['completion', 'answer', 'response', 'output', 'reply', 'target', 'assistant']
const LABELS = [
  'label',
  'labels',
  'class',
  'category',
  'topic',
  'sentiment',
  'intent',
  'tag',
  'target',
  'type',
]
const TEXTS = [
  'text',
  'message',
  'content',
  'body',
  'review',
  'comment',
  'sentence',
  'document',
  'description',
]

/** Most classes, and most characters of a class, in a column that is not named as one. */
const MOST_CLASSES = 50
const LONGEST_CLASS = 40

/** Values of a column in a sample of the rows. */
interface Column {
  name: string
  /** Mean number of characters. */
  length: number
  distinct: number
  isText: boolean
  /** True if the values may be names of classes. */
  isClass: boolean
}

/**
 * @param rows a sample, at least one
 * @param given columns that the user names
 * @throws {UsageError} when it cannot be seen which columns to use
 */
export function guessTask(rows: readonly unknown[], given: Columns = {}): Guess {
  const records = rows.filter(isRecord)
  const first = records[0] ?? {}
  const named = Object.entries(given).map(([name, source]) => [name, first[source]])
  const form = recognized({ ...first, ...Object.fromEntries(named) })
  // A text that the user names goes before columns of other formats.
  if (given.text !== undefined || form === undefined || isWhole(form.name)) return byValues(records, given)
  return guessOf(form.name, given)
}

function byValues(records: readonly Record<string, unknown>[], given: Columns): Guess {
  const columns = columnsOf(records)
  const texts = columns.filter(({ isText }) => isText)
  const of = (names: readonly string[], among: readonly Column[]) =>
    names.flatMap((name) => among.find((column) => column.name.toLowerCase() === name) ?? [])[0]
  const named = given.label ?? labelOf(columns, of)
  const label = named === given.text ? undefined : named
  const others = texts.filter(({ name }) => name !== label)
  const longest = [...others].sort((a, b) => b.length - a.length)[0]
  const text = given.text ?? (of(TEXTS, others) ?? longest)?.name
  if (label !== undefined && text !== undefined)
    return guessOf('classification', mapped({ ...given, text, label }))
  if (given.text !== undefined) return guessOf('text', mapped(given))
  const prompt = given.prompt ?? of(PROMPTS, texts)?.name
  const completion = given.completion ?? of(ANSWERS, texts)?.name
  if (prompt !== undefined && completion !== undefined && prompt !== completion)
    return guessOf('prompt_completion', mapped({ ...given, prompt, completion }))
  if (text !== undefined && texts.length === 1) return guessOf('text', mapped({ ...given, text }))
  const names = columns.map(({ name }) => quote(name)).join(', ')
  throw new UsageError(
    columns.length === 0
      ? 'the rows have no columns; expected objects such as {"prompt": …, "completion": …}.'
      : `which of the columns ${names} to train on cannot be seen; name them, as in --column prompt=${columns[0]?.name} --column completion=${columns[1]?.name ?? '…'}, or --column text=… --column label=… for classes.`,
    { columns: columns.map(({ name }) => name) },
  )
}

/** The column of classes: by its name, else the only one with few short values beside a text. */
function labelOf(
  columns: readonly Column[],
  of: (names: readonly string[], among: readonly Column[]) => Column | undefined,
): string | undefined {
  const classes = columns.filter(({ isClass }) => isClass)
  const texts = columns.filter(({ isText }) => isText)
  const named = of(LABELS, classes)
  if (named !== undefined) return texts.some((one) => one !== named) ? named.name : undefined
  const [only, ...more] = classes
  return only !== undefined && more.length === 0 && texts.some((one) => one !== only) ? only.name : undefined
}

function columnsOf(records: readonly Record<string, unknown>[]): Column[] {
  const names = [...new Set(records.flatMap((record) => Object.keys(record)))]
  return names.map((name) => {
    const values = records.map((record) => record[name]).filter((value) => value != null && value !== '')
    const words = values.map(String)
    const distinct = new Set(words.map((word) => word.trim().toLowerCase())).size
    const length = words.reduce((sum, word) => sum + word.length, 0) / Math.max(1, words.length)
    const isText = values.length > 0 && values.every((value) => typeof value === 'string')
    const isNumber = words.every((word) => word.trim() !== '' && Number.isFinite(Number(word)))
    const isClass =
      values.every((value) => ['string', 'number', 'boolean'].includes(typeof value)) &&
      distinct >= 2 &&
      distinct <= Math.min(MOST_CLASSES, values.length / 2) &&
      Math.max(...words.map((word) => word.length)) <= LONGEST_CLASS
    // A column of numbers is an id or an amount, unless there are few of them.
    return {
      name,
      length,
      distinct,
      isText: isText && !isNumber,
      isClass: isClass && !(isNumber && distinct > 10),
    }
  })
}

/** The columns whose names differ from those that formats expect. */
function mapped(columns: Columns): Columns {
  const pairs = Object.entries(columns) as [ColumnName, string][]
  return Object.fromEntries(pairs.filter(([name, source]) => name !== source))
}
