/**
 * Checks a tokenizer.json, and rewrites parts that `@huggingface/tokenizers` reads differently from Python's
 * `tokenizers` into equivalent steps that both read alike. Parts without an equivalent are refused, since
 * slightly wrong ids would train the model on different text.
 */

import { FileFormatError, UnsupportedError } from '../core/errors.js'
import { quote } from '../core/quote.js'

type Json = Record<string, unknown>

/** A validated entry of `added_tokens`. */
export interface AddedTokenEntry {
  id: number
  content: string
  special: boolean
  lstrip: boolean
  rstrip: boolean
  normalized: boolean
}

/** A validated tokenizer.json of a BPE tokenizer, adapted so that the library reads it as Python does. */
export interface AdaptedTokenizer {
  json: Json & {
    model: Json & { vocab: Record<string, number> }
    normalizer: Json
    pre_tokenizer: Json | null
    post_processor: Json | null
    decoder: Json | null
    added_tokens: AddedTokenEntry[]
  }
  added: AddedTokenEntry[]
  /** Token tables built from `json.model.vocab` and the added tokens. */
  vocabulary: Vocabulary
}

/** Tables from tokens to ids and back; some ids may have no token. */
export interface Vocabulary {
  ids: Map<string, number>
  tokens: string[]
  /** Id of the unknown token, unless it is an added token. */
  unknownId: number | undefined
}

/** Far above any real vocabulary. Larger ids are refused, because arrays are as long as the largest id. */
const LARGEST_ID = 1 << 23

/** Pattern that ByteLevel splits by if `use_regex` is set. */
export const GPT2_REGEX = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

/**
 * @param value the parsed tokenizer.json
 * @param where name of the tokenizer in messages
 * @throws {FileFormatError} when it is malformed; UnsupportedError when it cannot be reproduced exactly
 */
export function adaptTokenizer(value: unknown, where: string): AdaptedTokenizer {
  const json = object(value, where, 'the tokenizer')
  const model = object(json.model, where, '"model"')
  const type = model.type ?? 'BPE'
  if (type !== 'BPE') {
    throw new UnsupportedError(`${where} has a tokenizer of type ${quote(type)}; only BPE is supported`, {
      where,
      type,
    })
  }
  const vocab = object(model.vocab, where, '"model.vocab"') as Record<string, number>
  const vocabulary = readVocabulary(vocab, model.unk_token, where)
  checkMerges(model.merges, where)
  if (typeof model.dropout === 'number' && model.dropout > 0) {
    throw new UnsupportedError(
      `${where} has BPE dropout ${model.dropout}, which makes ids random; set "dropout" to null`,
      { where },
    )
  }
  const added = checkAddedTokens(json.added_tokens ?? [], where)
  for (const { id, content } of added) {
    vocabulary.ids.set(content, id)
    vocabulary.tokens[id] = content
  }
  const optional = (key: string) =>
    json[key] === null || json[key] === undefined ? null : typedStep(json[key], where, `"${key}"`)
  const preTokenizer = optional('pre_tokenizer')
  const adapted = {
    ...json,
    model: { ...model, type: 'BPE', vocab },
    // Python matches tokens in normalized text in a second pass, which the library makes only with a normalizer.
    normalizer: optional('normalizer') ?? { type: 'Sequence', normalizers: [] },
    pre_tokenizer: preTokenizer && adaptPreTokenizer(preTokenizer, where),
    post_processor: optional('post_processor'),
    decoder: optional('decoder'),
    added_tokens: added,
  }
  return { json: adapted, added, vocabulary }
}

function object(value: unknown, where: string, what: string): Json {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Json
  throw new FileFormatError(`${where}: ${what} must be a JSON object`, { where })
}

/** A step with a `type`, as all its nested steps must have. */
function typedStep(value: unknown, where: string, what: string): Json {
  const step = object(value, where, what)
  if (typeof step.type !== 'string')
    throw new FileFormatError(`${where}: the type of ${what} must be a string, not ${quote(step.type)}`, {
      where,
    })
  for (const key of ['normalizers', 'pretokenizers', 'processors', 'decoders'])
    for (const part of Array.isArray(step[key]) ? step[key] : []) typedStep(part, where, `a step of ${what}`)
  return step
}

function isId(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) <= LARGEST_ID
}

function readVocabulary(vocab: Json, unknown: unknown, where: string): Vocabulary {
  const ids = new Map<string, number>()
  const tokens: string[] = []
  for (const token of Object.keys(vocab)) {
    const id = vocab[token]
    if (!isId(id)) {
      throw new FileFormatError(
        `${where}: the id of the token ${quote(token)} must be an integer from 0 to ${LARGEST_ID}, not ${quote(id)}`,
        { where, token },
      )
    }
    if (tokens[id] !== undefined) {
      throw new FileFormatError(`${where}: two tokens have the id ${id}, one of them ${quote(token)}`, {
        where,
        token,
        id,
      })
    }
    ids.set(token, id)
    tokens[id] = token
  }
  if (ids.size === 0) throw new FileFormatError(`${where}: the vocabulary is empty`, { where })
  return { ids, tokens, unknownId: ids.get(unknown as string) }
}

function checkMerges(value: unknown, where: string): void {
  if (!Array.isArray(value)) throw new FileFormatError(`${where}: "model.merges" must be an array`, { where })
  // The library infers the form of all merges from the first one.
  const pairs = Array.isArray(value[0])
  for (const [index, merge] of value.entries()) {
    const right = pairs
      ? Array.isArray(merge) && merge.length === 2 && merge.every((half) => typeof half === 'string')
      : typeof merge === 'string' && merge.split(' ').length === 2
    if (!right) {
      throw new FileFormatError(
        `${where}: merge ${index} must be ${pairs ? 'a pair of strings' : 'two pieces with one space between'}, not ${quote(merge)}`,
        { where, index },
      )
    }
  }
}

function checkAddedTokens(value: unknown, where: string): AddedTokenEntry[] {
  if (!Array.isArray(value)) throw new FileFormatError(`${where}: "added_tokens" must be an array`, { where })
  return value.map((entry, index) => {
    const token = object(entry, where, `added token ${index}`)
    const { id, content } = token
    if (!isId(id) || typeof content !== 'string' || content === '') {
      throw new FileFormatError(`${where}: added token ${index} needs an "id" and a "content"`, {
        where,
        index,
      })
    }
    if (token.single_word === true) {
      throw new UnsupportedError(
        `${where}: the added token ${quote(content)} is matched as a whole word only ("single_word"), which is not supported`,
        { where, content },
      )
    }
    const special = token.special === true
    return {
      id,
      content,
      special,
      lstrip: token.lstrip === true,
      rstrip: token.rstrip === true,
      normalized: typeof token.normalized === 'boolean' ? token.normalized : !special,
    }
  })
}

function split(regex: string): Json {
  return { type: 'Split', pattern: { Regex: regex }, behavior: 'Isolated', invert: false }
}

/** A character as a regex that matches it literally. */
function codePoint(character: string): string {
  return `\\x{${character.codePointAt(0)?.toString(16)}}`
}

function sequence(...pretokenizers: Json[]): Json {
  return { type: 'Sequence', pretokenizers }
}

function adaptPreTokenizer(step: Json, where: string): Json {
  switch (step.type) {
    case 'Sequence': {
      const steps = step.pretokenizers
      if (!Array.isArray(steps)) {
        throw new FileFormatError(`${where}: a pre-tokenizer of type Sequence needs "pretokenizers"`, {
          where,
        })
      }
      return sequence(...steps.map((one) => adaptPreTokenizer(object(one, where, 'a pre-tokenizer'), where)))
    }
    case 'ByteLevel':
      return adaptByteLevel(step, where)
    case 'Digits':
      // Here the library knows only ASCII digits; Python matches all numeric characters.
      return split(step.individual_digits === true ? '\\p{N}' : '\\p{N}+')
    case 'Metaspace': {
      // The library never splits at the replacement character.
      const mark = typeof step.replacement === 'string' ? step.replacement : '\u2581'
      if ([...mark].length !== 1) {
        throw new FileFormatError(`${where}: the replacement of Metaspace must be one character`, { where })
      }
      const whole = { ...step, prepend_scheme: metaspaceScheme(step) }
      if (step.split === false) return whole
      const escaped = codePoint(mark)
      return sequence(whole, split(`${escaped}[^${escaped}]*|[^${escaped}]+`))
    }
    case 'Split':
      return adaptSplit(step, where)
    case 'WhitespaceSplit':
      return { type: 'Split', pattern: { Regex: '\\s+' }, behavior: 'Removed', invert: false }
    default:
      throw new UnsupportedError(
        `${where} uses the pre-tokenizer ${quote(step.type)}, which is not supported`,
        { where, type: step.type },
      )
  }
}

function metaspaceScheme(step: Json): string {
  if (typeof step.prepend_scheme === 'string') return step.prepend_scheme
  return step.add_prefix_space === false ? 'never' : 'always'
}

/** The regex built into the library uses JavaScript's white space; a Split uses Unicode's. */
function adaptByteLevel(step: Json, where: string): Json {
  const plain = { ...step, add_prefix_space: step.add_prefix_space !== false, use_regex: false }
  if (step.use_regex === false) return plain
  if (plain.add_prefix_space) {
    throw new UnsupportedError(
      `${where} puts a space before every text ("add_prefix_space" of ByteLevel), which is not supported`,
      { where },
    )
  }
  return sequence(split(GPT2_REGEX), plain)
}

function adaptSplit(step: Json, where: string): Json {
  const pattern = object(step.pattern, where, 'the pattern of Split')
  const text = pattern.Regex ?? pattern.String
  if (typeof text !== 'string' || text === '') {
    throw new FileFormatError(`${where}: the pattern of Split needs a "Regex" or a "String"`, { where })
  }
  const behavior = String(step.behavior).toLowerCase()
  // Matches and the text between them are all isolated, so it does not matter which are the delimiters.
  if (behavior === 'isolated') return { ...step, invert: false }
  const literal = pattern.String
  if (behavior === 'removed') {
    if (typeof literal !== 'string') return step
    // With a String pattern the library would keep the delimiters.
    return { ...step, pattern: { Regex: [...literal].map(codePoint).join('') } }
  }
  if (typeof literal === 'string' && [...literal].length === 1 && step.invert !== true) {
    const character = codePoint(literal)
    if (behavior === 'mergedwithprevious') return split(`[^${character}]*${character}|[^${character}]+`)
    if (behavior === 'mergedwithnext') return split(`${character}[^${character}]*|[^${character}]+`)
    if (behavior === 'contiguous') return split(`${character}+`)
  }
  throw new UnsupportedError(
    `${where} splits by ${quote(text)} with the behavior ${quote(step.behavior)}, which is not supported`,
    { where },
  )
}

/**
 * The tokenizer for text that continues other text: it adds no prefix. Used to tokenize a text in pieces if the
 * tokenizer marks the start of a text with a space.
 */
export function continuationOf(json: AdaptedTokenizer['json']): AdaptedTokenizer['json'] {
  return {
    ...json,
    normalizer: withoutPrefix(json.normalizer),
    pre_tokenizer: json.pre_tokenizer && withoutPrefix(json.pre_tokenizer),
  }
}

function withoutPrefix(step: Json): Json {
  switch (step.type) {
    case 'Sequence': {
      const inner = (key: string) =>
        (step[key] as Json[]).filter((one) => one.type !== 'Prepend').map(withoutPrefix)
      return 'normalizers' in step
        ? { ...step, normalizers: inner('normalizers') }
        : { ...step, pretokenizers: inner('pretokenizers') }
    }
    case 'Metaspace':
      return { ...step, prepend_scheme: 'never' }
    case 'ByteLevel':
      return { ...step, add_prefix_space: false }
    case 'Prepend':
      return { ...step, prepend: '' }
    default:
      return step
  }
}

/**
 * When a space is put before a stretch of text between added tokens: never, always (`prepend`), unless it
 * starts with a space (`always`), or only at the start of the text (`first`).
 */
export type PrefixScheme = 'none' | 'prepend' | 'always' | 'first'

export function prefixSchemeOf(json: AdaptedTokenizer['json']): PrefixScheme {
  const steps = [json.normalizer, json.pre_tokenizer].flatMap(stepsOf)
  if (steps.some((step) => step.type === 'Prepend')) return 'prepend'
  for (const step of steps) {
    if (step.type === 'Metaspace' && step.prepend_scheme === 'first') return 'first'
    if (step.type === 'Metaspace' && step.prepend_scheme === 'always') return 'always'
    if (step.type === 'ByteLevel' && step.add_prefix_space === true) return 'always'
  }
  return 'none'
}

/** The steps of a normalizer or pre-tokenizer, with nested sequences flattened. */
export function stepsOf(step: Json | null): Json[] {
  if (!step) return []
  if (step.type !== 'Sequence') return [step]
  return ((step.normalizers ?? step.pretokenizers) as Json[]).flatMap(stepsOf)
}
