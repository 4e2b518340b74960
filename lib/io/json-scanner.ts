/**
 * A strict pull parser for the JSON in untrusted headers. `JSON.parse` keeps the last of duplicate keys, rounds large
 * integers, and builds everything before a limit can be checked; this parser lets the caller handle all three while
 * reading the document member by member.
 */

const INTEGER = /(?:0|[1-9][0-9]*)(?![0-9.eE])/y
const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y
const LITERAL = /true|false|null/y
const NULL = /null/y
// biome-ignore lint/suspicious/noControlCharactersInRegex: JSON forbids raw control characters in strings.
const NEEDS_CARE = /[\\\u0000-\u001f]/
const LONE_SURROGATE = /\p{Surrogate}/u

/** True for a space, a tab, or a line break; headers rarely have any. */
const isWhiteSpace = (code: number) => code === 0x20 || code === 0x0a || code === 0x0d || code === 0x09

/** A syntax error, with its position. */
export class JsonSyntaxError extends Error {}

export class JsonScanner {
  private position = 0

  constructor(private readonly text: string) {}

  fail(message: string): never {
    throw new JsonSyntaxError(`${message} at character ${this.position}`)
  }

  /** Reads an object; `member` is called after each key and must consume the value. Duplicate keys are an error. */
  object(member: (key: string) => void): void {
    for (const key of this.members()) member(key)
  }

  /** Yields the keys of an object; each value must be consumed before the next key is requested. */
  *members(): Generator<string, void, void> {
    const seen = new Set<string>()
    for (const _ of this.sequence('{', '}')) {
      const key = this.string()
      if (seen.has(key)) this.fail(`the key ${JSON.stringify(key.slice(0, 80))} appears twice`)
      seen.add(key)
      this.expect(':')
      yield key
    }
  }

  /** Reads an array; `element` must consume one value. */
  array(element: () => void): void {
    for (const _ of this.sequence('[', ']')) element()
  }

  string(): string {
    this.skipWhiteSpace()
    const start = this.position
    if (this.text[start] !== '"') this.fail('expected a string')
    let end = this.text.indexOf('"', start + 1)
    if (end < 0) this.fail('a string does not end')
    const plain = this.text.slice(start + 1, end)
    if (!NEEDS_CARE.test(plain)) {
      this.position = end + 1
      return plain
    }
    while (this.escaped(end)) {
      end = this.text.indexOf('"', end + 1)
      if (end < 0) this.fail('a string does not end')
    }
    let value: string
    try {
      value = JSON.parse(this.text.slice(start, end + 1)) as string
    } catch {
      return this.fail('a string with a bad escape or a raw control character')
    }
    if (LONE_SURROGATE.test(value)) this.fail('a string with an unpaired surrogate')
    this.position = end + 1
    return value
  }

  /** An integer from 0 to 2^53 - 1, written without sign, fraction, or exponent. */
  size(): number {
    const digits = this.match(INTEGER) ?? this.fail('expected a non-negative integer')
    const value = Number(digits)
    if (!Number.isSafeInteger(value)) this.fail(`the integer ${digits.slice(0, 40)} is too large`)
    return value
  }

  /** Reads null, if that is next. */
  isNull(): boolean {
    return this.match(NULL) !== undefined
  }

  /** Skips any value nested at most `depth` deep. */
  skip(depth: number): void {
    this.skipWhiteSpace()
    const next = this.text[this.position]
    if (depth === 0 && (next === '{' || next === '[')) this.fail('nested too deeply')
    if (next === '{') this.object(() => this.skip(depth - 1))
    else if (next === '[') this.array(() => this.skip(depth - 1))
    else if (next === '"') this.string()
    else if (this.match(NUMBER) === undefined && this.match(LITERAL) === undefined)
      this.fail('expected a value')
  }

  /**
   * Reads any value nested at most `depth` deep. Of duplicate keys the last counts, as for `JSON.parse`.
   * @param number makes the value of a number from its text
   */
  value(depth: number, number: (text: string) => unknown): unknown {
    this.skipWhiteSpace()
    const next = this.text[this.position]
    if (depth === 0 && (next === '{' || next === '[')) this.fail('nested too deeply')
    if (next === '"') return this.string()
    if (next === '[') return Array.from(this.sequence('[', ']'), () => this.value(depth - 1, number))
    if (next === '{')
      return Object.fromEntries(
        Array.from(this.sequence('{', '}'), () => {
          const key = this.string()
          this.expect(':')
          return [key, this.value(depth - 1, number)]
        }),
      )
    const digits = this.match(NUMBER)
    if (digits !== undefined) return number(digits)
    return JSON.parse(this.match(LITERAL) ?? this.fail('expected a value'))
  }

  /** The position at which the text stops being a single JSON value; undefined if it is valid. */
  firstMistake(depth: number): number | undefined {
    try {
      this.skip(depth)
      this.end()
      return undefined
    } catch (error) {
      if (error instanceof JsonSyntaxError) return this.position
      throw error
    }
  }

  /** Requires that only white space follows. */
  end(): void {
    this.skipWhiteSpace()
    if (this.position !== this.text.length) this.fail('unexpected text after the end')
  }

  private *sequence(open: string, close: string): Generator<void, void, void> {
    this.expect(open)
    this.skipWhiteSpace()
    if (this.text[this.position] === close) {
      this.position += 1
      return
    }
    for (;;) {
      yield
      this.skipWhiteSpace()
      const next = this.text[this.position]
      if (next !== ',' && next !== close) this.fail(`expected "," or "${close}"`)
      this.position += 1
      if (next === close) return
    }
  }

  private escaped(quotePosition: number): boolean {
    let backslashes = 0
    while (this.text[quotePosition - 1 - backslashes] === '\\') backslashes += 1
    return backslashes % 2 === 1
  }

  private expect(character: string): void {
    this.skipWhiteSpace()
    if (this.text[this.position] !== character) this.fail(`expected "${character}"`)
    this.position += 1
  }

  private match(pattern: RegExp): string | undefined {
    this.skipWhiteSpace()
    pattern.lastIndex = this.position
    const found = pattern.exec(this.text)?.[0]
    if (found !== undefined) this.position += found.length
    return found
  }

  private skipWhiteSpace(): void {
    while (isWhiteSpace(this.text.charCodeAt(this.position))) this.position += 1
  }
}
