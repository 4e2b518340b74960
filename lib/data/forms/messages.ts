/** Chats in OpenAI's form, possibly with tools. */
import { pythonJson } from '../../tokenizer/python-text.js'
import { splitReasoning } from '../../tokenizer/reasoning.js'
import { namesOf } from '../prompt-tools.js'
import type { MessagesRow, Question } from '../rows.js'
import { isEmpty } from '../unlearned.js'
import type { Form, RowRules } from './form.js'
import { readChat } from './turns.js'

export const messages: Form<MessagesRow> = {
  name: 'messages',
  precedence: 20,
  expected: '{"messages": [{"role": …, "content": …}, …]}',
  columns: { messages: 'the turns' },
  optional: { system: 'the system prompt', tools: 'the tools' },
  chat: { column: 'messages' },
  read: readChat('messages'),
  rows: {
    chat: (row) => row,
    hasHistory: true,
    question,
    opening(row) {
      const { content } = row.messages.find(({ role }) => role === 'user') ?? {}
      return typeof content === 'string' ? content.trim() : ''
    },
    prompt(row) {
      const last = row.messages.findLastIndex(({ role }) => role === 'assistant')
      return last < 1 ? undefined : [row.messages.slice(0, last), row.tools]
    },
    texts: (row) => row.messages.flatMap(({ content }) => content ?? []),
    empty(row, trainOn) {
      const answers = row.messages.filter(({ role }) => role === 'assistant')
      if (answers.length === 0)
        return 'there is no assistant message; task: grpo takes such a row as a prompt'
      if (answers.some((answer) => answer.weight !== 0 && isEmpty(answer)))
        return 'the assistant message is empty'
      const unlearned = answers.every(({ weight }) => weight === 0) ? ', weight 0' : ''
      return `train_on: ${trainOn}${unlearned}`
    },
  },
}

function question(
  row: MessagesRow,
  rendering: Parameters<RowRules<MessagesRow>['question']>[1],
): Question | undefined {
  const { messages, tools } = row
  const system = messages[0]?.role === 'system' ? messages[0].content : null
  const at = system === null ? 0 : 1
  const [asked, answer] = messages.slice(at)
  if (asked?.role !== 'user' || answer?.role !== 'assistant') return undefined
  if (asked.content === null || answer.weight === 0) return undefined
  // Prompts take no tools without names.
  if (tools !== undefined && namesOf(tools).length < tools.length) return undefined
  const text =
    tools === undefined
      ? answer.content
      : rendering.lastAnswer({ ...row, messages: messages.slice(0, at + 2) })
  if (text === null || text === undefined) return undefined
  const expected = splitReasoning(text).answer
  return {
    prompt: asked.content,
    system,
    expected,
    ...(tools === undefined ? {} : { tools: pythonJson(tools) }),
  }
}
