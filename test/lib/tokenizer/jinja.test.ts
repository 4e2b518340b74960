/**
 * Templates as `apply_chat_template` of transformers renders them: expressions, templates of our own with the constructs
 * of real ones, and the templates that llama.cpp ships, from the folder in LOWRANK_CHAT_TEMPLATES.
 */
import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { DataError, FileFormatError } from '../../../lib/core/errors.js'
import { parseExactJson } from '../../../lib/data/dataset/exact-json.js'
import { ChatTemplate } from '../../../lib/tokenizer/chat-template.js'
import type { ChatMessage } from '../../../lib/tokenizer/message.js'

interface Golden<T> {
  now: string
  special_tokens: Record<string, string>
  /** JSON of each chat. */
  chats: string[]
  templates: Record<string, T>
}

interface Chat {
  messages: ChatMessage[]
  tools: unknown[] | null
  add_generation_prompt: boolean
  variables: Record<string, unknown>
}

const parity = (name: string) => JSON.parse(readFileSync(`test/parity/${name}`, 'utf8'))
const constructs = parity('chat_constructs.json') as Golden<(string | null)[]> & {
  variables: string
  expressions: [expression: string, text: string | null][]
}
const real = parity('real_chat_templates.json') as Golden<{ sha256: string; texts: (string | null)[] }>

/** The texts of the chats; null where the template fails on one. */
function texts(source: string, { chats, now, special_tokens }: Golden<unknown>): (string | null)[] {
  const template = new ChatTemplate(source, special_tokens)
  return chats.map((row) => {
    const chat = parseExactJson(row, ['tools', 'arguments']) as Chat
    const { messages, tools, add_generation_prompt: addGenerationPrompt, variables } = chat
    const options = { addGenerationPrompt, variables, now: new Date(now), ...(tools ? { tools } : {}) }
    return orNull(() => template.render(messages, options))
  })
}

/** Null where the template fails in the way that users see. */
function orNull(render: () => string): string | null {
  try {
    return render()
  } catch (error) {
    expect(error).toBeInstanceOf(DataError)
    return null
  }
}

describe('an expression is what it is in Python', () => {
  const variables = parseExactJson(constructs.variables) as Record<string, unknown>
  it.each(constructs.expressions)('%s', (expression, text) => {
    const template = new ChatTemplate(`{{ ${expression} }}`, constructs.special_tokens)
    expect(orNull(() => template.render([{ role: 'user', content: '' }], { variables }))).toBe(text)
  })
})

describe('a template with the constructs of real ones renders random chats as transformers does', () => {
  it.each(Object.entries(constructs.templates))('%s', (name, expected) => {
    const source = readFileSync(`test/parity/chat-constructs/${name}`, 'utf8')
    expect(texts(source, constructs)).toEqual(expected)
  })
})

const folder = process.env.LOWRANK_CHAT_TEMPLATES
const digest = (text: string) => createHash('sha256').update(text).digest('hex').slice(0, 12)

describe("llama.cpp's templates render 60 random chats as transformers does", () => {
  it.for(Object.entries(real.templates))('%s', ([name, { sha256, texts: expected }], { skip }) => {
    if (folder === undefined) return skip('LOWRANK_CHAT_TEMPLATES names no folder with these templates')
    const path = join(folder, name)
    if (!existsSync(path)) return skip(`${path} does not exist`)
    const source = readFileSync(path, 'utf8')
    if (digest(source) !== sha256) return skip(`${path} is another revision`)
    expect(texts(source, real).map((text) => text && digest(text))).toEqual(expected)
  })
})

it('docs/data.md has the numbers of these chats', () => {
  const [sentence] =
    /^The \d+ templates that llama\.cpp ships .*$/m.exec(readFileSync('docs/data.md', 'utf8')) ?? []
  const all = Object.values(real.templates).flatMap(({ texts }) => texts)
  const failed = all.filter((text) => text === null).length
  const numbers = [
    Object.keys(real.templates).length,
    all.length - failed,
    real.chats.length,
    failed,
    all.length,
  ]
  for (const number of numbers) expect(sentence).toContain(number.toLocaleString('en-US'))
})

describe('what a template may not use is named', () => {
  const failure = (expression: string) => () =>
    new ChatTemplate(`{{ ${expression} }}`, {}).render([{ role: 'user', content: 'a' }])

  it.each([
    ['messages | nonsense', 'it uses the filter "nonsense", which is unknown'],
    ['messages is nonsense', 'it uses the test "nonsense", which is unknown'],
    ['nonsense(1)', 'it calls nonsense(), which is not a known function'],
    [
      'messages[0].content.nonsense()',
      'it calls messages[0].content.nonsense(), which is not a known function',
    ],
    ['messages.append(1)', 'it calls append(), which changes a list; templates may not do that'],
    ['messages[0].name + "x"', 'messages[0].name is not defined'],
    ['messages[0].name.first', 'messages[0].name is not defined'],
    ['none | length', 'a value of type NoneType has no length'],
    ['"{:>5}".format(1)', 'a text is formatted by {:>5}, which is not supported'],
    ['"a" | trim(side="left")', 'trim has no parameter "side"'],
  ])('%s', (expression, message) => {
    expect(failure(expression)).toThrow(DataError)
    expect(failure(expression)).toThrow(message)
  })

  it('a loop over nothing, such as tools that a row does not have', () => {
    const template = new ChatTemplate('{% for tool in tools %}{{ tool }}{% endfor %}', {})
    expect(() => template.render([])).toThrow('it has a loop over tools, which is none')
  })

  it('comparisons in a chain, which the library reads otherwise than Python', () => {
    expect(failure('1 < 2 < 3')).toThrow(FileFormatError)
    expect(failure('1 < 2 < 3')).toThrow('comparisons in a chain, such as a < b < c, are not supported')
    expect(failure('(1 < 2) == (2 < 3)')).not.toThrow()
  })
})

it('a key without a value is no key, as in transformers', () => {
  const template = new ChatTemplate(
    '{{ messages[0].content is defined }} {{ messages[0].name is defined }}',
    {},
  )
  expect(template.render([{ role: 'user', content: null, name: undefined }])).toBe('False False')
})
