/**
 * Maps tokens to bytes and decodes text as Python's `tokenizers` does. Two families are supported exactly:
 * byte-level vocabularies, in which every character of a token is one byte, and SentencePiece vocabularies, in
 * which U+2581 is a space and `<0xNN>` a byte.
 */

import type { AdaptedTokenizer } from './adapt.js'

export type DecoderFamily =
  | { kind: 'byte-level' }
  /** `strip`: number of leading spaces that the tokenizer adds to a text, removed when decoding. */
  | { kind: 'sentencepiece'; strip: number }
  | { kind: 'other' }

type Json = Record<string, unknown>

export function decoderFamily(decoder: AdaptedTokenizer['json']['decoder']): DecoderFamily {
  const steps = decoder?.type === 'Sequence' ? ((decoder.decoders ?? []) as Json[]) : decoder ? [decoder] : []
  const types = steps.map((step) => step?.type)
  if (types.length === 1 && types[0] === 'ByteLevel') return { kind: 'byte-level' }
  if (types.length === 1 && types[0] === 'Metaspace') {
    const first = steps[0] as Json
    const prepends = first.prepend_scheme !== 'never' && first.add_prefix_space !== false
    return { kind: 'sentencepiece', strip: prepends ? 1 : 0 }
  }
  if (!types.every((type, index) => type === SENTENCEPIECE[index])) return { kind: 'other' }
  const [replace, , , strip] = steps
  const pattern = replace?.pattern as Json | undefined
  if (types.length < 3 || pattern?.String !== '\u2581' || replace?.content !== ' ') return { kind: 'other' }
  if (!strip) return { kind: 'sentencepiece', strip: 0 }
  if (strip.content !== ' ' || strip.stop !== 0) return { kind: 'other' }
  return { kind: 'sentencepiece', strip: Number(strip.start) }
}

const SENTENCEPIECE = ['Replace', 'ByteFallback', 'Fuse', 'Strip']

/** Byte of each character in byte-level vocabularies. */
const BYTE_OF: ReadonlyMap<string, number> = byteAlphabet()

/** Printable Latin-1 characters map to themselves; all other bytes map to U+0100 and up, in order. */
function byteAlphabet(): Map<string, number> {
  const alphabet = new Map<string, number>()
  let next = 0x100
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte !== 0xad)
    alphabet.set(String.fromCharCode(printable ? byte : next++), byte)
  }
  return alphabet
}

/** Character of each byte in byte-level vocabularies. */
const CHARACTER_OF: readonly string[] = [...BYTE_OF]
  .sort((a, b) => a[1] - b[1])
  .map(([character]) => character)

/** Text as spelled in byte-level vocabularies: one character per byte. */
export function spellBytes(text: string): string {
  let spelled = ''
  for (const byte of Buffer.from(text)) spelled += CHARACTER_OF[byte]
  return spelled
}

/** The bytes of one token of a known family. */
export function tokenBytes(kind: 'byte-level' | 'sentencepiece', token: string): Uint8Array {
  if (kind === 'sentencepiece') {
    const byte = fallbackByte(token)
    return byte === undefined ? Buffer.from(token.replaceAll('\u2581', ' ')) : Uint8Array.of(byte)
  }
  const bytes: number[] = []
  for (const character of token) {
    const byte = BYTE_OF.get(character)
    // An added token may contain other characters; then the whole token is plain text.
    if (byte === undefined) return Buffer.from(token)
    bytes.push(byte)
  }
  return Uint8Array.from(bytes)
}

/** The value of a `<0xNN>` token. */
function fallbackByte(token: string): number | undefined {
  return /^<0x[0-9A-Fa-f]{2}>$/.test(token) ? Number.parseInt(token.slice(3, 5), 16) : undefined
}

/** Converts tokens to text one at a time; emitted text is final. */
export interface TextSink {
  push(token: string): string
  /** The remaining text, with U+FFFD for an incomplete character. */
  end(): string
}

export function textSink(
  family: DecoderFamily & { kind: 'byte-level' | 'sentencepiece' },
  continues: boolean,
): TextSink {
  return family.kind === 'byte-level' ? new ByteSink() : new PieceSink(continues ? 0 : family.strip)
}

class ByteSink implements TextSink {
  readonly #decoder = new TextDecoder('utf-8', { ignoreBOM: true })

  push(token: string): string {
    return this.#decoder.decode(tokenBytes('byte-level', token), { stream: true })
  }

  end(): string {
    return this.#decoder.decode()
  }
}

class PieceSink implements TextSink {
  #strip: number
  #run: number[] = []
  readonly #strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

  constructor(strip: number) {
    this.#strip = strip
  }

  push(token: string): string {
    const byte = fallbackByte(token)
    if (byte !== undefined) {
      this.#run.push(byte)
      const text = this.#completed()
      if (text === undefined) return ''
      this.#run = []
      return this.#stripped(text)
    }
    return this.#stripped(this.#broken() + token.replaceAll('\u2581', ' '))
  }

  end(): string {
    return this.#stripped(this.#broken())
  }

  #completed(): string | undefined {
    try {
      return this.#strict.decode(Uint8Array.from(this.#run))
    } catch {
      return undefined
    }
  }

  /** Replaces each byte of an incomplete character by U+FFFD, like Python's decoder. */
  #broken(): string {
    const text = '\ufffd'.repeat(this.#run.length)
    this.#run = []
    return text
  }

  #stripped(text: string): string {
    if (text === '' || this.#strip === 0) return text
    let cut = 0
    while (cut < this.#strip && text[cut] === ' ') cut++
    this.#strip = cut === text.length ? this.#strip - cut : 0
    return text.slice(cut)
  }
}
