/** Tool calls of answers: the forms of real templates, and pieces of any size. */
import { readdirSync, readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import type { BaseModel } from '../../../lib/base/base.js'
import { CALL_FORMS, type CallForm, type WrittenCall } from '../../../lib/serve/call-forms.js'
import { type AnswerPart, CallReader } from '../../../lib/serve/call-reader.js'
import type { Answering } from '../../../lib/serve/models.js'
import { callStyleOf } from '../../../lib/serve/tools.js'
import { readTokenizerSource } from '../../../lib/tokenizer/read-source.js'
import { withTemplate } from '../../../lib/tokenizer/source.js'

const source = await readTokenizerSource({ kind: 'folder', path: 'demo/base' })

/** A model that has only a chat template. */
function templated(template: string): Answering {
  const tokenizer = { about: { source: withTemplate(source, template) } }
  const base = { tokenizer: async () => tokenizer, files: {} } as unknown as BaseModel
  return { base, adapters: [] } as unknown as Answering
}

const parameters = new Map<string, unknown>([
  ['look_up', { properties: { word: { type: 'string' }, n: { type: 'integer' }, deep: { type: 'object' } } }],
  ['stop', {}],
])
const call = (name: string, given: object): WrittenCall => ({ name, arguments: JSON.stringify(given) })

/** Answers in each form, as the model cards of their families show them, with what they say. */
const ANSWERS: Record<string, [answer: string, text: string, calls: WrittenCall[]][]> = {
  '<tool_call>': [
    [
      'I look.\n<tool_call>\n{"name": "look_up", "arguments": {"word": "a \\"b\\" é", "n": -2.5e3}}\n</tool_call>',
      'I look.',
      [{ name: 'look_up', arguments: '{"word":"a \\"b\\" é","n":-2.5e3}' }],
    ],
    [
      '<tool_call>\n{"name": "look_up", "arguments": {"word": "</tool_call>"}}\n</tool_call>\n<tool_call>\n{"name": "stop", "arguments": {}}\n</tool_call>\n',
      '',
      [call('look_up', { word: '</tool_call>' }), call('stop', {})],
    ],
    [
      '<tool_call>\n<function=look_up>\n<parameter=word>\n12\n</parameter>\n<parameter=n>\n12\n</parameter>\n<parameter=deep>\n{"a": [1, null, true]}\n</parameter>\n</function>\n</tool_call>',
      '',
      [{ name: 'look_up', arguments: '{"word":"12","n":12,"deep":{"a":[1,null,true]}}' }],
    ],
    ['Write <tool_call> and no more.', 'Write <tool_call> and no more.', []],
    ['<tool_call>\n{"name": "look_up", "argu', '<tool_call>\n{"name": "look_up", "argu', []],
    ['<tool_call>\n{"name": "stop", "arguments": {}}', '', [call('stop', {})]],
    ['a < b, and <tool', 'a < b, and <tool', []],
  ],
  '<|tool_call_start|>': [
    [
      "<|tool_call_start|>[look_up(word='it\\'s', n=2, deep={'a': None, \"b\": False}), stop()]<|tool_call_end|>Wait.",
      'Wait.',
      [
        { name: 'look_up', arguments: '{"word":"it\'s","n":2,"deep":{"a":null,"b":false}}' },
        call('stop', {}),
      ],
    ],
  ],
  '<function_calls>': [
    [
      '<function_calls>look_up(word="one")\nstop()</function_calls>',
      '',
      [call('look_up', { word: 'one' }), call('stop', {})],
    ],
  ],
  '<|tool_call|>': [
    [
      '<|tool_call|>[{"name": "look_up", "arguments": {"word": "one"}}]<|/tool_call|>',
      '',
      [call('look_up', { word: 'one' })],
    ],
  ],
  '[TOOL_CALLS]': [
    [
      '[TOOL_CALLS][{"name": "look_up", "arguments": {"word": "one"}, "id": "abcdefghi"}]',
      '',
      [call('look_up', { word: 'one' })],
    ],
    [
      'So: [TOOL_CALLS]look_up[ARGS]{"word": "one"}[TOOL_CALLS]stop[ARGS]{}',
      'So:',
      [call('look_up', { word: 'one' }), call('stop', {})],
    ],
  ],
  '<|python_tag|>': [
    ['{"name": "look_up", "parameters": {"word": "one"}}', '', [call('look_up', { word: 'one' })]],
    ['<|python_tag|>{"name": "stop", "parameters": {}}', '', [call('stop', {})]],
    ['{"name": "other", "parameters": {}}', '{"name": "other", "parameters": {}}', []],
    ['{"word": 1} is JSON.', '{"word": 1} is JSON.', []],
    ['See {"name": "stop", "parameters": {}}', 'See {"name": "stop", "parameters": {}}', []],
  ],
}

function read(form: CallForm, pieces: readonly string[]): { text: string; calls: WrittenCall[] } {
  const reader = new CallReader(form, parameters)
  const parts = [...pieces.flatMap((piece) => reader.push(piece)), ...reader.end()]
  return {
    text: parts.map((part) => ('text' in part ? part.text : '')).join(''),
    calls: parts.flatMap((part) => ('calls' in part ? part.calls : [])),
  }
}

describe('an answer with calls', () => {
  const rows = Object.entries(ANSWERS).flatMap(([mark, answers]) =>
    answers.map(([answer, text, calls]) => ({ mark, answer, text, calls })),
  )
  test.each(rows)('$answer', ({ mark, answer, text, calls }) => {
    const form = CALL_FORMS.find(({ marks }) => marks.includes(mark)) as CallForm
    expect(read(form, [answer])).toEqual({ text, calls })
    expect(read(form, [...answer])).toEqual({ text, calls })
    for (let cut = 1; cut < answer.length; cut++)
      expect(read(form, [answer.slice(0, cut), answer.slice(cut)])).toEqual({ text, calls })
  })

  test('nests no deeper than the reader goes', () => {
    const [form] = CALL_FORMS as [CallForm]
    const answer = `<tool_call>{"name": "stop", "arguments": {"a": ${'['.repeat(100_000)}`
    expect(read(form, [answer])).toEqual({ text: answer, calls: [] })
  })
})

describe('the form of calls is found in the template', () => {
  const marks: Record<string, string> = {
    'lfm2.jinja': '<|tool_call_start|>',
    'lfm2_5.jinja': '<|tool_call_start|>',
    'lfm2_5_keyed.jinja': '<|tool_call_start|>',
    'lfm2_5_preserving.jinja': '<|tool_call_start|>',
    'ministral3.jinja': '[TOOL_CALLS]',
    'olmo3.jinja': '<function_calls>',
    'phi4_mini.jinja': '<|tool_call|>',
    'qwen3.jinja': '<tool_call>',
    'qwen3_5.jinja': '<tool_call>',
    'qwen3_5_small.jinja': '<tool_call>',
    'qwen3_6.jinja': '<tool_call>',
    'smollm3.jinja': '<tool_call>',
  }
  test.each(readdirSync('test/parity/chat-templates').filter((name) => name.endsWith('.jinja')))(
    '%s',
    async (name) => {
      const template = readFileSync(`test/parity/chat-templates/${name}`, 'utf8')
      const { form, frame } = await callStyleOf(templated(template))
      // Arguments as Python or in tags cannot be required.
      expect(frame !== undefined).toBe(/^(qwen3\.j|smollm3|phi4|ministral3)/.test(name))
      expect(form.marks).toContain(marks[name])
    },
  )

  test('and one that knows no tools is told', async () => {
    const error = await callStyleOf(templated(source.chatTemplate as string)).catch((e) => e)
    expect(error).toMatchObject({ status: 400, param: 'tools', code: 'unsupported_parameter' })
  })
})

test('a long call is read a bounded number of times', () => {
  const form = CALL_FORMS[0] as CallForm
  let read = 0
  let held = 0
  const counting: CallForm = {
    ...form,
    read(text, parameters) {
      read += held
      return form.read(text, parameters)
    },
  }
  for (const word of ['word '.repeat(3000), '<b>}'.repeat(3000)]) {
    const reader = new CallReader(counting, parameters)
    const answer = `<tool_call>${JSON.stringify({ name: 'look_up', arguments: { word } })}</tool_call>`
    const parts: AnswerPart[] = []
    read = 0
    for (let at = 0; at < answer.length; at += 4) {
      held = Math.min(at + 4, answer.length)
      parts.push(...reader.push(answer.slice(at, held)))
    }
    // What could end at any character may be read at the end of the answer only.
    if (word.startsWith('word')) expect(parts).toHaveLength(1)
    parts.push(...reader.end())
    const calls = parts.flatMap((part) => ('calls' in part ? part.calls : []))
    expect(calls.map(({ arguments: given }) => JSON.parse(given).word === word)).toEqual([true])
    expect(read).toBeLessThan(50 * answer.length)
  }
})
