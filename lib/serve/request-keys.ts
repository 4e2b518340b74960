/** Keys of requests that other servers know, and misspelled ones. */
import { nearest } from '../core/nearest.js'
import { invalid, unsupported } from './errors.js'

export interface ForeignKeys {
  /** Keys that change nothing here. */
  withoutEffect: readonly string[]
  /** Keys that would change the answer, each with what to do instead. */
  refused: Readonly<Record<string, string>>
}

/**
 * Headers that name the keys of a request without an effect here.
 * @throws {ApiError} for keys that would have one, and for misspelled ones
 */
export function keysOf(
  body: object,
  known: readonly string[],
  { withoutEffect, refused }: ForeignKeys,
): Record<string, string> {
  const ignored: string[] = []
  for (const [key, value] of Object.entries(body)) {
    if (known.includes(key)) continue
    if (value === null || value === undefined) continue
    const advice = Object.hasOwn(refused, key) ? refused[key] : undefined
    if (advice !== undefined) throw unsupported(key, advice)
    const near = withoutEffect.includes(key) ? undefined : nearest(key, known)
    if (near !== undefined)
      throw invalid(
        key,
        `Unrecognized request argument supplied: ${key}; did you mean ${near}?`,
        'unknown_parameter',
      )
    ignored.push(key)
  }
  const printable = ignored.filter((key) => /^[\w.-]{1,64}$/.test(key)).slice(0, 16)
  return printable.length === 0 ? {} : { 'x-lowrank-ignored': printable.join(',') }
}
