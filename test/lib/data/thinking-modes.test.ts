/**
 * Templates with a mode in the system block, as SmolLM3's: `/think` shows content as it is, `/no_think` puts an empty
 * block before it, and the marks enclose the header and the block.
 */
import { readFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import type { MessagesRow } from '../../../lib/data/dataset.js'
import { RowEncoder } from '../../../lib/data/encode.js'
import type { EncodeRowOptions } from '../../../lib/data/encoded-row.js'
import type { DatasetMessage } from '../../../lib/tokenizer/message.js'

const { tokenizers } = JSON.parse(readFileSync('test/parity/tokenizer_small.json', 'utf8'))

const TWO_MODES = `{%- set mode = '/think' -%}
{%- if enable_thinking is defined and not enable_thinking -%}{%- set mode = '/no_think' -%}{%- endif -%}
{{- '<|im_start|>system\\nReasoning Mode: ' + mode + '\\n' -}}
{%- for m in messages -%}
  {%- if m.role == 'user' -%}{{- '<|im_start|>user\\n' + m.content + '<|im_end|>\\n' -}}
  {%- else -%}
    {%- generation -%}
      {{- '<|im_start|>assistant\\n' + ('' if mode == '/think' else '<think>\\n\\n</think>\\n') -}}
      {{- m.content.lstrip('\\n') + '<|im_end|>\\n' -}}
    {%- endgeneration -%}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- '<|im_start|>assistant\\n' + ('' if mode == '/think' else '<think>\\n\\n</think>\\n') -}}
{%- endif -%}`

const user = (content: string): DatasetMessage => ({ role: 'user', content })
const answer = (content: string, more: Partial<DatasetMessage> = {}): DatasetMessage => ({
  role: 'assistant',
  content,
  ...more,
})

/** The whole text, what of it is learned, and how prompts are asked for. */
function encoded(messages: DatasetMessage[], options: Partial<EncodeRowOptions> = {}) {
  const { tokenizer: tokenizerJson, config: tokenizerConfig } = tokenizers.qwen2
  const source = { tokenizerJson, tokenizerConfig, chatTemplate: TWO_MODES }
  const by = new RowEncoder(source, { maxSeqLength: 4096, ...options })
  const row: MessagesRow = { format: 'messages', messages, path: 'train.jsonl', line: 7 }
  const found = by.encode(row)
  if (typeof found === 'string') throw new Error(found)
  const text = (ids: Iterable<number>) => by.tokenizer.decode([...ids], { skipSpecialTokens: false })
  const learned = found.inputIds.filter((_, i) => (found.labels[i] as number) >= 0)
  return { text: text(found.inputIds), learned: text(learned), thinking: by.format?.thinking }
}

it('a row without reasoning is in the mode without, and neither header nor block are learned', () => {
  const { text, learned, thinking } = encoded([user('2?'), answer('two'), user('3?'), answer('three')])
  expect(text).toMatch(/^<\|im_start\|>system\nReasoning Mode: \/no_think\n/)
  expect(learned).toBe('two<|im_end|>three<|im_end|>')
  expect(thinking).toBe(false)
})

it('a row with reasoning is in the mode with it, and has it in the content', () => {
  const expected = '<think>\nCount.\n</think>\ntwo<|im_end|>'
  for (const message of [
    answer('two', { reasoning_content: 'Count.' }),
    answer('two', { thinking: 'Count.' }),
    answer('<think>\nCount.\n</think>\n\ntwo'),
    answer('Count.\n</think>\ntwo'),
  ]) {
    const { text, learned, thinking } = encoded([user('2?'), message])
    expect(text).toContain('Reasoning Mode: /think\n')
    expect(learned).toBe(expected)
    expect(thinking).toBeUndefined()
    expect(encoded([user('2?'), message], { trainOnReasoning: false })).toMatchObject({
      text,
      learned: 'two<|im_end|>',
    })
  }
})

it('training on the empty block leaves the mode of a prompt as it is', () => {
  const { text, learned } = encoded([user('2?'), answer('two')], { trainEmptyThink: true })
  expect(text).toContain('Reasoning Mode: /think\n')
  expect(learned).toBe('two<|im_end|>')
})
