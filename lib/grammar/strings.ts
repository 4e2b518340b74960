/**
 * Texts of JSON strings: automata over code points become automata over the bytes between the quotes. A code point has
 * one spelling, that of `JSON.stringify`: UTF-8, or the shortest escape where one is needed.
 */

import type { Nfa, Range, State } from './automaton.js'
import { ANY, allBut, single } from './pattern.js'

const BYTES: Range = [0x80, 0xbf]
const SHORT: ReadonlyMap<number, string> = new Map([
  [0x08, 'b'],
  [0x09, 't'],
  [0x0a, 'n'],
  [0x0c, 'f'],
  [0x0d, 'r'],
  [0x22, '"'],
  [0x5c, '\\'],
])
const QUOTE: Range = [0x22, 0x22]

/** A string whose characters an automaton reads. */
export function stringOf(nfa: Nfa, from: number, states: readonly State[]): number {
  const own = states.map(() => nfa.state())
  const spelling = new Spelling(nfa)
  nfa.after(from, [QUOTE], own[0])
  const end = nfa.state()
  for (const [index, { edges, accepts }] of states.entries()) {
    const at = own[index] as number
    const byTarget = new Map<number, Range[]>()
    for (const [low, high, to] of edges) byTarget.set(to, [...(byTarget.get(to) ?? []), [low, high]])
    for (const [to, ranges] of byTarget) spelling.character(at, ranges, own[to] as number)
    if (accepts) nfa.after(at, [QUOTE], end)
  }
  return end
}

/** Strings by their numbers of characters, which share what is left to read of them. */
export class Lengths {
  readonly #left: (number | undefined)[] = []
  readonly #needed = new Map<string, number>()
  readonly #spelling: Spelling
  readonly end: number

  constructor(readonly nfa: Nfa) {
    this.#spelling = new Spelling(nfa)
    this.end = nfa.state()
  }

  /** The state before a string of `least` to `most` characters, which may be infinite. */
  start(least: number, most: number): number {
    const start = this.nfa.state()
    let to = this.#upTo(most - least)
    for (let count = 1; count <= least; count++) {
      const key = `${count},${most - least}`
      let known = this.#needed.get(key)
      if (known === undefined) {
        known = this.nfa.state()
        this.#spelling.character(known, ANY, to)
        this.#needed.set(key, known)
      }
      to = known
    }
    this.nfa.after(start, [QUOTE], to)
    return start
  }

  /** The state before at most this many characters and the quote. */
  #upTo(most: number): number {
    if (most === Number.POSITIVE_INFINITY) {
      const known = this.#needed.get('any')
      if (known !== undefined) return known
      const any = this.nfa.state()
      this.#needed.set('any', any)
      this.#spelling.character(any, ANY, any)
      this.nfa.after(any, [QUOTE], this.end)
      return any
    }
    while (this.#left.length <= most) {
      const count = this.#left.length
      const state = this.nfa.state()
      if (count > 0) this.#spelling.character(state, ANY, this.#left[count - 1] as number)
      this.nfa.after(state, [QUOTE], this.end)
      this.#left.push(state)
    }
    return this.#left[most] as number
  }
}

/** Adds the bytes of characters. */
class Spelling {
  /** States before the last bytes of a character, by their number and the state after it. */
  readonly #last = new Map<string, number>()

  constructor(private readonly nfa: Nfa) {}

  character(from: number, ranges: readonly Range[], to: number): void {
    const plain: Range[] = []
    for (const [low, high] of ranges) {
      let next = Math.max(low, 0x20)
      for (const special of [0x22, 0x5c])
        if (special >= next && special <= high) {
          if (special > next) plain.push([next, special - 1])
          next = special + 1
        }
      if (next <= high) plain.push([next, high])
    }
    this.plain(from, plain, to)
    this.#escapes(from, ranges, to)
  }

  /** The bytes of code points that stand for themselves. */
  plain(from: number, ranges: readonly Range[], to: number): void {
    for (const [low, high] of ranges) for (const bytes of utf8(low, high)) this.#bytes(from, bytes, to)
  }

  #bytes(from: number, bytes: readonly Range[], to: number): void {
    let at = from
    for (const [index, range] of bytes.entries()) {
      const left = bytes.length - 1 - index
      if (left === 0) this.nfa.after(at, [range], to)
      else if (bytes.slice(index + 1).every(([low, high]) => low === BYTES[0] && high === BYTES[1])) {
        this.nfa.after(at, [range], this.#before(left, to))
        return
      } else at = this.nfa.after(at, [range])
    }
  }

  #before(count: number, to: number): number {
    if (count === 0) return to
    const key = `${count},${to}`
    let known = this.#last.get(key)
    if (known === undefined) {
      known = this.nfa.state()
      this.nfa.after(known, [BYTES], this.#before(count - 1, to))
      this.#last.set(key, known)
    }
    return known
  }

  #escapes(from: number, ranges: readonly Range[], to: number): void {
    const has = (code: number) => ranges.some(([low, high]) => low <= code && code <= high)
    const short = [...SHORT].filter(([code]) => has(code)).map(([, letter]) => letter.charCodeAt(0))
    const long = Array.from({ length: 32 }, (_, code) => code).filter((code) => has(code) && !SHORT.has(code))
    if (short.length === 0 && long.length === 0) return
    const slash = this.nfa.after(from, [[0x5c, 0x5c]])
    for (const letter of short) this.nfa.after(slash, [[letter, letter]], to)
    if (long.length === 0) return
    const high = this.nfa.text(slash, 'u00')
    for (const first of [0, 1]) {
      const digits = long
        .filter((code) => code >> 4 === first)
        .map((code) => (code & 15).toString(16).charCodeAt(0))
      if (digits.length === 0) continue
      const low = this.nfa.text(high, String(first))
      for (const digit of digits) this.nfa.after(low, [[digit, digit]], to)
    }
  }
}

/** Control characters but tabs and line feeds. */
const CONTROLS: readonly Range[] = [
  [0x00, 0x08],
  [0x0b, 0x1f],
]

/** A text without `stop`, which is in ASCII, and without control characters but tabs and line feeds. */
export function textWithout(nfa: Nfa, from: number, stop: string): number {
  // A state is the length of the beginning of `stop` that has just been read.
  const states = Array.from(stop, () => nfa.state())
  const end = nfa.state()
  nfa.move(from, states[0] as number)
  const spelling = new Spelling(nfa)
  const symbols = [...new Set(stop)]
  const others = allBut([...CONTROLS, ...symbols.map(single)])
  for (const [read, state] of states.entries()) {
    nfa.move(state, end)
    for (const symbol of symbols) {
      const to = states[beginningRead(stop, stop.slice(0, read) + symbol)]
      if (to !== undefined) nfa.after(state, [single(symbol)], to)
    }
    spelling.plain(state, others, states[0] as number)
  }
  return end
}

/** The most characters at the end of a text that `stop` begins with. */
function beginningRead(stop: string, text: string): number {
  let length = Math.min(text.length, stop.length)
  while (!text.endsWith(stop.slice(0, length))) length--
  return length
}

/** The bytes of the code points `low` to `high`, as sequences of ranges. */
function utf8(low: number, high: number): Range[][] {
  for (const most of [0x7f, 0x7ff, 0xffff])
    if (low <= most && high > most) return [...utf8(low, most), ...utf8(most + 1, high)]
  const length = low <= 0x7f ? 1 : low <= 0x7ff ? 2 : low <= 0xffff ? 3 : 4
  for (let index = 1; index < length; index++) {
    const mask = 2 ** (6 * index) - 1
    if (low - (low % (mask + 1)) === high - (high % (mask + 1))) continue
    if (low % (mask + 1) !== 0) {
      const end = low - (low % (mask + 1)) + mask
      return [...utf8(low, end), ...utf8(end + 1, high)]
    }
    if (high % (mask + 1) !== mask) {
      const begin = high - (high % (mask + 1))
      return [...utf8(low, begin - 1), ...utf8(begin, high)]
    }
  }
  const [first, last] = [Buffer.from(String.fromCodePoint(low)), Buffer.from(String.fromCodePoint(high))]
  return [[...first].map((byte, index): Range => [byte, last[index] as number])]
}
