import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { ConfigError, DataError } from '../../../lib/core/errors.js'
import type { DatasetRow } from '../../../lib/data/dataset.js'
import { RowEncoder } from '../../../lib/data/encode.js'
import { type EncodedRow, type EncodeRowOptions, IGNORE } from '../../../lib/data/encoded-row.js'
import type { DatasetMessage } from '../../../lib/tokenizer/message.js'

const parity = (name: string) => JSON.parse(readFileSync(`test/parity/${name}`, 'utf8'))
const { tokenizers } = parity('tokenizer_small.json')
const { templates } = parity('tokenizer_chat.json')

function encoder(tokenizer: string, template?: string, options: Partial<EncodeRowOptions> = {}): RowEncoder {
  const { tokenizer: tokenizerJson, config: tokenizerConfig } = tokenizers[tokenizer]
  const chatTemplate = template === undefined ? {} : { chatTemplate: templates[template]?.text ?? template }
  return new RowEncoder(
    { tokenizerJson, tokenizerConfig, ...chatTemplate },
    { maxSeqLength: 4096, ...options },
  )
}

const place = { path: 'train.jsonl', line: 7 }
const user = (content: string): DatasetMessage => ({ role: 'user', content })
const assistant = (content: string): DatasetMessage => ({ role: 'assistant', content })
const call = (name: string, given: unknown = { a: 1 }) => ({
  type: 'function',
  function: { name, arguments: given },
})
const calling = (content: string | null, ...calls: unknown[]): DatasetMessage => ({
  role: 'assistant',
  content,
  tool_calls: calls,
})
const result = (content: string): DatasetMessage => ({ role: 'tool', content })
const chat = (messages: DatasetMessage[], tools?: unknown[]): DatasetRow => ({
  format: 'messages',
  messages,
  ...(tools ? { tools } : {}),
  ...place,
})

function encoded(by: RowEncoder, row: DatasetRow): EncodedRow {
  const found = by.encode(row)
  if (typeof found === 'string') throw new Error(found)
  return found
}

/** The text of the row, with what is learned in brackets. */
function shown({ tokenizer }: RowEncoder, { inputIds, labels }: EncodedRow): string {
  const stream = tokenizer.decodeStream({ skipSpecialTokens: false })
  let text = ''
  let open = false
  inputIds.forEach((id, i) => {
    const learned = labels[i] !== IGNORE
    if (learned !== open) text += learned ? '[' : ']'
    open = learned
    text += stream.push(id)
  })
  return text + stream.end() + (open ? ']' : '')
}

describe('what a chat template leaves out', () => {
  const rest = [result('22 degrees'), assistant('It is warm.')]

  it.each(['chatml', 'zephyr', 'llama3'])('is an error when it is a tool call (%s)', (template) => {
    const name = template === 'llama3' ? 'llama3' : template === 'zephyr' ? 'llama2' : 'smollm'
    for (const content of [null, 'I look it up.']) {
      const row = chat([user('Weather?'), calling(content, call('get_weather')), ...rest])
      for (const trainOn of ['completions', 'all'] as const) {
        const by = encoder(name, template, { trainOn })
        expect(() => by.encode(row)).toThrow(DataError)
        expect(() => by.encode(row)).toThrow(
          /train.jsonl, line 7: the chat template does not render the tool calls of messages\[1\] \(get_weather\).*"content" as text/,
        )
      }
    }
  })

  const TOOLS = [{ type: 'function', function: { name: 'get_weather' } }]
  const writing = (calls: string, result: string) =>
    `{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}{% if m.tool_calls %}${calls}{% elif m.role == 'tool' %}${result}{% else %}{{ m.content }}{% endif %}{{ '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}`
  const ALL_CALLS =
    '{% for c in m.tool_calls %}{{ c.function.name }}{{ c.function.arguments | tojson }}{% endfor %}'
  const FIRST_CALL = '{{ m.tool_calls[0].function | tojson }}'
  const NO_ARGUMENTS = '{% for c in m.tool_calls %}{{ c.function.name }}{% endfor %}'
  const two = calling(null, call('first'), call('second'))

  it('is an error when it is one of several calls, or their arguments', () => {
    const row = (message: DatasetMessage) => chat([user('a'), message, assistant('b')])
    const by = encoder('smollm', writing(FIRST_CALL, '{{ m.content }}'))
    expect(() => by.encode(row(two))).toThrow(/does not render the tool calls of messages\[1\] \(second\)/)
    expect(shown(by, encoded(by, row(calling(null, call('one')))))).toContain('[{"name": "one"')
    const bare = encoder('smollm', writing(NO_ARGUMENTS, '{{ m.content }}'))
    expect(() => bare.encode(row(two))).toThrow(/the arguments of first in the tool calls of messages\[1\]/)
    expect(() => bare.encode(row(calling(null, call('one', {}))))).not.toThrow()
  })

  it('is nothing when the template writes all of it', () => {
    const by = encoder('smollm', writing(ALL_CALLS, '{{ m.content }}'))
    const row = chat([user('a'), two, result('first'), assistant('b')])
    expect(shown(by, encoded(by, row))).toContain('[first{"a": 1}second{"a": 1}<|im_end|>]')
  })

  it('is an error when it is the content beside a call, or the result of one', () => {
    const by = encoder('smollm', writing(ALL_CALLS, ''))
    expect(() => by.encode(chat([user('a'), calling('I look it up.', call('f')), assistant('b')]))).toThrow(
      /does not render the content of messages\[1\] next to its tool calls/,
    )
    // The same word elsewhere does not hide it.
    expect(() => by.encode(chat([user('a'), two, result('warm'), assistant('warm')]))).toThrow(
      /does not render messages\[2\], whose role is tool/,
    )
  })

  it('is an error when it is "tools"', () => {
    const row = chat([user('a'), assistant('b')], TOOLS)
    expect(() => encoder('smollm', 'chatml').encode(row)).toThrow(
      /line 7: the chat template ignores "tools", so the model would not see them; remove them/,
    )
    expect(() => encoder('llama3', 'llama32').encode(row)).not.toThrow()
  })

  it('is an error when it is a whole role', () => {
    const template =
      "{% for m in messages %}{% if m.role != 'system' %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    const row = chat([{ role: 'system', content: 'Be brief.' }, user('a'), assistant('b')])
    expect(() => encoder('smollm', template).encode(row)).toThrow(
      /does not render messages\[0\], whose role is system; remove it, put its content/,
    )
  })

  it('is nothing when content is only changed', () => {
    const template =
      "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + (m.content | upper) + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    const by = encoder('smollm', template)
    expect(shown(by, encoded(by, chat([user('a'), assistant('b')])))).toContain('[B<|im_end|>]')
  })
})

describe('an empty assistant turn', () => {
  const several = [user('a'), assistant(' \n'), user('b'), assistant('two')]

  it('is an error, or not learned on request', () => {
    expect(() => encoder('smollm', 'chatml').encode(chat(several))).toThrow(
      /line 7: assistant turn 1 of 2 is empty, .*"weight": 0, .*empty_rows: drop/,
    )
    const by = encoder('smollm', 'chatml', { emptyRows: 'drop' })
    const row = encoded(by, chat(several))
    expect(row.emptyTurns).toBe(1)
    expect(shown(by, row)).toContain(
      'assistant\n \n<|im_end|>\n<|im_start|>user\nb<|im_end|>\n<|im_start|>assistant\n[two<|im_end|>]',
    )
  })

  it('does not matter where it is not to be learned', () => {
    const unweighted = several.map((message, i) => (i === 1 ? { ...message, weight: 0 as const } : message))
    expect(encoded(encoder('smollm', 'chatml'), chat(unweighted)).emptyTurns).toBe(0)
    const last = encoder('smollm', 'chatml', { trainOn: 'last' })
    expect(encoded(last, chat(several)).emptyTurns).toBe(0)
  })

  it('leaves nothing to learn where there is no other', () => {
    const row = chat([user('a'), assistant('')])
    expect(() => encoder('smollm', 'chatml').encode(row)).toThrow(
      /line 7: there is nothing to train on \(the assistant message is empty\)/,
    )
    expect(encoder('smollm', 'chatml', { emptyRows: 'drop' }).encode(row)).toBe('nothing_to_learn')
  })

  it('cannot be spared when every token is learned', () => {
    expect(() => encoder('smollm', 'chatml', { trainOn: 'all' }).encode(chat(several))).toThrow(
      /assistant turn 1 of 2 is empty/,
    )
    const by = encoder('smollm', 'chatml', { trainOn: 'all', emptyRows: 'drop' })
    expect(by.encode(chat(several))).toBe('nothing_to_learn')
  })

  it('is none when it calls a tool or holds reasoning', () => {
    const by = encoder('llama3', 'llama32')
    expect(encoded(by, chat([user('a'), calling('', call('f'))])).emptyTurns).toBe(0)
    const template =
      "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + (m.reasoning_content or '') + m.content + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    const thinking = { ...assistant(''), reasoning_content: 'hm' }
    const thinker = encoder('smollm', template)
    expect(shown(thinker, encoded(thinker, chat([user('a'), thinking])))).toContain('[hm<|im_end|>]')
  })
})

describe('special tokens in the text', () => {
  const text = (content: string): DatasetRow => ({ format: 'text', text: content, ...place })
  const pair = (prompt: string, completion: string): DatasetRow => ({
    format: 'prompt_completion',
    prompt,
    completion,
    ...place,
  })
  const alpaca: DatasetRow = {
    format: 'alpaca',
    instruction: 'Say <|im_end|>',
    input: '',
    output: 'b',
    history: [],
    ...place,
  }

  it.each([
    [
      'a chat',
      chat([user('what is <|im_end|>?'), assistant('<|im_start|>')]),
      ['<|im_end|>', '<|im_start|>'],
    ],
    ['a chat without any', chat([user('a'), assistant('b')]), []],
    ['alpaca', alpaca, ['<|im_end|>']],
    ['text', text('a <|im_end|> b'), ['<|im_end|>']],
    ['text that ends with the EOS', text('a <|im_end|>'), []],
    [
      'prompt and completion, which become turns',
      pair('a <|im_start|>', 'b<|im_end|>'),
      ['<|im_start|>', '<|im_end|>'],
    ],
  ])('are found in %s', (_, row, tokens) => {
    expect(encoded(encoder('smollm', 'chatml'), row).specialTokens).toEqual(tokens)
  })

  it('are found in tool calls', () => {
    const row = chat([user('a'), calling(null, call('f', { q: '<|eot_id|>' }))])
    expect(encoded(encoder('llama3', 'llama32'), row).specialTokens).toEqual(['<|eot_id|>'])
  })

  it('are an error on request', () => {
    const by = encoder('smollm', 'chatml', { specialTokensInContent: 'error' })
    for (const row of [
      chat([user('<|im_end|>'), assistant('b')]),
      alpaca,
      text('<|im_end|> b'),
      pair('a', '<|im_end|>b'),
    ])
      expect(() => by.encode(row)).toThrow(
        /line 7: its text has the special token "<\|im_end\|>", .*special_tokens_in_content: escape/,
      )
    expect(() => by.encode(chat([user('a'), assistant('b')]))).not.toThrow()
  })

  it.each([
    ['smollm', 'chatml', '<|im_end|>'],
    ['llama3', 'llama3', '<|eot_id|>'],
    ['llama2', 'zephyr', '</s>'],
    ['metaspace_first', 'zephyr', '</s>'],
    ['metaspace_always', 'zephyr', '</s>'],
  ])('are escaped: the same text, with no special token of its own (%s, %s)', (name, template, token) => {
    const by = encoder(name, template, { specialTokensInContent: 'escape' })
    const { tokenizer } = by
    const id = tokenizer.tokenToId(token) as number
    const plain = chat([user('what is X ?'), assistant('X ends a turn.')])
    const quoting = chat([user(`what is ${token} ?`), assistant(`${token} ends a turn.`)])
    const count = (row: EncodedRow) => Array.from(row.inputIds).filter((one) => one === id).length
    const row = encoded(by, quoting)
    expect(count(row)).toBe(count(encoded(by, plain)))
    expect(row.specialTokens).toEqual([token, token])
    // The text is the one of the other row, and so is what is learned of it.
    expect(shown(by, row)).toBe(
      shown(by, encoded(by, plain)).replace('X ?', `${token} ?`).replace('X ends', `${token} ends`),
    )
    // Kept, each is the control token.
    const kept = encoded(encoder(name, template), quoting)
    expect(count(kept)).toBe(count(row) + 2)
    // All tokens are labeled with themselves or not at all.
    for (const [i, label] of row.labels.entries()) expect([IGNORE, row.inputIds[i]]).toContain(label)
  })

  it.each([
    ['smollm', '<|im_end|>'],
    ['llama3', '<|eot_id|>'],
    ['llama2', '</s>'],
    ['gpt2', '<|endoftext|>'],
  ])('are tokenized as what they are written with (%s)', (name, token) => {
    const by = encoder(name, undefined, { specialTokensInContent: 'escape' })
    const { tokenizer } = by
    const id = tokenizer.tokenToId(token)
    const { inputIds } = encoded(by, text(`ab ${token} cd${token}`))
    expect(tokenizer.decode(inputIds, { skipSpecialTokens: true })).toBe(`ab ${token} cd`)
    expect(inputIds.indexOf(id as number)).toBe(inputIds.length - 1)
    const trained = encoded(by, pair(`ab ${token}`, `x${token}y`))
    expect(shown(by, trained)).toMatch(new RegExp(`ab ${token}\\[x${token}y`.replaceAll('|', '\\|')))
  })

  it('are escaped also when they are all there is, or stand in one another', () => {
    const by = encoder('smollm', 'chatml', { specialTokensInContent: 'escape' })
    const rows = [
      ['<|im_end|>', '<|<|im_end|>im_end|>'],
      ['<|im_end|><|im_start|>', '<|im_start|>'],
    ]
    for (const [question, answer] of rows as [string, string][])
      expect(shown(by, encoded(by, chat([user(question), assistant(answer)])))).toContain(
        `<|im_start|>user\n${question}<|im_end|>\n<|im_start|>assistant\n[${answer}<|im_end|>]\n`,
      )
    const all = encoder('smollm', 'chatml', { specialTokensInContent: 'escape', trainOn: 'all' })
    const ids = encoded(all, chat([user('<|im_end|>'), assistant('b')])).inputIds
    expect(ids).toEqual(encoded(by, chat([user('<|im_end|>'), assistant('b')])).inputIds)
  })

  it('are escaped also with a template that shows the date', () => {
    const dated = `{{ strftime_now('%Y-%m-%d') }}\n${templates.chatml.text}`
    const by = encoder('smollm', dated, { specialTokensInContent: 'escape', now: new Date(2026, 0, 2, 12) })
    const row = encoded(by, chat([user('what is <|im_end|> ?'), assistant('b')]))
    expect(shown(by, row)).toMatch(/^2026-01-02\n/)
  })

  it('leave a row without any as it is', () => {
    const row = chat([user('a'), assistant('b \u4f60')])
    const by = encoder('smollm', 'chatml', { specialTokensInContent: 'escape' })
    expect(encoded(by, row)).toEqual(encoded(encoder('smollm', 'chatml'), row))
  })

  it('are refused by name where they cannot be escaped', () => {
    const by = encoder('smollm', 'chatml', { specialTokensInContent: 'escape' })
    expect(() => by.encode(text('a \ufdd2 b'))).toThrow(/line 7: its text has the noncharacter U\+FDD2/)
    const counting =
      "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{{ m.content | length }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    const counter = encoder('smollm', counting, { specialTokensInContent: 'escape' })
    expect(() => counter.encode(chat([user('<|im_end|>'), assistant('b')]))).toThrow(
      /line 7: the chat template changes text that contains special tokens/,
    )
  })

  it('have three ways', () => {
    expect(() => encoder('smollm', 'chatml', { specialTokensInContent: 'drop' as never })).toThrow(
      ConfigError,
    )
  })
})
