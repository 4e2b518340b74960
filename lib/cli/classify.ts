/**
 * `lowrank classify`: the likeliest class of texts, with the probabilities of all classes. A table comes out as a table
 * and JSON rows as JSON Lines, each row with its class; other texts as lines. Rows are answered as they arrive.
 */
import { type Command, Option } from 'commander'
import { quote } from '../core/quote.js'
import { isRecord } from '../core/schema-shape.js'
import { peek, withoutMark } from '../data/dataset/bytes.js'
import { STDIN_NAME } from '../data/dataset/files.js'
import {
  FILE_TYPES,
  type FileType,
  fileTypeByName,
  lookUp,
  rawRows,
  rowError,
  STDIN,
  type TypedRow,
} from '../data/dataset.js'
import type { Model } from '../model/model.js'
import { taskRules } from '../tasks/index.js'
import type { Classified } from '../train/answers/classify.js'
import type { RunConfig } from '../train/config/config.js'
import { type DatasetConfig, dataset } from '../train/sources/data-sources.js'
import { UsageError } from './errors.js'
import { counted, facts, formatCount } from './format.js'
import { collect, encodingFlag, examples, integerFlag, withEncodingFlag } from './help.js'
import { Interruption } from './interrupt.js'
import { Output, printable } from './output.js'
import { StatusLine } from './progress.js'
import { dataLike, readSubject, type SubjectOptions, subjectFlags, withSubject } from './subject.js'

/** Most texts that are classified at once. */
const AT_ONCE = 256
/** Wait for further rows before those that have arrived are classified, in milliseconds. */
const PATIENCE = 20

interface Options extends SubjectOptions {
  text?: string[]
  textColumn?: string
  fileType?: FileType
  encoding?: string
  maxSeqLength?: number
  perDeviceTrainBatchSize?: number
  json?: boolean
}

/** A text to classify, and the row that it is from. */
interface Asked {
  text: string
  from?: TypedRow
}

export function configure(command: Command): void {
  subjectFlags(command)
  command.argument('[data]', 'a file of texts, or - for standard input')
  command.option('--text <text>', 'a text; may be repeated', collect)
  command.option(
    '--text-column <name>',
    "the column of the text (default: that of the config's dataset, else text, else the only column)",
  )
  command.addOption(
    new Option('--file-type <type>', 'type of the data (default: by its name or first byte)').choices(
      FILE_TYPES,
    ),
  )
  command.option(
    '--encoding <name>',
    'encoding of the data, such as windows-1252 (default: as in the config)',
    encodingFlag,
  )
  command.option('--max-seq-length <N>', 'truncate texts to this many tokens', integerFlag(2))
  command.option('--batch, --per-device-train-batch-size <N>', 'texts per batch', integerFlag(1))
  examples(command, [
    'lowrank classify run.yaml --text "My kettle leaks." --text "Where is my parcel?"',
    'lowrank classify run.yaml messages.csv > classified.csv',
    'tail -f messages.txt | lowrank classify run.yaml --json -',
    'lowrank classify --model models/SmolLM2-135M-Instruct --adapter out messages.jsonl',
  ])
  command.action(async (first: string | undefined, second: string | undefined, options: Options) => {
    const output = new Output(options.json ?? false)
    // With --model there is no config, so that the only argument is the data.
    const [path, data] = options.model === undefined ? [first, second] : [undefined, first]
    if (options.model !== undefined && second !== undefined)
      throw new UsageError('pass either a config file or --model.')
    if ((options.text === undefined) === (data === undefined))
      throw new UsageError('pass either --text, a file of texts, or - for standard input.')
    const config = await readSubject(path, options, output)
    refuseOthers(config, options)
    const interruption = new Interruption(output, 'Stopping.')
    try {
      const asked =
        data === undefined
          ? given(options.text ?? [])
          : rowsOf(dataOf(config, data, options), interruption.signal)
      await withSubject(config, options, output, interruption.signal, async (model, adapters) => {
        if (model.labels === null)
          throw new UsageError(
            `${adapters.map((adapter) => adapter.path).join(', ')} tells no classes apart; train with task: classification, or use lowrank generate.`,
          )
        await classifyAll(model, asked, { ...shapeOf(config, options), signal: interruption.signal }, output)
      })
    } catch (error) {
      throw withEncodingFlag(error)
    } finally {
      interruption.dispose()
    }
  })
}

/** @throws {UsageError} when there can be no head for classes */
function refuseOthers(config: RunConfig | undefined, { adapter }: Options): void {
  const needs = 'the head that tells classes apart comes with an adapter'
  if (adapter === false || (config === undefined && adapter === undefined))
    throw new UsageError(`${needs}; pass --adapter, or the config of its run.`)
  if (config !== undefined && adapter === undefined && !taskRules(config.task).classes)
    throw new UsageError(
      `the task of the config is ${config.task}; lowrank classify needs a run with task: classification.`,
    )
}

function shapeOf(config: RunConfig | undefined, options: Options) {
  const maxSeqLength = options.maxSeqLength ?? config?.maxSeqLength
  const batch = options.perDeviceTrainBatchSize ?? config?.perDeviceTrainBatchSize
  return {
    ...(maxSeqLength === undefined ? {} : { maxSeqLength }),
    ...(batch === undefined ? {} : { perDeviceTrainBatchSize: batch }),
  }
}

/** The data, read like that of the config. A text file has a text on each line. */
function dataOf(config: RunConfig | undefined, path: string, options: Options): DatasetConfig {
  const like =
    config === undefined
      ? dataset(path)
      : path === STDIN
        ? { ...config.dataset, path }
        : dataLike(config, path)
  const own = path === STDIN || fileTypeByName(path) === 'text' ? 'auto' : like.fileType
  const { fileType = fileTypeByName(path) === 'text' ? 'lines' : own, textColumn } = options
  const columns = textColumn === undefined ? like.columns : { ...like.columns, text: textColumn }
  const { encoding = like.encoding } = options
  return { ...like, fileType, columns, encoding }
}

async function* given(texts: readonly string[]): AsyncGenerator<Asked, void, void> {
  for (const [index, text] of texts.entries()) {
    if (text.trim() === '') throw new UsageError(`--text number ${index + 1} is empty.`)
    yield { text }
  }
}

async function* rowsOf(
  { path, ...how }: DatasetConfig,
  signal: AbortSignal,
): AsyncGenerator<Asked, void, void> {
  let stdin: AsyncIterable<Uint8Array> = process.stdin
  // Whoever waits for the next row is told, and nothing keeps the process alive.
  if (path === STDIN)
    signal.addEventListener('abort', () => process.stdin.destroy(signal.reason as Error), { once: true })
  if (path === STDIN && how.fileType === 'auto') {
    const [first, all] = await peek(withoutMark(stdin, STDIN_NAME))
    stdin = all
    // JSON begins with a bracket; other input has a text on each line.
    if (first !== undefined && !'{['.includes(String.fromCharCode(first))) how = { ...how, fileType: 'lines' }
  }
  for await (const from of rawRows(path, { ...how, stdin, allColumns: true })) {
    const text = textOf(from, how.columns.text)
    if (text.trim() === '') throw rowError(from.place, 'the text is empty; remove the row')
    yield { text, from }
  }
}

function textOf(row: TypedRow, column: string | undefined): string {
  const { value, place } = row
  const named = isText(row) ? 'text' : column
  if (typeof value === 'string') return value
  if (!isRecord(value)) throw rowError(place, 'expected a text, or an object with one')
  const keys = Object.keys(value)
  const of = named ?? (keys.length === 1 ? (keys[0] as string) : 'text')
  const text = lookUp(value, of)
  if (typeof text === 'string') return text
  throw rowError(
    place,
    text === undefined
      ? `there is no column ${quote(of)}, only ${keys.map(quote).join(', ')}; name that of the text with --text-column`
      : `${quote(of)} is not a text; name the column of the text with --text-column`,
  )
}

/** Groups what arrives; a group ends when nothing more arrives for a moment, or with an error. */
async function* groups(asked: AsyncGenerator<Asked, void, void>): AsyncGenerator<Asked[], void, void> {
  let group: Asked[] = []
  const next = () => settled(asked.next())
  let coming = next()
  for (;;) {
    const found = await (group.length === 0 ? coming : Promise.race([coming, pause()]))
    const isRow = found !== undefined && 'value' in found && !found.done
    if (group.length > 0 && (!isRow || group.length === AT_ONCE)) {
      yield group
      group = []
    }
    if (found === undefined) continue
    if ('error' in found) throw found.error
    if (found.done) return
    group.push(found.value)
    coming = next()
  }
}

/** The result of a promise, or its error, which must not hide the answers to the rows before it. */
async function settled<T extends object>(promise: Promise<T>): Promise<T | { error: unknown }> {
  try {
    return await promise
  } catch (error) {
    return { error }
  }
}

const pause = (): Promise<undefined> => new Promise((wake) => setTimeout(() => wake(undefined), PATIENCE))

async function classifyAll(
  model: Model,
  asked: AsyncGenerator<Asked, void, void>,
  options: Parameters<Model['classify']>[1],
  output: Output,
): Promise<void> {
  const status = new StatusLine(output, 'Classifying')
  const printer = new Printer(output, model.labels as readonly string[])
  let [count, truncated] = [0, 0]
  try {
    for await (const group of groups(asked)) {
      const found = await model.classify(
        group.map(({ text }) => text),
        options,
      )
      for (const [index, one] of found.entries()) {
        printer.print(group[index] as Asked, one)
        if (one.truncated) truncated++
      }
      count += group.length
      status.update(counted(count, 'text'))
    }
  } finally {
    status.clear()
  }
  if (count === 0) output.note('note: there is no text to classify.')
  if (truncated > 0)
    output.note(
      `note: ${counted(truncated, 'text')} of ${formatCount(count)} had more tokens than max_seq_length, of which the first were read.`,
    )
}

/** Prints texts with their classes in the form of the input. */
class Printer {
  readonly #output: Output
  readonly #labels: readonly string[]
  #count = 0

  constructor(output: Output, labels: readonly string[]) {
    this.#output = output
    this.#labels = labels
  }

  print({ text, from }: Asked, found: Classified): void {
    const isFirst = this.#count++ === 0
    const { label, probabilities, truncated } = found
    const row = isRecord(from?.value) && Object.keys(from.value).length > 1 ? from.value : undefined
    this.#output.event<'classify'>({
      ...{ text, label, probabilities, truncated },
      ...(from === undefined ? {} : { line: from.place.line }),
      ...(row === undefined ? {} : { row: JSON.parse(inJson(row)) }),
    })
    if (this.#output.json) return
    const write = (line: string) => void this.#output.stdout.write(`${line}\n`)
    if (from === undefined) this.#output.text(`${isFirst ? '' : '\n'}${this.#asFacts(text, found)}`)
    else if (from.table !== undefined)
      this.#asTable(from.value as Record<string, string>, found, from.table, isFirst).forEach(write)
    else if (isRecord(from.value) && !isText(from))
      write(inJson({ ...from.value, predicted_label: label, probabilities: rounded(probabilities) }))
    else write(`${label}\t${shown(probabilities[label])}\t${printable(text)}`)
  }

  #asFacts(text: string, { probabilities }: Classified): string {
    const sorted = Object.entries(probabilities).sort(([, a], [, b]) => b - a)
    const shares = sorted.map(
      ([label, share]) => [label, `${(100 * share).toFixed(1).padStart(5)} %`] as const,
    )
    return `${this.#output.styled('bold', `> ${printable(text)}`)}\n${facts(shares)}`
  }

  /** The row of a table with its class, below the names of the columns in front of the first one. */
  #asTable(
    row: Record<string, string>,
    found: Classified,
    { delimiter, columns }: Required<TypedRow>['table'],
    isFirst: boolean,
  ): string[] {
    const line = (fields: readonly string[]) =>
      fields.map((field) => csvField(field, delimiter)).join(delimiter)
    const shares = this.#labels.map((label) => shown(found.probabilities[label]))
    const own = line([...columns.map((name) => row[name] as string), found.label, ...shares])
    const names = [...columns, 'predicted_label', ...this.#labels.map((label) => `probability_${label}`)]
    return isFirst ? [line(names), own] : [own]
  }
}

/** True for a row that is nothing but a text. */
const isText = ({ fileType }: TypedRow): boolean => fileType === 'lines' || fileType === 'text'

const shown = (share = 0): string => share.toFixed(4)

const rounded = (probabilities: Classified['probabilities']) =>
  Object.fromEntries(Object.entries(probabilities).map(([label, share]) => [label, Number(shown(share))]))

/** JSON of a row; integers of Parquet that are too large for a number become text. */
const inJson = (row: object): string =>
  JSON.stringify(row, (_, value) => (typeof value === 'bigint' ? String(value) : value))

/** A field as RFC 4180 has it. */
function csvField(text: string, delimiter: string): string {
  return text.includes(delimiter) || /["\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text
}
