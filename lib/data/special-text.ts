/**
 * Special tokens, such as `<|im_end|>`, in the text of data. The tokenizer recognizes them anywhere, so a user
 * who quotes one ends a turn. They are found here and, if asked for, marked so that they are tokenized as plain
 * characters.
 */

import { quote } from '../core/quote.js'
import { ESCAPE_MARK } from '../tokenizer/marks.js'
import { entriesOf, isWholeFloat, mappingValue } from '../tokenizer/python-values.js'
import type { Tokenizer } from '../tokenizer/tokenizer.js'
import { type RowPlace, rowError } from './dataset/place.js'

export const SPECIAL_TOKENS_IN_CONTENT = ['keep', 'escape', 'error'] as const
/** Treatment of special tokens in the text of data: they stay special, become plain text, or are an error. */
export type SpecialTokensInContent = (typeof SPECIAL_TOKENS_IN_CONTENT)[number]

export class SpecialText {
  readonly #tokenizer: Tokenizer
  readonly #mode: SpecialTokensInContent
  readonly #marker: SpecialMarker

  constructor(tokenizer: Tokenizer, mode: SpecialTokensInContent) {
    this.#tokenizer = tokenizer
    this.#mode = mode
    this.#marker = new SpecialMarker(specialContents(tokenizer))
  }

  /**
   * The special tokens in the content of a row, in order.
   * @throws {DataError} if special tokens are an error, or a text contains the escape mark
   */
  inContent(row: RowPlace, content: unknown): string[] {
    const found: string[] = []
    for (const text of textsIn(content)) {
      for (const token of this.#marker.find(text)) found.push(token)
      if (this.#mode === 'escape' && text.includes(ESCAPE_MARK))
        throw rowError(
          row,
          'its text has the noncharacter U+FDD2, which is used to escape special tokens; remove it, or use special_tokens_in_content: keep',
        )
    }
    if (found[0] !== undefined && this.#mode === 'error')
      throw rowError(
        row,
        `its text has the special token ${quote(found[0])}, which the model would read as a control token; remove it, or make it plain text with special_tokens_in_content: escape`,
      )
    return found
  }

  /**
   * For text that no template renders: the BOS at its start and the EOS at its end belong to its format, and
   * all other special tokens to its content.
   */
  inText(row: RowPlace, text: string): { text: string; found: string[] } {
    const { bos_token: bos = '', eos_token: eos = '' } = this.#tokenizer.specialTokens
    const start = bos !== '' && text.startsWith(bos) ? bos.length : 0
    const ended = eos !== '' && text.length >= start + eos.length && text.endsWith(eos)
    const end = text.length - (ended ? eos.length : 0)
    const content = text.slice(start, end)
    const found = this.inContent(row, content)
    const plain = this.escapes(found) ? text.slice(0, start) + this.escape(content) + text.slice(end) : text
    return { text: plain, found }
  }

  escapes(found: readonly string[]): boolean {
    return this.#mode === 'escape' && found.length > 0
  }

  /** True if the text contains marked tokens. */
  isMarked(text: string): boolean {
    return this.#mode === 'escape' && text.includes(ESCAPE_MARK)
  }

  /**
   * @param text the text that was tokenized
   * @param around number of special tokens that the tokenizer added around it
   * @throws {DataError} when a marked token was still recognized as special
   */
  checkEscaped(row: RowPlace, text: string, ids: readonly number[], around: number): void {
    const special = ids.filter((id) => this.#tokenizer.isSpecial(id)).length
    const meant = this.#marker.find(text).length
    if (special !== meant + around)
      throw rowError(row, 'a special token in its text cannot be escaped with this tokenizer; remove it')
  }

  /** See `SpecialMarker`. */
  escape(text: string): string {
    return this.#marker.escape(text)
  }

  escapeIn<T>(value: T): T {
    return this.#marker.escapeIn(value)
  }
}

/** The texts of a tokenizer's special tokens. */
export function specialContents(tokenizer: Tokenizer): string[] {
  return [...tokenizer.addedIds]
    .filter((id) => tokenizer.isSpecial(id))
    .flatMap((id) => tokenizer.idToToken(id) ?? [])
}

/** Finds special tokens in texts, and marks them as plain characters. */
export class SpecialMarker {
  /** Matches longer tokens before their prefixes; undefined if there are no special tokens. */
  readonly #pattern: RegExp | undefined

  /** @param contents texts of the special tokens */
  constructor(contents: readonly string[]) {
    const longestFirst = [...contents].sort((a, b) => b.length - a.length)
    const parts = longestFirst.map((text) => text.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&'))
    if (parts.length > 0) this.#pattern = new RegExp(parts.join('|'), 'g')
  }

  find(text: string): readonly string[] {
    return (this.#pattern && text.match(this.#pattern)) ?? []
  }

  /** The text with its special tokens marked. */
  escape(text: string): string {
    const pattern = this.#pattern
    if (pattern === undefined) return text
    let marked = text
    // A mark may expose another token after it, so repeat until nothing changes.
    for (let before = ''; before !== marked; ) {
      before = marked
      marked = before.replace(pattern, ([first = '', ...rest]) =>
        rest.length === 0 ? first : first + ESCAPE_MARK + rest.join(''),
      )
    }
    return marked
  }

  /** The value with special tokens marked in all nested strings. */
  escapeIn<T>(value: T): T {
    if (typeof value === 'string') return this.escape(value) as T
    if (Array.isArray(value)) return value.map((inner) => this.escapeIn(inner)) as T
    if (typeof value !== 'object' || value === null || isWholeFloat(value)) return value
    return mappingValue(entriesOf(value).map(([key, inner]) => [this.escape(key), this.escapeIn(inner)])) as T
  }
}

function textsIn(value: unknown): string[] {
  if (typeof value === 'string') return [value]
  if (typeof value !== 'object' || value === null) return []
  if (Array.isArray(value)) return value.flatMap(textsIn)
  return entriesOf(value).flatMap(([key, inner]) => [key, ...textsIn(inner)])
}
