/**
 * Validates arguments of public functions, which may be anything in plain JavaScript. An invalid argument throws a
 * ConfigError that names the function, the argument, its value, and what was expected.
 */
import * as z from 'zod'
import type { ConfigError } from './errors.js'
import { badValue, nearest, parseOptions } from './schema.js'
import { isRecord } from './schema-shape.js'

const OPTIONS = 'an object of options'

/**
 * Validates the options of a function and fills in the defaults.
 * @param name of the function, as in `generate()`
 * @param usual values of options that are not given, where these are not the defaults of the schema
 * @throws {ConfigError} for a non-object, unknown keys, and values out of range
 */
export function checkedOptions<T>(
  schema: z.ZodType<T>,
  options: unknown,
  name: string,
  usual: object = {},
): T {
  const source = { name, spelling: 'camel' } as const
  if (options !== undefined && !isRecord(options)) throw badArgument(options, name, 'options', OPTIONS)
  const given = Object.entries(options ?? {}).filter(([key, value]) => value !== undefined || !(key in usual))
  return parseOptions(schema, { ...usual, ...Object.fromEntries(given) }, source)
}

/** The error for an invalid argument of a function. */
export function badArgument(value: unknown, name: string, argument: string, expected: string): ConfigError {
  return badValue({ name, spelling: 'camel' }, argument, value, expected)
}

/** @throws {ConfigError} unless the value is a string */
export function checkedText(value: unknown, name: string, argument: string, expected = 'a text'): string {
  if (typeof value === 'string') return value
  throw badArgument(value, name, argument, expected)
}

/** @throws {ConfigError} unless the value is a string that can be a path */
export function checkedPath(value: unknown, name: string, argument: string, expected = 'a path'): string {
  if (isPath(value)) return value
  throw badArgument(value, name, argument, expected)
}

/** @throws {ConfigError} unless the value is one of the words */
export function checkedWord<Word extends string>(
  value: unknown,
  words: readonly Word[],
  name: string,
  argument: string,
): Word {
  const found = words.find((word) => word === value)
  if (found !== undefined) return found
  const close = typeof value === 'string' ? nearest(value, words) : undefined
  throw badArgument(
    value,
    name,
    argument,
    `${close ? `${close}, or another ` : 'one '}of ${words.join(', ')}`,
  )
}

/** No operating system accepts paths that contain NUL. */
const isPath = (value: unknown): value is string =>
  typeof value === 'string' && value !== '' && !value.includes('\0')

/** Schema of an option that is a path. */
export function path(expected = 'a path') {
  return z.string({ error: expected }).refine(isPath, { error: expected })
}

/** Schema of an option that is a callback. */
export function callback<Call extends (...given: never[]) => void>() {
  return z.custom<Call>((value) => typeof value === 'function', { error: 'a function' })
}

/** Schema of an option that is an AbortSignal. */
export function abortSignal() {
  const error = 'an AbortSignal'
  return z.custom<AbortSignal>((value) => value instanceof AbortSignal, { error })
}
