/**
 * Converts a tokenizer to GGUF metadata: the vocabulary with types, merges or scores, special tokens, and chat
 * templates. The result is rebuilt as a reader would, and compared on a few texts; a tokenizer that behaves
 * differently is refused.
 */
import { UnsupportedError } from '../core/errors.js'
import { quote } from '../core/quote.js'
import type { GgufValue } from '../formats/gguf.js'
import { type GgufField, ggufField } from '../formats/gguf-fields.js'
import { type AdaptedTokenizer, prefixSchemeOf, stepsOf } from './adapt.js'
import {
  END_ROLES,
  mergesFromScores,
  TOKEN_ROLES,
  TOKEN_TYPE,
  tokenizerSourceFromGguf,
  type Vocabulary,
} from './gguf.js'
import { PRE_TOKENIZERS, preTokenizerName } from './pre-tokenizers.js'
import type { TokenizerSource } from './source.js'
import { adaptSource, loadTokenizer, type Tokenizer } from './tokenizer.js'

export interface TokenizerFields {
  fields: GgufField[]
  /** Sentences about programs that will read the file differently. */
  remarks: string[]
}

/** Ids of special tokens in a model's config, for those that its tokenizer does not name. */
export interface ConfigTokens {
  bosId?: number
  padId?: number
}

/**
 * @param rows rows of the embedding; ids beyond the tokenizer's get placeholder tokens that match no text
 * @throws {UnsupportedError} for a tokenizer that GGUF cannot represent
 */
export function tokenizerToGguf(
  source: TokenizerSource,
  rows: number,
  config: ConfigTokens = {},
): TokenizerFields {
  const where = source.where ?? 'tokenizer.json'
  const { json } = adaptSource(source)
  const tokenizer = loadTokenizer(source)
  const kind = kindOf(json, where)
  const vocabulary = vocabularyOf(json, rows, kind)
  const fields = [
    ggufField.string('tokenizer.ggml.model', kind),
    ggufField.string('tokenizer.ggml.pre', kind === 'gpt2' ? byteLevelName(json, where) : 'default'),
    ggufField.strings('tokenizer.ggml.tokens', [...vocabulary.tokens]),
    ...(kind === 'llama'
      ? [ggufField.f32s('tokenizer.ggml.scores', scoresOf(json, vocabulary, where))]
      : [
          ggufField.strings(
            'tokenizer.ggml.merges',
            mergesOf(json).map((pair) => pair.join(' ')),
          ),
        ]),
    ggufField.i32s('tokenizer.ggml.token_type', Int32Array.from(vocabulary.types)),
    ...specialFields(tokenizer, where, rows, config),
    ...(kind === 'llama'
      ? [ggufField.bool('tokenizer.ggml.add_space_prefix', prefixSchemeOf(json) !== 'none')]
      : []),
    ...templateFields(source),
  ]
  compare(tokenizer, fields, where)
  return { fields, remarks: remarksOn(json) }
}

type Kind = 'gpt2' | 'llama'

/** Byte-level BPE, or BPE in the style of SentencePiece. */
function kindOf(json: AdaptedTokenizer['json'], where: string): Kind {
  if (stepsOf(json.pre_tokenizer).some(({ type }) => type === 'ByteLevel')) return 'gpt2'
  if (json.model.byte_fallback === true) return 'llama'
  throw new UnsupportedError(
    `${where}: GGUF supports byte-level BPE and BPE with byte fallback; this tokenizer is neither. Write a safetensors folder instead.`,
    { where },
  )
}

function byteLevelName(json: AdaptedTokenizer['json'], where: string): string {
  const name = preTokenizerName(json)
  if (name !== undefined) return name
  throw new UnsupportedError(
    `${where}: its steps before the model (normalizer, pre_tokenizer, ignore_merges) match none of the pre-tokenizers of GGUF files that lowrank supports (${[...PRE_TOKENIZERS.keys()].join(', ')}), and another one would give other ids. Write a safetensors folder instead, or start from a GGUF file of the model, whose tokenizer is copied unchanged.`,
    { where },
  )
}

function vocabularyOf(json: AdaptedTokenizer['json'], rows: number, kind: Kind): Vocabulary {
  const tokens = Array.from({ length: rows }, (_, id) => `[PAD${id}]`)
  const types = new Int32Array(rows).fill(TOKEN_TYPE.unused)
  for (const [token, id] of Object.entries(json.model.vocab)) {
    tokens[id] = token
    const byte = kind === 'llama' && /^<0x[0-9A-F]{2}>$/.test(token)
    types[id] = byte ? TOKEN_TYPE.byte : TOKEN_TYPE.normal
  }
  for (const { id, content, special } of json.added_tokens) {
    tokens[id] = content
    const unknown = kind === 'llama' && content === json.model.unk_token
    types[id] = unknown ? TOKEN_TYPE.unknown : special ? TOKEN_TYPE.control : TOKEN_TYPE.userDefined
  }
  return { tokens, types }
}

function mergesOf(json: AdaptedTokenizer['json']): [string, string][] {
  return (json.model.merges as (string | [string, string])[]).map((merge) =>
    typeof merge === 'string' ? (merge.split(' ') as [string, string]) : merge,
  )
}

/**
 * Scores with which SentencePiece makes the same joins as the merges: minus the index of the first merge that
 * creates the piece.
 */
function scoresOf(json: AdaptedTokenizer['json'], vocabulary: Vocabulary, where: string): Float32Array {
  const merges = mergesOf(json)
  const { vocab } = json.model
  const scores = new Float32Array(vocabulary.tokens.length).fill(-merges.length)
  for (const [rank, [left, right]] of [...merges.entries()].reverse()) {
    const id = vocab[left + right]
    if (id !== undefined) scores[id] = -rank
  }
  const again = mergesFromScores(vocabulary, scores, vocab)
  if (JSON.stringify(again) !== JSON.stringify(merges))
    throw new UnsupportedError(
      `${where}: its merges do not follow from a SentencePiece vocabulary, and GGUF files of this kind store a score per piece instead of merges. Write a safetensors folder instead.`,
      { where },
    )
  return scores
}

function specialFields(
  tokenizer: Tokenizer,
  where: string,
  rows: number,
  { bosId, padId }: ConfigTokens,
): GgufField[] {
  const id = (name: string, value: number) => ggufField.u32(`tokenizer.ggml.${name}_token_id`, value)
  const ends = tokenizer.eosIds
  // Without an end token in the file, llama.cpp would use some ordinary token.
  if (ends.length === 0)
    throw new UnsupportedError(
      `${where} has no end token, which programs that read GGUF files need; set "eos_token" in tokenizer_config.json.`,
      { where },
    )
  const fields = END_ROLES.slice(0, ends.length).map((role, i) => id(role, ends[i] as number))
  const begin = tokenizer.bosId ?? bosId
  if (begin !== undefined) fields.push(id('bos', begin))
  const named = (role: string) => {
    const token = tokenizer.specialTokens[role]
    return token === undefined ? undefined : tokenizer.tokenToId(token)
  }
  const unknown = named(TOKEN_ROLES.unknown)
  if (unknown !== undefined) fields.push(id('unknown', unknown))
  const padding = named(TOKEN_ROLES.padding) ?? padId
  // Defaults of configs may lie beyond a small vocabulary.
  if (padding !== undefined && padding < rows) fields.push(id('padding', padding))
  const around = tokenizer.encode('', { addSpecialTokens: true })
  return [
    ...fields,
    ggufField.bool('tokenizer.ggml.add_bos_token', tokenizer.addsBos),
    ggufField.bool('tokenizer.ggml.add_eos_token', around.length > 0 && around.at(-1) === tokenizer.eosId),
  ]
}

function templateFields({ chatTemplate, namedTemplates = {} }: TokenizerSource): GgufField[] {
  const named = Object.entries(namedTemplates)
  return [
    ...(chatTemplate === undefined ? [] : [ggufField.string('tokenizer.chat_template', chatTemplate)]),
    ...named.map(([name, text]) => ggufField.string(`tokenizer.chat_template.${name}`, text)),
  ]
}

/** Words, white space, digits, punctuation, scripts, bytes: texts on which tokenizers differ. */
const PROBES = [
  "It's 1234567 o'clock, DON'T you'll see?",
  'a  b   c\n\n\td \r\n e',
  'x=1.5e-3; // --> {"k": [1, 2]}\n\n\n',
  'Füße, naïve, Ærøskøbing, Жук, 中文字符, カタカナ, العربية',
  '🙂👩‍👩‍👧 ½ ² ① \u00a0\u200b',
  'camelCase snake_case SHOUT!!!??...',
]

function compare(tokenizer: Tokenizer, fields: readonly GgufField[], where: string): void {
  const metadata = new Map<string, GgufValue>(fields.map(({ key, value }) => [key, value]))
  const again = loadTokenizer(tokenizerSourceFromGguf(metadata, 'the GGUF file'))
  const specials = [...tokenizer.eosIds, tokenizer.bosId ?? 0].map((id) => tokenizer.idToToken(id) ?? '')
  for (const text of [...PROBES, ...specials, '']) {
    const options = { addSpecialTokens: true }
    const [expected, found] = [tokenizer.encode(text, options), again.encode(text, options)]
    if (expected.join() === found.join()) continue
    throw new UnsupportedError(
      `${where}: written into a GGUF file, this tokenizer would give other ids, such as ${found.slice(0, 12).join(' ')} in place of ${expected.slice(0, 12).join(' ')} for ${quote(text)}. Write a safetensors folder instead.`,
      { where, text, expected, found },
    )
  }
}

function remarksOn(json: AdaptedTokenizer['json']): string[] {
  const remarks: string[] = []
  const scheme = prefixSchemeOf(json)
  if (scheme === 'first' || scheme === 'always')
    remarks.push(
      'llama.cpp puts a space before every text and after every special token; the tokenizer of this model does so more rarely, so a few ids can differ there',
    )
  const greedy = json.added_tokens.filter(({ lstrip, rstrip }) => lstrip || rstrip)
  if (greedy.length > 0)
    remarks.push(
      `llama.cpp keeps the white space beside ${greedy.map(({ content }) => quote(content)).join(', ')}, which the tokenizer of this model drops`,
    )
  return remarks
}
