/**
 * Position of each token in its text. `@huggingface/tokenizers` does not report positions, but the bytes of
 * each token are known, so they are found by walking along the text. Every byte is compared; if the tokens do
 * not spell the text exactly, there are no offsets rather than approximate ones.
 */

import type { Span } from './chat-template.js'
import { withoutMarks } from './marks.js'
import type { Tokenizer } from './tokenizer.js'

/**
 * Byte offsets of the tokens in the UTF-8 text, `[ids.length + 1]`; undefined if the tokens do not spell the
 * text.
 * @param continues true if the ids come from `encodeContinuation`
 */
function byteOffsets(
  tokenizer: Tokenizer,
  text: string,
  ids: readonly number[],
  continues: boolean,
): Int32Array | undefined {
  const bytes = Buffer.from(text)
  const offsets = new Int32Array(ids.length + 1)
  let position = 0
  // True if the next token is the first after an added token or at the start.
  let first = true
  for (let i = 0; i < ids.length; i++) {
    const id = ids[i] as number
    const added = tokenizer.addedToken(id)
    let token = tokenizer.bytesOf(id)
    if (!token) return undefined
    if (added?.lstrip) position = skipSpace(bytes, position)
    if (!added && first && !continues && hasPrefix(tokenizer, bytes, position)) {
      if (token[0] !== SPACE) return undefined
      token = token.subarray(1)
    }
    offsets[i] = position
    if (bytes.length - position < token.length) return undefined
    if (bytes.compare(token, 0, token.length, position, position + token.length) !== 0) return undefined
    position += token.length
    if (added?.rstrip) position = skipSpace(bytes, position)
    first = added !== undefined
  }
  offsets[ids.length] = position
  return position === bytes.length ? offsets : undefined
}

const SPACE = 0x20

/** True if the tokenizer adds a space before the stretch that starts here. */
function hasPrefix(tokenizer: Tokenizer, bytes: Uint8Array, position: number): boolean {
  switch (tokenizer.prefixScheme) {
    case 'none':
      return false
    case 'prepend':
      return true
    case 'always':
      return bytes[position] !== SPACE
    case 'first':
      return position === 0 && bytes[position] !== SPACE
  }
}

function skipSpace(bytes: Uint8Array, position: number): number {
  while (
    position < bytes.length &&
    ((bytes[position] as number) === SPACE || isControlSpace(bytes[position] as number))
  ) {
    position++
  }
  return position
}

function isControlSpace(byte: number): boolean {
  return byte >= 9 && byte <= 13
}

/** Ids of a text, and whether each token starts inside one of the given spans. */
export interface MarkedIds {
  ids: number[]
  inside: Uint8Array
}

/**
 * Tokenizes a text and marks the tokens that start inside `spans`. A token that would cross the start of a span
 * is split there, since in generation, too, the text before is a prompt and the answer starts with a new token.
 * @param text including special tokens
 * @param spans sorted, not overlapping, in UTF-16 units
 * @param addSpecialTokens whether BOS and EOS are added around the text; they are marked as outside
 * @param marked whether marked special tokens in the text are plain text; see `marks.ts`
 * @returns undefined if the positions of the tokens cannot be determined exactly
 */
export function encodeMarked(
  tokenizer: Tokenizer,
  text: string,
  spans: readonly Span[],
  addSpecialTokens: boolean,
  marked = false,
): MarkedIds | undefined {
  const plain = normalizeParts(tokenizer, text, spans, marked)
  if (!plain) return undefined
  const whole = encodePiece(tokenizer, plain, false)
  if (!whole) return undefined
  const pieces = whole.straddled.length === 0 ? [whole] : encodeApart(tokenizer, plain, whole.straddled)
  if (!pieces) return undefined
  const { before, after } = addSpecialTokens ? surroundings(tokenizer) : { before: [], after: [] }
  const ids = [...before, ...pieces.flatMap((piece) => piece.ids), ...after]
  const inside = new Uint8Array(ids.length)
  inside.set(
    pieces.flatMap((piece) => Array.from(piece.inside)),
    before.length,
  )
  return { ids, inside }
}

interface Part {
  text: string
  spans: Span[]
  /** True if special tokens in the text are marked. */
  marked: boolean
}

/**
 * Unicode normalization may change lengths, so each part is normalized on its own to find the new spans. The
 * parts must add up to the same text.
 */
function normalizeParts(
  tokenizer: Tokenizer,
  text: string,
  spans: readonly Span[],
  marked: boolean,
): Part | undefined {
  const normalized = tokenizer.normalized(text)
  if (normalized === text) return { text, spans: [...spans], marked }
  let result = ''
  let end = 0
  const moved: Span[] = []
  for (const span of spans) {
    result += tokenizer.normalized(text.slice(end, span.start))
    const start = result.length
    result += tokenizer.normalized(text.slice(span.start, span.end))
    moved.push({ start, end: result.length })
    end = span.end
  }
  result += tokenizer.normalized(text.slice(end))
  if (result !== normalized) return undefined
  const plain = { addSpecialTokens: false, marked }
  const same = (a: readonly number[], b: readonly number[]) =>
    a.length === b.length && a.every((id, i) => id === b[i])
  return same(tokenizer.encode(text, plain), tokenizer.encode(normalized, plain))
    ? { text: normalized, spans: moved, marked }
    : undefined
}

interface Piece extends MarkedIds {
  /** Starts of spans inside a token, in UTF-16 units. */
  straddled: number[]
}

function encodePiece(
  tokenizer: Tokenizer,
  { text, spans, marked }: Part,
  continues: boolean,
): Piece | undefined {
  const ids = continues
    ? tokenizer.encodeContinuation(text, { marked })
    : tokenizer.encode(text, { addSpecialTokens: false, marked })
  const spelled = tokenizer.marksSpaces ? text.replaceAll('\u2581', ' ') : text
  const plain = (part: string) => (marked ? withoutMarks(part) : part)
  const offsets = byteOffsets(tokenizer, plain(spelled), ids, continues)
  if (!offsets) return undefined
  const inside = new Uint8Array(ids.length)
  const straddled: number[] = []
  let token = 0
  let position = 0
  let bytes = 0
  /** Byte offset of a position; positions must be passed in ascending order. */
  const byteAt = (place: number) => {
    bytes += Buffer.byteLength(plain(spelled.slice(position, place)))
    position = place
    return bytes
  }
  for (const span of spans) {
    const start = byteAt(span.start)
    const end = byteAt(span.end)
    while (token < ids.length && (offsets[token] as number) < start) token++
    if (offsets[token] !== start && end > start) straddled.push(span.start)
    for (; token < ids.length && (offsets[token] as number) < end; token++) inside[token] = 1
  }
  return { ids, inside, straddled }
}

/** Tokenizes the stretches between the cuts separately. */
function encodeApart(
  tokenizer: Tokenizer,
  { text, spans, marked }: Part,
  cuts: readonly number[],
): Piece[] | undefined {
  const pieces: Piece[] = []
  const bounds = [0, ...cuts, text.length]
  for (let i = 0; i + 1 < bounds.length; i++) {
    const start = bounds[i] as number
    const end = bounds[i + 1] as number
    const within = spans
      .filter((span) => span.start < end && span.end > start)
      .map((span) => ({ start: Math.max(span.start, start) - start, end: Math.min(span.end, end) - start }))
    const piece = encodePiece(tokenizer, { text: text.slice(start, end), spans: within, marked }, i > 0)
    if (!piece || piece.straddled.length > 0) return undefined
    pieces.push(piece)
  }
  return pieces
}

/** Tokens that the tokenizer adds before and after a text. */
function surroundings(tokenizer: Tokenizer): { before: number[]; after: number[] } {
  const ids = tokenizer.encode('', { addSpecialTokens: true })
  const cut = ids.findIndex((id) => id !== tokenizer.bosId)
  return cut < 0 ? { before: ids, after: [] } : { before: ids.slice(0, cut), after: ids.slice(cut) }
}
