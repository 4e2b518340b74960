import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { FileFormatError, UnsupportedError } from '../../../lib/core/errors.js'
import { tokenizerSourceFromFolder } from '../../../lib/tokenizer/folder.js'
import { decodeStreamOf, tokensOf, tokenTexts } from '../../../lib/tokenizer/token-texts.js'
import { loadTokenizer } from '../../../lib/tokenizer/tokenizer.js'

interface Golden {
  tokenizer: Record<string, unknown> & { model: Record<string, unknown> }
  config: Record<string, unknown>
  ids: number[][]
  with_special: number[][]
  decoded: string[]
}

const parity = (name: string) => JSON.parse(readFileSync(`test/parity/${name}`, 'utf8'))
const strings = parity('tokenizer_strings.json') as string[]
const goldens = parity('tokenizer_small.json').tokenizers as Record<string, Golden>

function load(name: string) {
  const golden = goldens[name] as Golden
  return loadTokenizer({ tokenizerJson: golden.tokenizer, tokenizerConfig: golden.config })
}

const plain = { addSpecialTokens: false }

describe.each(Object.entries(goldens))('the %s tokenizer', (name, golden) => {
  const tokenizer = load(name)

  it.each(strings.map((text, index) => [text, golden.ids[index]] as const))(
    'gives the ids of Python for %j',
    (text, ids) => {
      expect(tokenizer.encode(text, plain)).toEqual(ids)
    },
  )

  it('puts special tokens around a text as Python does', () => {
    golden.with_special.forEach((ids, index) => {
      expect(tokenizer.encode(strings[index] as string, { addSpecialTokens: true })).toEqual(ids)
    })
  })

  it('decodes ids to the texts of Python, at once and piece by piece, also by its tokens as data', () => {
    const { tokens, vocabSize } = tokenizer
    const sent = tokens && tokensOf(structuredClone(tokenTexts(tokens, vocabSize)))
    golden.ids.forEach((ids, index) => {
      expect(tokenizer.decode(ids, { skipSpecialTokens: false })).toBe(golden.decoded[index])
      const stream = tokenizer.decodeStream({ skipSpecialTokens: false })
      const parts = [...ids.map((id) => stream.push(id)), stream.end()]
      expect(parts.join('')).toBe(golden.decoded[index])
      if (sent !== undefined) {
        const there = decodeStreamOf(sent, { skipSpecialTokens: false })
        expect([...ids.map((id) => there.push(id)), there.end()]).toEqual(parts)
      }
      expect(parts.filter((part) => /^\p{Surrogate}|\p{Surrogate}$/u.test(part))).toEqual([])
      if (!golden.decoded[index]?.includes('\ufffd')) {
        expect(parts.filter((part) => part.includes('\ufffd'))).toEqual([])
      }
    })
  })
})

describe('a byte-level tokenizer', () => {
  const tokenizer = load('llama3')

  it('gives back any text', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), (text) => {
        expect(tokenizer.decode(tokenizer.encode(text, plain), { skipSpecialTokens: false })).toBe(text)
      }),
    )
  })

  it('knows its special tokens by role', () => {
    expect(tokenizer.bosId).toBe(tokenizer.tokenToId('<|begin_of_text|>'))
    expect(tokenizer.eosIds).toEqual([tokenizer.tokenToId('<|eot_id|>')])
    expect(tokenizer.addsBos).toBe(true)
    expect(load('smollm').addsBos).toBe(false)
  })

  it('leaves special tokens out of decoded text on request', () => {
    const ids = tokenizer.encode('<|begin_of_text|>Hi<|eot_id|>', plain)
    expect(tokenizer.decode(ids, { skipSpecialTokens: true })).toBe('Hi')
    expect(tokenizer.decode(ids, { skipSpecialTokens: false })).toBe('<|begin_of_text|>Hi<|eot_id|>')
  })

  it('keeps special tokens around reasoning, which would run into the answer without them', () => {
    const golden = goldens.smollm as Golden
    const added = golden.tokenizer.added_tokens as { id: number; content: string }[]
    const contents = ['[THINK]', '[/THINK]']
    const tokenizerJson = {
      ...golden.tokenizer,
      added_tokens: added.map((token, i) => ({ ...token, content: contents[i] ?? token.content })),
    }
    const mistral = loadTokenizer({ tokenizerJson })
    const ids = mistral.encode(`[THINK]One.[/THINK]Two.${added[2]?.content}`, plain)
    expect(mistral.decode(ids, { skipSpecialTokens: true })).toBe('[THINK]One.[/THINK]Two.')
    const stream = mistral.decodeStream({ skipSpecialTokens: true })
    expect(ids.map((id) => stream.push(id)).join('') + stream.end()).toBe('[THINK]One.[/THINK]Two.')
  })

  it('tells the bytes of every token', () => {
    const text = 'naïve 🎉 <|eot_id|>'
    const bytes = tokenizer.encode(text, plain).map((id) => tokenizer.bytesOf(id) as Uint8Array)
    expect(Buffer.concat(bytes).toString()).toBe(text)
  })

  it('replaces a character that is never completed by U+FFFD at the end only', () => {
    const [first] = tokenizer.encode('\u{1d573}', plain)
    const stream = tokenizer.decodeStream({ skipSpecialTokens: false })
    expect(stream.push(first as number)).toBe('')
    expect(stream.end()).toBe('\ufffd')
  })
})

describe('a SentencePiece tokenizer', () => {
  const tokenizer = load('llama2')

  it('keeps the leading space of a text that goes on, and drops it from a whole text', () => {
    const ids = tokenizer.encode('the end', plain)
    expect(tokenizer.decode(ids, { skipSpecialTokens: false })).toBe('the end')
    const stream = tokenizer.decodeStream({ skipSpecialTokens: false, continues: true })
    expect(ids.map((id) => stream.push(id)).join('') + stream.end()).toBe(' the end')
  })

  it.each(['llama2', 'metaspace_first', 'metaspace_always'])(
    'tokenizes a continuation without a space before it (%s)',
    (name) => {
      const whole = load(name)
      const decoded = whole.decodeStream({ skipSpecialTokens: false, continues: true })
      const ids = whole.encodeContinuation('the end')
      expect(ids.map((id) => decoded.push(id)).join('')).toBe('the end')
    },
  )
})

it('takes several end tokens, the own one first', () => {
  const golden = goldens.smollm as Golden
  const eos = load('smollm').eosId as number
  const tokenizer = loadTokenizer({
    tokenizerJson: golden.tokenizer,
    tokenizerConfig: golden.config,
    eosTokenIds: [0, eos],
  })
  expect(tokenizer.eosIds).toEqual([eos, 0])
})

it('adds the tokens that only tokenizer_config.json names', () => {
  const golden = goldens.smollm as Golden
  const id = 5000
  const added_tokens_decoder = { [id]: { content: '<|tool|>', special: true, normalized: false } }
  const tokenizer = loadTokenizer({
    tokenizerJson: golden.tokenizer,
    tokenizerConfig: { added_tokens_decoder },
  })
  expect(tokenizer.encode('<|tool|>', plain)).toEqual([id])
  expect(tokenizer.vocabSize).toBe(id + 1)
})

const { model } = (goldens.gpt2 as Golden).tokenizer

it.each([
  ['no object', [], FileFormatError, /the tokenizer must be a JSON object/],
  ['no model', {}, FileFormatError, /"model" must be a JSON object/],
  ['another model', { model: { type: 'Unigram', vocab: [] } }, UnsupportedError, /type "Unigram"; only BPE/],
  ['a negative id', { model: { ...model, vocab: { a: -1 } } }, FileFormatError, /id of the token "a"/],
  ['a huge id', { model: { ...model, vocab: { a: 2 ** 40 } } }, FileFormatError, /id of the token "a"/],
  [
    'an id twice',
    { model: { ...model, vocab: { a: 1, b: 1 } } },
    FileFormatError,
    /two tokens have the id 1/,
  ],
  ['no merges', { model: { ...model, merges: null } }, FileFormatError, /"model.merges" must be an array/],
  [
    'a bad merge',
    { model: { ...model, merges: ['a b', 'abc'] } },
    FileFormatError,
    /merge 1 must be two pieces.*abc/,
  ],
  ['dropout', { model: { ...model, dropout: 0.1 } }, UnsupportedError, /dropout 0.1/],
  [
    'a whole-word token',
    { model, added_tokens: [{ id: 1, content: 'x', single_word: true }] },
    UnsupportedError,
    /single_word/,
  ],
  [
    'an added token without content',
    { model, added_tokens: [{ id: 1 }] },
    FileFormatError,
    /added token 0 needs/,
  ],
  [
    'an unknown pre-tokenizer',
    { model, pre_tokenizer: { type: 'Magic' } },
    UnsupportedError,
    /pre-tokenizer "Magic"/,
  ],
  [
    'an unknown normalizer',
    { model, normalizer: { type: 'Magic' } },
    FileFormatError,
    /cannot be used.*Magic/,
  ],
  [
    'an unknown split',
    { model, pre_tokenizer: { type: 'Split', pattern: { Regex: 'a+' }, behavior: 'Contiguous' } },
    UnsupportedError,
    /behavior "Contiguous"/,
  ],
] as const)('refuses a tokenizer with %s', (_, tokenizerJson, type, message) => {
  const attempt = () => loadTokenizer({ tokenizerJson })
  expect(attempt).toThrow(type)
  expect(attempt).toThrow(message)
})

describe('a model folder', () => {
  let folder: string
  const write = (name: string, value: unknown) =>
    writeFileSync(join(folder, name), typeof value === 'string' ? value : JSON.stringify(value))

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'lowrank-tokenizer-'))
  })
  afterEach(() => rmSync(folder, { recursive: true }))

  it('gives tokenizer, special tokens, end tokens and template', async () => {
    const golden = goldens.llama3 as Golden
    write('tokenizer.json', golden.tokenizer)
    write('tokenizer_config.json', {
      bos_token: { content: '<|begin_of_text|>' },
      eos_token: null,
      chat_template: 'old',
    })
    write('special_tokens_map.json', { eos_token: '<|eot_id|>' })
    write('config.json', { eos_token_id: 1 })
    write('generation_config.json', { eos_token_id: [2, 3] })
    write('chat_template.jinja', 'new')
    const source = await tokenizerSourceFromFolder(folder)
    expect(source).toMatchObject({ chatTemplate: 'new', eosTokenIds: [2, 3] })
    const tokenizer = loadTokenizer(source)
    expect(tokenizer.specialTokens).toMatchObject({ bos_token: '<|begin_of_text|>', eos_token: '<|eot_id|>' })
    expect(tokenizer.eosIds).toEqual([tokenizer.eosId, 2, 3])
  })

  it('takes named templates from a list', async () => {
    write('tokenizer.json', (goldens.smollm as Golden).tokenizer)
    const named = [
      { name: 'default', template: 'one' },
      { name: 'tool_use', template: 'two' },
    ]
    write('tokenizer_config.json', { chat_template: named })
    expect(await tokenizerSourceFromFolder(folder)).toMatchObject({
      chatTemplate: 'one',
      namedTemplates: { tool_use: 'two' },
    })
  })

  it('says what to do when there is no tokenizer.json', async () => {
    await expect(tokenizerSourceFromFolder(folder)).rejects.toThrow(FileFormatError)
    write('tokenizer.model', 'x')
    await expect(tokenizerSourceFromFolder(folder)).rejects.toThrow(UnsupportedError)
    await expect(tokenizerSourceFromFolder(folder)).rejects.toThrow(/only as tokenizer.model; convert it/)
  })

  it('refuses broken JSON', async () => {
    write('tokenizer.json', '{"model":')
    await expect(tokenizerSourceFromFolder(folder)).rejects.toThrow(/not valid JSON/)
  })
})
