/**
 * Text in UTF-8 from a file in any encoding: the one that the user named, or UTF-16 with a byte order mark. What is not
 * UTF-8 and has no name is an error of the reader that finds it, to which the likely encoding is added here.
 */
import { isAscii } from 'node:buffer'
import { DataError } from '../../core/errors.js'
import { quote } from '../../core/quote.js'
import type { Bytes } from './bytes.js'
import { chunkDecoder, decodeBytes } from './decode.js'
import { detectEncoding, ENCODING_SAMPLE, markedEncoding } from './encoding.js'
import { NotUtf8, type RawRow, rowError } from './place.js'

/** The encoding of a dataset: a name that `TextDecoder` knows, or `auto` for UTF-8 and UTF-16 with a mark. */
export type Encoding = string

/** Bytes as UTF-8, and a proposal for those that are not. */
export interface Transcoded {
  bytes: Bytes
  /** Passes rows through, and adds the likely encoding to the error of one that is not UTF-8. */
  proposing(rows: AsyncIterable<RawRow>): AsyncGenerator<RawRow, void, void>
}

export function inUtf8(bytes: Bytes, path: string, encoding: Encoding): Transcoded {
  const sample = new Sample()
  return {
    bytes: transcoded(bytes, path, encoding, sample),
    async *proposing(rows) {
      try {
        yield* rows
      } catch (error) {
        throw error instanceof NotUtf8 ? proposal(error, sample.bytes) : error
      }
    },
  }
}

async function* transcoded(
  bytes: Bytes,
  path: string,
  encoding: Encoding,
  sample: Sample,
): AsyncGenerator<Uint8Array, void, void> {
  let named = encoding === 'auto' || encoding === 'utf-8' ? undefined : encoding
  let begun = false
  let decode: ((chunk: Uint8Array, last: boolean) => Uint8Array) | undefined
  for await (const chunk of bytes) {
    if (!begun && chunk.length > 0) {
      begun = true
      const marked = markedEncoding(chunk)
      // The mark decides on the byte order of UTF-16, even against the name of the encoding.
      if (marked !== 'utf-8' && (encoding === 'auto' || named?.startsWith('utf-16'))) named = marked ?? named
      if (named !== undefined) decode = decoderOf(named, path)
    }
    if (decode === undefined) {
      sample.add(chunk)
      yield chunk
    } else yield decode(chunk, false)
  }
  if (decode !== undefined) yield decode(new Uint8Array(), true)
}

function decoderOf(encoding: string, path: string): (chunk: Uint8Array, last: boolean) => Uint8Array {
  const decoder = chunkDecoder(encoding)
  let line = 1
  let seen = false
  return (chunk, last) => {
    if (!seen && !isAscii(chunk)) {
      seen = true
      const before = utf8Before(chunk)
      if (before !== undefined)
        throw rowError(
          { path, line: line + linesIn(before) },
          `the line is UTF-8 text, not ${encoding}; set encoding: utf-8`,
        )
    }
    let text: string
    try {
      text = decoder.decode(chunk, { stream: !last })
    } catch (cause) {
      const before = new TextDecoder(encoding).decode(chunk).split('\ufffd', 1)[0] as string
      throw rowError(
        { path, line: line + linesIn(before) },
        `the line is not ${encoding} text; check the encoding, or leave it out to have it recognized`,
        cause,
      )
    }
    line += linesIn(text)
    return Buffer.from(text)
  }
}

/**
 * The text of ASCII at the start of UTF-8. Undefined for other bytes; two characters of several bytes are hardly ever
 * UTF-8 by chance.
 */
function utf8Before(chunk: Uint8Array): string | undefined {
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(chunk, { stream: true })
    const [first, ...others] = text.matchAll(/[^\p{ASCII}]/gu)
    const isText = others.length > 0 || markedEncoding(chunk) === 'utf-8'
    return isText ? text.slice(0, first?.index ?? 0) : undefined
  } catch {
    return undefined
  }
}

function linesIn(text: string): number {
  let count = 0
  for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) count++
  return count
}

/** The bytes that were read last, among which the fault is. */
class Sample {
  readonly #chunks: Uint8Array[] = []
  #length = 0

  add(chunk: Uint8Array): void {
    this.#chunks.push(chunk)
    this.#length += chunk.length
    while (this.#chunks.length > 1 && this.#length > ENCODING_SAMPLE)
      this.#length -= this.#chunks.shift()?.length ?? 0
  }

  get bytes(): Uint8Array {
    return Buffer.concat(this.#chunks).subarray(0, 2 * ENCODING_SAMPLE)
  }
}

/** A few words around the first character beyond ASCII. */
const PREVIEW = /[^\n\r"\t]{0,16}[^\p{ASCII}][^\n\r"\t]{0,16}/u

function proposal(error: NotUtf8, sample: Uint8Array): DataError {
  const encoding = detectEncoding(sample)
  let advice: string
  if (encoding === 'utf-8')
    advice = 'though the text around it is, so a character of it is damaged; mend the line'
  else if (encoding === undefined)
    advice =
      'and no other encoding was recognized; save the file as UTF-8, or name its encoding, as in encoding: windows-1252'
  else {
    const [words] = PREVIEW.exec(decodeBytes(sample, encoding)) ?? []
    advice = `but ${encoding}${words === undefined ? '' : `, as which it says ${quote(words.trim())}`}: set encoding: ${encoding}`
  }
  return new DataError(
    `${error.message}, ${advice}`,
    { ...error.details, encoding: encoding ?? null },
    { cause: error },
  )
}
