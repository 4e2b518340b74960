import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { encodeMarked } from '../../../lib/tokenizer/token-offsets.js'
import { loadTokenizer } from '../../../lib/tokenizer/tokenizer.js'

const parity = (name: string) => JSON.parse(readFileSync(`test/parity/${name}`, 'utf8'))
const strings = parity('tokenizer_strings.json') as string[]
const { tokenizers } = parity('tokenizer_small.json')

function load(name: string) {
  const { tokenizer: tokenizerJson, config: tokenizerConfig } = tokenizers[name]
  return loadTokenizer({ tokenizerJson, tokenizerConfig })
}

const piece = fc.oneof(
  fc.string({ unit: 'grapheme' }),
  fc.string({ unit: 'binary' }),
  fc.constantFrom(...strings),
  fc.constantFrom(
    ' ',
    '  ',
    '\n',
    '\n\n',
    '\u2581',
    '<0x41>',
    '\ufeff',
    "'s",
    '12',
    '<|im_start|>',
    '<s>',
    '</s>',
  ),
)

// In U+2581 a SentencePiece vocabulary sees a space; both spell the same.
const spelled = (text: string) => text.replaceAll('\u2581', ' ')

describe.each(['llama3', 'smollm', 'gpt2', 'llama2', 'metaspace_first', 'metaspace_always'])(
  'marked ids of the %s tokenizer',
  (name) => {
    const tokenizer = load(name)
    const textOf = (ids: number[]) =>
      Buffer.concat(ids.map((id) => tokenizer.bytesOf(id) as Uint8Array)).toString()

    it('spell the marked part exactly, wherever it starts', () => {
      fc.assert(
        fc.property(fc.array(piece), fc.array(piece), (before, after) => {
          const [prompt, rest] = [before.join(''), after.join('')]
          const text = prompt + rest
          // gpt2 has tokens that eat white space; those are tested in encode.test.ts.
          fc.pre(!(name === 'gpt2' && /<(left|right|both)>/.test(text)))
          const marked = encodeMarked(tokenizer, text, [{ start: prompt.length, end: text.length }], false)
          const inside = marked?.ids.filter((_, i) => marked.inside[i]) ?? []
          const found = textOf(inside)
          const expected = tokenizer.marksSpaces ? spelled(rest) : rest
          // A space that marks the start of a stretch belongs to its first token.
          const prefixes = tokenizer.marksSpaces && found.length > expected.length
          if (prefixes) expect(found.replaceAll(' ', '')).toBe(expected.replaceAll(' ', ''))
          else expect(found).toBe(expected)
        }),
      )
    })

    it('are those of the whole text where no token reaches across the start of a part', () => {
      const text = 'one two<|im_end|>\nthree four'
      const marked = encodeMarked(tokenizer, text, [{ start: 0, end: 3 }], false)
      expect(marked?.ids).toEqual(tokenizer.encode(text, { addSpecialTokens: false }))
    })
  },
)

it('are not given for a text whose tokens do not spell it', () => {
  const { tokenizer, config } = tokenizers.llama2
  const model = { ...tokenizer.model, byte_fallback: false }
  const without = loadTokenizer({ tokenizerJson: { ...tokenizer, model }, tokenizerConfig: config })
  const text = 'a \u{1f9ff} b'
  expect(encodeMarked(without, text, [{ start: 2, end: text.length }], false)).toBeUndefined()
})
