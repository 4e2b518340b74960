/** The tokens of a vocabulary as plain data, by which another process decodes ids one at a time. */
import { type DecoderFamily, textSink } from './bytes.js'

/** Families whose ids are decoded one at a time. */
export type StreamedFamily = Exclude<DecoderFamily, { kind: 'other' }>

/** A vocabulary whose ids are decoded one at a time. */
export interface Tokens {
  family: StreamedFamily
  /** The token as the vocabulary spells it; undefined for an id without one. */
  tokenOf(id: number): string | undefined
  /** True for special tokens that decoding can skip. */
  isSkipped(id: number): boolean
}

/** The tokens as plain data. */
export interface TokenTexts {
  family: StreamedFamily
  /** The tokens in UTF-8, one after the other. */
  bytes: Uint8Array
  /** Where each token ends in them. */
  ends: Int32Array
  /** One of `KINDS` for each id. */
  kinds: Uint8Array
}

const KINDS = { text: 0, skipped: 1, none: 2 } as const

export interface DecodeOptions {
  /** True if tokens such as `<|im_end|>` are omitted; those around reasoning, such as `[THINK]`, stay. */
  skipSpecialTokens: boolean
}

/** Options of a stream: `continues` if the ids continue other text, so that a leading space of SentencePiece tokenizers is part of the text. */
export interface StreamOptions extends DecodeOptions {
  continues?: boolean
}

/** Incremental decoder: the concatenated parts are the decoded text, and no part ends inside a character. */
export interface DecodeStream {
  /** @returns the text completed by this id, often empty */
  push(id: number): string
  /** @returns the remaining text */
  end(): string
}

export function decodeStreamOf(tokens: Tokens, options: StreamOptions): DecodeStream {
  const sink = textSink(tokens.family, options.continues ?? false)
  return {
    push: (id) => {
      const token = options.skipSpecialTokens && tokens.isSkipped(id) ? undefined : tokens.tokenOf(id)
      return token === undefined ? '' : sink.push(token)
    },
    end: () => sink.end(),
  }
}

/** @param size largest id plus one */
export function tokenTexts({ family, tokenOf, isSkipped }: Tokens, size: number): TokenTexts {
  const ends = new Int32Array(size)
  const kinds = new Uint8Array(size)
  const parts: Buffer[] = []
  let end = 0
  for (let id = 0; id < size; id++) {
    const token = tokenOf(id)
    const bytes = Buffer.from(token ?? '')
    parts.push(bytes)
    end += bytes.length
    ends[id] = end
    kinds[id] = token === undefined ? KINDS.none : isSkipped(id) ? KINDS.skipped : KINDS.text
  }
  return { family, bytes: new Uint8Array(Buffer.concat(parts)), ends, kinds }
}

/** The inverse of `tokenTexts`. */
export function tokensOf({ family, bytes, ends, kinds }: TokenTexts): Tokens {
  const spelled = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return {
    family,
    tokenOf: (id) =>
      (kinds[id] ?? KINDS.none) === KINDS.none
        ? undefined
        : spelled.toString('utf8', ends[id - 1] ?? 0, ends[id]),
    isSkipped: (id) => kinds[id] === KINDS.skipped,
  }
}
