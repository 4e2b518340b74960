/**
 * Regular expressions of JSON Schema as automata over code points: alternatives, groups, classes, and counts. What has
 * no automaton, or one that depends on what stands around it (references, assertions, word boundaries), is refused.
 */
import { ConfigError } from '../core/errors.js'
import { quote } from '../core/quote.js'
import { type Budget, determinize, Nfa, type Range, type State } from './automaton.js'

/** Code points that JSON texts can hold: all but surrogates. */
export const ANY: readonly Range[] = [
  [0, 0xd7ff],
  [0xe000, 0x10ffff],
]
const MOST_CHARACTERS = 4096
const MOST_COUNT = 4096
const DIGITS: readonly Range[] = [[0x30, 0x39]]
// biome-ignore format: a table
const WORD: readonly Range[] = [[0x30, 0x39], [0x41, 0x5a], [0x5f, 0x5f], [0x61, 0x7a]]
// biome-ignore format: a table
const SPACE: readonly Range[] = [[9, 13], [32, 32], [0xa0, 0xa0], [0x1680, 0x1680], [0x2000, 0x200a], [0x2028, 0x2029], [0x202f, 0x202f], [0x205f, 0x205f], [0x3000, 0x3000], [0xfeff, 0xfeff]]
// biome-ignore format: a table
const LINE_ENDS: readonly Range[] = [[10, 10], [13, 13], [0x2028, 0x2029]]
const CONTROLS: Readonly<Record<string, number>> = { t: 9, n: 10, v: 11, f: 12, r: 13, 0: 0 }
const CLASSES: Readonly<Record<string, readonly Range[]>> = {
  d: DIGITS,
  w: WORD,
  s: SPACE,
  D: allBut(DIGITS),
  W: allBut(WORD),
  S: allBut(SPACE),
}

type Node =
  | { kind: 'set'; ranges: readonly Range[] }
  | { kind: 'all'; parts: Node[] }
  | { kind: 'one'; options: Node[] }
  | { kind: 'repeat'; part: Node; least: number; most: number }

/**
 * The automaton of the texts in which a pattern occurs.
 * @throws {ConfigError} for a pattern that is not one, or that has no automaton
 */
export function patternStates(pattern: string, budget: Budget): State[] {
  if (pattern.length > MOST_CHARACTERS)
    throw new ConfigError(`the pattern has ${pattern.length} characters, expected at most ${MOST_CHARACTERS}`)
  const nfa = new Nfa(budget)
  const start = nfa.state()
  const options = new Parser(pattern).options()
  const end = nfa.choice(
    start,
    options.map(({ node, begins, ends }) => (from) => {
      const anywhere = (at: number) =>
        nfa.repeat(at, (inner) => nfa.after(inner, ANY), 0, Number.POSITIVE_INFINITY)
      const after = build(nfa, begins ? from : anywhere(from), node)
      return ends ? after : anywhere(after)
    }),
  )
  return determinize(nfa, [start], end).states
}

function build(nfa: Nfa, from: number, node: Node): number {
  switch (node.kind) {
    case 'set':
      return nfa.after(from, node.ranges)
    case 'all':
      return node.parts.reduce((at, part) => build(nfa, at, part), from)
    case 'one':
      return nfa.choice(
        from,
        node.options.map((option) => (at: number) => build(nfa, at, option)),
      )
    case 'repeat':
      return nfa.repeat(from, (at) => build(nfa, at, node.part), node.least, node.most)
  }
}

class Parser {
  readonly #characters: string[]
  #at = 0
  #depth = 0

  constructor(readonly pattern: string) {
    this.#characters = [...pattern]
  }

  /** The alternatives of the whole pattern, each of which may be bound to the beginning and the end. */
  options(): { node: Node; begins: boolean; ends: boolean }[] {
    const found: { node: Node; begins: boolean; ends: boolean }[] = []
    do {
      const begins = this.#take('^')
      const node = this.#parts()
      found.push({ node, begins, ends: this.#take('$') })
    } while (this.#take('|'))
    if (this.#next() !== undefined) throw this.#refused(`${quote(this.#next())} at character ${this.#at}`)
    return found
  }

  #parts(): Node {
    const parts: Node[] = []
    for (;;) {
      const next = this.#next()
      if (next === undefined || next === '|' || next === ')' || next === '$') return { kind: 'all', parts }
      parts.push(this.#counted(this.#one()))
    }
  }

  #group(): Node {
    if (++this.#depth > 64) throw this.#refused('groups more than 64 deep')
    if (this.#take('?') && !this.#take(':')) throw this.#refused('a group that begins with (? and is not (?:')
    const options = [this.#parts()]
    while (this.#take('|')) options.push(this.#parts())
    if (!this.#take(')')) throw this.#refused('a group that does not end, or an anchor inside of one')
    this.#depth--
    return { kind: 'one', options }
  }

  #one(): Node {
    const next = this.#pop()
    if (next === '(') return this.#group()
    if (next === '[') return { kind: 'set', ranges: this.#class() }
    if (next === '.') return { kind: 'set', ranges: allBut(LINE_ENDS) }
    if (next === '\\') return { kind: 'set', ranges: this.#escape() }
    if ('^*+?{}]'.includes(next)) throw this.#refused(`${quote(next)} at character ${this.#at - 1}`)
    return { kind: 'set', ranges: [single(next)] }
  }

  #counted(part: Node): Node {
    let least = 0
    let most = Number.POSITIVE_INFINITY
    if (this.#take('+')) least = 1
    else if (this.#take('?')) most = 1
    else if (this.#take('{')) {
      least = this.#number()
      most = this.#take(',') ? (this.#next() === '}' ? most : this.#number()) : least
      if (!this.#take('}') || most < least) throw this.#refused('a count that is not {n}, {n,} or {n,m}')
    } else if (!this.#take('*')) return part
    this.#take('?') // a lazy count reads the same texts
    return { kind: 'repeat', part, least, most }
  }

  #number(): number {
    let digits = ''
    while (/^[0-9]$/.test(this.#next() ?? '')) digits += this.#pop()
    const count = Number(digits)
    if (digits === '' || count > MOST_COUNT)
      throw this.#refused(`a count that is not a number up to ${MOST_COUNT}`)
    return count
  }

  #class(): readonly Range[] {
    const inverted = this.#take('^')
    const ranges: Range[] = []
    while (!this.#take(']')) {
      const first = this.#member()
      if (this.#next() === '-' && this.#characters[this.#at + 1] !== ']' && first.length === 1) {
        this.#pop()
        const [[low, high], last] = [first[0] as Range, this.#member()]
        const to = last[0] as Range
        if (low !== high || last.length !== 1 || to[0] !== to[1] || to[0] < low)
          throw this.#refused('a range in a class that is not in order')
        ranges.push([low, to[0]])
      } else ranges.push(...first)
    }
    if (ranges.length === 0 && !inverted) throw this.#refused('an empty class')
    return inverted ? allBut(ranges) : within(ranges)
  }

  #member(): readonly Range[] {
    const next = this.#pop()
    if (next !== '\\') return [single(next)]
    return this.#take('b') ? [[8, 8]] : this.#escape()
  }

  #escape(): readonly Range[] {
    const next = this.#pop()
    const known = Object.hasOwn(CLASSES, next) ? CLASSES[next] : undefined
    if (known !== undefined) return known
    const control = Object.hasOwn(CONTROLS, next) ? CONTROLS[next] : undefined
    if (control !== undefined) return [[control, control]]
    if (next === 'x') return [this.#hex(2)]
    if (next === 'u') {
      if (!this.#take('{')) return [this.#hex(4)]
      let digits = ''
      while (!this.#take('}')) digits += this.#pop()
      if (!/^[0-9a-f]{1,6}$/i.test(digits)) throw this.#refused('a malformed \\u{…}')
      return [valid(Number.parseInt(digits, 16), this)]
    }
    if (/^[A-Za-z0-9]$/.test(next)) throw this.#refused(`\\${next}`)
    return [single(next)]
  }

  #hex(length: number): Range {
    const digits = this.#characters.slice(this.#at, this.#at + length).join('')
    if (digits.length !== length || !/^[0-9a-f]+$/i.test(digits)) throw this.#refused('a malformed escape')
    this.#at += length
    return valid(Number.parseInt(digits, 16), this)
  }

  #next(): string | undefined {
    return this.#characters[this.#at]
  }

  #pop(): string {
    const next = this.#characters[this.#at++]
    if (next === undefined) throw this.#refused('an end in the middle of an expression')
    return next
  }

  #take(wanted: string): boolean {
    if (this.#next() !== wanted) return false
    this.#at++
    return true
  }

  #refused(what: string): ConfigError {
    return refused(this.pattern, what)
  }
}

function refused(pattern: string, what: string): ConfigError {
  return new ConfigError(`the pattern ${quote(pattern)} has ${what}, which is not supported`)
}

function valid(code: number, { pattern }: Parser): Range {
  if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) throw refused(pattern, 'half of a surrogate pair')
  return [code, code]
}

export function single(character: string): Range {
  const code = character.codePointAt(0) as number
  return [code, code]
}

/** Sorted and disjoint, without surrogates. */
function within(ranges: readonly Range[]): Range[] {
  return allBut(allBut(ranges))
}

/** All other code points. */
export function allBut(ranges: readonly Range[]): Range[] {
  const found: Range[] = []
  for (const [low, high] of ANY) {
    let next = low
    for (const [from, to] of [...ranges].sort((a, b) => a[0] - b[0])) {
      if (to < next || from > high) continue
      if (from > next) found.push([next, from - 1])
      next = Math.max(next, to + 1)
    }
    if (next <= high) found.push([next, high])
  }
  return found
}
