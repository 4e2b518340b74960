/** A model whose template knows tools, and rows that train it to call one. */
import { cpSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type OpenAI from 'openai'
import { scratchFolder } from '../scratch.js'
import { BASE } from './service.js'

/** Calls as Hermes and Qwen write them. */
const TEMPLATE = `{% if tools %}<|system|>{% for tool in tools %}{{ tool.function.name }} {% endfor %}<|end|>{% endif %}
{%- for message in messages %}{{ '<|' + ('user' if message.role == 'tool' else message.role) + '|>' + message.content }}
{%- for call in message.tool_calls or [] %}{{ '<tool_call>{"name": "' + call.function.name + '", "arguments": ' + (call.function.arguments | tojson) + '}</tool_call>' }}{% endfor %}{{ '<|end|>' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}`

export const tools: OpenAI.Chat.ChatCompletionFunctionTool[] = [
  {
    type: 'function',
    function: {
      name: 'weather',
      description: 'The weather of a town',
      parameters: { type: 'object', properties: { town: { type: 'string' } }, required: ['town'] },
      strict: true,
    },
  },
]
export const question = { role: 'user' as const, content: 'Rain in Bonn?' }
export const called = {
  role: 'assistant' as const,
  content: '',
  tool_calls: [
    { id: 'call_1', type: 'function' as const, function: { name: 'weather', arguments: '{"town":"Bonn"}' } },
  ],
}
export const both = { role: 'user' as const, content: 'Rain in Bonn and Ulm?' }
export const second = {
  ...{ id: 'call_2', type: 'function' as const },
  function: { name: 'weather', arguments: '{"town":"Ulm"}' },
}
export const result = { role: 'tool' as const, tool_call_id: 'call_1', content: 'rain' }

/** A folder with the demo's model and that template. */
export function callingModel(): string {
  const folder = join(scratchFolder(), 'calling')
  cpSync(BASE, folder, { recursive: true })
  const config = join(folder, 'tokenizer_config.json')
  const given = JSON.parse(readFileSync(config, 'utf8')) as object
  writeFileSync(config, JSON.stringify({ ...given, chat_template: TEMPLATE }))
  return folder
}

/** Chats that call the tool once, and twice after a text. */
export function callingRows(): string {
  return [
    [question, called, result, { role: 'assistant', content: 'Yes, rain.' }],
    [both, { ...called, content: 'I ask.', tool_calls: [...called.tool_calls, second] }],
  ]
    .map((messages) => `${JSON.stringify({ messages, tools, parallel_tool_calls: true })}\n`)
    .join('')
    .repeat(8)
}
