import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { DataError } from '../../../lib/core/errors.js'
import { readRow } from '../../../lib/data/dataset/read-row.js'
import type { MessagesRow } from '../../../lib/data/dataset.js'
import { datasetRemarks } from '../../../lib/data/dataset-remarks.js'
import { RowEncoder } from '../../../lib/data/encode.js'
import { countFound, emptyStats } from '../../../lib/data/encoded-dataset.js'
import type { EncodedRow, EncodeRowOptions } from '../../../lib/data/encoded-row.js'
import { formOf } from '../../../lib/data/forms/index.js'
import type { DatasetMessage } from '../../../lib/tokenizer/message.js'

const { tokenizers } = JSON.parse(readFileSync('test/parity/tokenizer_small.json', 'utf8'))

/** Reasoning after the last user message alone, from a key or from the content. */
const THINKING = `{%- set ns = namespace(last=0) %}
{%- for m in messages %}{%- if m.role == 'user' %}{%- set ns.last = loop.index0 %}{%- endif %}{%- endfor %}
{%- for m in messages %}
{{- '<|im_start|>' + m.role + '\\n' }}
{%- set thought = m.reasoning_content if m.reasoning_content else '' %}
{%- set said = m.content %}
{%- if m.role == 'assistant' and '</think>' in said %}
{%- set thought = said.split('</think>')[0].split('<think>')[-1].strip() %}
{%- set said = said.split('</think>')[-1].lstrip() %}
{%- endif %}
{%- if m.role == 'assistant' and loop.index0 > ns.last %}{{- '<think>\\n' + thought + '\\n</think>\\n\\n' }}{%- endif %}
{{- said + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}`

/** No reasoning at all: content behind `</think>`. */
const THOUGHTLESS = `{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' + m.content.split('</think>')[-1].lstrip() + '<|im_end|>\\n' }}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}`

function encoder(chatTemplate: string, options: Partial<EncodeRowOptions> = {}): RowEncoder {
  const { tokenizer: tokenizerJson, config: tokenizerConfig } = tokenizers.qwen2
  return new RowEncoder({ tokenizerJson, tokenizerConfig, chatTemplate }, { maxSeqLength: 4096, ...options })
}

const user = (content: string): DatasetMessage => ({ role: 'user', content })
const answer = (content: string, more: Partial<DatasetMessage> = {}): DatasetMessage => ({
  role: 'assistant',
  content,
  ...more,
})
const thought = { reasoning_content: 'Count them.' }
const chat = (...messages: DatasetMessage[]): MessagesRow => ({
  format: 'messages',
  messages,
  path: 'train.jsonl',
  line: 7,
})
const twoTurns = (first: DatasetMessage, last: DatasetMessage) => chat(user('2?'), first, user('3?'), last)

function encoded(by: RowEncoder, row: MessagesRow): EncodedRow {
  const found = by.encode(row)
  if (typeof found === 'string') throw new Error(found)
  return found
}

function learnedText({ tokenizer }: RowEncoder, { inputIds, labels }: EncodedRow): string {
  return tokenizer.decode(
    [...inputIds].filter((_, i) => (labels[i] as number) >= 0),
    { skipSpecialTokens: false },
  )
}

describe('reasoning of earlier turns', () => {
  const both = twoTurns(answer('two', thought), answer('three', thought))

  it('is counted where the template leaves it out of turns that are trained on', () => {
    for (const trainOn of ['completions', 'all'] as const) {
      const by = encoder(THINKING, { trainOn })
      expect(encoded(by, both).lostReasoning).toBe(1)
      expect(encoded(by, chat(user('2?'), answer('two', thought))).lostReasoning).toBe(0)
      expect(encoded(by, twoTurns(answer('two'), answer('three', thought))).lostReasoning).toBe(0)
    }
  })

  it('is left out of earlier turns that call a tool, whose parts are known all the same', () => {
    const call = (city: string) => ({
      ...thought,
      tool_calls: [{ type: 'function' as const, function: { name: 'weather', arguments: { city } } }],
    })
    const calling = THINKING.replace(
      '{{- said +',
      "{%- for call in m.tool_calls or [] %}{{- '<tool_call>' + call.function.arguments.city + '</tool_call>' }}{%- endfor %}{{- said +",
    )
    const found = { role: 'tool', content: 'sun' }
    const row = chat(
      user('Rome?'),
      answer('', call('Rome')),
      found,
      answer('Sunny.', thought),
      user('Oslo?'),
      answer('', call('Oslo')),
      found,
      answer('Sunny too.', thought),
    )
    const by = encoder(calling)
    const learned = encoded(by, row)
    expect(learned.lostReasoning).toBe(2)
    expect(learnedText(by, learned)).toBe(
      '<tool_call>Rome</tool_call><|im_end|>Sunny.<|im_end|>' +
        '<think>\nCount them.\n</think>\n\n<tool_call>Oslo</tool_call><|im_end|>' +
        '<think>\nCount them.\n</think>\n\nSunny too.<|im_end|>',
    )
  })

  it('is not missed in turns that are not trained on', () => {
    expect(encoded(encoder(THINKING, { trainOn: 'last' }), both).lostReasoning).toBe(0)
    const unweighted = twoTurns(answer('two', { ...thought, weight: 0 }), answer('three', thought))
    expect(encoded(encoder(THINKING), unweighted).lostReasoning).toBe(0)
  })

  it('is found in the content as well, and the rest of the turn is learned', () => {
    const by = encoder(THINKING)
    const row = encoded(by, twoTurns(answer('<think>Hm.</think>two'), answer('<think>Well.</think>three')))
    expect(row.lostReasoning).toBe(1)
    expect(learnedText(by, row)).toBe('two<|im_end|><think>\nWell.\n</think>\n\nthree<|im_end|>')
  })

  it('that is kept is not counted, though it says the same as another', () => {
    const keeping = THINKING.replace(' and loop.index0 > ns.last', '')
    expect(encoded(encoder(keeping), both).lostReasoning).toBe(0)
  })

  it('is remarked on once, with the number of rows and the first of them', () => {
    const by = encoder(THINKING)
    const stats = emptyStats()
    countFound(stats, encoded(by, chat(user('2?'), answer('two', thought))))
    expect(datasetRemarks(undefined, stats, {})).toEqual([])
    countFound(stats, encoded(by, { ...both, line: 8 }))
    const [remark, ...others] = datasetRemarks(undefined, stats, {})
    expect(others).toEqual([])
    expect(remark).toMatch(
      /^1 row has reasoning in earlier .*, the first one in train.jsonl, line 8; .*set reasoning_history: drop, which makes an example of every answer$/,
    )
    countFound(stats, encoded(by, { ...both, line: 9 }))
    expect(datasetRemarks(undefined, stats, {})[0]).toMatch(/^2 rows have reasoning .* line 8; /)
    expect(datasetRemarks(undefined, stats, {}, false)[0]).toMatch(/^the data has reasoning in /)
  })
})

describe('reasoning of the last turn', () => {
  const refusal = (template: string, row: MessagesRow, options = {}) => {
    const by = encoder(template, options)
    expect(() => by.encode(row)).toThrow(DataError)
    try {
      by.encode(row)
    } catch (error) {
      return (error as Error).message
    }
    return ''
  }

  it('is an error where the template leaves it out, with the key that the template reads', () => {
    const row = chat(user('2?'), answer('two', { thinking_text: 'Count them.' }))
    for (const trainOn of ['completions', 'last', 'all'])
      expect(refusal(THINKING, row, { trainOn })).toMatch(
        /^train.jsonl, line 7: .*reasoning \("thinking_text"\) of messages\[1\].*reads "reasoning_content": move it there$/,
      )
  })

  it('is an error where a user message follows it', () => {
    const row = chat(user('2?'), answer('two', thought), user('Thanks.'))
    expect(refusal(THINKING, row)).toMatch(
      /messages\[1\], .*; end the row with that turn, or remove the reasoning$/,
    )
  })

  it('is an error where the template knows none, also in the content', () => {
    const keyed = chat(user('2?'), answer('two', thought))
    expect(refusal(THOUGHTLESS, keyed)).toMatch(/use a model whose template supports reasoning$/)
    const inside = chat(user('2?'), answer('<think>Count them.</think>two'))
    expect(refusal(THOUGHTLESS, inside)).toMatch(/reasoning \(<think> in "content"\) of messages\[1\]/)
  })

  it('is not missed in a turn that is not trained on, or where it is blank', () => {
    const unweighted = twoTurns(answer('two'), answer('three', { ...thought, weight: 0 }))
    expect(encoded(encoder(THOUGHTLESS), unweighted).lostReasoning).toBe(0)
    const blank = chat(user('2?'), answer('<think>\n</think>two', { reasoning_content: ' ' }))
    expect(encoded(encoder(THOUGHTLESS), blank).lostReasoning).toBe(0)
  })
})

describe('reasoning by any of its names', () => {
  const learnedOf = (template: string, message: DatasetMessage) => {
    const by = encoder(template)
    return learnedText(by, encoded(by, chat(user('2?'), message)))
  }
  const expected = '<think>\nCount them.\n</think>\n\ntwo<|im_end|>'

  it('is the same reasoning', () => {
    for (const key of ['reasoning_content', 'reasoning', 'thinking'])
      expect(learnedOf(THINKING, answer('two', { [key]: 'Count them.' }))).toBe(expected)
    const other = THINKING.replaceAll('reasoning_content', 'thinking')
    expect(learnedOf(other, answer('two', thought))).toBe(expected)
  })

  it('is split from the content, also where the opening tag was in the prompt', () => {
    for (const content of [
      '<think>\nCount them.\n</think>\n\ntwo',
      '<think>Count them.</think>two',
      'Count them.\n</think>\n\ntwo',
    ])
      expect(learnedOf(THINKING, answer(content))).toBe(expected)
  })

  it('is neither doubled nor lost where it is in both places, or there is an empty block', () => {
    const twice = answer('<think>\nCount them.\n</think>\n\ntwo', thought)
    expect(learnedOf(THINKING, twice)).toBe(expected)
    expect(learnedOf(THINKING, answer('<think>\n\n</think>\n\ntwo'))).toBe(
      '<think>\n\n</think>\n\ntwo<|im_end|>',
    )
  })

  it('stays in the content for a template that knows none', () => {
    const plain = `{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}`
    for (const content of ['<think>Count them.</think>two', 'Close it with </think>.'])
      expect(learnedOf(plain, answer(content))).toBe(`${content}<|im_end|>`)
  })
})

describe('a row is refused', () => {
  const read = (message: object) =>
    readRow(
      { messages: [user('2?'), { role: 'assistant', content: 'two', ...message }] },
      formOf('messages'),
      {},
      { path: 'train.jsonl', line: 7 },
    )
  const call = (given: unknown) => ({
    tool_calls: [{ type: 'function', function: { name: 'add', arguments: given } }],
  })

  it.each([
    [
      '<think> is not closed',
      { content: '<think>Count them. two' },
      /messages\[1\] begins with <think> that is/,
    ],
    [
      'two fields differ',
      { thinking: 'a', reasoning: 'b' },
      /different reasoning under "reasoning" and "thinking"/,
    ],
    [
      'a field and the content differ',
      { ...thought, content: '<think>b</think>two' },
      /under "reasoning_content" and other reasoning between <think> tags/,
    ],
    [
      'arguments are no JSON',
      call('{"a": 1'),
      /the arguments of a tool call in messages\[1\] are not valid JSON/,
    ],
    ['arguments are no object', call('[1]'), /must be an object such as .* not the string "\[1\]"$/],
    ['arguments are a number', call(3), /must be an object such as .* not 3$/],
  ])('where %s', (_, message, reason) => {
    expect(() => read(message)).toThrow(DataError)
    expect(() => read(message)).toThrow(reason)
    expect(() => read(message)).toThrow(/^train.jsonl, line 7: /)
  })

  it('but not where the same is said twice, or arguments are text', () => {
    const inside = '<think>\nCount them.\n</think>two'
    for (const message of [
      { ...thought, reasoning: 'Count them.' },
      { ...thought, content: inside },
    ])
      expect(() => read(message)).not.toThrow()
    expect(read(call('{"a": 1}'))).toEqual(read(call({ a: 1 })))
    expect(read(call(''))).toEqual(read(call({})))
  })
})
