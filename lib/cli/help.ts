/** Shared descriptions and parsers of flags. */
import { type Command, InvalidArgumentError } from 'commander'
import { LowrankError } from '../core/errors.js'
import { parseBytes } from '../core/schema.js'
import { encodingName } from '../data/dataset/decode.js'
import type { ConfigControl } from '../train/config/config.js'
import { UsageError } from './errors.js'
import type { Output } from './output.js'

/** Adds example calls to a verb's help. */
export function examples(command: Command, lines: readonly string[]): void {
  const label = lines.length === 1 ? 'Example' : 'Examples'
  command.addHelpText('after', `\n${label}:\n${lines.map((line) => `  $ ${line}`).join('\n')}`)
}

/** Parser of a flag that takes an integer of at least `least`. */
export function integerFlag(least: number): (text: string) => number {
  return (text) => {
    const value = Number(text)
    if (/^\d+$/.test(text) && Number.isSafeInteger(value) && value >= least) return value
    throw new InvalidArgumentError(`Expected an integer from ${least}.`)
  }
}

/** Parser of a flag that takes a number in [low, high]. */
export function numberFlag(low: number, high: number): (text: string) => number {
  return (text) => {
    const value = Number(text)
    if (text.trim() !== '' && value >= low && value <= high) return value
    throw new InvalidArgumentError(`Expected a number from ${low} to ${high}.`)
  }
}

/** Parser of a flag that takes a size: in bytes, or with a unit, as in 500MB (decimal) and 8GiB (binary). */
export function bytesFlag(text: string): number {
  const value = parseBytes(text)
  if (value !== undefined) return value
  throw new InvalidArgumentError('Expected a number of bytes, or one with a unit, as in 500MB or 8GiB.')
}

/** Parser of a flag that takes the encoding of a dataset. */
export function encodingFlag(text: string): string {
  const name = text === 'auto' ? text : encodingName(text)
  if (name !== undefined) return name
  throw new InvalidArgumentError(
    'Expected auto, or an encoding such as utf-8, utf-16le, windows-1252, or shift_jis.',
  )
}

/** Names --encoding in an error about the encoding of data, which names the key of a config. */
export function withEncodingFlag(error: unknown): unknown {
  if (error instanceof LowrankError)
    error.message = error.message.replace(/set encoding: (\S+)$/, 'pass --encoding $1')
  return error
}

/**
 * Parser of a flag for the memory of a machine. A number without a unit is refused where it would be of bytes that no
 * program fits into.
 */
export function memoryFlag(text: string): number {
  const short = /^(\d+(?:\.\d+)?) ?([kmgt]?)$/i.exec(text)
  if (short && (short[2] || Number(short[1]) < 2 ** 20)) {
    const unit = short[2]?.toUpperCase() || (Number(short[1]) < 1024 ? 'G' : 'M')
    const why = short[2] ? 'No such unit' : 'Without a unit, this is a number of bytes'
    throw new InvalidArgumentError(`${why}. Did you mean ${short[1]}${unit}iB?`)
  }
  return bytesFlag(text)
}

/**
 * Refuses flags that do not apply to the selected subcommand.
 * @param does name of the subcommand, such as `bench memory`
 * @param own names of its options, in addition to `json`
 */
export function onlyOwnFlags(command: Command, does: string, own: readonly string[]): void {
  const other = command.options.find((option) => {
    const name = option.attributeName()
    return command.getOptionValueSource(name) === 'cli' && name !== 'json' && !own.includes(name)
  })
  if (other) throw new UsageError(`${other.long} is not a flag of \`${does}\`.`)
}

/** Options for reading a config: prints notes on values that an override discards. */
export function notedOn(output: Output): ConfigControl {
  return { onNote: (note) => output.note(`note: ${note}.`) }
}

/** Splits comma-separated names. */
export function names(text: string): string[] {
  return text.split(',').map((name) => name.trim())
}

/** Collects the values of a repeatable flag. */
export function collect(value: string, earlier: string[] = []): string[] {
  return [...earlier, value]
}
