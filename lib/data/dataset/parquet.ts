/**
 * Reads Parquet with hyparquet, one row group at a time, and only the requested columns. The library trusts the
 * file, so counts, sizes and offsets are checked before it reads a row group (see parquet-limits.ts).
 */
import { open } from 'node:fs/promises'
import { brotliDecompressSync, gunzipSync } from 'node:zlib'
import type { AsyncBuffer, Compressors, FileMetaData, RowGroup } from 'hyparquet'
import { FileFormatError } from '../../core/errors.js'
import { escapeControls } from '../../core/quote.js'
import { type InputFile, readInto, withInputFile } from '../../io/input.js'
import { checkPages, checkThrift, GroupBudget, TooLarge } from './parquet-limits.js'
import { LARGEST_ROW, type RawRow, type RowPlace, rowError } from './place.js'

/** Most bytes of the columns in a row group, compressed or not. */
const LARGEST_GROUP = 2 ** 31 - 1
/** Most values of a column in a row group. */
const MOST_VALUES = 1 << 24
const LARGEST_FOOTER = 64 << 20

/** @param choose selects the columns to read */
export async function* readParquet(
  path: string,
  choose: (columns: string[]) => string[],
): AsyncGenerator<RawRow, void, void> {
  // Not inside withInputFile, so that the file is also closed when the caller stops reading early.
  const file = await opened(path)
  try {
    const { metadata, columns } = await readMetadata(file)
    const chosen = choose(columns)
    if (chosen.length === 0 && metadata.num_rows > 0) {
      // An empty row triggers the error that names the missing columns.
      yield { value: blank(columns), place: { path, line: 1, unit: 'row' } }
      return
    }
    let start = 0
    for (const [index, group] of metadata.row_groups.entries()) {
      const rows = Number(group.num_rows)
      const place = { path, line: start + 1, unit: 'row' as const }
      if (rows === 0) continue
      const fault = (cause: unknown) => {
        if (cause instanceof FileFormatError) return cause
        const why = cause instanceof TooLarge ? cause.message : `${reasonOf(cause)}; the file may be damaged`
        return rowError(
          place,
          `row group ${index + 1} (rows ${start + 1} to ${start + rows}) cannot be read: ${why}`,
          cause,
        )
      }
      const { values, budget } = await readGroup(file, metadata, index, [start, start + rows], chosen).catch(
        (cause) => {
          throw fault(cause)
        },
      )
      for (const [i, value] of values.entries()) {
        const whose: RowPlace = { ...place, line: start + i + 1 }
        const { row, characters } = plainRow(value, whose)
        try {
          budget.read(characters)
        } catch (cause) {
          throw fault(cause)
        }
        yield { value: { ...blank(columns), ...row }, place: whose }
      }
      start += rows
    }
  } finally {
    await file.handle.close()
  }
}

/** Opens the file; the caller closes it. */
async function opened(path: string): Promise<InputFile> {
  const { size } = await withInputFile(path, async (file) => file)
  return { handle: await open(path, 'r'), path, size }
}

/** A row with the names of all columns, which the error lists. */
function blank(columns: readonly string[]): Record<string, unknown> {
  return Object.fromEntries(columns.map((column) => [column, null]))
}

function asyncBuffer(file: InputFile): AsyncBuffer {
  return {
    byteLength: file.size,
    async slice(start: number, end = file.size): Promise<ArrayBuffer> {
      if (!(start >= 0 && start <= end && end <= file.size))
        throw new Error(`bytes ${start} to ${end} of ${file.size} were requested`)
      const bytes = new Uint8Array(end - start)
      await readInto(file, bytes, start)
      return bytes.buffer
    },
  }
}

async function readMetadata(file: InputFile): Promise<{ metadata: FileMetaData; columns: string[] }> {
  const { path, size } = file
  const invalid = (reason: string, cause?: unknown) =>
    new FileFormatError(
      `${path} is not a valid Parquet file: ${reason}; create or download it again`,
      { path },
      { cause },
    )
  const ends = new Uint8Array(12)
  if (size < 12) throw invalid(`it has only ${size} bytes`)
  await readInto(file, ends.subarray(0, 4), 0)
  await readInto(file, ends.subarray(4), size - 8)
  const marks = Buffer.from(ends)
  if (marks.toString('latin1', 0, 4) !== 'PAR1' || marks.toString('latin1', 8) !== 'PAR1')
    throw invalid('it does not begin and end with PAR1, so it is cut or something else')
  const footer = marks.readUInt32LE(4)
  if (footer > size - 12 || footer > LARGEST_FOOTER)
    throw invalid(`its footer has ${footer} bytes, and the file ${size}`)
  const { parquetMetadataAsync, parquetSchema } = await import('hyparquet')
  try {
    checkThrift({ view: new DataView(await asyncBuffer(file).slice(size - 8 - footer, size - 8)), offset: 0 })
    const metadata = await parquetMetadataAsync(asyncBuffer(file), {
      initialFetchSize: footer + 8,
      geoparquet: false,
    })
    const columns = parquetSchema(metadata).children.map(({ element }) => element.name)
    for (const group of metadata.row_groups) checkGroup(group, size)
    return { metadata, columns }
  } catch (cause) {
    throw invalid(reasonOf(cause), cause)
  }
}

/** Why a file cannot be read. hyparquet assumes that what it reads is there. */
function reasonOf(cause: unknown): string {
  if (cause instanceof TypeError) return 'a part of its metadata or of a page is missing or damaged'
  if (cause instanceof RangeError) return 'a length or a position in it leads beyond its end'
  // hyparquet writes so of a code that it does not know.
  return escapeControls((cause as Error).message.replace(/\bundefined\b/g, 'unknown'))
}

/** Checks that the metadata of a row group is plausible. */
function checkGroup({ num_rows: rows, columns }: RowGroup, size: number): void {
  const whole = (what: string, value: bigint | number | undefined, most: number) => {
    if (typeof value !== 'bigint' && typeof value !== 'number')
      throw new Error(`a row group does not say its ${what}`)
    const number = Number(value)
    if (!(Number.isSafeInteger(number) && number >= 0 && number <= most))
      throw new Error(`a row group has ${value} ${what}, at most ${most} are possible`)
    return number
  }
  whole('rows', rows, MOST_VALUES)
  let bytes = 0
  for (const { meta_data: data, file_path: elsewhere } of columns) {
    if (!data || elsewhere) throw new Error('a column is stored in another file')
    whole('values', data.num_values, MOST_VALUES)
    const start = whole('bytes before a column', data.dictionary_page_offset || data.data_page_offset, size)
    whole('bytes of a column', data.total_compressed_size, size - start)
    bytes += whole('unpacked bytes', data.total_uncompressed_size, LARGEST_GROUP)
  }
  whole('unpacked bytes in all; write it with smaller row groups', bytes, LARGEST_GROUP)
}

async function readGroup(
  file: InputFile,
  metadata: FileMetaData,
  index: number,
  [rowStart, rowEnd]: [number, number],
  columns: string[],
): Promise<{ values: Record<string, unknown>[]; budget: GroupBudget }> {
  const [{ parquetReadObjects, parquetSchema }, compressors, ...parts] = await Promise.all([
    import('hyparquet'),
    boundedCompressors(),
    import('hyparquet/src/column.js'),
    import('hyparquet/src/schema.js'),
    import('hyparquet/src/delta.js'),
    import('hyparquet/src/encoding.js'),
  ])
  const [{ parquetHeader }, { getTreePath, getMaxDefinitionLevel, getMaxRepetitionLevel }, delta, runs] =
    parts
  const unpack = (bytes: Uint8Array, size: number, codec: string) => {
    const page = codec === 'UNCOMPRESSED' ? bytes : compressors[codec as keyof Compressors]?.(bytes, size)
    if (page === undefined) throw new Error('its compression is unknown')
    if (page.length === size) return page
    throw new Error(`a page unpacks to ${page.length} bytes and claims ${size}`)
  }
  const buffer = asyncBuffer(file)
  const group = metadata.row_groups[index] as RowGroup
  const read = group.columns.flatMap(({ meta_data: data }) =>
    data && columns.includes(data.path_in_schema[0] as string) ? [data] : [],
  )
  const packed = read.reduce((sum, data) => sum + Number(data.total_compressed_size), 0)
  const budget = new GroupBudget(rowEnd - rowStart, packed)
  const tree = parquetSchema(metadata)
  for (const data of read) {
    const start = Number(data.dictionary_page_offset || data.data_page_offset)
    const bytes = await buffer.slice(start, start + Number(data.total_compressed_size))
    const { deltaBinaryUnpack } = delta
    const { readRleBitPackedHybrid } = runs
    const own = { parquetHeader, getMaxDefinitionLevel, getMaxRepetitionLevel, unpack }
    const path = getTreePath(tree, data.path_in_schema)
    checkPages({ ...own, deltaBinaryUnpack, readRleBitPackedHybrid }, bytes, data, path, budget)
  }
  const values = await parquetReadObjects({
    file: buffer,
    metadata,
    rowStart,
    rowEnd,
    columns,
    compressors,
    parsers: { stringFromBytes: (bytes: Uint8Array) => bytes && textOf(bytes) },
  })
  if (values.length !== rowEnd - rowStart)
    throw new Error(`${rowEnd - rowStart} rows were declared, but ${values.length} were found`)
  return { values, budget }
}

const strict = new TextDecoder('utf-8', { fatal: true })

function textOf(bytes: Uint8Array): string {
  try {
    return strict.decode(bytes)
  } catch (cause) {
    throw new Error('a text is not UTF-8', { cause })
  }
}

/** Decompression that ends where a page has the bytes that it claims. */
async function boundedCompressors(): Promise<Compressors> {
  const [{ compressors }, { decompress }] = await Promise.all([
    import('hyparquet-compressors'),
    import('fzstd'),
  ])
  const most = (length: number) => ({ maxOutputLength: Math.max(1, length) })
  return {
    ...compressors,
    ZSTD: (bytes, length) => decompress(bytes, new Uint8Array(length)),
    GZIP: (bytes, length) => gunzipSync(bytes, most(length)),
    BROTLI: (bytes, length) => brotliDecompressSync(bytes, most(length)),
  }
}

/** A row as JSON has it, and the characters of its texts. */
function plainRow(value: Record<string, unknown>, place: RowPlace) {
  let characters = 0
  const count = (text: string) => {
    characters += text.length
    if (characters > LARGEST_ROW) throw rowError(place, `the row has more than ${LARGEST_ROW} characters`)
  }
  return { row: plain(value, count) as Record<string, unknown>, characters }
}

/**
 * Converts values to JSON types: no integers beyond double precision, no dates. Null keys are omitted, since
 * each row of a column has the keys of all rows.
 */
function plain(value: unknown, count: (text: string) => void): unknown {
  if (value === undefined || value === null) return null
  if (typeof value === 'bigint') return Number.isSafeInteger(Number(value)) ? Number(value) : String(value)
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? null : value.toISOString()
  const inner = (part: unknown) => plain(part, count)
  if (typeof value === 'string') count(value)
  if (Array.isArray(value)) return value.map(inner)
  if (ArrayBuffer.isView(value)) return Array.from(value as unknown as ArrayLike<unknown>, inner)
  if (typeof value === 'object')
    return Object.fromEntries(
      Object.entries(value).flatMap(([key, part]) => {
        const found = inner(part)
        return found === null ? [] : [[key, found]]
      }),
    )
  return value
}
