/**
 * Reads Parquet with hyparquet, one row group at a time, and only the requested columns. The library trusts the
 * file's metadata, so counts, sizes and offsets are checked before it reads a row group.
 */
import { open } from 'node:fs/promises'
import type { AsyncBuffer, FileMetaData, RowGroup } from 'hyparquet'
import { FileFormatError } from '../../core/errors.js'
import { quote } from '../../core/quote.js'
import { type InputFile, readInto, withInputFile } from '../../io/input.js'
import { type RawRow, rowError } from './place.js'

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
      const values = await readGroup(file, metadata, index, [start, start + rows], chosen).catch((cause) => {
        if (cause instanceof FileFormatError) throw cause
        throw rowError(
          place,
          `row group ${index + 1} (rows ${start + 1} to ${start + rows}) cannot be read: ${(cause as Error).message}; the file may be damaged`,
          cause,
        )
      })
      for (const [i, value] of values.entries())
        yield { value: { ...blank(columns), ...value }, place: { ...place, line: start + i + 1 } }
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
    const metadata = await parquetMetadataAsync(asyncBuffer(file), {
      initialFetchSize: footer + 8,
      geoparquet: false,
    })
    const columns = parquetSchema(metadata).children.map(({ element }) => element.name)
    for (const group of metadata.row_groups) checkGroup(group, size)
    return { metadata, columns }
  } catch (cause) {
    throw invalid((cause as Error).message, cause)
  }
}

/** Checks that the metadata of a row group is plausible. */
function checkGroup({ num_rows: rows, columns }: RowGroup, size: number): void {
  const whole = (what: string, value: bigint | number | undefined, most: number) => {
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
): Promise<Record<string, unknown>[]> {
  const [{ parquetReadObjects }, { compressors }, { parquetHeader }] = await Promise.all([
    import('hyparquet'),
    import('hyparquet-compressors'),
    import('hyparquet/src/column.js'),
  ])
  const buffer = asyncBuffer(file)
  const group = metadata.row_groups[index] as RowGroup
  for (const { meta_data: data } of group.columns) {
    if (!data || !columns.includes(data.path_in_schema[0] as string)) continue
    const start = Number(data.dictionary_page_offset || data.data_page_offset)
    const bytes = await buffer.slice(start, start + Number(data.total_compressed_size))
    const reader = { view: new DataView(bytes), offset: 0 }
    let left = Number(data.total_uncompressed_size) + bytes.byteLength
    for (let values = 0; values < Number(data.num_values) && reader.offset < bytes.byteLength; ) {
      const header = parquetHeader(reader)
      const page = header.data_page_header ?? header.data_page_header_v2
      const count = page?.num_values ?? header.dictionary_page_header?.num_values ?? 0
      if (page) values += count
      const sizes = [count, header.compressed_page_size, header.uncompressed_page_size]
      left -= header.uncompressed_page_size
      reader.offset += header.compressed_page_size
      const most = Number(data.num_values)
      if (sizes.some((size) => !(size >= 0)) || count > most || values > most || left < 0)
        throw new Error(
          `a page of the column ${quote(data.path_in_schema.join('.'))} claims more data than the file has`,
        )
    }
  }
  const strict = new TextDecoder('utf-8', { fatal: true })
  const rows = await parquetReadObjects({
    file: buffer,
    metadata,
    rowStart,
    rowEnd,
    columns,
    compressors,
    parsers: { stringFromBytes: (bytes: Uint8Array) => bytes && strict.decode(bytes) },
  })
  if (rows.length !== rowEnd - rowStart)
    throw new Error(`${rowEnd - rowStart} rows were declared, but ${rows.length} were found`)
  return rows.map((row) => plain(row) as Record<string, unknown>)
}

/**
 * Converts values to JSON types: no integers beyond double precision, no dates. Null keys are omitted, since
 * each row of a column has the keys of all rows.
 */
function plain(value: unknown): unknown {
  if (value === undefined || value === null) return null
  if (typeof value === 'bigint') return Number.isSafeInteger(Number(value)) ? Number(value) : String(value)
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? null : value.toISOString()
  if (Array.isArray(value)) return value.map(plain)
  if (ArrayBuffer.isView(value)) return Array.from(value as unknown as ArrayLike<unknown>, plain)
  if (typeof value === 'object')
    return Object.fromEntries(
      Object.entries(value).flatMap(([key, inner]) => {
        const found = plain(inner)
        return found === null ? [] : [[key, found]]
      }),
    )
  return value
}
