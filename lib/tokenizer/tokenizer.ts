/**
 * Text to token ids and back, over `@huggingface/tokenizers`, with the ids that Python's `tokenizers` gives. Special
 * tokens are known by role, texts decode piece by piece, and every id can tell its bytes, from which the place of a
 * token in its text is found.
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
import { type DecoderFamily, decoderFamily, textSink, tokenBytes } from './bytes.js'
import { buildLibrary, useMarks } from './library.js'
import type { TokenizerSource } from './source.js'

export interface EncodeOptions {
  /** True if the BOS (and other tokens that the tokenizer specifies) is added to the text. */
  addSpecialTokens: boolean
  /** True if marked special tokens in the text are plain text; see `marks.ts`. Default false. */
  marked?: boolean
}

export interface DecodeOptions {
  /** True if tokens such as `<|im_end|>` are omitted. */
  skipSpecialTokens: boolean
}

/** Text from ids as they come; the parts joined are the decoded text, and no part ends inside a character. */
export interface DecodeStream {
  /** @returns the text that is complete with this id, often empty. */
  push(id: number): string
  /** @returns the rest. */
  end(): string
}

/** Time limit of a text: at least this, and in proportion to its length at a twentieth of the usual speed. */
const LEAST_MILLISECONDS = 4000
const CHARACTERS_PER_MILLISECOND = 50

/** @throws FileFormatError or UnsupportedError when the source is malformed or cannot be reproduced exactly. */
export function loadTokenizer(source: TokenizerSource): Tokenizer {
  return new Tokenizer(source)
}

export class Tokenizer {
  /** One more than the largest id; the model's embedding may have more rows, not fewer. */
  readonly vocabSize: number
  readonly bosId: number | undefined
  /** The tokenizer's own EOS, which ends a document. */
  readonly eosId: number | undefined
  /** Every id that ends a generation, `eosId` first. */
  readonly eosIds: readonly number[]
  /** Special tokens by role, as templates know them: `bos_token`, `eos_token`, `pad_token`... */
  readonly specialTokens: Readonly<Record<string, string>>
  /** True if `addSpecialTokens` adds the BOS at the front. */
  readonly addsBos: boolean
  readonly source: TokenizerSource

  readonly #library: Library
  readonly #adapted: AdaptedTokenizer
  readonly #family: DecoderFamily
  readonly #specialIds = new Set<number>()
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
    for (const { id, special, lstrip, rstrip } of this.#adapted.added) {
      if (special) this.#specialIds.add(id)
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

  /** Ids of text that goes on after other text: no BOS, and no space put in front by SentencePiece tokenizers. */
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

  /** Normalizers and regular expressions come with the model, and may take ages. */
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
      const kept = Array.from(ids).filter((id) => !(skipSpecialTokens && this.#specialIds.has(id)))
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

  /**
   * @param options `continues`: the ids go on after other text, so a leading space of SentencePiece tokenizers is
   * part of the text
   */
  decodeStream(options: DecodeOptions & { continues?: boolean }): DecodeStream {
    if (this.#family.kind === 'other') return this.#slowStream(options)
    const sink = textSink(this.#family, options.continues ?? false)
    return {
      push: (id) => {
        if (options.skipSpecialTokens && this.#specialIds.has(id)) return ''
        const token = this.idToToken(id)
        return token === undefined ? '' : sink.push(token)
      },
      end: () => sink.end(),
    }
  }

  /** For decoders that are not known token by token: what all ids give, less what was given out. */
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

  /** True if the id is a special token (omitted from decoded text on request). */
  isSpecial(id: number): boolean {
    return this.#specialIds.has(id)
  }

  /**
   * Added tokens are cut out of a text before anything else; `lstrip` and `rstrip` ones eat the white space beside
   * them.
   */
  addedToken(id: number): { lstrip: boolean; rstrip: boolean } | undefined {
    return this.#addedIds.get(id)
  }

  /** Ids of all added tokens. */
  get addedIds(): Iterable<number> {
    return this.#addedIds.keys()
  }

  /** The bytes of text that the id stands for; undefined for a decoder of another kind. */
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

  /** Prefix that the tokenizer puts before a text; see `prefixSchemeOf`. */
  get prefixScheme(): PrefixScheme {
    this.#prefixScheme ??= prefixSchemeOf(this.#adapted.json)
    return this.#prefixScheme
  }

  /** The text as the tokenizer's Unicode normalization leaves it. */
  normalized(text: string): string {
    const step = this.#adapted.json.normalizer
    const steps = step.type === 'Sequence' ? (step.normalizers as Record<string, unknown>[]) : [step]
    for (const { type } of steps) if (type === 'NFC' || type === 'NFKC') text = text.normalize(type)
    return text
  }
}

/** tokenizer.json of a source, checked, with all its tokens. */
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

/** Special tokens by role, as tokenizer_config.json has them: a string, or an object with `content`. */
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
