/** Prompts with tools, against transformers' texts of the same chats in training. */
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import {
  type PromptChat,
  PromptRenderer,
  toolSchemas,
  withReadCalls,
} from '../../../lib/data/prompt-tools.js'
import type { DatasetMessage } from '../../../lib/tokenizer/message.js'
import { UNREASONED } from '../../../lib/tokenizer/training-templates.js'

const renderPromptChat = (chat: PromptChat, special: Record<string, string>) =>
  new PromptRenderer(special).render(chat)

interface Case {
  name: string
  messages: DatasetMessage[]
  tools: unknown[] | null
  text: string
}

const parity = (name: string) => JSON.parse(readFileSync(`test/parity/${name}`, 'utf8'))
const { families } = parity('adapted_chats.json') as {
  families: Record<string, { own: string; bos_token: string; eos_token: string; cases: Case[] }>
}
const { families: trained } = parity('training_templates.json') as {
  families: Record<string, { own: string; cases: (Omit<Case, 'text'> & { training: { text: string } })[] }>
}

describe.each(Object.keys(families))('prompts for the template of %s', (key) => {
  const { own: template, cases, ...special } = families[key] as (typeof families)[string]
  const withTools = cases.filter(({ tools }) => tools !== null)

  it.each(withTools)('are where the answers of training begin: $name', ({ messages, tools, text }) => {
    const answers = messages.flatMap(({ role }, at) => (role === 'assistant' ? [at] : []))
    expect(answers.length).toBeGreaterThan(0)
    for (const at of answers) {
      const reasons = messages.some(({ reasoning_content: thought }) => thought)
      const options = { tools: tools ?? [], addGenerationPrompt: true, ...(reasons ? {} : UNREASONED) }
      const chat = { template, messages: messages.slice(0, at), options, toolForm: 'adapted' as const }
      // These open every answer with reasoning, and the answers here have none.
      const prompt = renderPromptChat(chat, special).replace(/<think>$/, '')
      expect(text.slice(0, prompt.length)).toBe(prompt)
      expect(prompt).toContain('weather')
    }
  })

  it('are refused where a template of this form would leave out the tools', () => {
    for (const { messages, tools } of /^ministral3|^lfm2/.test(key) ? [] : withTools)
      expect(() =>
        renderPromptChat({ template, messages, options: { tools: tools ?? [] }, toolForm: 'own' }, special),
      ).toThrow(/the chat template (ignores "tools"|does not render)/)
  })
})

it('a prompt of Qwen3 is where the first answer of training begins', () => {
  const { own: template, cases } = trained.qwen3 as (typeof trained)[string]
  const withTools = cases.filter(({ tools }) => tools !== null)
  expect(withTools.length).toBeGreaterThan(0)
  for (const { messages, tools, training } of withTools) {
    const at = messages.findIndex(({ role }) => role === 'assistant')
    const options = { tools: tools ?? [], addGenerationPrompt: true }
    const prompt = renderPromptChat(
      { template, messages: messages.slice(0, at), options, toolForm: 'adapted' },
      {},
    )
    expect(training.text.slice(0, prompt.length)).toBe(prompt)
  }
})

it('a template without a place for tools or results is an error that says so', () => {
  const template = "{% for m in messages if m.role != 'tool' %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
  const question = { role: 'user', content: 'How many?' }
  const render = (messages: DatasetMessage[], options = {}) =>
    renderPromptChat({ template, messages, options, toolForm: 'own' }, {})
  expect(render([question])).toBe('user: How many?\n')
  expect(() => render([question], { tools: [{ name: 'stock' }] })).toThrow(
    'the chat template ignores "tools"',
  )
  expect(() => render([question, { role: 'tool', content: '16' }])).toThrow(
    'the chat template does not render messages[1], whose role is tool',
  )
})

it('schemas keep the values that Python would read', () => {
  const text = '[{"name": "f", "parameters": {"10": 1.0, "9": 12345678901234567890}}]'
  const template = '{{ tools | tojson }}'
  const options = { tools: toolSchemas(text) ?? [] }
  expect(renderPromptChat({ template, messages: [], options }, {})).toBe(text)
  for (const given of ['{"name": "f"}', '["f"]', '[', [3], null, undefined])
    expect(toolSchemas(given)).toBeUndefined()
})

it("arguments of calls may be JSON, as in OpenAI's messages", () => {
  const question = { role: 'user', content: 'How many?' }
  const called = (given: unknown) => ({
    ...{ role: 'assistant', content: null },
    tool_calls: [{ type: 'function', function: { name: 'stock', arguments: given } }],
  })
  const template = '{{ messages[1].tool_calls[0].function.arguments.of }}'
  const rendered = (given: unknown) =>
    renderPromptChat({ template, messages: withReadCalls([question, called(given)]), options: {} }, {})
  expect(rendered('{"of": 1.0}')).toBe('1.0')
  expect(rendered({ of: 'bells' })).toBe('bells')
  expect(() => rendered('{"of": ')).toThrow(
    'the arguments of a tool call in messages[1] are not valid JSON: "{\\"of\\": "',
  )
})

it.each([
  ['a recipe', readFileSync('examples/recipes/reasoning.jinja', 'utf8'), true],
  ['Qwen3', (trained.qwen3 as (typeof trained)[string]).own, false],
])('answers with their reasoning in the content are rendered as in training: %s', (_, template, keeps) => {
  const chat = (answer: object) => {
    const messages = [
      { role: 'user', content: '8 - 5?' },
      { role: 'assistant', content: 'Three.', ...answer },
      { role: 'user', content: 'And 9 - 5?' },
    ]
    const options = { addGenerationPrompt: true }
    return renderPromptChat({ template, messages, options, toolForm: 'own' }, { eos_token: '</s>' })
  }
  const reasoned = chat({ reasoning_content: 'I count.' })
  expect(chat({ content: '<think>\nI count.\n</think>\nThree.' })).toBe(reasoned)
  expect(reasoned.includes('I count.')).toBe(keeps)
})
