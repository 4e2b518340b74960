/** Rows of fine-tuning data as questions to a model, with their expected answers. */
import { canonicalJson } from '../../compare/index.js'
import { isRecord } from '../../core/schema-shape.js'
import { type AnswerRow, type DatasetRow, type MessagesRow, rowError } from '../../data/dataset.js'
import type { ChatMessage } from '../../tokenizer/message.js'
import { pythonJson } from '../../tokenizer/python-text.js'

/** A tool in OpenAI's form. */
export interface Tool {
  function: { name: string; parameters?: unknown }
}

/** A question with its expected answer. */
export interface RowQuestion {
  /** The turns before the answer; or the prompt of a row without turns. */
  prompt: readonly ChatMessage[] | string
  tools?: readonly Tool[]
  /** Empty for a prompt alone. */
  expected: string
}

/** A prompt whose answers a grader scores. */
export interface GradedQuestion extends RowQuestion {
  /** The item of the row, which its grader reads. */
  item: Readonly<Record<string, unknown>>
}

/**
 * The question of a row: its last answer that is trained on. Undefined if nothing comes before that answer.
 * @throws {DataError} for a row without an answer, and for rows of other kinds than OpenAI's
 */
export function questionOf(row: DatasetRow): RowQuestion | undefined {
  const answer = answerIn(row)
  if ('completion' in answer) {
    const { prompt, completion } = answer
    return prompt.trim() === '' ? undefined : { prompt, expected: completion.trim() }
  }
  const { messages, tools } = answer
  const at = lastAnswer(answer)
  if (!messages.slice(0, at).some(({ role }) => role === 'user')) return undefined
  return {
    prompt: asPlain(messages.slice(0, at).map(asPrompt)) as ChatMessage[],
    ...(tools === undefined ? {} : { tools: asPlain(tools) as Tool[] }),
    expected: answerText(asPlain(messages[at])),
  }
}

/**
 * A row of reinforcement: a prompt that ends with the user, or a row with an answer, which is a prompt without it.
 * @throws {DataError} for a preference
 */
export function gradedQuestionOf(row: DatasetRow): GradedQuestion | undefined {
  if ('chosen' in row)
    throw rowError(row, 'the row is a pair of answers, whose comparison needs no grader; leave out --grader')
  const item = JSON.parse(row.item ?? '{}') as GradedQuestion['item']
  if ('messages' in row && row.messages.at(-1)?.role !== 'assistant') {
    const { messages, tools } = row
    return {
      prompt: asPlain(messages.map(asPrompt)) as ChatMessage[],
      ...(tools === undefined ? {} : { tools: asPlain(tools) as Tool[] }),
      ...{ expected: '', item },
    }
  }
  const question = questionOf(row)
  return question && { ...question, item }
}

/** Every prompt that a row trains an answer to, the last one last. */
export function trainedPrompts(row: DatasetRow): unknown[] {
  const answer = answerIn(row)
  if ('completion' in answer) return [answer.prompt]
  const { messages, tools = null } = answer
  return messages.flatMap(({ role, weight }, at) =>
    role === 'assistant' && weight !== 0 ? [[messages.slice(0, at).map(asPrompt), tools]] : [],
  )
}

/** The row itself, or the better answer of a preference. */
function answerIn(row: DatasetRow): AnswerRow {
  const answer = 'chosen' in row ? row.chosen : row
  if ('messages' in answer) {
    lastAnswer(answer)
    return answer
  }
  if ('completion' in answer) return answer
  throw rowError(
    row,
    `expected a row of OpenAI's fine-tuning ("messages", "prompt" with "completion", or "input" with "preferred_output"), found ${row.format}; \`lowrank init\` reads others`,
  )
}

function lastAnswer(row: MessagesRow): number {
  const at = row.messages.findLastIndex(({ role, weight }) => role === 'assistant' && weight !== 0)
  if (at >= 0) return at
  const { role } = row.messages.at(-1) ?? {}
  throw rowError(
    row,
    role === 'user'
      ? 'the chat ends with the user, as rows of reinforcement do, and has no answer to learn; give the grader of its answers with --grader FILE'
      : 'the chat has no answer with a weight of 1',
  )
}

const asPrompt = ({ weight: _, ...message }: MessagesRow['messages'][number]) => message

/** Values as JSON has them, without what templates show of their spelling. */
function asPlain(value: unknown): unknown {
  return JSON.parse(pythonJson(value))
}

/**
 * The text of an assistant's message, by which answers are compared. Tool calls are JSON of their names and arguments, with
 * sorted keys; text beside them does not count.
 */
export function answerText(message: unknown): string {
  if (!isRecord(message)) return ''
  const { content, refusal, tool_calls: calls } = message
  if (Array.isArray(calls) && calls.length > 0) return callsText(calls.map(callOf))
  if (Array.isArray(content)) return content.map((part) => (isRecord(part) ? textIn(part.text) : '')).join('')
  return textIn(content) || textIn(refusal)
}

const textIn = (value: unknown) => (typeof value === 'string' ? value : '')

function callOf(call: unknown): { name: string; arguments: unknown } {
  const { name, arguments: given } = (isRecord(call) && isRecord(call.function) ? call.function : {}) as {
    name?: unknown
    arguments?: unknown
  }
  return { name: textIn(name), arguments: given }
}

/** Calls as the text by which they are compared. @param calls with arguments as a value, or as its JSON */
export function callsText(calls: readonly { name: string; arguments: unknown }[]): string {
  return canonicalJson(
    calls.map(({ name, arguments: given }) => ({ name, arguments: parsedArguments(given) })),
  )
}

function parsedArguments(given: unknown): unknown {
  if (typeof given !== 'string') return given ?? {}
  try {
    return JSON.parse(given)
  } catch {
    return given
  }
}
