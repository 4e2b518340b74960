/**
 * Builds the library's tokenizer from an adapted tokenizer.json. Words repeat, so the tokens of short pieces of
 * text are cached, which doubles the speed: in byte-level vocabularies before a piece is spelled in bytes, in
 * SentencePiece vocabularies after a text is split into words.
 */

import { Tokenizer as Library } from '@huggingface/tokenizers'
import { FileFormatError } from '../core/errors.js'
import type { AdaptedTokenizer, Vocabulary } from './adapt.js'
import { spellBytes } from './bytes.js'
import { withoutMarks } from './marks.js'

type Json = Record<string, unknown>

/**
 * V8 copies only short strings; a cached longer piece would keep the whole text it was sliced from in memory.
 * Longer words are rare anyway.
 */
const LONGEST_PIECE = 12
const MOST_PIECES = 1 << 16

/**
 * @param vocabulary tables of the same tokenizer, which saves the library from building its own
 * @throws {FileFormatError} when the library cannot use the tokenizer
 */
export function buildLibrary(json: AdaptedTokenizer['json'], vocabulary: Vocabulary, where: string): Library {
  const { rest, isByteLevel } = detachByteLevel(json.pre_tokenizer)
  try {
    const library = new Library(
      { ...json, model: { ...json.model, vocab: {} }, pre_tokenizer: rest },
      { clean_up_tokenization_spaces: false },
    )
    if (library.model) giveVocabulary(library.model, vocabulary)
    if (isByteLevel) rememberPieces(library, (piece) => [piece], spellBytes)
    else if (isCutBeforeSpaces(json.model)) rememberPieces(library, words, (word) => word)
    dropMarks(library)
    return library
  } catch (cause) {
    throw new FileFormatError(`${where} cannot be used: ${(cause as Error).message}`, { where }, { cause })
  }
}

let marked = false

/** Sets whether the next text contains the marks of `marks.ts`, which separate tokens but are not part of the text. */
export function useMarks(use: boolean): void {
  marked = use
}

/** Removes marks after added tokens were split off and before any other step sees the text. */
function dropMarks(library: Library): void {
  const split = library.pre_tokenizer as unknown as ((text: string, options?: object) => string[]) | null
  const step = (text: string, options?: object) => {
    const plain = marked ? withoutMarks(text) : text
    return split === null ? [plain] : split(plain, options)
  }
  library.pre_tokenizer = step as unknown as Library['pre_tokenizer']
}

/** Assigns the tables that the library would have built from `vocab` and the added tokens. */
function giveVocabulary(model: NonNullable<Library['model']>, { ids, tokens, unknownId }: Vocabulary): void {
  model.tokens_to_ids = ids
  model.vocab = tokens
  if (unknownId !== undefined) model.unk_token_id = unknownId
}

/** Removes the last step if it only spells each piece in bytes. */
function detachByteLevel(step: Json | null): { rest: Json | null; isByteLevel: boolean } {
  const steps = step?.type === 'Sequence' ? (step.pretokenizers as Json[]) : []
  const last = steps.at(-1)
  const isByteLevel =
    last?.type === 'ByteLevel' && last.use_regex === false && last.add_prefix_space === false
  return { rest: isByteLevel ? { ...step, pretokenizers: steps.slice(0, -1) } : step, isByteLevel }
}

/** Splits a text into words, each with the white space before it. */
function words(text: string): string[] {
  return text.match(/\u2581+[^\u2581]*|[^\u2581]+/g) ?? []
}

/** True if no merge joins a word with a following space, so that words can be tokenized separately. */
function isCutBeforeSpaces({ merges, ignore_merges: ignoresMerges }: Json): boolean {
  if (ignoresMerges === true) return false
  return (merges as (string | [string, string])[]).every((merge) => {
    const joined = typeof merge === 'string' ? merge.replace(' ', '') : merge[0] + merge[1]
    return !/[^\u2581]\u2581/.test(joined)
  })
}

/**
 * Caches the model's tokens by piece, since they depend on the piece alone.
 * @param cut splits a text into pieces that the model can process separately
 * @param spell converts a piece to the model's input
 */
function rememberPieces(
  library: Library,
  cut: (text: string) => string[],
  spell: (piece: string) => string,
): void {
  const { model } = library
  if (!model) return
  const encode: (pieces: string[]) => string[] = model.encode.bind(model)
  const known = new Map<string, string[]>()
  const tokensOf = (piece: string): string[] => {
    const found = known.get(piece)
    if (found) return found
    const tokens = encode([spell(piece)])
    if (piece.length <= LONGEST_PIECE) {
      if (known.size === MOST_PIECES) known.clear()
      known.set(piece, tokens)
    }
    return tokens
  }
  model.encode = (texts: string[]) => {
    const tokens: string[] = []
    for (const text of texts) {
      for (const piece of cut(text)) for (const token of tokensOf(piece)) tokens.push(token)
    }
    return tokens
  }
}
