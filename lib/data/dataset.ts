/**
 * Reads datasets as rows, from JSON Lines, JSON arrays, CSV, Parquet, text files, standard input, or a program.
 * Everything is streamed, so data may be larger than memory. Every row records its position, and every error
 * names it.
 */
import { extname } from 'node:path'
import { ConfigError, DataError, FileFormatError } from '../core/errors.js'
import { quote } from '../core/quote.js'
import { withInputFile } from '../io/input.js'
import { type Bytes, fileBytes, peek, withoutMark } from './dataset/bytes.js'
import { type Columns, FORM_COLUMNS, mapColumns, rowColumns } from './dataset/columns.js'
import { readCsv } from './dataset/csv.js'
import { TEMPLATE_KEYS } from './dataset/exact-json.js'
import {
  expandPaths,
  FILE_TYPES,
  type FileType,
  fileTypeByName,
  refuseSpreadsheet,
  STDIN,
  STDIN_NAME,
} from './dataset/files.js'
import { readJsonArray } from './dataset/json-array.js'
import { readJsonLines, readPlainLines } from './dataset/json-lines.js'
import { readParquet } from './dataset/parquet.js'
import { describe, type RawRow, type RowPlace, rowError } from './dataset/place.js'
import { detectFormat, itemOf, Misspellings, readRow } from './dataset/read-row.js'
import { readTextFile } from './dataset/text-files.js'
import { type Encoding, inUtf8 } from './dataset/transcode.js'
import { isObject } from './dataset/value.js'
import { DATASET_FORMATS, type DatasetFormat, formOf, isWhole, rulesOf } from './forms/index.js'
import { LabelSpelling, stripLabel } from './labels.js'
import type { DatasetRow } from './rows.js'

export { COLUMN_NAMES, type ColumnName, type Columns, lookUp } from './dataset/columns.js'
export {
  FILE_TYPES,
  type FileType,
  fileTypeByName,
  refuseSpreadsheet,
  STDIN,
  STDIN_NAME,
} from './dataset/files.js'
export { placeName, type RowPlace, rowError } from './dataset/place.js'
export { DATASET_FORMATS, type DatasetFormat } from './forms/index.js'
export type * from './rows.js'

/** Settings for reading a dataset. */
export interface DatasetForm {
  /** `auto`, the default, detects the format from the keys of the first row; all rows must have the same format. */
  format?: DatasetFormat | 'auto'
  /** `auto`, the default, detects the type from file names, or from the first bytes if a name is unclear. */
  fileType?: FileType | 'auto'
  /** Names in the data for the columns that the format expects. */
  columns?: Columns
  /** CSV and TSV: the first line contains the column names. Default true. */
  header?: boolean
  /** Encoding of text files. `auto`, the default: UTF-8, or UTF-16 with a byte order mark. */
  encoding?: Encoding
  /** Labels, and completions that look like labels, without white space around them and in one spelling each. */
  stripLabels?: boolean
  /** With `stripLabels`: spellings that completions take, where they differ from one only by white space or case. */
  spellings?: readonly string[]
  /** A column that identifies the group (client) of each row; every row must have a value. */
  groupBy?: string
}

export interface OpenDatasetOptions extends DatasetForm {
  /** Input for the path `-`. */
  stdin?: Bytes
  /** Read every column of Parquet files. Default: those that formats use. */
  allColumns?: boolean
  /** Keep the columns beside those of the format with each row, as its item. Default false. */
  asPrompts?: boolean
  /** Called once, with the first row. */
  onDetected?: (detected: Detected) => void
}

/** Detected properties of a dataset. */
export interface Detected {
  /** Absent for rows from a program. */
  fileType?: FileType
  format: DatasetFormat
  /** Columns of the first row, before renaming. */
  columns: string[]
  /** An unused column beside plain text that looks like its label. */
  unusedLabel?: string
}

/** Rows from a program, and their name in messages. */
export interface RowsInput {
  rows: AsyncIterable<unknown> | Iterable<unknown>
  name: string
}

/**
 * The rows of files, folders, patterns or standard input, in order; or rows from a program.
 * @throws {FileFormatError} when a file cannot be read; DataError when a row is invalid; ConfigError for an
 * unknown format
 */
export async function* openDataset(
  input: string | readonly string[] | RowsInput,
  options: OpenDatasetOptions = {},
): AsyncGenerator<DatasetRow, void, void> {
  const { columns = {} } = options
  let format = askedFormat(options)
  const misspellings = new Misspellings()
  const spelling = options.stripLabels ? new LabelSpelling(options.spellings) : undefined
  for await (const { value, place, fileType } of rawRows(input, options)) {
    if (!isObject(value))
      throw rowError(place, `expected a JSON object, found ${describe(value)}${wrapped(value)}`)
    const mapped = mapColumns(value, columns, place)
    if (format === undefined || options.onDetected) {
      format ??= detectFormat(mapped, place)
      const label = unusedLabel(value, format, options)
      options.onDetected?.({
        ...(fileType ? { fileType } : {}),
        format,
        columns: Object.keys(value),
        ...(label === undefined ? {} : { unusedLabel: label }),
      })
      options = { ...options, onDetected: undefined as never }
    }
    const form = formOf(format)
    const misspelled = misspellings.of(mapped, form)
    const whose = {
      ...place,
      ...(options.groupBy === undefined ? {} : { group: groupOf(value, options.groupBy, place) }),
      ...(misspelled === undefined ? {} : { misspelled }),
      ...(options.asPrompts ? { item: itemOf(mapped, form) } : {}),
    }
    yield stripped(readRow(mapped, form, columns, whose, fileType === 'text'), spelling)
  }
}

/** A row with its label stripped; completions get the first spelling of each. */
function stripped(row: DatasetRow, spelling: LabelSpelling | undefined): DatasetRow {
  const rules = rulesOf(row)
  if (spelling === undefined || !('label' in rules) || rules.label === undefined) return row
  const { classified, label } = rules
  const given = label.of(row)
  return label.with(row, classified ? stripLabel(given) : spelling.of(given))
}

const LABELS = ['label', 'labels', 'label_text', 'target', 'class']

function unusedLabel(
  value: Record<string, unknown>,
  format: DatasetFormat,
  { columns = {}, groupBy }: DatasetForm,
): string | undefined {
  if (!isWhole(format)) return undefined
  const used = [groupBy, ...rowColumns(columns).map(([, source]) => source)]
  return LABELS.find((name) => name in value && !used.includes(name))
}

/**
 * Checks that all files of a dataset exist and are readable.
 * @throws {FileFormatError} naming the first unusable file
 */
export async function checkFiles(
  paths: string | readonly string[],
  { fileType = 'auto' }: DatasetForm,
): Promise<void> {
  const type = fileType === 'auto' ? undefined : fileType
  for (const path of await expandPaths([paths].flat() as string[], type))
    if (path !== STDIN) await withInputFile(path, async () => undefined)
}

function groupOf(value: Record<string, unknown>, column: string, place: RowPlace): string {
  const group = value[column]
  if (
    (typeof group === 'string' && group !== '') ||
    typeof group === 'number' ||
    typeof group === 'bigint' ||
    typeof group === 'boolean'
  )
    return String(group)
  throw rowError(
    place,
    `${column}, which identifies the client of a row, ${group === undefined ? 'is missing' : group === '' ? 'is empty' : `is ${describe(group)}`}; expected a text or a number`,
  )
}

function wrapped(value: unknown): string {
  return Array.isArray(value) ? "; put each example on a line of its own, e.g. with jq -c '.[]'" : ''
}

function askedFormat({ format = 'auto', fileType = 'auto' }: DatasetForm): DatasetFormat | undefined {
  const known = (what: string, value: string, values: readonly string[]) => {
    if (value === 'auto' || values.includes(value)) return
    throw new ConfigError(
      `the dataset ${what} ${quote(String(value))} is unknown; expected auto, ${values.join(', ')}`,
      { [what]: value },
    )
  }
  known('format', format, DATASET_FORMATS)
  known('file_type', fileType, FILE_TYPES)
  return format === 'auto' ? undefined : format
}

/** A row as read, with the type of its file; absent for rows from a program. */
export type TypedRow = RawRow & { fileType?: FileType }

/**
 * The rows of files or of a program as they are, in no format.
 * @throws {FileFormatError} when a file cannot be read; DataError when a row is malformed
 */
export async function* rawRows(
  input: string | readonly string[] | RowsInput,
  options: OpenDatasetOptions,
): AsyncGenerator<TypedRow, void, void> {
  if (typeof input === 'object' && 'rows' in input) {
    let line = 0
    for await (const value of input.rows)
      yield { value, place: { path: input.name, line: ++line, unit: 'row' } }
    return
  }
  const asked = options.fileType === 'auto' ? undefined : options.fileType
  const paths = await expandPaths([input].flat() as string[], asked)
  checkEncodes(paths, options)
  for (const path of paths) {
    const [fileType, rows] = await readFile(path, asked, options)
    for await (const row of rows) yield Object.assign(row, { fileType })
  }
}

/** @throws {FileFormatError} when an encoding is named, but no file has text in it */
function checkEncodes(paths: readonly string[], { encoding = 'auto', fileType = 'auto' }: DatasetForm): void {
  if (encoding === 'auto' || encoding === 'utf-8') return
  const types = paths.map((path) => (fileType === 'auto' ? fileTypeByName(path) : fileType))
  const [path] = paths
  if (path === undefined || types.some((type) => type !== 'parquet')) return
  throw new FileFormatError(
    `${path} is a Parquet file, whose text is always UTF-8, not ${encoding}; set encoding: utf-8`,
    { path, encoding },
  )
}

/** The type of a file, and its rows. */
async function readFile(
  path: string,
  asked: FileType | undefined,
  options: OpenDatasetOptions,
): Promise<[FileType, AsyncIterable<RawRow>]> {
  const isStdin = path === STDIN
  const name = isStdin ? STDIN_NAME : path
  let type = asked ?? (isStdin ? undefined : fileTypeByName(path))
  if (type === 'parquet' && !isStdin) return [type, readParquet(path, wantedColumns(options))]
  if (asked === undefined) refuseSpreadsheet(path)
  const { encoding = 'auto' } = options
  const transcoded = inUtf8(isStdin ? stdinOf(options) : fileBytes(path), name, encoding)
  let { bytes } = transcoded
  // A .json file may contain one array or one example per line, and in practice so may a .jsonl file.
  if (type === undefined || type === 'json' || type === 'jsonl') {
    const [first, all] = await peek(withoutMark(bytes, name))
    bytes = all
    type = typeByFirstByte(first, type, name)
  }
  if (type === 'parquet') {
    if (!isStdin) return [type, readParquet(path, wantedColumns(options))]
    throw new FileFormatError(
      'Parquet is read from its end, so it cannot come from standard input; save it to a file first',
      { path },
    )
  }
  return [type, transcoded.proposing(readBytes(type, bytes, name, options))]
}

function stdinOf({ stdin }: OpenDatasetOptions): Bytes {
  if (stdin !== undefined) return stdin
  throw new DataError('standard input cannot be read here; name a file')
}

const [BRACKET, BRACE, LETTER_P] = [0x5b, 0x7b, 0x50]

function typeByFirstByte(
  first: number | undefined,
  named: 'json' | 'jsonl' | undefined,
  path: string,
): FileType {
  if (first === BRACKET) return 'json'
  if (named !== undefined || first === undefined || first === BRACE) return 'jsonl'
  if (first === LETTER_P) return 'parquet'
  const what = path === STDIN_NAME ? path : `${path} (${extname(path) || 'no extension'})`
  throw new FileFormatError(
    `the type of ${what} cannot be detected from its name or its content; set file_type: ${FILE_TYPES.join(', ')}`,
    { path },
  )
}

function readBytes(
  type: Exclude<FileType, 'parquet'>,
  bytes: Bytes,
  name: string,
  { header = true, columns = {} }: DatasetForm,
): AsyncIterable<RawRow> {
  const exact = [...TEMPLATE_KEYS, ...(columns.tools?.split('.').slice(-1) ?? [])]
  switch (type) {
    case 'jsonl':
      return readJsonLines(bytes, name, exact)
    case 'json':
      return readJsonArray(bytes, name, exact)
    case 'csv':
      return readCsv(bytes, name, { header })
    case 'tsv':
      return readCsv(bytes, name, { header, delimiter: '\t' })
    case 'text':
      return readTextFile(bytes, name)
    case 'lines':
      return readPlainLines(bytes, name)
  }
}

/** The columns of a table that any format may need. */
function wantedColumns({
  columns = {},
  groupBy,
  allColumns = false,
  asPrompts = false,
}: OpenDatasetOptions): (all: string[]) => string[] {
  if (allColumns || asPrompts) return (all) => all
  const sources = rowColumns(columns).flatMap(([, source]) => [source, source.split('.')[0] as string])
  const wanted = new Set([...FORM_COLUMNS, ...sources, ...(groupBy === undefined ? [] : [groupBy])])
  return (all) => all.filter((column) => wanted.has(column))
}
