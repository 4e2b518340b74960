/**
 * Turns anything thrown by a verb into a message, the error line of --json and an exit code: 1 failed, 2 wrong
 * usage, 130 interrupted. The message of an internal error asks to report it; LOWRANK_DEBUG=1 adds the stack to
 * any error.
 */
import { CommanderError } from 'commander'
import { InternalError, LowrankError } from '../core/errors.js'
import { codeOf, fromSystem } from '../core/system-error.js'
import { type Output, styledFor } from './output.js'

export const EXIT_FAILED = 1
export const EXIT_USAGE = 2
export const EXIT_INTERRUPTED = 130

/** The command line is wrong in a way that the parser does not detect. */
export class UsageError extends LowrankError {
  constructor(message: string, details: Record<string, unknown> = {}) {
    super('USAGE', message, details)
  }
}

/** Ctrl-C was pressed, and everything worth keeping has been saved. */
export class InterruptedError extends LowrankError {
  constructor(message: string, details: Record<string, unknown> = {}) {
    super('INTERRUPTED', message, details)
  }
}

interface Failure {
  code: string
  message: string
  details: Record<string, unknown>
  exitCode: number
}

/**
 * Reports an error on stderr and, with --json, as the last line of stdout.
 * @param verb command whose help a usage error refers to
 * @returns the exit code
 */
export function reportError(error: unknown, output: Output, verb?: string): number {
  const failure = describeError(error)
  output.live.clear()
  const label = failure.exitCode === EXIT_INTERRUPTED ? 'interrupted' : 'error'
  output.note(`${styledFor(output.stderr, 'red', `${label}:`)} ${failure.message}`)
  const more = whereMoreIs(failure.code, verb)
  if (more !== undefined) output.note(styledFor(output.stderr, 'dim', more))
  if (process.env.LOWRANK_DEBUG && error instanceof Error) output.note(stackOf(error))
  const { code, message, details } = failure
  output.error({ event: 'error', code, message, details })
  return failure.exitCode
}

/** Where to read more. The troubleshooting page has a heading for each code. */
function whereMoreIs(code: string, verb: string | undefined): string | undefined {
  if (code === 'INTERRUPTED') return undefined
  if (code !== 'USAGE') return `code ${code}, see docs/troubleshooting.md`
  return verb === undefined ? undefined : `see ${verb} --help`
}

/** Exit code of a verb that threw `error`. */
export function exitCodeOf(error: unknown): number {
  return describeError(error).exitCode
}

/** True for an error in lowrank itself rather than in its input. */
export function isDefect(given: unknown): boolean {
  const error = fromSystem(given)
  return !(error instanceof CommanderError || error instanceof LowrankError) || error instanceof InternalError
}

function describeError(given: unknown): Failure {
  const error = fromSystem(given)
  if (error instanceof CommanderError) return usageFailure(error)
  if (error instanceof LowrankError && !isDefect(error)) {
    const { code, message, details } = error
    return { code, message, details, exitCode: codeOfExit(code) }
  }
  const code = codeOf(error)
  return { code, message: defectMessage(error), details: {}, exitCode: EXIT_FAILED }
}

function codeOfExit(code: string): number {
  if (code === 'USAGE' || code === 'CONFIG') return EXIT_USAGE
  return code === 'INTERRUPTED' ? EXIT_INTERRUPTED : EXIT_FAILED
}

/** The parser's messages begin with `error: ` and have the nearest known name on a second line. */
function usageFailure({ message }: CommanderError): Failure {
  const text = message.replace(/^error: /, '').replace(/\n\(Did (.*)\)$/, '; did $1')
  const sentence = /[.?!]$/.test(text) ? text : `${text}.`
  return { code: 'USAGE', message: sentence, details: {}, exitCode: EXIT_USAGE }
}

function defectMessage(error: unknown): string {
  const what = error instanceof Error ? `${error.name}: ${error.message}` : String(error)
  const stack = process.env.LOWRANK_DEBUG ? '' : ' Set LOWRANK_DEBUG=1 to see the stack trace.'
  return (
    `${what}\nThis is a bug in lowrank, not in your input.${stack} ` +
    'Please report it with the command, this message and the output of `lowrank doctor --json`.'
  )
}

function stackOf(error: Error): string {
  const cause = error.cause instanceof Error ? `\ncaused by ${stackOf(error.cause)}` : ''
  return `${error.stack ?? error.message}${cause}`
}
