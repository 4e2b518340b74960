/**
 * Converts text to token ids and back with `@huggingface/tokenizers`, giving the same ids as Python's
 * `tokenizers`. Special tokens are available by role, text can be decoded incrementally, and the bytes of each
 * id are known, which gives the position of each token in its text.
 */

import type { Tokenizer as Library } from '@huggingface/tokenizers'
import { FileFormatError } from '../core/errors.js'
import { quote } from '../core/quote.js'
import { limitTime } from '../core/time-limit.js'
import {
  type AdaptedTokenizer,
  adaptTokenizer,
  continuationOf,
  type PrefixScheme,
  prefixSchemeOf,
} from './adapt.js'
import { type DecoderFamily, decoderFamily, tokenBytes } from './bytes.js'
import { buildLibrary, useMarks } from './library.js'
import { marksReasoning } from './reasoning.js'
import type { TokenizerSource } from './source.js'
import {
  type DecodeOptions,
  type DecodeStream,
  decodeStreamOf,
  type StreamOptions,
  type Tokens,
} from './token-texts.js'

export interface EncodeOptions {
  /** True if the BOS, and other tokens that the tokenizer specifies, are added to the text. */
  addSpecialTokens: boolean
  /** True if marked special tokens in the text are plain text; see `marks.ts`. Default false. */
  marked?: boolean
}

/**
 * Time limit for tokenizing a text: this minimum, plus a time proportional to its length, at a twentieth of the
 * usual speed.
 */
const LEAST_MILLISECONDS = 4000
const CHARACTERS_PER_MILLISECOND = 50

/** @throws {FileFormatError} when the source is malformed; UnsupportedError when it cannot be reproduced exactly */
export function loadTokenizer(source: TokenizerSource): Tokenizer {
  return new Tokenizer(source)
}

export class Tokenizer {
  /** Largest id plus one; the model's embedding may have more rows, but not fewer. */
  readonly vocabSize: number
  readonly bosId: number | undefined
  /** The tokenizer's own EOS, which ends a document. */
  readonly eosId: number | undefined
  /** All ids that end generation, `eosId` first. */
  readonly eosIds: readonly number[]
  /** Special tokens by role, named as in templates: `bos_token`, `eos_token`, `pad_token`... */
  readonly specialTokens: Readonly<Record<string, string>>
  /** True if `addSpecialTokens` adds the BOS at the front. */
  readonly addsBos: boolean
  readonly source: TokenizerSource

  readonly #library: Library
  readonly #adapted: AdaptedTokenizer
  readonly #family: DecoderFamily
  readonly #specialIds = new Set<number>()
  /** Special tokens that decoding can skip. */
  readonly #skippedIds = new Set<number>()
  readonly #addedIds = new Map<number, { lstrip: boolean; rstrip: boolean }>()
  readonly #bytes: (Uint8Array | undefined)[] = []
  #continuation: Library | undefined
  #prefixScheme: PrefixScheme | undefined

  constructor(source: TokenizerSource) {
    const where = source.where ?? 'tokenizer.json'
    this.source = source
    this.#adapted = adaptSource(source)
    this.#library = buildLibrary(this.#adapted.json, this.#adapted.vocabulary, where)
    this.#family = decoderFamily(this.#adapted.json.decoder)
    this.vocabSize = this.#adapted.vocabulary.tokens.length
    for (const { id, content, special, lstrip, rstrip } of this.#adapted.added) {
      if (special) this.#specialIds.add(id)
      // Without its end, reasoning would run into the answer.
      if (special && !marksReasoning(content)) this.#skippedIds.add(id)
      this.#addedIds.set(id, { lstrip, rstrip })
    }
    this.specialTokens = specialTokensOf(source)
    this.bosId = this.#idOf('bos_token')
    this.eosId = this.#idOf('eos_token') ?? source.eosTokenIds?.[0]
    const eosIds = [this.eosId, ...(source.eosTokenIds ?? [])].filter((id) => id !== undefined)
    for (const id of eosIds) {
      if (!Number.isInteger(id) || id < 0) {
        throw new FileFormatError(`${where}: ${quote(id)} is not the id of an end token`, { where, id })
      }
    }
    this.eosIds = [...new Set(eosIds)]
    this.addsBos = this.bosId !== undefined && this.encode('', { addSpecialTokens: true })[0] === this.bosId
  }

  #idOf(role: string): number | undefined {
    const token = this.specialTokens[role]
    return token === undefined ? undefined : this.tokenToId(token)
  }

  encode(text: string, { addSpecialTokens, marked = false }: EncodeOptions): number[] {
    return this.#ids(this.#library, text, addSpecialTokens, marked)
  }

  /**
   * Ids of text that continues other text: without BOS, and without the space that SentencePiece tokenizers add
   * in front.
   */
  encodeContinuation(text: string, { marked = false }: Pick<EncodeOptions, 'marked'> = {}): number[] {
    this.#continuation ??= buildLibrary(
      continuationOf(this.#adapted.json),
      this.#adapted.vocabulary,
      this.source.where ?? 'tokenizer.json',
    )
    return this.#ids(this.#continuation, text, false, marked)
  }

  #ids(library: Library, text: string, special: boolean, marked: boolean): number[] {
    useMarks(marked)
    const ids: (number | undefined)[] = this.#limited(
      text.length,
      () => library.encode(text, { add_special_tokens: special }).ids,
    )
    if (ids.some((id) => id === undefined)) {
      throw new FileFormatError(
        `${this.source.where ?? 'tokenizer.json'} has neither a token for a part of ${quote(text)} nor an unknown token`,
        { text: text.slice(0, 80) },
      )
    }
    return ids as number[]
  }

  /** Limits time, since normalizers and regular expressions come with the model and may take very long. */
  #limited<T>(length: number, task: () => T): T {
    const milliseconds = LEAST_MILLISECONDS + length / CHARACTERS_PER_MILLISECOND
    const where = this.source.where ?? 'tokenizer.json'
    const attempt = () => {
      try {
        return task()
      } catch (cause) {
        if (!(cause instanceof RangeError || cause instanceof TypeError)) throw cause
        throw new FileFormatError(
          `${where} cannot be used: one of its steps fails on ${length} characters, or produces too many`,
          { where, characters: length },
          { cause },
        )
      }
    }
    return limitTime(milliseconds, attempt, () => {
      return new FileFormatError(
        `${where} took longer than ${Math.round(milliseconds)} ms for ${length} characters and was stopped; the cause is its normalizer or a regular expression of its pre-tokenizer`,
        { where, milliseconds, characters: length },
      )
    })
  }

  decode(ids: ArrayLike<number>, { skipSpecialTokens }: DecodeOptions): string {
    if (this.#family.kind === 'other') {
      const kept = Array.from(ids).filter((id) => !(skipSpecialTokens && this.#skippedIds.has(id)))
      if (kept.length === 0) return ''
      return this.#limited(kept.length, () =>
        this.#library.decode(kept, { clean_up_tokenization_spaces: false }),
      )
    }
    const stream = this.decodeStream({ skipSpecialTokens })
    let text = ''
    for (let i = 0; i < ids.length; i++) text += stream.push(ids[i] as number)
    return text + stream.end()
  }

  decodeStream(options: StreamOptions): DecodeStream {
    const { tokens } = this
    return tokens === undefined ? this.#slowStream(options) : decodeStreamOf(tokens, options)
  }

  /** The vocabulary, if its ids can be decoded one at a time. */
  get tokens(): Tokens | undefined {
    if (this.#family.kind === 'other') return undefined
    const isSkipped = (id: number) => this.#skippedIds.has(id)
    return { family: this.#family, tokenOf: (id) => this.idToToken(id), isSkipped }
  }

  /** For decoders without token-by-token support: decodes all ids again, and emits the new part of the text. */
  #slowStream(options: DecodeOptions): DecodeStream {
    const ids: number[] = []
    let given = 0
    const rest = (text: string) => {
      const part = text.slice(given)
      given = text.length
      return part
    }
    return {
      push: (id) => {
        ids.push(id)
        const text = this.decode(ids, options)
        return text.endsWith('\ufffd') ? '' : rest(text)
      },
      end: () => rest(this.decode(ids, options)),
    }
  }

  tokenToId(token: string): number | undefined {
    return this.#library.token_to_id(token)
  }

  idToToken(id: number): string | undefined {
    return this.#library.id_to_token(id)
  }

  /** True if the id is a special token. */
  isSpecial(id: number): boolean {
    return this.#specialIds.has(id)
  }

  /**
   * Added tokens are split off before anything else; tokens with `lstrip` or `rstrip` also absorb adjacent
   * white space.
   */
  addedToken(id: number): { lstrip: boolean; rstrip: boolean } | undefined {
    return this.#addedIds.get(id)
  }

  /** Ids of all added tokens. */
  get addedIds(): Iterable<number> {
    return this.#addedIds.keys()
  }

  /** The bytes of an id's text; undefined if the decoder is not supported. */
  bytesOf(id: number): Uint8Array | undefined {
    const { kind } = this.#family
    if (kind === 'other') return undefined
    const known = this.#bytes[id]
    if (known) return known
    const token = this.idToToken(id)
    if (token === undefined) return undefined
    const bytes = this.#addedIds.has(id) ? Buffer.from(token) : tokenBytes(kind, token)
    this.#bytes[id] = bytes
    return bytes
  }

  /** True if U+2581 in a token, or in a text, represents a space. */
  get marksSpaces(): boolean {
    return this.#family.kind === 'sentencepiece'
  }

  /** When the tokenizer puts a space before text; see `prefixSchemeOf`. */
  get prefixScheme(): PrefixScheme {
    this.#prefixScheme ??= prefixSchemeOf(this.#adapted.json)
    return this.#prefixScheme
  }

  /** The text after the tokenizer's Unicode normalization. */
  normalized(text: string): string {
    const step = this.#adapted.json.normalizer
    const steps = step.type === 'Sequence' ? (step.normalizers as Record<string, unknown>[]) : [step]
    for (const { type } of steps) if (type === 'NFC' || type === 'NFKC') text = text.normalize(type)
    return text
  }
}

/** The validated tokenizer.json of a source, with all its tokens. */
export function adaptSource(source: TokenizerSource): AdaptedTokenizer {
  return adaptTokenizer(withConfiguredTokens(source), source.where ?? 'tokenizer.json')
}

/** tokenizer_config.json may name tokens that tokenizer.json lacks; transformers adds them. */
function withConfiguredTokens({ tokenizerJson, tokenizerConfig }: TokenizerSource): unknown {
  const decoder = tokenizerConfig?.added_tokens_decoder
  const json = tokenizerJson as { added_tokens?: { content?: unknown }[] } | null
  if (typeof decoder !== 'object' || decoder === null || typeof json !== 'object' || json === null)
    return json
  const present = Array.isArray(json.added_tokens) ? json.added_tokens : []
  const known = new Set(present.map((token) => token?.content))
  const missing = Object.entries(decoder as Record<string, Record<string, unknown>>)
    .filter(([, token]) => !known.has(token?.content))
    .map(([id, token]) => ({ ...token, id: Number(id) }))
  return missing.length === 0 ? json : { ...json, added_tokens: [...present, ...missing] }
}

/** Special tokens by role, from tokenizer_config.json, where each is a string or an object with `content`. */
export function specialTokensOf({ tokenizerConfig = {} }: TokenizerSource): Record<string, string> {
  const named: Record<string, string> = {}
  for (const [key, value] of Object.entries(tokenizerConfig)) {
    if (!key.endsWith('_token')) continue
    const content =
      typeof value === 'object' && value !== null ? (value as { content?: unknown }).content : value
    if (typeof content === 'string') named[key] = content
  }
  return named
}
