import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { FileFormatError, UnsupportedError } from '../../../lib/core/errors.js'
import type { GgufValue } from '../../../lib/formats/gguf.js'
import { tokenizerSourceFromGguf } from '../../../lib/tokenizer/gguf.js'
import { loadTokenizer } from '../../../lib/tokenizer/tokenizer.js'

interface Golden {
  config: Record<string, string>
  ids: number[][]
  with_special: number[][]
  decoded: string[]
  gguf: Record<string, unknown> | null
  gguf_ids: number[][] | null
}

const parity = (name: string) => JSON.parse(readFileSync(`test/parity/${name}`, 'utf8'))
const strings = parity('tokenizer_strings.json') as string[]
const goldens = parity('tokenizer_small.json').tokenizers as Record<string, Golden>
const rebuildable = Object.entries(goldens).filter(([, golden]) => golden.gguf)

/** As the reader delivers it: arrays of numbers are typed. */
function metadataOf(keys: Record<string, unknown>): Map<string, GgufValue> {
  const typed = Object.entries(keys).map(([key, value]): [string, GgufValue] => {
    if (Array.isArray(value) && typeof value[0] === 'number') {
      return [key, key.endsWith('scores') ? Float32Array.from(value) : Int32Array.from(value)]
    }
    return [key, value as GgufValue]
  })
  return new Map(typed)
}

function changed(name: string, changes: Record<string, unknown>): Map<string, GgufValue> {
  const metadata = metadataOf({ ...goldens[name]?.gguf, ...changes })
  for (const [key, value] of Object.entries(changes)) if (value === undefined) metadata.delete(key)
  return metadata
}

describe.each(rebuildable)('the %s tokenizer rebuilt from GGUF metadata', (_, golden) => {
  const tokenizer = loadTokenizer(tokenizerSourceFromGguf(metadataOf(golden.gguf ?? {})))
  const ids = golden.gguf_ids ?? golden.ids

  it.each(strings.map((text, index) => [text, ids[index]] as const))(
    'gives the ids of Python for %j',
    (text, expected) => {
      expect(tokenizer.encode(text, { addSpecialTokens: false })).toEqual(expected)
    },
  )

  it('knows its special tokens and puts the BOS where the original does', () => {
    expect(tokenizer.specialTokens).toMatchObject(
      Object.fromEntries(Object.entries(golden.config).filter(([, token]) => token !== null)),
    )
    if (golden.gguf_ids) return
    golden.with_special.forEach((expected, index) => {
      expect(tokenizer.encode(strings[index] as string, { addSpecialTokens: true })).toEqual(expected)
    })
  })
})

it('takes the tokenizer.json inside the file first', () => {
  const { tokenizer } = parity('tokenizer_small.json').tokenizers.gpt2
  const metadata = changed('smollm', { 'tokenizer.huggingface.json': JSON.stringify(tokenizer) })
  expect(tokenizerSourceFromGguf(metadata).tokenizerJson).toEqual(tokenizer)
})

it('splits texts of LFM2 as those of Llama 3', () => {
  expect(tokenizerSourceFromGguf(changed('llama3', { 'tokenizer.ggml.pre': 'lfm2' }))).toEqual(
    tokenizerSourceFromGguf(changed('llama3', {})),
  )
})

it('passes on chat templates and every token that ends a generation', () => {
  const metadata = changed('smollm', {
    'tokenizer.chat_template': 'one',
    'tokenizer.chat_template.tool_use': 'two',
    'tokenizer.ggml.eot_token_id': 2,
  })
  const source = tokenizerSourceFromGguf(metadata)
  expect(source).toMatchObject({ chatTemplate: 'one', namedTemplates: { tool_use: 'two' } })
  expect(source.eosTokenIds).toEqual([goldens.smollm?.gguf?.['tokenizer.ggml.eos_token_id'], 2])
})

it.each([
  [
    'an unknown pre-tokenizer',
    { 'tokenizer.ggml.pre': 'exotic' },
    UnsupportedError,
    /pre-tokenizer "exotic".*gpt-2, llama-bpe, dbrx, smollm, qwen2, qwen35, tekken, gpt-4o/,
  ],
  [
    'a missing pre-tokenizer',
    { 'tokenizer.ggml.pre': undefined },
    UnsupportedError,
    /pre-tokenizer "missing"/,
  ],
  ['another model', { 'tokenizer.ggml.model': 'bert' }, UnsupportedError, /type "bert".*"gpt2".*"llama"/],
  ['no model', { 'tokenizer.ggml.model': undefined }, FileFormatError, /lacks the key tokenizer.ggml.model/],
  [
    'no tokens',
    { 'tokenizer.ggml.tokens': undefined },
    FileFormatError,
    /lacks the key tokenizer.ggml.tokens/,
  ],
  [
    'no merges',
    { 'tokenizer.ggml.merges': undefined },
    FileFormatError,
    /lacks the key tokenizer.ggml.merges/,
  ],
  [
    'a merge of one piece',
    { 'tokenizer.ggml.merges': ['ab'] },
    FileFormatError,
    /merge 0 is "ab", not two pieces/,
  ],
  [
    'too few types',
    { 'tokenizer.ggml.token_type': [1] },
    FileFormatError,
    /token_type has 1 entries for \d+ tokens/,
  ],
  [
    'an EOS outside the vocabulary',
    { 'tokenizer.ggml.eos_token_id': 99999 },
    FileFormatError,
    /eos_token_id is 99999, but there are \d+ tokens/,
  ],
  [
    'a broken tokenizer.json',
    { 'tokenizer.huggingface.json': '{' },
    FileFormatError,
    /huggingface.json of model.gguf is not valid JSON \(line 1, column 2\)/,
  ],
] as const)('refuses %s', (_, changes, type, message) => {
  const attempt = () => tokenizerSourceFromGguf(changed('smollm', changes), 'model.gguf')
  expect(attempt).toThrow(type)
  expect(attempt).toThrow(message)
})
