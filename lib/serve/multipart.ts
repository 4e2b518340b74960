/** Bodies with a file, which are streamed to disk: their parts may come in any order, and their length may be unknown. */
import { createWriteStream } from 'node:fs'
import type { IncomingHttpHeaders } from 'node:http'
import { basename } from 'node:path'
import type { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { Busboy } from '@fastify/busboy'
import { ApiError, invalid } from './errors.js'

const MOST_NAME = 255

/** Where the file of a body goes. */
export interface Spool {
  /** Name of the part that has it. */
  part: string
  /** Most bytes of it. */
  most: number
  path: string
}

/** @throws {ApiError} for a body without that file, or one that is too large */
export async function spooled(
  body: Readable,
  headers: IncomingHttpHeaders,
  { part, most, path }: Spool,
): Promise<{ filename: string; fields: ReadonlyMap<string, string> }> {
  if (!/^multipart\/form-data\b/i.test(headers['content-type'] ?? ''))
    throw new ApiError(415, 'Expected a body of the type multipart/form-data.', 'unsupported_media_type')
  const fields = new Map<string, string>()
  let filename: string | undefined
  let writing: Promise<void> | undefined
  let refused: ApiError | undefined
  const parser = new Busboy({
    headers: headers as IncomingHttpHeaders & { 'content-type': string },
    limits: { fileSize: most + 1, files: 1, fields: 16, fieldSize: 4096, parts: 20, headerPairs: 20 },
  })
  parser.on('field', (name, value) => void fields.set(name, value))
  parser.on('file', (name, stream, given) => {
    if (name !== part) refused ??= invalid(name, `Expected the file in the part '${part}'; got '${name}'.`)
    filename = safeName(given)
    stream.on('limit', () => {
      refused ??= new ApiError(413, `The ${part} is larger than ${most} bytes.`, 'request_too_large', part)
    })
    writing = pipeline(stream, createWriteStream(path, { mode: 0o600 }))
    writing.catch(() => undefined)
  })
  try {
    await pipeline(body, parser)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code?.startsWith('ERR_STREAM')) throw error
    throw new ApiError(400, 'The upload is not valid multipart/form-data.', 'invalid_body')
  }
  if (writing === undefined || filename === undefined)
    throw invalid(part, `Missing required parameter: '${part}'.`, 'missing_required_parameter')
  await written(writing)
  if (refused !== undefined) throw refused
  return { filename, fields }
}

/** @throws {ApiError} when the disk is full */
export async function written(writing: Promise<void>): Promise<void> {
  try {
    await writing
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOSPC')
      throw new ApiError(503, 'The disk of the server is full.', 'insufficient_storage')
    throw cause
  }
}

/** A name for people, which never becomes a path. */
export function safeName(given: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: those are what is removed.
  const plain = basename(given.replaceAll('\\', '/')).replace(/[\u0000-\u001f\u007f]/g, '')
  return plain.slice(0, MOST_NAME) || 'upload.jsonl'
}
