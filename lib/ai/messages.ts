/** The prompt of a call as messages of a chat. */
import { UnsupportedError } from '../core/errors.js'
import type { ChatRequest } from '../serve/local-chat.js'
import type { Prompt, ToolOutput } from './sdk.js'

type Message = ChatRequest['messages'][number]
type Part = Exclude<Prompt[number]['content'], string>[number]

/** @throws {UnsupportedError} for a part that is no text, such as an image */
export function messagesOf(prompt: Prompt): Message[] {
  return prompt.flatMap((message, index) => plainOf(message, (part) => `prompt[${index}].content[${part}]`))
}

/** @param at names a part for messages, by its index */
function plainOf(message: Prompt[number], at: (part: number) => string): Message[] {
  switch (message.role) {
    case 'system':
      return [{ role: 'system', content: message.content }]
    case 'user':
      return [{ role: 'user', content: message.content.map((part, i) => textOf(part, at(i))).join('') }]
    case 'assistant':
      return [answerOf(message.content, at)]
    case 'tool':
      return message.content.flatMap((part, i) =>
        // Approvals are of tools that a provider runs, and lowrank runs none.
        part.type === 'tool-approval-response'
          ? []
          : [{ role: 'tool', tool_call_id: part.toolCallId, content: resultOf(part.output, at(i)) }],
      )
  }
}

function answerOf(content: readonly Part[], at: (part: number) => string): Message {
  let text = ''
  let reasoning = ''
  const calls: NonNullable<Message['tool_calls']> = []
  for (const [index, part] of content.entries()) {
    if (part.type === 'reasoning') reasoning += part.text
    else if (part.type === 'tool-call') {
      const { toolCallId: id, toolName: name, input } = part
      // Calls that the SDK could not read keep their text.
      const given = typeof input === 'string' ? input : JSON.stringify(input)
      calls.push({ id, type: 'function', function: { name, arguments: given } })
    } else text += textOf(part, at(index))
  }
  return {
    ...{ role: 'assistant', content: text },
    ...(reasoning === '' ? {} : { reasoning_content: reasoning }),
    ...(calls.length === 0 ? {} : { tool_calls: calls }),
  }
}

function textOf(part: Part, at: string): string {
  if (part.type === 'text') return part.text
  throw unsupported(part.type === 'file' ? `a file of the type ${part.mediaType}` : part.type, at)
}

function resultOf(output: ToolOutput, at: string): string {
  switch (output.type) {
    case 'text':
    case 'error-text':
      return output.value
    case 'json':
    case 'error-json':
      return JSON.stringify(output.value)
    case 'execution-denied':
      return output.reason ?? 'The user denied the call.'
    case 'content':
      return output.value
        .map((part) => {
          if (part.type === 'text') return part.text
          throw unsupported(part.type, `${at}.output`)
        })
        .join('')
  }
}

function unsupported(what: string, at: string): UnsupportedError {
  return new UnsupportedError(
    `languageModel(): ${at} is ${what}, and the model reads text alone; describe it by a text part.`,
    { at },
  )
}
