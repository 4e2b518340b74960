/**
 * Rebuilds a tokenizer.json from the metadata of a GGUF file: byte-level BPE ("gpt2") and SentencePiece BPE
 * ("llama"). GGUF stores the vocabulary but only the name of the pre-tokenizer, which is looked up in a table.
 * Unknown names are refused, because another pre-tokenizer would give other ids for the same text.
 */

import { FileFormatError, UnsupportedError } from '../core/errors.js'
import { quote } from '../core/quote.js'
import type { GgufValue } from '../formats/gguf.js'
import { GgufKeys, type GgufMetadata } from '../formats/gguf-metadata.js'
import { parseJson } from '../io/input.js'
import { PRE_TOKENIZERS, preTokenizerNamed } from './pre-tokenizers.js'
import type { TokenizerSource } from './source.js'

type Json = Record<string, unknown>

/** Header of every tokenizer.json, required by Python's reader. */
const HEAD: Json = { version: '1.0', truncation: null, padding: null }

/** Values of `tokenizer.ggml.token_type`. */
export const TOKEN_TYPE = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 }

export interface Vocabulary {
  tokens: readonly string[]
  types: ArrayLike<number>
}

/**
 * @param metadata metadata of the file
 * @param where name of the file in messages
 * @throws {UnsupportedError} for a tokenizer that cannot be rebuilt exactly; FileFormatError when keys are
 * missing or contradictory
 */
export function tokenizerSourceFromGguf(metadata: GgufMetadata, where = 'the GGUF file'): TokenizerSource {
  const keys = new GgufKeys(where, metadata)
  const model = keys.required('tokenizer.ggml.model', keys.text('tokenizer.ggml.model'))
  const whole = keys.text('tokenizer.huggingface.json')
  const vocabulary = readVocabulary(keys)
  const tokenizerJson =
    whole === undefined
      ? rebuild(keys, model, vocabulary)
      : parseJson(whole, `tokenizer.huggingface.json of ${where}`)
  const { templates, named } = readTemplates(metadata)
  return {
    tokenizerJson,
    tokenizerConfig: readRoles(keys, vocabulary),
    ...(templates === undefined ? {} : { chatTemplate: templates }),
    namedTemplates: named,
    eosTokenIds: END_ROLES.map((role) => keys.integer(`tokenizer.ggml.${role}_token_id`)).filter(
      (id) => id !== undefined,
    ),
    where: `the tokenizer of ${where}`,
  }
}

function readVocabulary(keys: GgufKeys): Vocabulary {
  const tokens = keys.required('tokenizer.ggml.tokens', keys.strings('tokenizer.ggml.tokens'))
  const types =
    keys.numbers('tokenizer.ggml.token_type') ?? new Uint8Array(tokens.length).fill(TOKEN_TYPE.normal)
  checkLength(keys, 'token_type', types, tokens)
  return { tokens, types }
}

function checkLength(
  keys: GgufKeys,
  name: string,
  values: ArrayLike<unknown>,
  tokens: readonly string[],
): void {
  if (values.length === tokens.length) return
  throw new FileFormatError(
    `${keys.path}: tokenizer.ggml.${name} has ${values.length} entries for ${tokens.length} tokens`,
    { path: keys.path, name },
  )
}

/** Roles of the tokens that end generation. */
export const END_ROLES = ['eos', 'eot', 'eom']

/** Special tokens: their names in GGUF keys and in tokenizer_config.json. */
export const TOKEN_ROLES = {
  bos: 'bos_token',
  eos: 'eos_token',
  unknown: 'unk_token',
  padding: 'pad_token',
}

/** The special tokens by role, as in tokenizer_config.json. */
function readRoles(keys: GgufKeys, { tokens }: Vocabulary): Record<string, unknown> {
  const config: Record<string, unknown> = {}
  for (const [name, role] of Object.entries(TOKEN_ROLES)) {
    const id = keys.integer(`tokenizer.ggml.${name}_token_id`)
    if (id === undefined) continue
    const token = tokens[id]
    if (token === undefined) {
      throw new FileFormatError(
        `${keys.path}: tokenizer.ggml.${name}_token_id is ${id}, but there are ${tokens.length} tokens`,
        { path: keys.path, id },
      )
    }
    config[role] = token
  }
  return config
}

function readTemplates(metadata: GgufMetadata): { templates?: string; named: Record<string, string> } {
  const prefix = 'tokenizer.chat_template'
  const named: Record<string, string> = {}
  let templates: string | undefined
  for (const [key, value] of metadata as ReadonlyMap<string, GgufValue>) {
    if (typeof value !== 'string') continue
    if (key === prefix) templates = value
    else if (key.startsWith(`${prefix}.`)) named[key.slice(prefix.length + 1)] = value
  }
  return templates === undefined ? { named } : { templates, named }
}

function rebuild(keys: GgufKeys, model: string, vocabulary: Vocabulary): Json {
  if (model === 'gpt2') return rebuildByteLevel(keys, vocabulary)
  if (model === 'llama') return rebuildSentencePiece(keys, vocabulary)
  throw new UnsupportedError(
    `${keys.path} has a tokenizer of the type ${quote(model)}; supported: "gpt2" (byte-level BPE) and "llama" (SentencePiece). Use the model's Hugging Face folder instead`,
    { path: keys.path, model },
  )
}

function rebuildByteLevel(keys: GgufKeys, vocabulary: Vocabulary): Json {
  const name = keys.text('tokenizer.ggml.pre') ?? 'missing'
  const pre = preTokenizerNamed(name)
  if (!pre) {
    throw new UnsupportedError(
      `${keys.path}: the pre-tokenizer ${quote(name)} (tokenizer.ggml.pre) is not supported. Supported: ${[...PRE_TOKENIZERS.keys()].join(', ')}. Use the model's Hugging Face folder instead`,
      { path: keys.path, pre: name },
    )
  }
  const added = addedTokens(vocabulary)
  return {
    ...HEAD,
    added_tokens: added,
    normalizer: pre.normalizer ?? null,
    pre_tokenizer: {
      type: 'Sequence',
      pretokenizers: [
        ...pre.regexes.map((regex) => ({
          type: 'Split',
          pattern: { Regex: regex },
          behavior: 'Isolated',
          invert: false,
        })),
        { type: 'ByteLevel', add_prefix_space: false, trim_offsets: false, use_regex: false },
      ],
    },
    post_processor: postProcessor(keys, vocabulary, pre.addsBos ?? false),
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: 'BPE',
      vocab: plainVocabulary(keys, vocabulary, added),
      merges: readMerges(keys),
      ignore_merges: pre.ignoreMerges ?? false,
    },
  }
}

interface Added {
  id: number
  content: string
  single_word: boolean
  lstrip: boolean
  rstrip: boolean
  normalized: boolean
  special: boolean
}

/** Control tokens are special; user-defined tokens are plain text that is never split. */
function addedTokens({ tokens, types }: Vocabulary): Added[] {
  const added: Added[] = []
  tokens.forEach((content, id) => {
    const type = types[id]
    if (
      content === '' ||
      (type !== TOKEN_TYPE.control && type !== TOKEN_TYPE.userDefined && type !== TOKEN_TYPE.unknown)
    )
      return
    const plain = { single_word: false, lstrip: false, rstrip: false, normalized: false }
    added.push({ id, content, ...plain, special: type !== TOKEN_TYPE.userDefined })
  })
  return added
}

/**
 * Ids by token. A file may repeat a token to pad the embedding; text gets the first id, and added tokens keep
 * their own ids.
 */
function plainVocabulary(
  keys: GgufKeys,
  { tokens }: Vocabulary,
  added: readonly Added[],
): Record<string, number> {
  const vocab: Record<string, number> = Object.create(null)
  tokens.forEach((token, id) => {
    if (!(token in vocab)) vocab[token] = id
  })
  for (const { id, content } of added) {
    if (vocab[content] !== id) {
      throw new FileFormatError(
        `${keys.path}: the special token ${quote(content)} occurs twice in the vocabulary`,
        {
          path: keys.path,
          content,
          id,
        },
      )
    }
  }
  return vocab
}

function readMerges(keys: GgufKeys): [string, string][] {
  const merges = keys.required('tokenizer.ggml.merges', keys.strings('tokenizer.ggml.merges'))
  return merges.map((merge, index) => {
    // In vocabularies that are not byte-level a piece may begin with a space, so the first character is skipped.
    const cut = merge.indexOf(' ', 1)
    if (cut < 0) {
      throw new FileFormatError(`${keys.path}: merge ${index} is ${quote(merge)}, not two pieces`, {
        path: keys.path,
        index,
      })
    }
    return [merge.slice(0, cut), merge.slice(cut + 1)]
  })
}

/** Adds BOS and EOS as the file specifies. */
function postProcessor(keys: GgufKeys, { tokens }: Vocabulary, addsBosByDefault: boolean): Json | null {
  const used: Json = {}
  const special = (role: string, wanted: boolean) => {
    const id = keys.integer(`tokenizer.ggml.${role}_token_id`)
    const token = id === undefined ? undefined : tokens[id]
    if (!wanted || token === undefined) return []
    used[token] = { id: token, ids: [id], tokens: [token] }
    return [{ SpecialToken: { id: token, type_id: 0 } }]
  }
  const bos = special('bos', keys.flag('tokenizer.ggml.add_bos_token') ?? addsBosByDefault)
  const eos = special('eos', keys.flag('tokenizer.ggml.add_eos_token') ?? false)
  if (bos.length + eos.length === 0) return null
  const one = (id: string) => [...bos, { Sequence: { id, type_id: 0 } }, ...eos]
  return {
    type: 'TemplateProcessing',
    single: one('A'),
    pair: [...one('A'), ...one('B')],
    special_tokens: used,
  }
}

function rebuildSentencePiece(keys: GgufKeys, vocabulary: Vocabulary): Json {
  const { tokens, types } = vocabulary
  const added = addedTokens(vocabulary)
  const vocab = plainVocabulary(keys, vocabulary, added)
  const prefix = keys.flag('tokenizer.ggml.add_space_prefix') ?? true
  const unknown = keys.integer('tokenizer.ggml.unknown_token_id')
  const byteFallback = Array.from(types).includes(TOKEN_TYPE.byte)
  const replace = { type: 'Replace', pattern: { String: ' ' }, content: '\u2581' }
  const merges = keys.has('tokenizer.ggml.merges')
    ? readMerges(keys)
    : mergesFromScores(vocabulary, readScores(keys, vocabulary), vocab)
  return {
    ...HEAD,
    added_tokens: added,
    normalizer: {
      type: 'Sequence',
      normalizers: prefix ? [{ type: 'Prepend', prepend: '\u2581' }, replace] : [replace],
    },
    pre_tokenizer: null,
    post_processor: postProcessor(keys, vocabulary, true),
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '\u2581' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        ...(prefix ? [{ type: 'Strip', content: ' ', start: 1, stop: 0 }] : []),
      ],
    },
    model: {
      type: 'BPE',
      vocab,
      merges,
      unk_token: unknown === undefined ? null : (tokens[unknown] ?? null),
      byte_fallback: byteFallback,
      fuse_unk: true,
    },
  }
}

function readScores(keys: GgufKeys, { tokens }: Vocabulary): ArrayLike<number> {
  const scores = keys.required('tokenizer.ggml.scores', keys.numbers('tokenizer.ggml.scores'))
  checkLength(keys, 'scores', scores, tokens)
  return scores
}

/**
 * Longer pieces are not built by merges. All splits of a piece are enumerated, so a malicious one would take
 * too long.
 */
const LONGEST_PIECE = 512

/**
 * SentencePiece joins the adjacent pair whose union has the best score. The equivalent merges: every split of a
 * piece into two pieces, with pieces in descending order of score, and the splits of a piece in the order of
 * the ids of their halves. Control, unknown and byte tokens are excluded.
 */
export function mergesFromScores(
  { tokens, types }: Vocabulary,
  scores: ArrayLike<number>,
  vocab: Readonly<Record<string, number>>,
): [string, string][] {
  const takesPart = (id: number | undefined): id is number =>
    id !== undefined &&
    (types[id] === TOKEN_TYPE.normal ||
      types[id] === TOKEN_TYPE.userDefined ||
      types[id] === TOKEN_TYPE.unused)
  const order = tokens.map((_, id) => id).filter((id) => takesPart(id) && vocab[tokens[id] as string] === id)
  order.sort((a, b) => (scores[b] as number) - (scores[a] as number) || a - b)
  const merges: [string, string][] = []
  for (const id of order) {
    const piece = tokens[id] as string
    if (piece.length > LONGEST_PIECE) continue
    const splits: [number, number][] = []
    for (let cut = 1; cut < piece.length; cut++) {
      const left = vocab[piece.slice(0, cut)]
      const right = vocab[piece.slice(cut)]
      if (takesPart(left) && takesPart(right)) splits.push([left, right])
    }
    splits.sort((a, b) => a[0] - b[0] || a[1] - b[1])
    for (const [left, right] of splits) merges.push([tokens[left] as string, tokens[right] as string])
  }
  return merges
}
