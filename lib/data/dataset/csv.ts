/**
 * Reads CSV and TSV with csv-parse: the first line has the column names, and every record becomes an object of
 * strings.
 */
import { Readable } from 'node:stream'
import { CsvError, parse } from 'csv-parse'
import type { DataError } from '../../core/errors.js'
import { quote } from '../../core/quote.js'
import { type Bytes, utf8Lines, withoutMark } from './bytes.js'
import { LARGEST_ROW, type RawRow, rowError } from './place.js'

export interface CsvOptions {
  /** True if the first record has the column names; otherwise they are 1, 2, and so on. */
  header: boolean
  /** Field delimiter. Default: detected from the first line. */
  delimiter?: string
}

const DELIMITERS = [',', ';', '\t', '|']
/** Most columns in a table; more suggest that the file is something else. */
const MOST_COLUMNS = 10_000

export async function* readCsv(
  bytes: Bytes,
  path: string,
  { header, delimiter }: CsvOptions,
): AsyncGenerator<RawRow, void, void> {
  const [sample, all] = await firstLine(utf8Lines(withoutMark(bytes, path), path))
  const chosen = delimiter ?? likelyDelimiter(sample)
  const fields = unquoted(sample).split(chosen).length
  if (fields > MOST_COLUMNS) throw tooManyColumns(path, fields)
  const parser = parse({
    delimiter: chosen,
    info: true,
    skip_empty_lines: true,
    // Checked below, with our own error message.
    relax_column_count: true,
    // Tab-separated text often does not use quotes at all.
    relax_quotes: chosen === '\t',
    max_record_size: LARGEST_ROW,
  })
  const source = Readable.from(all, { objectMode: false })
  source.on('error', (error) => parser.destroy(error))
  source.pipe(parser)
  let table: Required<RawRow>['table'] | undefined
  let returns = 0
  try {
    for await (const { record, info } of parser as AsyncIterable<{
      record: string[]
      info: { lines: number }
    }>) {
      const within = (character: string) => record.reduce((sum, field) => sum + countOf(character, field), 0)
      // The parser counts the line feed and the carriage return of a line's end in a field as a line each.
      returns += within('\r')
      const place = { path, line: info.lines - returns - within('\n') }
      if (table === undefined) {
        if (record.length > MOST_COLUMNS) throw tooManyColumns(path, record.length)
        const columns = header ? named(record, path, place.line) : record.map((_, i) => String(i + 1))
        table = { delimiter: chosen, columns }
        if (header) continue
      }
      const { columns } = table
      if (record.length !== columns.length)
        throw rowError(
          place,
          `expected ${columns.length} fields as in the first record, found ${record.length}`,
        )
      // As in text files, models are trained on a single character for the end of a line.
      const texts = record.map((field, i) => [columns[i] as string, field.replaceAll('\r\n', '\n')])
      yield { value: Object.fromEntries(texts), place, table }
    }
  } catch (error) {
    throw error instanceof CsvError ? csvError(error, path) : error
  } finally {
    parser.destroy()
    source.destroy()
  }
}

/** The first line, and all the bytes. */
async function firstLine(bytes: AsyncGenerator<Uint8Array, void, void>): Promise<[string, Bytes]> {
  const first = await bytes.next()
  if (first.done) return ['', bytes]
  const all = async function* () {
    yield first.value
    yield* bytes
  }
  const text = new TextDecoder().decode(first.value.subarray(0, 1 << 22))
  return [text.split('\n', 1)[0] as string, all()]
}

const unquoted = (line: string) => line.replace(/"[^"]*"/g, '')

function tooManyColumns(path: string, found: number): DataError {
  return rowError(
    { path, line: 1 },
    `there are at least ${found} columns, and the limit is ${MOST_COLUMNS}; is the delimiter wrong, or are rows and columns swapped?`,
  )
}

/** The delimiter that splits the first line into the most fields, ignoring quoted parts; by default a comma. */
function likelyDelimiter(line: string): string {
  const plain = unquoted(line)
  const count = (delimiter: string) => plain.split(delimiter).length
  return DELIMITERS.reduce((best, next) => (count(next) > count(best) ? next : best))
}

function countOf(character: string, field: string): number {
  let count = 0
  for (let at = field.indexOf(character); at >= 0; at = field.indexOf(character, at + 1)) count++
  return count
}

function named(record: readonly string[], path: string, line: number): string[] {
  const names = record.map((name) => name.trim())
  const seen = new Set<string>()
  const twice = names.find((name) => seen.size === seen.add(name).size)
  const advice = 'expected a first line with the names of the columns; without one, set header: false'
  if (names.includes('') || twice !== undefined)
    throw rowError(
      { path, line },
      twice ? `the column ${quote(twice)} appears twice; ${advice}` : `a column has no name; ${advice}`,
    )
  return names
}

const REASONS: Record<string, string> = {
  CSV_QUOTE_NOT_CLOSED: 'a quoted field that begins here or earlier does not end',
  CSV_INVALID_CLOSING_QUOTE:
    'something other than the delimiter follows a closing quote; double a quote inside a field',
  INVALID_OPENING_QUOTE:
    'a quote stands inside a field that is not quoted; quote the field and double the quote',
  CSV_MAX_RECORD_SIZE: `the record is larger than ${LARGEST_ROW} bytes; is a quote missing?`,
}

function csvError(error: CsvError, path: string): DataError {
  const line = Number((error as unknown as { lines?: number }).lines ?? 1)
  return rowError({ path, line }, `not valid CSV: ${REASONS[error.code] ?? error.message}`, error)
}
