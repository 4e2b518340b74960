/** Log-probabilities of the tokens of an answer, in the form of OpenAI's API. */
import type { OwnLogProbs, TokenTable } from '../native/addon.js'

/** JSON has no infinity. */
const LEAST = -9999

interface TokenLogProb {
  token: string
  logprob: number
  bytes: number[]
}

export interface TokenEntry extends TokenLogProb {
  top_logprobs: TokenLogProb[]
}

/** A token of an answer, and where it begins in the bytes of the text. */
export interface PlacedEntry {
  entry: TokenEntry
  begin: number
}

/** Gives each piece of text the tokens that begin in it, so that streams and whole answers have the same ones. */
export class TokenEntries {
  readonly #table: TokenTable
  readonly #keepSpecialTokens: boolean
  readonly #waiting: PlacedEntry[] = []
  #drawn = 0
  #given = 0

  /** @param keepSpecialTokens whether the text has them */
  constructor(table: TokenTable, keepSpecialTokens: boolean) {
    this.#table = table
    this.#keepSpecialTokens = keepSpecialTokens
  }

  add(token: number, own: OwnLogProbs): void {
    const named = (id: number, logprob: number): TokenLogProb => {
      const bytes = this.#bytes(id)
      return { token: nameOf(bytes), logprob: Math.max(logprob, LEAST), bytes: [...bytes] }
    }
    const top_logprobs = Array.from(own.top, (id, index) => named(id, own.topLogProbs[index] as number))
    this.#waiting.push({ entry: { ...named(token, own.logProb), top_logprobs }, begin: this.#drawn })
    if (this.#keepSpecialTokens || !this.#table.special[token]) this.#drawn += this.#bytes(token).length
  }

  /** The tokens that begin in the next piece of text, which is the end of what a stop text leaves. */
  take(text: string): PlacedEntry[] {
    this.#given += Buffer.byteLength(text)
    const count = this.#waiting.findIndex(({ begin }) => begin >= this.#given)
    return this.#waiting.splice(0, count < 0 ? this.#waiting.length : count)
  }

  #bytes(id: number): Uint8Array {
    const { bytes, ends } = this.#table
    return bytes.subarray(id === 0 ? 0 : ends[id - 1], ends[id])
  }
}

export const entriesOf = (placed: readonly PlacedEntry[]): TokenEntry[] => placed.map(({ entry }) => entry)

/** The tokens of a text in the form of `/v1/completions`. */
export interface CompletionLogProbs {
  tokens: string[]
  token_logprobs: number[]
  /** By token, the likeliest ones and itself. */
  top_logprobs: Record<string, number>[]
  /** Where each token begins, in characters. */
  text_offset: number[]
}

/** @param text of the answer so far */
export function completionLogProbs(placed: readonly PlacedEntry[], text: string): CompletionLogProbs {
  const bytes = Buffer.from(text)
  const charactersIn = (part: string) => [...part].length
  return {
    tokens: placed.map(({ entry }) => entry.token),
    token_logprobs: placed.map(({ entry }) => entry.logprob),
    top_logprobs: placed.map(({ entry }) =>
      Object.fromEntries([...entry.top_logprobs, entry].map(({ token, logprob }) => [token, logprob])),
    ),
    text_offset: placed.map(({ begin }) => charactersIn(bytes.subarray(0, begin).toString())),
  }
}

/** The text of bytes; where they are only a part of a character, `bytes:` and each byte as in `\xe2`. */
function nameOf(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    return `bytes:${Array.from(bytes, (byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('')}`
  }
}
