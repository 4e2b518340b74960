/**
 * Opens and reads external files, which are untrusted: only regular files are opened, reads are exact and bounded, and
 * file contents in messages are quoted and truncated.
 */

import { constants } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { formatBytes } from '../core/bytes.js'
import { FileFormatError } from '../core/errors.js'
import { errnoWords } from '../core/system-error.js'
import { JsonScanner } from './json-scanner.js'
import { parseWritten } from './written-json.js'

/** The operations used on an open file. Declared without Node's types, since programs may compile without them. */
export interface OpenFile {
  read(target: Uint8Array, offset: number, length: number, position: number): Promise<{ bytesRead: number }>
  close(): Promise<void>
}

/** A file opened for reading, with its size in bytes at that time. */
export interface InputFile {
  handle: OpenFile
  path: string
  size: number
}

/** Git LFS limits its pointers to fewer bytes than this. */
const LARGEST_POINTER = 1024
const POINTER =
  /^version https:\/\/(?:git-lfs|hawser)\.github\.com\/spec\/v1\n(?:[\s\S]*\nsize (\d+)(?:\n|$))?/

/** @throws {FileFormatError} for a pointer of Git LFS, which a clone without its files has in their place */
async function refusePointer(handle: OpenFile, path: string): Promise<void> {
  const bytes = new Uint8Array(LARGEST_POINTER)
  const { bytesRead } = await handle.read(bytes, 0, bytes.length, 0)
  const [found, size] = POINTER.exec(Buffer.from(bytes.subarray(0, bytesRead)).toString('latin1')) ?? []
  if (found === undefined) return
  const whole = size === undefined ? '' : ` of ${formatBytes(Number(size))}`
  throw new FileFormatError(
    `${path} is a Git LFS pointer, not the file${whole} that it stands for; run git lfs pull in its repository, or download the file itself`,
    { path },
  )
}

/** The kernel and Node reject single reads of 2 GiB and more. */
const LARGEST_READ = 1 << 30

/**
 * Opens a regular file, passes it to `use`, and closes it.
 * @throws FileFormatError when it is missing, unreadable, or not a regular file.
 */
export async function withInputFile<T>(path: string, use: (file: InputFile) => Promise<T>): Promise<T> {
  let handle: FileHandle
  try {
    // Without O_NONBLOCK, opening a named pipe would block until a writer appears.
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
    if (stats.size <= LARGEST_POINTER) await refusePointer(handle, path)
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
        : `cannot be opened: ${errnoWords(cause)} (${code})`
  return new FileFormatError(`${path} ${reason}`, { path, reason: code }, { cause })
}

/**
 * Fills `target`, starting at `position` in the file.
 * @throws FileFormatError when the file ends too early (it was truncated while being read).
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
 * Reads all bytes of a small file.
 * @param limit maximum size in bytes
 * @throws FileFormatError when the file is larger.
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
 * Reads the whole text of a small UTF-8 file.
 * @param limit maximum size in bytes
 * @throws FileFormatError when the file is larger, or not UTF-8.
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
 * Reads the JSON object in a small file such as config.json.
 * @param limit maximum size in bytes
 * @throws FileFormatError when it is not JSON, or JSON but not an object.
 */
export async function readJsonObject(path: string, limit: number): Promise<Record<string, unknown>> {
  return objectIn(path, parseJson(await readText(path, limit), path))
}

/**
 * Reads the JSON object in a small file that is written again: numbers keep their text (`WrittenNumber`).
 * @param limit maximum size in bytes
 * @throws FileFormatError when it is not JSON, or JSON but not an object.
 */
export async function readWrittenJson(path: string, limit: number): Promise<Record<string, unknown>> {
  const text = await readText(path, limit)
  // Refuses mistakes with their place.
  parseJson(text, path)
  return objectIn(path, parseWritten(text, DEEPEST_JSON))
}

function objectIn(path: string, value: unknown): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    const found = value === null ? 'null' : Array.isArray(value) ? 'an array' : `a ${typeof value}`
    throw new FileFormatError(`${path} must hold a JSON object, not ${found}`, { path })
  }
  return value as Record<string, unknown>
}

/** Deeper than any real model file; bounds the recursion of code that walks the parsed value. */
const DEEPEST_JSON = 128

/**
 * Parses untrusted JSON. Messages give only the position of an error, not the text, since the file may be something
 * private that is not JSON at all.
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

/** Position at which the nesting first becomes too deep, or -1. */
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

/** The product of two sizes, or undefined if it is not exact (above 2^53 - 1). */
export function safeProduct(a: number, b: number): number | undefined {
  const product = a * b
  return Number.isSafeInteger(product) ? product : undefined
}
