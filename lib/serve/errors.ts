/**
 * Errors of the service in the shape that OpenAI's clients read: `{error: {message, type, param, code}}`, with all four
 * keys. A definite refusal also tells clients not to try again, since they repeat a request by status alone.
 */
import type * as z from 'zod'
import {
  ConfigError,
  DataError,
  FileFormatError,
  OutOfMemoryError,
  SystemError,
  UnsupportedError,
  WriteError,
} from '../core/errors.js'
import { quote } from '../core/quote.js'

/** A request that gets an error as its answer. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly code: string | null = null,
    readonly param: string | null = null,
    readonly headers: Readonly<Record<string, string>> = {},
  ) {
    super(message)
    this.name = 'ApiError'
  }

  get type(): string {
    if (this.status === 429) return 'rate_limit_error'
    return this.status >= 500 ? 'server_error' : 'invalid_request_error'
  }

  get body(): { error: { message: string; type: string; param: string | null; code: string | null } } {
    const { message, type, param, code } = this
    return { error: { message, type, param, code } }
  }
}

/** A value that is not possible. */
export function invalid(param: string, message: string, code = 'invalid_value'): ApiError {
  return new ApiError(400, message, code, param)
}

/** A key that other servers know and this one does not. */
export function unsupported(param: string, advice: string): ApiError {
  return invalid(param, `'${param}' is not supported: ${advice}.`, 'unsupported_parameter')
}

/** A refusal for now: the client may try again later. */
export function overloaded(message: string, seconds = 1): ApiError {
  return new ApiError(429, message, 'rate_limit_exceeded', null, { 'retry-after': String(seconds) })
}

export function unknownModel(name: string): ApiError {
  return new ApiError(
    404,
    `The model ${quote(name)} does not exist or you do not have access to it.`,
    'model_not_found',
    'model',
  )
}

/** Names of files in a message are those of this machine, which a client does not get. */
export type Hide = (message: string) => string

/** The answer to whatever was thrown: errors of this package are the request's, all others are the server's. */
export function asApiError(
  error: unknown,
  param: string | null = null,
  hide: Hide = (text) => text,
): ApiError {
  if (error instanceof ApiError) return error
  if (error instanceof OutOfMemoryError)
    return new ApiError(503, hide(error.message), 'overloaded', null, { 'retry-after': '30' })
  if (error instanceof WriteError)
    return new ApiError(503, 'The disk of the server refuses to be written to.', 'insufficient_storage')
  if (isOfSystem(error))
    return new ApiError(
      503,
      'The server cannot start a process that it needs for texts. Its log has the details, by the id of the request.',
      null,
      null,
      { 'retry-after': '30' },
    )
  const isRequest =
    error instanceof ConfigError ||
    error instanceof DataError ||
    error instanceof UnsupportedError ||
    error instanceof FileFormatError
  if (isRequest) return new ApiError(400, hide(error.message), 'invalid_value', param)
  return new ApiError(500, 'The server had an error. Its log has the details, by the id of the request.')
}

/** True where the system, or LOWRANK_NODE, lets no process start: no request is to blame. */
function isOfSystem(error: unknown): boolean {
  return error instanceof SystemError || (error instanceof UnsupportedError && 'execPath' in error.details)
}

/**
 * The value by its schema.
 * @param at its place in the request
 * @throws {ApiError} for the first mistake, naming the path of the key
 */
export function checked<T>(schema: z.ZodType<T>, value: unknown, at: readonly PropertyKey[] = []): T {
  const result = schema.safeParse(value, { jitless: true })
  if (result.success) return result.data
  const issue = result.error.issues[0] as z.core.$ZodIssue
  const param = pathOf([...at, ...issue.path])
  if (issue.code === 'unrecognized_keys') {
    const key = [param, issue.keys[0]].filter(Boolean).join('.')
    throw invalid(key, `Unrecognized request argument supplied: ${key}.`, 'unknown_parameter')
  }
  const found = issue.path.reduce(
    (inner: unknown, key) => (inner as Record<PropertyKey, unknown> | null)?.[key],
    value,
  )
  if (found === undefined)
    throw invalid(param, `Missing required parameter: '${param}'.`, 'missing_required_parameter')
  throw invalid(param, `Invalid value for '${param}': ${issue.message}; got ${shown(found)}.`)
}

function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value)
  return text.length > 80 ? `${text.slice(0, 80)}…` : text
}

/** As in `messages[2].role`. */
function pathOf(path: readonly PropertyKey[]): string {
  return path
    .map((key, index) => (typeof key === 'number' ? `[${key}]` : `${index === 0 ? '' : '.'}${String(key)}`))
    .join('')
}
