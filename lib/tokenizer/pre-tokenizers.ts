/**
 * The pre-tokenizers that GGUF files refer to by name. The table is used both to rebuild a tokenizer from a
 * file and to check whether one can be written.
 */
import { type AdaptedTokenizer, GPT2_REGEX, stepsOf } from './adapt.js'

const LLAMA3_REGEX =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

/** Words may contain marks, which punctuation may not. */
const QWEN35_REGEX = LLAMA3_REGEX.replace('\\p{N}{1,3}', '\\p{N}')
  .replace('\\p{L}+', '[\\p{L}\\p{M}]+')
  .replace('[^\\s\\p{L}\\p{N}]', '[^\\s\\p{L}\\p{M}\\p{N}]')

/** Words split at changes of case, as in Mistral's tekken; the rest of the pattern is shared with o200k. */
const UPPER = '[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]'
const LOWER = '[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]'
const CASED_WORDS = [`${UPPER}*${LOWER}+`, `${UPPER}+${LOWER}*`].map(
  (word) => `[^\\r\\n\\p{L}\\p{N}]?${word}`,
)
const AFTER_NUMBERS = ' ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+'
const TEKKEN_REGEX = [...CASED_WORDS, '\\p{N}', AFTER_NUMBERS].join('|')
const O200K_REGEX = [
  ...CASED_WORDS.map((word) => `${word}(?i:'s|'t|'re|'ve|'m|'ll|'d)?`),
  '\\p{N}{1,3}',
  AFTER_NUMBERS,
].join('|')

export interface PreTokenizer {
  /** Each splits the pieces left by the one before. */
  regexes: string[]
  normalizer?: { type: string }
  ignoreMerges?: boolean
  /** True if a BOS is added by default, when the file does not specify it. */
  addsBos?: boolean
}

/** Pre-tokenizers by `tokenizer.ggml.pre`. */
export const PRE_TOKENIZERS: ReadonlyMap<string, PreTokenizer> = new Map([
  ['gpt-2', { regexes: [GPT2_REGEX] }],
  ['llama-bpe', { regexes: [LLAMA3_REGEX], ignoreMerges: true, addsBos: true }],
  ['dbrx', { regexes: [LLAMA3_REGEX] }],
  ['smollm', { regexes: ['\\p{N}', GPT2_REGEX] }],
  ['qwen2', { regexes: [LLAMA3_REGEX.replace('\\p{N}{1,3}', '\\p{N}')], normalizer: { type: 'NFC' } }],
  ['qwen35', { regexes: [QWEN35_REGEX], normalizer: { type: 'NFC' } }],
  ['tekken', { regexes: [TEKKEN_REGEX], ignoreMerges: true, addsBos: true }],
  ['gpt-4o', { regexes: [O200K_REGEX] }],
])

/** Alternative names of pre-tokenizers. */
const SYNONYMS: ReadonlyMap<string, string> = new Map([
  ['gpt2', 'gpt-2'],
  ['refact', 'smollm'],
  ['smaug-bpe', 'dbrx'],
  ['llama3', 'llama-bpe'],
  ['llama-v3', 'llama-bpe'],
  ['pixtral', 'llama-bpe'],
  ['lfm2', 'llama-bpe'],
])

/** Looks up a pre-tokenizer; undefined for an unknown name. */
export function preTokenizerNamed(name: string): PreTokenizer | undefined {
  return PRE_TOKENIZERS.get(SYNONYMS.get(name) ?? name)
}

/** The name of a byte-level tokenizer's pre-tokenizer; undefined if it has none. */
export function preTokenizerName(json: AdaptedTokenizer['json']): string | undefined {
  const steps = stepsOf(json.pre_tokenizer)
  const last = steps.pop()
  if (last?.type !== 'ByteLevel' || last.add_prefix_space === true) return undefined
  const regexes = steps.map(({ type, behavior, pattern }) => {
    const isolates = type === 'Split' && String(behavior).toLowerCase() === 'isolated'
    return isolates ? (pattern as { Regex?: unknown }).Regex : undefined
  })
  const normalizers = stepsOf(json.normalizer).map(({ type }) => type)
  const ignoreMerges = json.model.ignore_merges === true
  for (const [name, known] of PRE_TOKENIZERS) {
    const same =
      regexes.join('\n') === known.regexes.join('\n') &&
      normalizers.join() === (known.normalizer?.type ?? '') &&
      ignoreMerges === (known.ignoreMerges ?? false)
    if (same) return name
  }
  return undefined
}
