/**
 * Opening and reading files that come from outside. Nothing in them is trusted: only regular files are opened,
 * reads are exact and bounded, and whatever text of theirs goes into a message is quoted and cut.
 */

import { constants } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { FileFormatError } from '../core/errors.js'
import { JsonScanner } from './json-scanner.js'

/** The part of an open file that is used. Declared without Node's types, since programs may compile without them. */
export interface OpenFile {
  read(target: Uint8Array, offset: number, length: number, position: number): Promise<{ bytesRead: number }>
  close(): Promise<void>
}

/** A file opened for reading, with its size at that moment in bytes. */
export interface InputFile {
  handle: OpenFile
  path: string
  size: number
}

/** The kernel and Node refuse reads of 2 GiB and more at once. */
const LARGEST_READ = 1 << 30

/**
 * Opens a regular file, hands it to `use` and closes it again.
 * @throws FileFormatError when it is missing, unreadable or not a regular file.
 */
export async function withInputFile<T>(path: string, use: (file: InputFile) => Promise<T>): Promise<T> {
  let handle: FileHandle
  try {
    // Without O_NONBLOCK, opening a named pipe would wait for a writer forever.
    handle = await open(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0))
  } catch (cause) {
    throw unreadable(path, cause)
  }
  try {
    const stats = await handle.stat()
    if (!stats.isFile()) {
      const advice = stats.isFIFO()
        ? 'a named pipe: save what it gives to a file first; a dataset can also come from standard input, as -'
        : 'not a regular file; name the file itself'
      throw new FileFormatError(`${path} is ${advice}`, { path })
    }
    return await use({ handle, path, size: stats.size })
  } finally {
    await handle.close()
  }
}

function unreadable(path: string, cause: unknown): FileFormatError {
  const code = (cause as NodeJS.ErrnoException).code ?? 'unknown error'
  const reason =
    code === 'ENOENT'
      ? 'does not exist'
      : code === 'EACCES'
        ? 'may not be read by this user'
        : `cannot be opened (${code})`
  return new FileFormatError(`${path} ${reason}`, { path, reason: code }, { cause })
}

/**
 * Fills `target` from `position` on.
 * @throws FileFormatError when the file ends before that (it was cut while being read).
 */
export async function readInto(file: InputFile, target: Uint8Array, position: number): Promise<void> {
  let done = 0
  while (done < target.length) {
    const length = Math.min(target.length - done, LARGEST_READ)
    const { bytesRead } = await file.handle.read(target, done, length, position + done)
    if (bytesRead === 0) {
      throw new FileFormatError(
        `${file.path} ended at byte ${position + done} while ${target.length} bytes from byte ${position} were read; the file may have changed`,
        { path: file.path, position, length: target.length },
      )
    }
    done += bytesRead
  }
}

/**
 * All bytes of a small file.
 * @param limit the most bytes it may have
 * @throws FileFormatError when it is larger than that.
 */
export async function readBytes(path: string, limit: number): Promise<Uint8Array> {
  return withInputFile(path, async (file) => {
    const { size } = file
    if (size > limit)
      throw new FileFormatError(`${path} has ${size} bytes; at most ${limit} are expected of such a file`, {
        path,
        size,
        limit,
      })
    const bytes = new Uint8Array(size)
    await readInto(file, bytes, 0)
    return bytes
  })
}

/**
 * The whole text of a small UTF-8 file.
 * @param limit the most bytes it may have
 * @throws FileFormatError when it is larger than that or not UTF-8.
 */
export async function readText(path: string, limit: number): Promise<string> {
  const bytes = await readBytes(path, limit)
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (cause) {
    throw new FileFormatError(`${path} is not UTF-8 text`, { path }, { cause })
  }
}

/**
 * The JSON object in a small file such as config.json.
 * @param limit the most bytes it may have
 * @throws FileFormatError when it is not JSON, or JSON but not an object.
 */
export async function readJsonObject(path: string, limit: number): Promise<Record<string, unknown>> {
  const value = parseJson(await readText(path, limit), path)
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    const found = value === null ? 'null' : Array.isArray(value) ? 'an array' : `a ${typeof value}`
    throw new FileFormatError(`${path} must hold a JSON object, not ${found}`, { path })
  }
  return value as Record<string, unknown>
}

/** No file of a model nests deeper; code that walks what was parsed may recurse. */
const DEEPEST_JSON = 128

/**
 * Parses JSON from outside. Messages give the place of a mistake and none of the text: it may be of a file that is no
 * JSON at all and that its owner shows to nobody.
 * @throws FileFormatError when it is not JSON, or nested too deeply
 */
export function parseJson(text: string, where: string): unknown {
  const deep = tooDeep(text)
  if (deep >= 0)
    throw new FileFormatError(
      `${where} nests objects and arrays more than ${DEEPEST_JSON} deep (${placeIn(text, deep)})`,
      { where, limit: DEEPEST_JSON },
    )
  try {
    return JSON.parse(text)
  } catch {
    const position = new JsonScanner(text).firstMistake(DEEPEST_JSON)
    throw new FileFormatError(
      `${where} is not valid JSON (${position === undefined ? 'it cannot be parsed' : placeIn(text, position)})`,
      { where },
    )
  }
}

/** Position at which the text first nests too deeply, or -1. */
function tooDeep(text: string): number {
  let depth = 0
  let quoted = false
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (quoted) {
      if (code === 0x5c) i++
      else if (code === 0x22) quoted = false
    } else if (code === 0x22) quoted = true
    else if (code === 0x7b || code === 0x5b) {
      if (++depth > DEEPEST_JSON) return i
    } else if (code === 0x7d || code === 0x5d) depth--
  }
  return -1
}

function placeIn(text: string, position: number): string {
  const before = text.slice(0, position)
  const line = before.split('\n').length
  return `line ${line}, column ${position - before.lastIndexOf('\n')}`
}

/** The product of two sizes, or undefined when it is no longer exact (2^53 and more). */
export function safeProduct(a: number, b: number): number | undefined {
  const product = a * b
  return Number.isSafeInteger(product) ? product : undefined
}
