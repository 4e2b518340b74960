/** Reads names and literals of JSON and of Python in a text that may not have ended yet. Values become compact JSON. */

/** Thrown where the text ends too early to tell what it is. */
export class Unfinished extends Error {}

/** Thrown where the text is something else. */
export class Unreadable extends Error {}

const MOST_DEPTH = 64
const DIGITS = /[\w.+-]*/y
const NUMBER = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/
const NAME = /[A-Za-z_][\w.:/-]*/y
const SPACE = /\s*/y
const WORDS: Readonly<Record<string, string>> = {
  ...{ true: 'true', True: 'true', false: 'false', False: 'false', null: 'null', None: 'null' },
}
const ESCAPED: Readonly<Record<string, string>> = {
  ...{ b: '\b', f: '\f', n: '\n', r: '\r', t: '\t', '"': '"', "'": "'", '\\': '\\', '/': '/' },
}

export class Literals {
  readonly #text: string
  readonly #ended: boolean
  at: number

  /** @param ended whether nothing follows the text */
  constructor(text: string, at: number, ended: boolean) {
    this.#text = text
    this.#ended = ended
    this.at = at
  }

  get atEnd(): boolean {
    return this.at === this.#text.length
  }

  white(): this {
    this.#match(SPACE)
    return this
  }

  /** The next character. */
  peek(): string {
    return this.#text[this.at] ?? this.#cut()
  }

  take(word: string): this {
    if (!this.tries(word)) throw new Unreadable()
    return this
  }

  /** Takes a word if it is next. */
  tries(word: string): boolean {
    if (this.#text.startsWith(word, this.at)) {
      this.at += word.length
      return true
    }
    if (!this.#ended && word.startsWith(this.#text.slice(this.at))) throw new Unfinished()
    return false
  }

  /** The text before a word, which is taken too. */
  until(word: string): string {
    const end = this.#text.indexOf(word, this.at)
    if (end < 0) return this.#cut()
    const before = this.#text.slice(this.at, end)
    this.at = end + word.length
    return before
  }

  /** The name of a function or of an argument. */
  name(): string {
    const name = this.#match(NAME)
    // The name may go on.
    this.peek()
    if (name === '') throw new Unreadable()
    return name
  }

  /** A list between brackets, whose entries are separated by commas. */
  list<T>(open: string, close: string, entry: () => T): T[] {
    this.take(open)
    const entries: T[] = []
    while (!this.white().tries(close)) {
      if (entries.length > 0) this.take(',').white()
      entries.push(entry())
    }
    return entries
  }

  /** The members of an object, whose values are JSON. */
  members(depth = 0): Map<string, string> {
    const entries = this.list('{', '}', () => {
      const key = this.string()
      this.white().take(':').white()
      return [key, this.value(depth + 1)] as const
    })
    const members = new Map(entries)
    if (members.size < entries.length) throw new Unreadable()
    return members
  }

  /** The JSON of a value. */
  value(depth = 0): string {
    if (depth > MOST_DEPTH) throw new Unreadable()
    const next = this.peek()
    if (next === '{') return jsonOf(this.members(depth))
    if (next === '[') return `[${this.list('[', ']', () => this.value(depth + 1)).join(',')}]`
    if (next === '"' || next === "'") return JSON.stringify(this.string())
    if (next === '-' || /\d/.test(next)) {
      const number = this.#match(DIGITS)
      // More of it may follow.
      if (this.atEnd && !this.#ended) throw new Unfinished()
      if (!NUMBER.test(number)) throw new Unreadable()
      return number
    }
    const word = this.#match(NAME)
    if (this.atEnd && !this.#ended) throw new Unfinished()
    const json = Object.hasOwn(WORDS, word) ? WORDS[word] : undefined
    if (json === undefined) throw new Unreadable()
    return json
  }

  string(): string {
    const quote = this.peek()
    if (quote !== '"' && quote !== "'") throw new Unreadable()
    let text = ''
    for (this.at++; this.peek() !== quote; this.at++) {
      if (this.peek() !== '\\') {
        text += this.peek()
        continue
      }
      this.at++
      const escaped = this.peek()
      if (escaped === 'u' || escaped === 'x') {
        const digits = this.#text.slice(this.at + 1, this.at + (escaped === 'u' ? 5 : 3))
        if (digits.length < (escaped === 'u' ? 4 : 2)) this.#cut()
        if (!/^[\da-f]+$/i.test(digits)) throw new Unreadable()
        text += String.fromCharCode(Number.parseInt(digits, 16))
        this.at += digits.length
      } else text += ESCAPED[escaped] ?? `\\${escaped}`
    }
    this.at++
    return text
  }

  #match(pattern: RegExp): string {
    pattern.lastIndex = this.at
    const [found = ''] = pattern.exec(this.#text) ?? []
    this.at += found.length
    return found
  }

  #cut(): never {
    throw this.#ended ? new Unreadable() : new Unfinished()
  }
}

/** The JSON of an object whose values are JSON. */
export function jsonOf(members: Iterable<readonly [string, string]>): string {
  return `{${Array.from(members, ([key, value]) => `${JSON.stringify(key)}:${value}`).join(',')}}`
}
