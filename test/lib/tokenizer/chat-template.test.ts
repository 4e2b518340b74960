import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { DataError, FileFormatError } from '../../../lib/core/errors.js'
import { ChatTemplate } from '../../../lib/tokenizer/chat-template.js'
import type { TemplateMessage as ChatMessage } from '../../../lib/tokenizer/message.js'

interface Golden {
  date_string: string
  templates: Record<string, { text: string; bos_token: string; eos_token: string }>
  cases: {
    template: string
    messages: ChatMessage[]
    add_generation_prompt: boolean
    tools: unknown[] | null
    text?: string
    spans?: [number, number][] | null
    error?: string
  }[]
}

const golden = JSON.parse(readFileSync('test/parity/tokenizer_chat.json', 'utf8')) as Golden

function template(name: string): ChatTemplate {
  const { text, ...special } = golden.templates[name] as Golden['templates'][string]
  return new ChatTemplate(text, special)
}

const hello = [{ role: 'user', content: 'hello' }]
const limits = { milliseconds: 10_000, characters: 1000 }
const brief = { ...limits, milliseconds: 300 }

describe.each(Object.keys(golden.templates))('the %s template', (name) => {
  const cases = golden.cases.filter((one) => one.template === name)
  it.each(cases.map((one) => [JSON.stringify(one.messages), one] as const))(
    'gives what transformers renders for %s',
    (_, { messages, tools, text, spans, error, add_generation_prompt: addGenerationPrompt }) => {
      const options = {
        addGenerationPrompt,
        ...(tools ? { tools } : {}),
        variables: { date_string: golden.date_string },
      }
      if (error !== undefined) {
        expect(() => template(name).render(messages, options)).toThrow(DataError)
        expect(() => template(name).render(messages, options)).toThrow(error)
        return
      }
      expect(template(name).render(messages, options)).toBe(text)
      if (!spans) return
      // Python counts code points.
      const points = [...(text as string)]
      const expected = spans.map(([start, end]) => points.slice(start, end).join('').trim())
      const traced = template(name).renderWithSpans(messages, options)
      expect(traced.text).toBe(text)
      expect(traced.spans.map(({ start, end }) => traced.text.slice(start, end).trim())).toEqual(expected)
    },
  )
})

describe('a hostile template', () => {
  const render = (source: string, by = limits) => new ChatTemplate(source, {}, by).render(hello)

  it('is stopped when it runs too long', () => {
    const loops = '{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}'
    expect(() => render(loops, brief)).toThrow(FileFormatError)
    expect(() => render(loops, brief)).toThrow(/ran longer than 300 ms/)
  })

  it('is stopped when reading it takes too long', () => {
    expect(() => new ChatTemplate(`{{ a }}${' '.repeat(1 << 19)}x`, {}, brief)).toThrow(
      /ran longer than 300 ms/,
    )
  })

  it('may not give a longer text than allowed', () => {
    expect(() => render("{% for i in range(600) %}{{ 'ab' }}{% endfor %}")).toThrow(FileFormatError)
    expect(() => render("{% for i in range(600) %}{{ 'ab' }}{% endfor %}")).toThrow(
      /rendered 1200 characters; the limit is 1000/,
    )
  })

  it('may not build huge lists', () => {
    expect(() => render('{{ range(1000000000) | length }}')).toThrow(
      /range\(\) of 1000000000 numbers is longer/,
    )
    expect(() => render('{{ range(5, 0, 0) | length }}')).toThrow(DataError)
  })

  it('reaches nothing of the program that runs it', () => {
    expect(
      render('{{ messages.constructor }}{{ range.constructor }}{{ process }}{{ messages.__proto__ }}'),
    ).toBe('')
    expect(() => render("{{ range.constructor('return 1')() }}")).toThrow(DataError)
  })

  it.each(['{% if %}', '{{ unclosed', '{% for a in %}{% endfor %}'])(
    'is refused when it is no Jinja: %s',
    (source) => {
      expect(() => render(source)).toThrow(FileFormatError)
      expect(() => render(source)).toThrow(/the chat template is not valid/)
    },
  )

  it('fails with a DataError when it cannot handle the messages', () => {
    expect(() => render('{{ messages | nonsense }}')).toThrow(DataError)
    expect(() => render('{{ messages | nonsense }}')).toThrow(/fails on these messages/)
  })
})

describe('{% generation %} parts', () => {
  const spans = (source: string, messages: ChatMessage[] = hello) =>
    new ChatTemplate(source, {}).renderWithSpans(messages).spans

  it('are refused when they do not come in pairs', () => {
    expect(() => spans('{% generation %}a')).toThrow(/not closed/)
    expect(() => spans('{% generation %}a{% generation %}b{% endgeneration %}')).toThrow(/are not paired/)
    expect(() => spans('{% generation %}a{% endgeneration %}b{% endgeneration %}')).toThrow(/are not paired/)
  })

  it('cannot be traced through messages with the marking characters', () => {
    const source = '{% generation %}{{ messages[0].content }}{% endgeneration %}'
    expect(() => spans(source, [{ role: 'user', content: 'a\ufdd0' }])).toThrow(/U\+FDD0/)
  })

  it('are refused when tracing changes the text', () => {
    const source = '{% set x %}{% generation %}ab{% endgeneration %}{% endset %}{{ x | length }}'
    expect(() => spans(source)).toThrow(/a different text when/)
  })
})

it('writes dates as Python does', () => {
  const now = new Date(2024, 1, 3, 13, 5, 9)
  const render = (format: string) =>
    new ChatTemplate(`{{ strftime_now('${format}') }}`, {}).render([], { now })
  expect(render('%d %b %Y')).toBe('03 Feb 2024')
  expect(render('%A %a %B %e %-d %j %y %m/%d')).toBe('Saturday Sat February  3 3 034 24 02/03')
  expect(render('%H:%M:%S %I %p %F %T %D %% %Q')).toBe('13:05:09 01 PM 2024-02-03 13:05:09 02/03/24 % %Q')
  expect(new ChatTemplate('{{ strftime_now("%Y") }}', {}).usesClock).toBe(true)
})

it('ends of lines of Windows are those of Jinja2', () => {
  const source =
    "{% for m in messages %}\r\n  {% if true %}\r\n<{{ m.role }}>\r\n  {% endif %}\r\n{% endfor %}\rx{{ 'a\r\nb' }}{{ '\\r' }}\r\n"
  // As rendered by Jinja2 3.1.6 with the options of transformers.
  expect(new ChatTemplate(source, {}).render(hello)).toBe('<user>\nxa\nb\r')
})
