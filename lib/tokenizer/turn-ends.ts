/** Finds the tokens that end a turn in a rendered chat. */

/** End-of-turn tokens of common templates. */
const TURN_ENDS = [
  '<|im_end|>',
  '<|eot_id|>',
  '<|eom_id|>',
  '<|end_of_text|>',
  '<|endoftext|>',
  '<|end_of_turn|>',
  '<end_of_turn>',
  '<|end|>',
  '<|eot|>',
  '</s>',
]

export class TurnEnds {
  readonly #tokens: readonly string[]

  /**
   * @param ends texts of the tokens that end generation
   * @param vocabulary tells whether a text is an added token of this tokenizer
   */
  constructor(ends: readonly string[], vocabulary: (token: string) => boolean) {
    this.#tokens = [...new Set([...ends, ...TURN_ENDS.filter(vocabulary)])]
  }

  /** The token that the text ends with. */
  ending(text: string): string | undefined {
    return this.#tokens.find((token) => text.endsWith(token))
  }

  /** End of the last token before `position`; 0 if there is none. */
  last(text: string, position: number): number {
    const before = text.slice(0, Math.max(0, position))
    const ends = this.#tokens.map((token) => ({ token, at: before.lastIndexOf(token) }))
    return Math.max(0, ...ends.filter(({ at }) => at >= 0).map(({ token, at }) => at + token.length))
  }

  /** End of a token that starts at `position`. */
  at(text: string, position: number): number | undefined {
    const token = this.#tokens.find((end) => text.startsWith(end, position))
    return token === undefined ? undefined : position + token.length
  }
}
