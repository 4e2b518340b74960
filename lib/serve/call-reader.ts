/** Parts an answer into its text and its tool calls while it comes. What only looks like a call stays text. */
import type { CallForm, Parameters, WrittenCall } from './call-forms.js'
import { Literals, Unfinished, Unreadable } from './literals.js'

/** A part of an answer: text, or calls with the text that they were read from. */
export type AnswerPart = { text: string } | { calls: readonly WrittenCall[]; raw: string }

/** The last characters of calls, in all forms. */
const CLOSES = /[}\])>]/
/** The most times that a call is read again because it may have ended, on average over its characters. */
const MOST_READS = 32
/** Characters after which a call is read again in any case. */
const LEAST_GROWTH = 16

export class CallReader {
  readonly #form: CallForm
  readonly #parameters: Parameters
  /** Text that may be a call, or white space before one. */
  #held = ''
  /** True after text that is more than white space. */
  #hasText = false
  #hasCalls = false
  /** Characters read so far of a call that has begun, and the length from which it is read again. */
  #read = 0
  #next = 0

  constructor(form: CallForm, parameters: Parameters) {
    this.#form = form
    this.#parameters = parameters
  }

  /** The parts that are certain after the next piece of the answer. */
  push(piece: string): AnswerPart[] {
    this.#held += piece
    return this.#isWorthReading(piece) ? [...this.#parts(false)] : []
  }

  /** The rest of the answer, which has ended. */
  end(): AnswerPart[] {
    return [...this.#parts(true)]
  }

  /** False while a long call goes on. Reading it after each piece would take the square of its length. */
  #isWorthReading(piece: string): boolean {
    const { length } = this.#held
    return length >= this.#next || (CLOSES.test(piece) && this.#read < MOST_READS * length)
  }

  *#parts(ended: boolean): Generator<AnswerPart, void, void> {
    for (let mark = this.#mark(); mark !== undefined; mark = this.#mark()) {
      yield* this.#text(this.#held.slice(0, mark.at).trimEnd().length)
      const white = this.#held.length - this.#held.trimStart().length
      const text = new Literals(this.#held, white, ended)
      try {
        const calls = this.#form.read(text, this.#parameters)
        const raw = this.#held.slice(0, text.at)
        this.#held = this.#held.slice(text.at)
        this.#hasCalls = true
        yield { calls, raw }
      } catch (error) {
        if (error instanceof Unfinished) {
          this.#read += this.#held.length
          this.#next = this.#held.length + Math.max(LEAST_GROWTH, this.#held.length / 8)
          return
        }
        if (!(error instanceof Unreadable)) throw error
        yield* this.#text(white + mark.length)
      }
    }
    this.#read = 0
    this.#next = 0
    const isRest = ended && this.#hasCalls && this.#held.trim() === ''
    if (!isRest) yield* this.#text(this.#held.length - (ended ? 0 : this.#doubtful()))
  }

  /** The first mark in the held text. */
  #mark(): { at: number; length: number } | undefined {
    const { marks, leads } = this.#form
    if (leads) {
      const at = this.#held.length - this.#held.trimStart().length
      const mark = this.#hasText ? undefined : marks.find((one) => this.#held.startsWith(one, at))
      return mark === undefined ? undefined : { at, length: mark.length }
    }
    let first: { at: number; length: number } | undefined
    for (const mark of marks) {
      const at = this.#held.indexOf(mark)
      if (at >= 0 && (first === undefined || at < first.at)) first = { at, length: mark.length }
    }
    return first
  }

  /** Length of the end of the held text that may go before a call, or be the start of its mark. */
  #doubtful(): number {
    const { marks, leads } = this.#form
    if (leads && this.#hasText) return 0
    const longest = Math.min(this.#held.length, Math.max(...marks.map((mark) => mark.length - 1)))
    let begun = 0
    for (let length = longest; length > 0 && begun === 0; length--)
      if (marks.some((mark) => mark.startsWith(this.#held.slice(-length)))) begun = length
    const before = this.#held.slice(0, this.#held.length - begun)
    return this.#held.length - before.trimEnd().length
  }

  *#text(length: number): Generator<AnswerPart, void, void> {
    if (length === 0) return
    const text = this.#held.slice(0, length)
    this.#held = this.#held.slice(length)
    this.#hasText ||= text.trim() !== ''
    yield { text }
  }
}
