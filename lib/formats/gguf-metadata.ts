/**
 * Typed lookups in GGUF metadata. Writers choose integer widths freely, so any width is accepted; a value of the wrong
 * kind is an error that names the key.
 */

import { FileFormatError } from '../core/errors.js'
import { quote } from '../core/quote.js'
import { type GgufValue, UnreadStrings } from './gguf.js'

export type GgufMetadata = ReadonlyMap<string, GgufValue>

export class GgufKeys {
  /** @param prefix of all keys, such as `llama.` */
  constructor(
    readonly path: string,
    readonly metadata: GgufMetadata,
    readonly prefix = '',
  ) {}

  has(key: string): boolean {
    return this.metadata.has(this.prefix + key)
  }

  text(key: string): string | undefined {
    return this.typed(key, 'a string', (value) => typeof value === 'string') as string | undefined
  }

  flag(key: string): boolean | undefined {
    return this.typed(key, 'true or false', (value) => typeof value === 'boolean') as boolean | undefined
  }

  /** Any finite number; a float32 is converted to its shortest decimal, 1e-5 instead of 9.99999974e-6. */
  number(key: string): number | undefined {
    const value = this.typed(key, 'a finite number', Number.isFinite) as number | undefined
    return value === undefined ? undefined : shortestFloat32(value)
  }

  /** An integer of at least `least`. */
  integer(key: string, least = 0): number | undefined {
    const right = (value: GgufValue) => Number.isSafeInteger(value) && (value as number) >= least
    return this.typed(key, `an integer of at least ${least}`, right) as number | undefined
  }

  strings(key: string): readonly string[] | undefined {
    const right = (value: GgufValue) =>
      Array.isArray(value) && value.every((element) => typeof element === 'string')
    return this.typed(key, 'an array of strings', right) as string[] | undefined
  }

  /** Number of strings in an array, whether read or only counted. */
  stringCount(key: string): number | undefined {
    const value = this.metadata.get(this.prefix + key)
    return value instanceof UnreadStrings ? value.length : this.strings(key)?.length
  }

  /** An array of numbers of any width except 64-bit integers. */
  numbers(key: string): ArrayLike<number> | undefined {
    const right = (value: GgufValue) =>
      ArrayBuffer.isView(value) && !(value instanceof BigUint64Array || value instanceof BigInt64Array)
    // An empty array may have any element type, so it may have been parsed as an empty array of strings.
    const empty = (value: GgufValue) => Array.isArray(value) && value.length === 0
    return this.typed(key, 'an array of numbers', (value) => right(value) || empty(value)) as
      | ArrayLike<number>
      | undefined
  }

  required<T>(key: string, value: T | undefined): T {
    if (value !== undefined) return value
    const full = this.prefix + key
    throw new FileFormatError(`${this.path} lacks the key ${full}`, { path: this.path, key: full })
  }

  private typed(name: string, expected: string, right: (value: GgufValue) => boolean): GgufValue | undefined {
    const key = this.prefix + name
    const value = this.metadata.get(key)
    if (value === undefined || right(value)) return value
    const shown = typeof value === 'object' ? `an array of ${value.length}` : quote(value)
    throw new FileFormatError(`${this.path}: ${key} must be ${expected}, not ${shown}`, {
      path: this.path,
      key,
    })
  }
}

/** The shortest decimal that rounds to the same float32, as other programs write it in config.json. */
function shortestFloat32(value: number): number {
  if (Math.fround(value) !== value) return value
  for (let digits = 1; digits < 9; digits++) {
    const candidate = Number(value.toPrecision(digits))
    if (Math.fround(candidate) === value) return candidate
  }
  return value
}
