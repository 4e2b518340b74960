/**
 * Bounds what a row group of Parquet takes, before any value is decoded. A few bytes of run lengths, of a dictionary or
 * of a compressed page stand for millions of values, and hyparquet trusts them. Layout: parquet.apache.org/docs, and for
 * metadata, the compact protocol of Thrift.
 */
import type { ColumnMetaData, PageHeader, SchemaTree } from 'hyparquet'
import { quote } from '../../core/quote.js'

/** Bytes that a row group may always take. */
const SMALL = 256 << 20
/** Bytes that a row group may take for each of its bytes in the file, and bytes of text that its rows may have. */
const MOST_TIMES = 64
const MOST_TEXT_TIMES = 1024
/** Most bytes of a row group in memory. */
const LARGEST_GROUP = 2 ** 31 - 1
/** About what a row, a value of a column, and a value inside of lists take, beside their texts. */
const [ROW, VALUE, NESTED_VALUE] = [96, 32, 128]

const ADVICE = 'write the file with smaller row groups (row_group_size)'

/** A row group that is valid, but takes more than it may. */
export class TooLarge extends Error {}

/** Adds up what a row group takes. */
export class GroupBudget {
  readonly #compressed: number
  #bytes: number
  #text = 0

  /** @param compressed bytes of its columns in the file */
  constructor(rows: number, compressed: number) {
    this.#compressed = compressed
    this.#bytes = ROW * rows
    this.#check()
  }

  /** @throws {Error} when these bytes would exceed what a row group may take */
  take(bytes: number): void {
    this.#bytes += bytes
    this.#check()
  }

  /**
   * Counts the text of a row. A string of a dictionary is in memory once, but every row with it is read.
   * @throws {Error} when the rows have too much text
   */
  read(characters: number): void {
    this.#text += characters
    const most = Math.max(SMALL, MOST_TEXT_TIMES * this.#compressed)
    if (this.#text > most)
      throw new TooLarge(
        `its rows have more than ${most} characters, and the file only ${this.#compressed} bytes for them; remove the repeated text, or ${ADVICE}`,
      )
  }

  #check(): void {
    const most = Math.min(LARGEST_GROUP, Math.max(SMALL, MOST_TIMES * this.#compressed))
    if (this.#bytes > most)
      throw new TooLarge(
        `it takes at least ${this.#bytes} bytes of memory, and the limit for its ${this.#compressed} bytes in the file is ${most}; ${ADVICE}`,
      )
  }
}

/** The parts of hyparquet that the checks use; it is imported on demand. */
export interface ParquetParts {
  parquetHeader(reader: Reader): PageHeader
  getMaxDefinitionLevel(path: SchemaTree[]): number
  getMaxRepetitionLevel(path: SchemaTree[]): number
  deltaBinaryUnpack(reader: Reader, count: number, output: Int32Array): void
  readRleBitPackedHybrid(reader: Reader, width: number, output: number[], length: number): void
  /** Unpacks a page into exactly `size` bytes. */
  unpack(bytes: Uint8Array, size: number, codec: string): Uint8Array
}

export interface Reader {
  view: DataView
  offset: number
}

/**
 * Checks the pages of a column.
 * @param bytes the pages, as they are in the file
 * @throws {Error} when the pages claim more than they have, or take too much memory
 */
export function checkPages(
  parts: ParquetParts,
  bytes: ArrayBuffer,
  data: ColumnMetaData,
  path: SchemaTree[],
  budget: GroupBudget,
): void {
  const reader = { view: new DataView(bytes), offset: 0 }
  const most = Number(data.num_values)
  const levels: Levels = [parts.getMaxRepetitionLevel(path), parts.getMaxDefinitionLevel(path)]
  const length = path.at(-1)?.element.type_length ?? 0
  const fault = (what: string) =>
    new Error(`a page of the column ${quote(data.path_in_schema.join('.'))} ${what}`)
  if (data.type === 'FIXED_LEN_BYTE_ARRAY' && !(length > 0)) throw fault('has values without a length')
  budget.take(most * (levels[0] > 0 || path.length > 2 ? NESTED_VALUE : VALUE))
  let left = Number(data.total_uncompressed_size) + bytes.byteLength
  let dictionary = 0
  for (let values = 0; values < most && reader.offset < bytes.byteLength - 1; ) {
    checkThrift(reader)
    const header = parts.parquetHeader(reader)
    const { compressed_page_size: packedSize, uncompressed_page_size: size } = header
    const page = header.data_page_header ?? header.data_page_header_v2
    const count = page?.num_values ?? header.dictionary_page_header?.num_values ?? 0
    if (page) values += count
    left -= size
    const sizes = [count, packedSize, size]
    if (sizes.some((one) => !(one >= 0)) || count > most || values > most || left < 0)
      throw fault('claims more data than the file has')
    if (reader.offset + packedSize > bytes.byteLength) throw fault('goes beyond the end of the column')
    budget.take(size)
    const packed = new Uint8Array(bytes, reader.offset, packedSize)
    reader.offset += packedSize
    if (header.dictionary_page_header !== undefined) {
      // Every value takes at least a bit.
      if (count > 8 * size) throw fault('claims more values than it has bytes for')
      dictionary = count
      parts.unpack(packed, size, data.codec)
      continue
    }
    if (page === undefined) continue
    const { body, present } = bodyOf(parts, header, packed, data.codec, levels)
    checkBody(parts, body, { ...page, dictionary, present }, data.type, budget, fault)
  }
}

type Levels = [repetition: number, definition: number]

/** The values of a page, and the number of those that are not null; its levels are checked. */
function bodyOf(
  { unpack, readRleBitPackedHybrid }: ParquetParts,
  header: PageHeader,
  packed: Uint8Array,
  codec: string,
  levels: Levels,
): { body: Uint8Array; present: number } {
  const { data_page_header_v2: v2, uncompressed_page_size: size } = header
  if (v2 !== undefined) {
    const lengths = [v2.repetition_levels_byte_length, v2.definition_levels_byte_length]
    let start = 0
    for (const [i, length] of lengths.entries()) {
      if (!(length >= 0 && start + length <= packed.length)) throw new Error('levels go beyond their page')
      const width = bitsOf(levels[i] as number)
      if (width > 0) checkRuns(packed.subarray(start, start + length), width, v2.num_values)
      start += length
    }
    if (!(v2.num_nulls >= 0 && v2.num_nulls <= v2.num_values))
      throw new Error('a page has more nulls than values')
    const rest = packed.subarray(start)
    const body = v2.is_compressed === false ? rest : unpack(rest, size - start, codec)
    return { body, present: v2.num_values - v2.num_nulls }
  }
  const page = unpack(packed, size, codec)
  const view = viewOf(page)
  const count = header.data_page_header?.num_values ?? 0
  let start = 0
  let present = count
  for (const [i, most] of levels.entries()) {
    const width = bitsOf(most)
    if (width === 0) continue
    const length = view.getUint32(start, true)
    if (start + 4 + length > page.length) throw new Error('levels go beyond their page')
    checkRuns(page.subarray(start + 4, start + 4 + length), width, count)
    if (i === 1 && header.data_page_header?.encoding === 'DELTA_BYTE_ARRAY') {
      const defined = new Array<number>(count)
      readRleBitPackedHybrid({ view, offset: start + 4 }, width, defined, length)
      present = defined.filter((level) => level === most).length
    }
    start += 4 + length
  }
  return { body: page.subarray(start), present }
}

function checkBody(
  { deltaBinaryUnpack }: ParquetParts,
  body: Uint8Array,
  page: { num_values: number; num_nulls?: number; encoding: string; dictionary: number; present: number },
  type: string,
  budget: GroupBudget,
  fault: (what: string) => Error,
): void {
  const { num_values: values, encoding, dictionary, present } = page
  if (encoding === 'PLAIN_DICTIONARY' || encoding === 'RLE_DICTIONARY') {
    const width = body[0] ?? 0
    if (width > 32) throw fault(`has indices of ${width} bits`)
    if (dictionary === 0 && values > (page.num_nulls ?? 0) && body.length > 1)
      throw fault('has no dictionary')
    if (width > 0) checkRuns(body.subarray(1), width, values, dictionary)
    else if (page.num_nulls !== undefined && body.length > 1) checkRuns(body.subarray(1), 0, values)
  } else if (encoding === 'RLE') {
    const own = page.num_nulls === undefined ? 4 : 0
    checkRuns(body.subarray(own), 1, values)
  } else if (encoding.startsWith('DELTA') && body.length > 0) {
    const reader = { view: viewOf(body), offset: 0 }
    const { perBlock, count } = deltaHeader(reader)
    if (count > values) throw fault('claims more values than it has')
    // A block of equal differences takes a few bytes, however many values it has.
    if (!(perBlock > 0 && perBlock <= 1 << 20)) throw fault(`has blocks of ${perBlock} values`)
    if (encoding !== 'DELTA_BYTE_ARRAY') return
    // The number of bytes that each text shares with the start of the one before it.
    const prefixes = new Int32Array(present)
    if (present > 0) deltaBinaryUnpack({ view: viewOf(body), offset: 0 }, present, prefixes)
    for (const prefix of prefixes) {
      if (prefix < 0) throw fault('has a text with a negative length')
      budget.take(prefix)
    }
  } else if (
    type !== 'BOOLEAN' &&
    encoding === 'PLAIN' &&
    body.length === 0 &&
    page.num_nulls === 0 &&
    values > 0
  )
    throw fault('claims more values than it has bytes for')
}

/** The header of differences: values of a block, blocks in it, and the number of values. */
function deltaHeader(reader: Reader): { perBlock: number; count: number } {
  const perBlock = varint(reader)
  varint(reader)
  return { perBlock, count: varint(reader) }
}

/**
 * Checks that the runs of small integers are no more than there are values.
 * @param width bits of an integer
 * @param below what the integers must be below, where a run says it
 */
function checkRuns(bytes: Uint8Array, width: number, values: number, below?: number): void {
  const reader = { view: viewOf(bytes), offset: 0 }
  for (let seen = 0; seen < values && reader.offset < bytes.length; ) {
    const header = varint(reader)
    const isPacked = header % 2 === 1
    const count = isPacked ? 8 * ((header - 1) / 2) : header / 2
    // Packed integers come in eights, and some writers fill up the last run.
    if (count > values - seen + (isPacked ? 504 : 0)) throw new Error('a run has more values than its page')
    if (isPacked) reader.offset += (count / 8) * width
    else {
      let value = 0
      for (let i = 0; i < (width + 7) >> 3; i++) value += (bytes[reader.offset++] ?? 0) * 2 ** (8 * i)
      if (below !== undefined && count > 0 && value >= below)
        throw new Error(`the entry ${value} of a dictionary of ${below} entries is asked for`)
    }
    seen += count
    if (count === 0 && reader.offset >= bytes.length) return
  }
}

const bitsOf = (value: number) => 32 - Math.clz32(value)

const viewOf = ({ buffer, byteOffset, byteLength }: Uint8Array) =>
  new DataView(buffer as ArrayBuffer, byteOffset, byteLength)

/** An integer of at most 53 bits. */
function varint(reader: Reader): number {
  let value = 0
  for (let shift = 0; shift < 49; shift += 7) {
    const byte = reader.view.getUint8(reader.offset++)
    value += (byte & 0x7f) * 2 ** shift
    if (byte < 0x80) return value
  }
  throw new Error('an integer has more than seven bytes')
}

/** Deepest nesting of structures in metadata, and the most bytes of an integer. */
const [DEEPEST, LONGEST_INTEGER] = [32, 10]

/**
 * Checks a structure of metadata: lists with more elements than bytes, long integers and deep nesting.
 * @param reader stays where it is
 */
export function checkThrift({ view, offset }: Reader): void {
  let at = offset
  const ended = () => new Error('the metadata ends too early')
  const byte = () => {
    if (at >= view.byteLength) throw ended()
    return view.getUint8(at++)
  }
  const integer = () => {
    let value = 0
    for (let i = 0; i < LONGEST_INTEGER; i++) {
      const next = byte()
      value += (next & 0x7f) * 2 ** (7 * i)
      if (next < 0x80) return value
    }
    throw new Error(`an integer of the metadata has more than ${LONGEST_INTEGER} bytes`)
  }
  const skip = (count: number) => {
    if (at + count > view.byteLength) throw ended()
    at += count
  }
  const element = (type: number, depth: number, inList: boolean): void => {
    if (depth > DEEPEST) throw new Error(`the metadata nests more than ${DEEPEST} deep`)
    switch (type) {
      case 1:
      case 2:
        if (inList) skip(1)
        return
      case 3:
        skip(1)
        return
      case 4:
      case 5:
      case 6:
        integer()
        return
      case 7:
        skip(8)
        return
      case 8:
        skip(integer())
        return
      case 9: {
        const head = byte()
        const count = head >> 4 === 15 ? integer() : head >> 4
        // Every element has a byte.
        if (at + count > view.byteLength) throw new Error(`a list of the metadata claims ${count} elements`)
        for (let i = 0; i < count; i++) element(head & 15, depth + 1, true)
        return
      }
      case 12:
        structure(depth + 1)
        return
      default:
        throw new Error(`the metadata has a value of the unknown type ${type}`)
    }
  }
  const structure = (depth: number): void => {
    for (;;) {
      const head = byte()
      if ((head & 15) === 0) return
      if (head >> 4 === 0) integer()
      element(head & 15, depth, false)
    }
  }
  structure(0)
}
