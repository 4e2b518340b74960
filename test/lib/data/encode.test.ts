import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { ConfigError, DataError } from '../../../lib/core/errors.js'
import type { DatasetRow } from '../../../lib/data/dataset.js'
import { RowEncoder } from '../../../lib/data/encode.js'
import { type EncodedRow, type EncodeRowOptions, IGNORE } from '../../../lib/data/encoded-row.js'
import type { DatasetMessage } from '../../../lib/tokenizer/message.js'
import type { TokenizerSource } from '../../../lib/tokenizer/source.js'
import type { Tokenizer } from '../../../lib/tokenizer/tokenizer.js'

const parity = (name: string) => JSON.parse(readFileSync(`test/parity/${name}`, 'utf8'))
const { tokenizers } = parity('tokenizer_small.json')
const chat = parity('tokenizer_chat.json')

function source(tokenizer: string, template?: string): TokenizerSource {
  const { tokenizer: tokenizerJson, config: tokenizerConfig } = tokenizers[tokenizer]
  return { tokenizerJson, tokenizerConfig, ...(template === undefined ? {} : { chatTemplate: template }) }
}

const templateText = (name: string): string => chat.templates[name].text

function encoder(tokenizer: string, template?: string, options: Partial<EncodeRowOptions> = {}): RowEncoder {
  return new RowEncoder(source(tokenizer, template), { maxSeqLength: 4096, ...options })
}

const place = { path: 'train.jsonl', line: 7 }
const messages = (...list: DatasetMessage[]): DatasetRow => ({ format: 'messages', messages: list, ...place })
const user = (content: string): DatasetMessage => ({ role: 'user', content })
const system = (content: string): DatasetMessage => ({ role: 'system', content })
const assistant = (content: string, weight?: 0): DatasetMessage => ({
  role: 'assistant',
  content,
  ...(weight === undefined ? {} : { weight }),
})
const completion = (prompt: string, text: string): DatasetRow => ({
  format: 'prompt_completion',
  prompt,
  completion: text,
  ...place,
})

function encoded(by: RowEncoder, row: DatasetRow): EncodedRow {
  const result = by.encode(row)
  if (typeof result === 'string') throw new Error(result)
  return result
}

/** The texts of the stretches of tokens that are learned. */
function learned(tokenizer: Tokenizer, { inputIds, labels }: EncodedRow): string[] {
  const stretches: number[][] = []
  labels.forEach((label, index) => {
    if (label === IGNORE) return
    expect(label).toBe(inputIds[index])
    if (index === 0 || labels[index - 1] === IGNORE) stretches.push([])
    stretches.at(-1)?.push(label)
  })
  return stretches.map((ids) => {
    const stream = tokenizer.decodeStream({ skipSpecialTokens: false, continues: true })
    return ids.map((id) => stream.push(id)).join('') + stream.end()
  })
}

function learnedBy(by: RowEncoder, row: DatasetRow): string[] {
  return learned(by.tokenizer, encoded(by, row))
}

const CHAT = messages(
  system('Be brief.'),
  user('Hi! 你好 🎉'),
  assistant('Hello there.\n\n  Indented é'),
  user('And 2 + 2?'),
  assistant('4'),
)

describe('a chat of several turns', () => {
  it.each([
    ['chatml', 'smollm', '<|im_end|>', ''],
    ['chatml_marked', 'smollm', '<|im_end|>', ''],
    ['llama3', 'llama3', '<|eot_id|>', ''],
    ['llama3_always_open', 'llama3', '<|eot_id|>', ''],
    ['zephyr', 'llama2', '</s>', ''],
    ['zephyr', 'metaspace_first', '</s>', ''],
    ['zephyr', 'metaspace_always', '</s>', ''],
    ['speakers', 'llama2', '</s>', ' '],
  ])(
    'learns the assistant turns and their end-of-turn tokens, nothing else (%s, %s)',
    (template, name, end, lead) => {
      const by = encoder(name, templateText(template))
      const answers = ['Hello there.\n\n  Indented é', '4'].map((text) => lead + text + end)
      expect(learnedBy(by, CHAT)).toEqual(answers)
      expect(learnedBy(encoder(name, templateText(template), { trainOn: 'last' }), CHAT)).toEqual(
        answers.slice(1),
      )
    },
  )

  it.each(['llama2', 'metaspace_first'])('learns the turns of templates that open no turn (%s)', (name) => {
    const by = encoder(name, templateText('llama2'))
    expect(learnedBy(by, CHAT)).toEqual([' Hello there.\n\n  Indented é </s>', ' 4 </s>'])
    const mistral = encoder(name, templateText('mistral'))
    const turns = messages(user('a'), assistant('Hello'), user('b'), assistant('bye'))
    expect(learnedBy(mistral, turns)).toEqual(['Hello</s>', 'bye</s>'])
  })

  it('is tokenized as its whole text', () => {
    const by = encoder('smollm', templateText('chatml'))
    const text = '<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nYo<|im_end|>\n'
    const row = messages(system('x'), user('Hi'), assistant('Yo'))
    const whole = by.tokenizer.encode(`<|im_start|>system\nx<|im_end|>\n${text}`, { addSpecialTokens: false })
    expect(Array.from(encoded(by, row).inputIds)).toEqual(whole)
  })

  it('has one BOS where the template writes one and the tokenizer would too', () => {
    const by = encoder('llama3', templateText('llama3'))
    const { inputIds } = encoded(by, CHAT)
    expect(Array.from(inputIds).filter((id) => id === by.tokenizer.bosId)).toHaveLength(1)
    expect(inputIds[0]).toBe(by.tokenizer.bosId)
  })

  it('does not end with an assistant header that the template leaves open', () => {
    const by = encoder('llama3', templateText('llama3_always_open'))
    const ids = Array.from(encoded(by, CHAT).inputIds)
    expect(by.tokenizer.decode(ids, { skipSpecialTokens: false })).toMatch(/4<\|eot_id\|>$/)
    expect(ids).toEqual(Array.from(encoded(encoder('llama3', templateText('llama3')), CHAT).inputIds))
  })

  it('leaves out turns of weight 0', () => {
    const by = encoder('smollm', templateText('chatml'))
    const row = messages(user('a'), assistant('one', 0), user('b'), assistant('two'))
    expect(learnedBy(by, row)).toEqual(['two<|im_end|>'])
    const last = encoder('smollm', templateText('chatml'), { trainOn: 'last', emptyRows: 'drop' })
    expect(last.encode(messages(user('a'), assistant('one'), user('b'), assistant('two', 0)))).toBe(
      'nothing_to_learn',
    )
  })

  it('learns every token on request', () => {
    const by = encoder('smollm', templateText('chatml'), { trainOn: 'all' })
    const row = encoded(by, CHAT)
    expect(row.labels).toEqual(row.inputIds)
    expect(row.supervised).toBe(row.inputIds.length - 1)
  })

  it('starts a turn with a token of its own even where the header would swallow its beginning', () => {
    const row = messages(user('a'), assistant('\n\nx'), user('b'), assistant(' \n y'))
    expect(learnedBy(encoder('smollm', templateText('chatml')), row)).toEqual([
      '\n\nx<|im_end|>',
      ' \n y<|im_end|>',
    ])
    expect(learnedBy(encoder('llama2', templateText('zephyr')), row)).toEqual(['\n\nx</s>', ' \n y</s>'])
  })

  it('marks the same tokens as transformers does by {% generation %}', () => {
    const { template } = chat.masks[0]
    const by = encoder('smollm', templateText(template), { emptyRows: 'drop' })
    for (const { messages: list, ids, mask } of chat.masks) {
      const result = by.encode({ format: 'messages', messages: list, ...place })
      if (typeof result === 'string') {
        expect(mask).not.toContain(1)
        continue
      }
      expect(Array.from(result.inputIds)).toEqual(ids)
      // Its end-of-turn token is marked there also of an empty turn, which is not learned here.
      if (list.at(-1).content === '') mask[mask.lastIndexOf(1)] = 0
      expect(Array.from(result.labels, (label) => (label === IGNORE ? 0 : 1))).toEqual(mask)
    }
  })

  it('learns an answer that calls a tool', () => {
    const call = { type: 'function', function: { name: 'f', arguments: { a: 1 } } }
    const row: DatasetRow = {
      format: 'messages',
      messages: [
        user('call it'),
        { role: 'assistant', content: null, tool_calls: [call] },
        { role: 'tool', content: '3' },
        assistant('It is 3.'),
      ],
      tools: [{ type: 'function', function: { name: 'f' } }],
      ...place,
    }
    expect(learnedBy(encoder('llama3', templateText('llama32')), row)).toEqual([
      '{"name": "f", "parameters": {"a": 1}}<|eot_id|>',
      'It is 3.<|eot_id|>',
    ])
  })
})

describe('a chat template', () => {
  const chatOf = messages(user('a'), assistant('one'), user('b'), assistant('two'))

  it('that puts the role header into the turn has it left out', () => {
    const template =
      "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"
    expect(learnedBy(encoder('smollm', template), chatOf)).toEqual(['one<|im_end|>', 'two<|im_end|>'])
  })

  it('without an end of turn gets an EOS at the end, which is learned', () => {
    const template =
      "{% for m in messages %}{{ m.role + ': ' + m.content + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    expect(learnedBy(encoder('smollm', template), chatOf)).toEqual(['one\n', 'two\n<|im_end|>'])
    const all = encoded(encoder('smollm', template, { trainOn: 'all' }), chatOf)
    expect(all.inputIds.at(-1)).toBe(encoder('smollm').tokenizer.eosId)
  })

  it('that marks only the content has the end-of-turn token learned all the same', () => {
    const template =
      "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}{{ '<|im_end|>\\n' }}{% endfor %}"
    expect(learnedBy(encoder('smollm', template), chatOf)).toEqual(['one<|im_end|>', 'two<|im_end|>'])
  })

  it('that changes earlier turns is used where the content stands whole, and refused where it does not', () => {
    const header = "{{ '<|im_start|>' + m.role + '\\n' }}"
    const changing = (earlier: string, last: string) =>
      `{% for m in messages %}${header}{% if m.role == 'assistant' %}{% if loop.last %}${last}{% else %}${earlier}{% endif %}{% else %}{{ m.content }}{% endif %}{{ '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}`
    const thinking = encoder('smollm', changing('{{ m.content }}', "{{ '<think></think>' + m.content }}"))
    expect(learnedBy(thinking, chatOf)).toEqual(['one<|im_end|>', '<think></think>two<|im_end|>'])
    const shouting = encoder('smollm', changing('{{ m.content | upper }}', '{{ m.content }}'))
    expect(() => shouting.encode(chatOf)).toThrow(DataError)
    expect(() => shouting.encode(chatOf)).toThrow(
      /train.jsonl, line 7: .*renders message 1 differently.*its end is not known/,
    )
  })

  it('that gives the last turn alone its reasoning, as that of Qwen3 does, is learned as it is rendered', () => {
    const template = `{% set ns = namespace(query=0) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.query = loop.index0 %}{% endif %}{% endfor %}{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' and loop.index0 > ns.query %}{{ '<think>\n' + (m.reasoning_content or '') + '\n</think>\n\n' }}{% endif %}{{ m.content + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}`
    const by = encoder('qwen2', template)
    const thought: DatasetMessage = { ...assistant('4'), reasoning_content: '2 and 2.' }
    expect(learnedBy(by, messages(user('2 + 2?'), thought))).toEqual([
      '<think>\n2 and 2.\n</think>\n\n4<|im_end|>',
    ])
    expect(learnedBy(by, messages(user('2 + 2?'), assistant('4')))).toEqual(['4<|im_end|>'])
    // Earlier turns stand whole without their reasoning.
    expect(learnedBy(by, chatOf)).toEqual(['one<|im_end|>', 'two<|im_end|>'])
  })

  it('that counts the messages is refused', () => {
    const template =
      '{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}{% endif %}'
    expect(() => encoder('smollm', template).encode(chatOf)).toThrow(
      /line 7: .*what comes before message 1 differently/,
    )
  })

  it('that marks another number of parts than there are assistant turns is refused', () => {
    const template = '{% generation %}{{ messages[1].content }}{% endgeneration %}'
    expect(() => encoder('smollm', template).encode(chatOf)).toThrow(
      /marks 1 parts.*for 2 assistant messages/,
    )
  })

  it('that refuses a row has its reason given with the place of the row', () => {
    const row = messages(user('a'), user('b'))
    expect(() => encoder('llama2', templateText('llama2')).encode(row)).toThrow(
      /train.jsonl, line 7: the chat template refuses these messages: "Roles must alternate/,
    )
  })

  it('for tools is taken when the row has tools', () => {
    const row: DatasetRow = { ...chatOf, tools: [{}] } as DatasetRow
    const named = {
      ...source('smollm', templateText('chatml')),
      namedTemplates: { tool_use: templateText('llama32') },
    }
    const by = new RowEncoder(named, { maxSeqLength: 4096, trainOn: 'all' })
    const text = by.tokenizer.decode(encoded(by, row).inputIds, { skipSpecialTokens: false })
    expect(text).toContain('<|eot_id|>')
  })

  it('that is missing is named as the reason', () => {
    expect(() => encoder('smollm').encode(chatOf)).toThrow(/line 7: the model has no chat template/)
  })
})

describe('a prompt with a completion', () => {
  it.each([
    ['smollm', 'Q: two?\nA:', ' four', [' four<|im_end|>']],
    ['smollm', 'Q: two?\nA: ', 'four', ['four<|im_end|>']],
    ['llama3', 'Say: 你好 ', '世界 🎉', ['世界 🎉<|eot_id|>']],
    ['llama2', 'Q: two?\nA:', ' four', [' four</s>']],
    ['llama2', 'Q: two?\nA: ', 'four', ['four</s>']],
    ['metaspace_first', 'ab', 'cd', ['cd</s>']],
    ['metaspace_always', 'ab', 'cd', ['cd</s>']],
    ['smollm', 'done<|im_end|>', 'x<|im_end|>', ['x<|im_end|>']],
  ])('learns the completion and one EOS (%s: %j, %j)', (name, prompt, text, expected) => {
    const by = encoder(name)
    expect(learnedBy(by, completion(prompt, text))).toEqual(expected)
  })

  it('is tokenized as one text where the border allows', () => {
    const by = encoder('llama3')
    const { inputIds } = encoded(by, completion('Q: two?\nA:', ' four'))
    const whole = by.tokenizer.encode('Q: two?\nA: four', { addSpecialTokens: true })
    expect(Array.from(inputIds)).toEqual([...whole, by.tokenizer.eosId])
  })

  it('never has two BOS', () => {
    const by = encoder('llama3')
    const { bosId } = by.tokenizer
    for (const prompt of ['Hi', '<|begin_of_text|>Hi']) {
      const ids = Array.from(encoded(by, completion(prompt, ' you')).inputIds)
      expect(ids.filter((id) => id === bosId)).toEqual([bosId])
      expect(ids[0]).toBe(bosId)
    }
  })

  it('learns everything on request', () => {
    const by = encoder('smollm', undefined, { trainOn: 'all' })
    expect(learnedBy(by, completion('a b', ' c'))).toEqual(['a b c<|im_end|>'])
  })

  it('with an empty completion has nothing to learn', () => {
    const lax = encoder('smollm', undefined, { emptyRows: 'drop' })
    expect(lax.encode(completion('a', ''))).toBe('nothing_to_learn')
    expect(() => encoder('smollm').encode(completion('a', ''))).toThrow(
      /line 7: there is nothing to train on \(the completion is empty\)/,
    )
  })

  it('is marked also where normalization changes its length', () => {
    const by = encoder('qwen2')
    expect(learnedBy(by, completion('cafe\u0301 ', 'nai\u0308ve'))).toEqual(['na\u00efve<|im_end|>'])
  })

  it('is refused where normalization joins prompt and completion', () => {
    const row = completion('cafe', '\u0301 au lait')
    expect(() => encoder('qwen2').encode(row)).toThrow(DataError)
    expect(() => encoder('qwen2').encode(row)).toThrow(
      /line 7: the tokens of this text do not reproduce it exactly/,
    )
  })

  it('is marked where added tokens eat the white space beside them', () => {
    expect(learnedBy(encoder('gpt2'), completion('keep <left>', ' x <both>  y'))).toEqual([
      ' x<both>y<|endoftext|>',
    ])
  })
})

describe('plain text', () => {
  const text = (content: string): DatasetRow => ({ format: 'text', text: content, ...place })

  it('is learned whole, with one BOS and one EOS', () => {
    const by = encoder('llama3')
    for (const content of ['Hi', '<|begin_of_text|>Hi', 'Hi<|eot_id|>']) {
      expect(learnedBy(by, text(content))).toEqual(['<|begin_of_text|>Hi<|eot_id|>'])
    }
  })

  it('of one token has nothing to learn', () => {
    expect(() => encoder('smollm').encode(text(''))).toThrow(
      /line 7: there is nothing to train on \(the text/,
    )
  })
})

describe('a row that is too long', () => {
  const row = completion('one two three four five six', ' seven eight nine')

  it('keeps its beginning', () => {
    const whole = encoded(encoder('smollm'), row)
    const cut = encoded(encoder('smollm', undefined, { maxSeqLength: whole.inputIds.length - 1 }), row)
    expect(cut.truncated).toBe(true)
    expect(whole.truncated).toBe(false)
    expect(cut.inputIds).toEqual(whole.inputIds.slice(0, -1))
    expect(cut.labels).toEqual(whole.labels.slice(0, -1))
    expect(cut.supervised).toBe(whole.supervised - 1)
  })

  it('tells how long it was, and whether its end is still learned', () => {
    const whole = encoded(encoder('smollm'), row)
    expect(whole).toMatchObject({ ended: true, fullLength: whole.inputIds.length })
    const cut = encoded(encoder('smollm', undefined, { maxSeqLength: whole.inputIds.length - 1 }), row)
    expect(cut).toMatchObject({ ended: false, fullLength: whole.inputIds.length })
  })

  it('is refused when nothing to learn remains, or left out on request', () => {
    expect(() => encoder('smollm', undefined, { maxSeqLength: 3 }).encode(row)).toThrow(
      /line 7: there is nothing to train on: that part begins at token \d+, and max_seq_length truncates the row to 3; raise max_seq_length, or drop such rows with empty_rows: drop/,
    )
    expect(encoder('smollm', undefined, { maxSeqLength: 3, emptyRows: 'drop' }).encode(row)).toBe(
      'truncated_away',
    )
  })
})

it.each([
  [{ maxSeqLength: 1 }, /max_seq_length must be an integer of at least 2, not 1/],
  [{ trainOn: 'nothing' as never }, /train_on must be one of completions, last, all, not nothing/],
])('refuses the options %j', (options, message) => {
  expect(() => encoder('smollm', undefined, options)).toThrow(ConfigError)
  expect(() => encoder('smollm', undefined, options)).toThrow(message)
})

describe('a prompt and its completion, of a model with a chat template', () => {
  const [name, template] = ['smollm', 'chatml']

  const pair = completion('Name a colour.', 'Blue.')
  const turns = messages(user('Name a colour.'), assistant('Blue.'))

  it('become a turn of the user and one of the assistant', () => {
    const by = encoder(name, templateText(template))
    const { inputIds, labels } = encoded(by, pair)
    const chatted = encoded(encoder(name, templateText(template)), turns)
    expect(inputIds).toEqual(chatted.inputIds)
    expect(labels).toEqual(chatted.labels)
    expect(by.format).toMatchObject({ form: 'chat', template: templateText(template), system: null })
    expect(by.format?.stop.length).toBeGreaterThan(0)
  })

  it('have the end of a turn as an end also beside raw texts', () => {
    const { tokenizerConfig, ...rest } = source(name, templateText(template))
    const ended = { ...rest, tokenizerConfig: { ...tokenizerConfig, eos_token: '<|endoftext|>' } }
    const by = new RowEncoder(ended, { maxSeqLength: 64 })
    encoded(by, { format: 'text', text: 'Blue.', ...place })
    expect(by.format).toMatchObject({ form: 'raw', stop: ['<|endoftext|>'] })
    encoded(by, turns)
    expect(by.format).toMatchObject({ form: 'raw', stop: ['<|im_end|>', '<|endoftext|>'] })
  })

  it('stay raw text on request, and for a model without one', () => {
    const prompting = { prompts: false, instructions: false }
    const by = encoder(name, templateText(template), { prompting })
    const without = encoder(name)
    expect(encoded(by, pair).inputIds).toEqual(encoded(without, pair).inputIds)
    for (const one of [by, without])
      expect(one.format).toMatchObject({ form: 'raw', template: null, system: null, prefix: '', suffix: '' })
  })

  it('come after the system prompt that is given', () => {
    const prompting = { prompts: true, instructions: true, system: 'Be brief.' }
    const by = encoder(name, templateText(template), { prompting })
    const told = messages(system('Be brief.'), user('Name a colour.'), assistant('Blue.'))
    expect(encoded(by, pair).inputIds).toEqual(encoded(encoder(name, templateText(template)), told).inputIds)
  })

  it('have nothing to learn where the completion is empty', () => {
    const by = encoder(name, templateText(template))
    expect(() => by.encode(completion('Name a colour.', ''))).toThrow(
      /nothing to train on \(the completion is empty\)/,
    )
  })

  it('are told from a text that the template has rendered, which is a chat', () => {
    const by = encoder(name, templateText(template))
    const { inputIds } = encoded(by, turns)
    const stream = by.tokenizer.decodeStream({ skipSpecialTokens: false })
    const text = [...inputIds].map((id) => stream.push(id)).join('') + stream.end()
    const texts = encoder(name, templateText(template))
    encoded(texts, { format: 'text', text, ...place })
    expect(texts.format?.form).toBe('chat')
    encoded(texts, { format: 'text', text: 'Blue is a colour.', ...place })
    expect(texts.format?.form).toBe('raw')
  })
})

describe('a system prompt', () => {
  const [name, template] = ['smollm', 'chatml']
  const row = (...told: DatasetMessage[]) => messages(...told, user('Hi'), assistant('Ho'))
  const formatOf = (...rows: DatasetRow[]) => {
    const by = encoder(name, templateText(template))
    for (const one of rows) by.encode(one)
    return by.format
  }

  it('is kept where all rows have the same', () => {
    expect(formatOf(row(system('A')), row(system('A')))?.system).toBe('A')
    expect(formatOf(row(system('A')), row(system('B')), row(system('B')))?.system).toBeNull()
    expect(formatOf(row(), row(system('A')))?.system).toBeNull()
    expect(formatOf(row(system('A')), row())?.system).toBeNull()
    expect(formatOf()).toBeNull()
  })
})
