/** Tokenizes texts: as a whole, or with spans that alone are trained on, and with a trained end token. */
import type { Span } from '../tokenizer/chat-template.js'
import { ESCAPE_MARK } from '../tokenizer/marks.js'
import { encodeMarked, type MarkedIds } from '../tokenizer/token-offsets.js'
import type { Tokenizer } from '../tokenizer/tokenizer.js'
import { type RowPlace, rowError } from './dataset/place.js'
import type { EncodeRowOptions } from './encoded-row.js'
import type { Plain } from './forms/form.js'
import type { SpecialText } from './special-text.js'

/** The tokens of a row, and what was found in it. */
export interface Tokens extends MarkedIds {
  specialTokens?: readonly string[]
  emptyTurns?: number
  lostReasoning?: number
  /** True for a prompt without an answer. */
  open?: boolean
}

export class TextEncoder {
  readonly #tokenizer: Tokenizer
  readonly #special: SpecialText
  readonly #wholly: boolean
  readonly #mustEnd: boolean

  constructor(
    tokenizer: Tokenizer,
    special: SpecialText,
    { trainOn, unended }: Required<Pick<EncodeRowOptions, 'trainOn' | 'unended'>>,
  ) {
    this.#tokenizer = tokenizer
    this.#special = special
    this.#wholly = trainOn === 'all'
    this.#mustEnd = unended === 'error'
  }

  encode(row: RowPlace, plain: Plain): Tokens {
    if ('completion' in plain) return this.#completion(row, plain.prompt, plain.completion)
    const { text, found } = this.#special.inText(row, plain.text)
    return { ...this.whole(row, text), specialTokens: found }
  }

  #completion(row: RowPlace, prompt: string, completion: string): Tokens {
    const { text, found } = this.#special.inText(row, prompt + completion)
    if (this.#wholly) return { ...this.whole(row, text), specialTokens: found }
    const start = this.#special.isMarked(text) ? markedPlace(text, prompt.length) : prompt.length
    const spans = completion === '' ? [] : [{ start, end: text.length }]
    const { bos_token: bos } = this.#tokenizer.specialTokens
    const marked = this.marked(row, text, spans, bos === undefined || !text.startsWith(bos))
    return { ...(completion === '' ? marked : this.closed(row, marked)), specialTokens: found }
  }

  /** The ids of a text that is not trained on, with the special tokens that the tokenizer adds, and none after it. */
  unended(row: RowPlace, given: string): { ids: number[]; specialTokens: readonly string[] } {
    const { text, found } = this.#special.inText(row, given)
    return { ids: this.#ids(row, text, true), specialTokens: found }
  }

  /** A text that is trained on as a whole. */
  whole(row: RowPlace, text: string, addSpecialTokens = true): MarkedIds {
    const ids = this.#ids(row, text, addSpecialTokens)
    const whole = { ids, inside: new Uint8Array(ids.length).fill(1) }
    return addSpecialTokens ? this.withEos(whole) : whole
  }

  /** A text of which spans are trained on. @throws {DataError} when they cannot be marked */
  marked(row: RowPlace, text: string, spans: readonly Span[], addSpecialTokens: boolean): MarkedIds {
    const escaped = this.#special.isMarked(text)
    const marked = encodeMarked(this.#tokenizer, text, spans, addSpecialTokens, escaped)
    if (marked) {
      if (escaped) this.#special.checkEscaped(row, text, marked.ids, addSpecialTokens ? this.#around : 0)
      return marked
    }
    throw rowError(
      row,
      'the tokens of this text do not reproduce it exactly, so the trained part cannot be marked; the tokenizer may drop or change a character. Use train_on: all, or remove the row',
    )
  }

  /** Appends an EOS to the assistant's text; otherwise the model would not learn to stop. */
  closed(row: RowPlace, marked: MarkedIds): MarkedIds {
    if (this.#tokenizer.eosId === undefined && this.#mustEnd)
      throw rowError(
        row,
        'the model cannot learn to stop: the tokenizer has no end-of-sequence token; set eos_token in tokenizer_config.json, or train without an end with unended: allow',
      )
    return this.withEos(marked)
  }

  /** Ends a document with a trained EOS, unless it already ends with one. */
  withEos({ ids, inside }: MarkedIds): MarkedIds {
    const { eosId } = this.#tokenizer
    if (eosId === undefined) return { ids, inside }
    const closed = ids.at(-1) === eosId ? ids : [...ids, eosId]
    const marks = new Uint8Array(closed.length)
    marks.set(inside)
    marks[closed.length - 1] = 1
    return { ids: closed, inside: marks }
  }

  #ids(row: RowPlace, text: string, addSpecialTokens: boolean): number[] {
    const marked = this.#special.isMarked(text)
    const ids = this.#tokenizer.encode(text, { addSpecialTokens, marked })
    if (marked) this.#special.checkEscaped(row, text, ids, addSpecialTokens ? this.#around : 0)
    // A text may begin with the BOS that the tokenizer adds.
    const { bosId, addsBos } = this.#tokenizer
    const twice = addSpecialTokens && addsBos && ids[0] === bosId && ids[1] === bosId
    return twice ? ids.slice(1) : ids
  }

  /** Number of special tokens that the tokenizer adds around a text. */
  get #around(): number {
    const ids = this.#tokenizer.encode('', { addSpecialTokens: true })
    return ids.filter((id) => this.#tokenizer.isSpecial(id)).length
  }
}

/** The position in a marked text of position `place` in the text without marks. */
function markedPlace(text: string, place: number): number {
  let plain = 0
  let at = 0
  while (plain < place || text[at] === ESCAPE_MARK) if (text[at++] !== ESCAPE_MARK) plain++
  return at
}
