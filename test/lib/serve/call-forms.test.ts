/** Tool calls of answers: the forms of real templates, and pieces of any size. */
import { readdirSync, readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import type { BaseModel } from '../../../lib/base/base.js'
import { compileGrammar, type GrammarPart } from '../../../lib/grammar/grammar.js'
import { CALL_FORMS, type CallForm, type WrittenCall } from '../../../lib/serve/call-forms.js'
import type { CallFrame } from '../../../lib/serve/call-grammar.js'
import { type AnswerPart, CallReader } from '../../../lib/serve/call-reader.js'
import type { Answering } from '../../../lib/serve/models.js'
import { callStyleOf } from '../../../lib/serve/tools.js'
import { readTokenizerSource } from '../../../lib/tokenizer/read-source.js'
import { withTemplate } from '../../../lib/tokenizer/source.js'
import { reads } from '../grammar/reader.js'

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
      expect(frame?.close).toMatch(/^([)\]}<]|$)/)
      expect(form.marks).toContain(marks[name])
    },
  )

  test('and one that knows no tools is told', async () => {
    const error = await callStyleOf(templated(source.chatTemplate as string)).catch((e) => e)
    expect(error).toMatchObject({ status: 400, param: 'tools', code: 'unsupported_parameter' })
  })
})

describe('a call that is required', () => {
  const given = {
    type: 'object',
    properties: {
      mode: { enum: ['a', 'b c'] },
      deep: { type: 'array', items: { $ref: '#/$defs/flag' } },
      word: { type: 'string' },
      n: { type: 'integer', minimum: 0 },
    },
    required: ['word', 'n'],
    $defs: { flag: { type: 'boolean' } },
  }
  /** The grammar of calls of a template, and what reads them. */
  async function calling(template: string, schema: object) {
    const style = await callStyleOf(
      templated(readFileSync(`test/parity/chat-templates/${template}.jinja`, 'utf8')),
    )
    const { open, between, close, argumentsOf } = style.frame as CallFrame
    const text = (text: string): GrammarPart => ({ kind: 'text', text })
    const parts = [text(`${open}look_up${between}`), ...argumentsOf('look_up', schema), text(close)]
    const tables = compileGrammar({ kind: 'all', parts })
    const known = new Map([['look_up', schema]])
    return (argumentsAs: string): string | undefined => {
      const answer = `${open}look_up${between}${argumentsAs}${close}`
      if (!reads(tables, answer)) return undefined
      const reader = new CallReader(style.form, known)
      const [part, ...more] = [...reader.push(answer), ...reader.end()]
      expect(more).toEqual([])
      const [call] = part !== undefined && 'calls' in part ? part.calls : []
      return call?.arguments ?? 'no call'
    }
  }
  const tag = (key: string, value: string) => `<parameter=${key}>\n${value}\n</parameter>\n`

  test.each(['lfm2', 'lfm2_5', 'olmo3'])('as Python, of %s', async (template) => {
    const read = await calling(template, given)
    expect(read('word="it\'s \\"ü\\"", n=2')).toBe('{"word":"it\'s \\"ü\\"","n":2}')
    expect(read('word="", n=0, mode="b c", deep=[true,false]')).toBe(
      '{"word":"","n":0,"mode":"b c","deep":[true,false]}',
    )
    for (const other of [
      '',
      'word="a"',
      'n=2, word="a"',
      'word="a", n=-1',
      "word='a', n=1",
      'word="a", n=1, ',
    ])
      expect(read(other)).toBeUndefined()
    const optional = await calling(template, { ...given, required: [] })
    expect(['', 'n=1', 'mode="a", word="x"', 'deep=[], n=3'].map(optional)).toEqual([
      '{}',
      '{"n":1}',
      '{"mode":"a","word":"x"}',
      '{"deep":[],"n":3}',
    ])
    expect(optional(', n=1')).toBeUndefined()
    const odd = { properties: { 'a b': { type: 'string' } } }
    await expect(calling(template, odd)).rejects.toMatchObject({ param: 'tool_choice' })
  })

  test.each(['qwen3_5', 'qwen3_6'])('in tags, of %s', async (template) => {
    const read = await calling(template, given)
    const text = 'if a < b:\n  "<</para"\n\n# é'
    expect(read(tag('word', text) + tag('n', '12'))).toBe(JSON.stringify({ word: text, n: 12 }))
    expect(read(tag('word', '12') + tag('n', '0') + tag('mode', 'b c') + tag('deep', '[true]'))).toBe(
      '{"word":"12","n":0,"mode":"b c","deep":[true]}',
    )
    expect(read(tag('word', '') + tag('n', '1'))).toBe('{"word":"","n":1}')
    for (const other of [
      ...[tag('word', 'a'), tag('n', '1') + tag('word', 'a'), tag('word', 'a') + tag('n', 'x')],
      ...[
        tag('word', 'a</parameter>b') + tag('n', '1'),
        tag('word', '<</parameter>') + tag('n', '1'),
        tag('word', '\u0001') + tag('n', '1'),
      ],
    ])
      expect(read(other)).toBeUndefined()
    const bound = { properties: { a: { type: 'string', pattern: '^a$' } } }
    await expect(calling(template, bound)).rejects.toMatchObject({ param: 'tool_choice' })
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
