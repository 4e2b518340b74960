/** Reads the bytes of data files in chunks, decompresses `.gz` files, and checks that they are text. */
import { isUtf8 } from 'node:buffer'
import { createReadStream } from 'node:fs'
import { pipeline } from 'node:stream'
import { createGunzip } from 'node:zlib'
import { FileFormatError } from '../../core/errors.js'
import { withInputFile } from '../../io/input.js'
import { STDIN_NAME } from './files.js'
import { LARGEST_ROW, NotUtf8, rowError } from './place.js'

export type Bytes = AsyncIterable<Uint8Array>

/**
 * The bytes of a file, decompressed if its name ends in `.gz`.
 * @throws {FileFormatError} when it is missing, unreadable, not a regular file, or not a valid gzip file
 */
export async function* fileBytes(path: string): AsyncGenerator<Uint8Array, void, void> {
  await withInputFile(path, async () => undefined)
  const file = createReadStream(path)
  if (!/\.gz$/i.test(path)) {
    yield* file
    return
  }
  const gunzip = createGunzip()
  // Errors of either stream end the loop below.
  pipeline(file, gunzip, () => undefined)
  try {
    yield* gunzip
  } catch (cause) {
    throw new FileFormatError(
      `${path} is not a complete gzip file: ${(cause as Error).message}; create or download it again`,
      { path },
      { cause },
    )
  }
}

const BYTE_ORDER_MARK = [0xef, 0xbb, 0xbf]

const GZIP = [0x1f, 0x8b]
/** First bytes of files that are given as data but are not text; five at most. */
const OTHERS: readonly [bytes: readonly number[], what: string][] = [
  [[0x50, 0x4b, 0x03], 'a ZIP archive, as .xlsx and .ods files are; unpack it, or save the sheet as CSV'],
  [[0xd0, 0xcf, 0x11], 'a file of an older office program, such as .xls; save the sheet as CSV'],
  [[...Buffer.from('%PDF-')], 'a PDF document; save its text to a file'],
]

/**
 * The bytes without a leading byte order mark.
 * @throws {FileFormatError} for a known kind of file that is not UTF-8 text
 */
export async function* withoutMark(bytes: Bytes, path: string): AsyncGenerator<Uint8Array, void, void> {
  let first: Uint8Array | undefined = new Uint8Array(0)
  for await (const chunk of bytes) {
    if (first === undefined) {
      yield chunk
      continue
    }
    first = first.length === 0 ? chunk : Buffer.concat([first, chunk])
    if (first.length < 5) continue
    yield textOf(first, path)
    first = undefined
  }
  if (first !== undefined && first.length > 0) yield textOf(first, path)
}

/** The first bytes without a byte order mark. */
function textOf(first: Uint8Array, path: string): Uint8Array {
  const begins = (mark: readonly number[]) => mark.every((byte, i) => first[i] === byte)
  const packed = `compressed by gzip; ${path === STDIN_NAME ? 'decompress it, e.g. with gunzip -c' : 'let its name end in .gz'}`
  const [, what] = [...OTHERS, [GZIP, packed] as const].find(([mark]) => begins(mark)) ?? []
  if (what !== undefined) throw new FileFormatError(`${path} is ${what}`, { path })
  return begins(BYTE_ORDER_MARK) ? first.subarray(BYTE_ORDER_MARK.length) : first
}

/** The first byte that is not white space (undefined if there is none), and all the bytes. */
export async function peek(bytes: Bytes): Promise<[first: number | undefined, bytes: Bytes]> {
  const iterator = bytes[Symbol.asyncIterator]()
  const seen: Uint8Array[] = []
  let first: number | undefined
  while (first === undefined) {
    const { done, value } = await iterator.next()
    if (done) break
    seen.push(value)
    first = value.find((byte) => byte !== 0x20 && (byte < 0x09 || byte > 0x0d))
  }
  const all = async function* () {
    try {
      yield* seen.splice(0)
      for (;;) {
        const { done, value } = await iterator.next()
        if (done) return
        yield value
      }
    } finally {
      await iterator.return?.()
    }
  }
  return [first, all()]
}

/**
 * Passes UTF-8 text through, in chunks of whole lines. A multi-byte character never contains a line feed.
 * @throws {DataError} naming a line that is not UTF-8, or is too long
 */
export async function* utf8Lines(bytes: Bytes, path: string): AsyncGenerator<Uint8Array, void, void> {
  let line = 1
  let rest: Uint8Array[] = []
  let length = 0
  const checked = (piece: Uint8Array): Uint8Array => {
    if (!isUtf8(piece)) throw new NotUtf8({ path, line: line + lineOfFault(piece) }, 'the line')
    return piece
  }
  for await (const chunk of bytes) {
    const end = chunk.lastIndexOf(10) + 1
    if (end > 0) {
      const piece = checked(
        rest.length === 0 ? chunk.subarray(0, end) : Buffer.concat([...rest, chunk.subarray(0, end)]),
      )
      rest = []
      yield piece
      for (let at = piece.indexOf(10); at >= 0; at = piece.indexOf(10, at + 1)) line++
    }
    if (end < chunk.length) rest.push(chunk.subarray(end))
    length = (end > 0 ? 0 : length) + chunk.length - end
    if (length > LARGEST_ROW)
      throw rowError({ path, line }, `the line is longer than ${LARGEST_ROW} bytes; is it a table?`)
  }
  if (rest.length > 0) yield checked(Buffer.concat(rest))
}

/** Number of lines before the first one that is not UTF-8. */
function lineOfFault(piece: Uint8Array): number {
  let lines = 0
  let start = 0
  for (let end = piece.indexOf(10); end >= 0; end = piece.indexOf(10, start)) {
    if (!isUtf8(piece.subarray(start, end))) return lines
    lines++
    start = end + 1
  }
  return lines
}
