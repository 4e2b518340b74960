/**
 * The row formats, distinguished by their keys: chats in the formats of OpenAI and ShareGPT, prompt and
 * completion, Alpaca's instructions, and plain text. All results are validated.
 */

import { nearest } from '../../core/nearest.js'
import { escapeControls, quote } from '../../core/quote.js'
import { type DatasetMessage, ROLES } from '../../tokenizer/message.js'
import { valuesOf } from '../../tokenizer/python-values.js'
import { unclearReasoning } from '../../tokenizer/reasoning.js'
import { type Columns, isObject, type Json, keysOf } from './columns.js'
import { parseExactJson, TEMPLATE_KEYS } from './exact-json.js'
import { RepeatedKey } from './json.js'
import { describe, type RowPlace, rowError } from './place.js'
import { readSides } from './preference.js'
import { SHAREGPT_ROLES, shareGptMessage } from './sharegpt.js'
import { readToolCalls } from './tool-calls.js'

export const DATASET_FORMATS = [
  'messages',
  'sharegpt',
  'prompt_completion',
  'alpaca',
  'text',
  'preference',
  'unpaired_preference',
  'classification',
] as const
export type DatasetFormat = (typeof DATASET_FORMATS)[number]

export interface MessagesRow extends RowPlace {
  format: 'messages'
  messages: DatasetMessage[]
  tools?: unknown[]
}

export interface PromptCompletionRow extends RowPlace {
  format: 'prompt_completion'
  prompt: string
  completion: string
}

export interface AlpacaRow extends RowPlace {
  format: 'alpaca'
  instruction: string
  input: string
  output: string
  system?: string
  /** Earlier turns: questions with answers. */
  history: [question: string, answer: string][]
}

export interface TextRow extends RowPlace {
  format: 'text'
  text: string
  /** A document: if it is too long for one example, it is split into several. */
  document?: true
}

/** Two answers to one prompt, each as a separate row. */
export interface PreferenceRow extends RowPlace {
  format: 'preference'
  chosen: PromptCompletionRow | MessagesRow
  rejected: PromptCompletionRow | MessagesRow
}

/** An answer, and whether it is desirable. */
export interface UnpairedRow extends RowPlace {
  format: 'unpaired_preference'
  answer: PromptCompletionRow | MessagesRow
  desirable: boolean
}

/** A text and its class name. */
export interface ClassificationRow extends RowPlace {
  format: 'classification'
  text: string
  label: string
}

/**
 * Rows of a dataset. If prompt and completion are lists of messages, they become one chat in which only the
 * completion is trained on.
 */
export type DatasetRow =
  | MessagesRow
  | PromptCompletionRow
  | AlpacaRow
  | TextRow
  | PreferenceRow
  | UnpairedRow
  | ClassificationRow

const EXPECTED: Record<DatasetFormat, string> = {
  messages: '{"messages": [{"role": …, "content": …}, …]}',
  sharegpt: '{"conversations": [{"from": …, "value": …}, …]}',
  prompt_completion: '{"prompt": …, "completion": …}',
  alpaca: '{"instruction": …, "output": …}',
  text: '{"text": …}',
  preference: '{"prompt": …, "chosen": …, "rejected": …}',
  unpaired_preference: '{"prompt": …, "completion": …, "label": true or false}',
  classification: '{"text": …, "label": …}',
}

/** Formats that a task requires, which are not detected from the keys of a row. */
const OF_TASKS = new Set<DatasetFormat>(['preference', 'unpaired_preference', 'classification'])

/** @throws {DataError} when the format cannot be detected from the keys of the row */
export function detectFormat(value: Json, place: RowPlace): DatasetFormat {
  if (isPreference(value)) throw preferenceError(value, place)
  if ('messages' in value) return 'messages'
  if ('conversations' in value) return 'sharegpt'
  if ('prompt' in value && 'completion' in value) {
    if (isVerdict(value.label)) throw verdictError(place)
    return 'prompt_completion'
  }
  if ('instruction' in value && 'output' in value) return 'alpaca'
  if ('text' in value) return 'text'
  throw rowError(
    place,
    `the format of the dataset cannot be detected from the ${keysOf(value)}; expected ${DATASET_FORMATS.filter(
      (format) => !OF_TASKS.has(format),
    )
      .map((format) => EXPECTED[format])
      .join(' or ')}${meant(value, REQUIRED) || `.${advice(value)}`}`,
  )
}

/** True for a chosen and a rejected answer. With a completion, it is clear which answer to train on. */
const isPreference = (value: Json): boolean =>
  'chosen' in value && 'rejected' in value && !('completion' in value)

function preferenceError(value: Json, place: RowPlace): Error {
  const answer = 'prompt' in value ? 'completion' : Array.isArray(value.chosen) ? 'messages' : 'text'
  const other = 'messages' in value ? ', or train on its messages with format: messages' : ''
  return rowError(
    place,
    `the row has "chosen" and "rejected", as for preference training: set task: dpo or task: orpo for it; to train on the chosen answers alone, map their column: columns: {${answer}: chosen}${other}`,
  )
}

/** True if a label marks an answer as good or bad; in tables it is a string. */
const isVerdict = (label: unknown): boolean =>
  typeof label === 'boolean' || (typeof label === 'string' && /^(?:true|false)$/i.test(label))

function verdictError(place: RowPlace): Error {
  return rowError(
    place,
    'the row has "prompt", "completion" and a "label" of true or false, as for preference training: set task: kto for it; to train on the good answers alone, remove the rows whose label is false, and set format: prompt_completion',
  )
}

/** Keys that decide on a format. */
const REQUIRED = ['messages', 'conversations', 'prompt', 'completion', 'instruction', 'output', 'text']

/** Keys that a row of a format may have, and lacks silently where they are misspelled. */
const OPTIONAL: Partial<Record<DatasetFormat, readonly string[]>> = {
  messages: ['tools', 'system'],
  sharegpt: ['tools', 'system'],
  alpaca: ['input', 'history', 'system'],
}

/** Finds keys that are not used because they are misspelled, each once. */
export class Misspellings {
  readonly #seen = new Set<string>()

  /** The first such key of a row, and the one that was probably meant. */
  of(value: Json, format: DatasetFormat): RowPlace['misspelled'] {
    const optional = OPTIONAL[format]
    if (optional === undefined) return undefined
    for (const key of Object.keys(value)) {
      if (this.#seen.has(key)) continue
      this.#seen.add(key)
      const meant = optional.includes(key) ? undefined : nearest(key, optional, 2)
      if (meant !== undefined && !(meant in value)) return { key, meant }
    }
    return undefined
  }
}

/** The key that is probably a misspelled one of those that are expected. */
function meant(value: Json, expected: readonly string[]): string {
  for (const key of expected) {
    if (key in value) continue
    const close = nearest(key, Object.keys(value), 2)
    if (close !== undefined) return `; did you mean ${quote(key)} instead of ${quote(close)}?`
  }
  return ''
}

/** Advice for rows that may be wrapped in an object, or use other column names. */
function advice(value: Json): string {
  const wrapper = Object.keys(value).find(
    (key) => Array.isArray(value[key]) && isObject((value[key] as unknown[])[0]),
  )
  if (wrapper !== undefined && Object.keys(value).length <= 3)
    return ` If the rows are under ${quote(wrapper)}, take them out, e.g. with jq -c '.${wrapper}[]'`
  const [first, second] = Object.keys(value)
  return first === undefined
    ? ''
    : ` To map columns with other names, set columns, e.g. columns: {prompt: ${escapeControls(first)}, completion: ${escapeControls(second ?? '…')}}`
}

/**
 * Parses a row in the given format.
 * @param columns names of `role` and `content` inside messages
 * @throws {DataError} when the row does not match the format
 */
export function readForm(value: Json, format: DatasetFormat, columns: Columns, place: RowPlace): DatasetRow {
  const wrong = (key: string) =>
    isPreference(value) && !(key in value)
      ? preferenceError(value, place)
      : rowError(
          place,
          `expected ${EXPECTED[format]}, but ${key in value ? `${quote(key)} is ${describe(value[key])}` : `there are only ${keysOf(value)}${meant(value, [key])}`}`,
        )
  switch (format) {
    case 'preference':
      return readPreference(value, columns, place)
    case 'unpaired_preference':
      return readUnpaired(value, columns, wrong, place)
    case 'classification':
      return { format, ...readLabeled(value, wrong, place), ...place }
    case 'text':
      if (typeof value.text !== 'string') throw wrong('text')
      return { format, text: value.text, ...place }
    case 'messages':
    case 'sharegpt': {
      const key = format === 'messages' ? 'messages' : 'conversations'
      const list = parsedText(value[key], key, place)
      if (!Array.isArray(list)) throw wrong(key)
      const messages = readMessages(list, key, columns, place)
      const { system } = value
      const leads = typeof system === 'string' && system !== '' && messages[0]?.role !== 'system'
      return {
        format: 'messages',
        messages: leads ? [{ role: 'system', content: system }, ...messages] : messages,
        ...readTools(value, place),
        ...place,
      }
    }
    case 'alpaca':
      return readAlpaca(value, wrong, place)
    case 'prompt_completion': {
      const { prompt, completion } = value
      if (typeof prompt === 'string' && typeof completion === 'string') {
        return { format, prompt, completion, ...place }
      }
      if (Array.isArray(prompt) && Array.isArray(completion)) {
        const before = readMessages(prompt, 'prompt', columns, place)
        const after = readMessages(completion, 'completion', columns, place)
        return {
          format: 'messages',
          messages: [...before.map((message) => ({ ...message, weight: 0 as const })), ...after],
          ...readTools(value, place),
          ...place,
        }
      }
      const known = (part: unknown) => typeof part === 'string' || Array.isArray(part)
      if (!known(prompt)) throw wrong('prompt')
      if (!known(completion)) throw wrong('completion')
      throw rowError(place, '"prompt" and "completion" must both be strings or both be lists of messages')
    }
  }
}

/** Labels may be names or numbers. */
function readLabeled(
  value: Json,
  wrong: (key: string) => Error,
  place: RowPlace,
): { text: string; label: string } {
  const { text, label } = value
  if (typeof text !== 'string') throw wrong('text')
  if (label === undefined || label === null) throw wrong('label')
  if (!['string', 'number', 'bigint', 'boolean'].includes(typeof label) || label === '')
    throw rowError(place, `"label" must be a name or a number, not ${describe(label)}`)
  return { text, label: String(label) }
}

/** Labels of tables are strings, and some data writes them as 1 and 0. */
const VERDICTS = new Map<unknown, boolean>([
  ...[true, 1, 'true', '1'].map((good) => [good, true] as const),
  ...[false, 0, 'false', '0'].map((bad) => [bad, false] as const),
])

function readUnpaired(
  value: Json,
  columns: Columns,
  wrong: (key: string) => Error,
  place: RowPlace,
): UnpairedRow {
  const { label } = value
  if (label === undefined || label === null) throw wrong('label')
  const desirable = VERDICTS.get(typeof label === 'string' ? label.trim().toLowerCase() : label)
  if (desirable === undefined)
    throw rowError(
      place,
      `"label" must be true for a good answer or false for a bad one, not ${describe(label)}`,
    )
  const parsed = {
    ...value,
    prompt: parsedText(value.prompt, 'prompt', place),
    completion: parsedText(value.completion, 'completion', place),
  }
  const answer = readForm(parsed, 'prompt_completion', columns, place) as UnpairedRow['answer']
  return { format: 'unpaired_preference', answer, desirable, ...place }
}

function readPreference(value: Json, columns: Columns, place: RowPlace): PreferenceRow {
  const readers = {
    messages: (list: unknown[], key: string) => readMessages(list, key, columns, place),
    parsed: (given: unknown, key: string) => parsedText(given, key, place),
  }
  const sides = readSides(value, readers, place)
  if (sides.kind === 'text') {
    const { prompt } = sides
    const side = (completion: string) =>
      ({ format: 'prompt_completion', prompt, completion, ...place }) as const
    return { format: 'preference', chosen: side(sides.chosen), rejected: side(sides.rejected), ...place }
  }
  const before = sides.prompt.map((message) => ({ ...message, weight: 0 as const }))
  const tools = readTools(value, place)
  const side = (after: DatasetMessage[]): MessagesRow => ({
    format: 'messages',
    messages: [...before, ...after],
    ...tools,
    ...place,
  })
  return { format: 'preference', chosen: side(sides.chosen), rejected: side(sides.rejected), ...place }
}

function readAlpaca(value: Json, wrong: (key: string) => Error, place: RowPlace): AlpacaRow {
  const { instruction, output } = value
  if (typeof instruction !== 'string') throw wrong('instruction')
  if (typeof output !== 'string') throw wrong('output')
  const optional = (key: 'input' | 'system') => {
    const text = value[key] ?? ''
    if (typeof text !== 'string') throw rowError(place, `"${key}" must be a string, not ${describe(text)}`)
    return text
  }
  const history = parsedText(value.history ?? [], 'history', place)
  const isPair = (pair: unknown) =>
    Array.isArray(pair) && pair.length === 2 && pair.every((part) => typeof part === 'string')
  if (!Array.isArray(history) || !history.every(isPair))
    throw rowError(place, `"history" must be a list of [question, answer], not ${describe(value.history)}`)
  const system = optional('system')
  return {
    format: 'alpaca',
    instruction,
    input: optional('input'),
    output,
    ...(system === '' ? {} : { system }),
    history: history as [string, string][],
    ...place,
  }
}

/** Tables cannot contain lists, so lists are JSON strings there. */
function parsedText(value: unknown, key: string, place: RowPlace): unknown {
  if (typeof value !== 'string' || !/^\s*\[/.test(value)) return value
  try {
    return parseExactJson(value, key === 'tools' ? undefined : TEMPLATE_KEYS)
  } catch (cause) {
    if (cause instanceof RepeatedKey) throw rowError(place, `in "${key}" ${cause.message}`, cause)
    return value
  }
}

/** Deepest nesting of values that we and templates walk through. */
const DEEPEST = 64

function checkDepth(value: unknown, what: string, place: RowPlace): void {
  let level = [value]
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > DEEPEST) throw rowError(place, `${what} is nested more than ${DEEPEST} deep`)
    level = level.flatMap(valuesOf)
  }
}

function readTools(value: Json, place: RowPlace): { tools?: unknown[] } {
  if ('functions' in value && value.functions !== null)
    throw rowError(
      place,
      'the row has "functions", the older form of "tools"; write them as "tools": [{"type": "function", "function": {…}}]',
    )
  const tools = parsedText(value.tools, 'tools', place)
  if (tools === undefined || tools === null || tools === '') return {}
  if (!Array.isArray(tools)) throw rowError(place, `"tools" must be an array, not ${describe(tools)}`)
  checkDepth(tools, '"tools"', place)
  return tools.length === 0 ? {} : { tools }
}

function readMessages(list: unknown[], key: string, columns: Columns, place: RowPlace): DatasetMessage[] {
  if (list.length === 0) throw rowError(place, `"${key}" is empty; expected at least one message`)
  checkDepth(list, `"${key}"`, place)
  return list.map((value, index) => {
    const where = `${key}[${index}]`
    if (!isObject(value)) {
      const parts = key === 'conversations' ? '"from" and "value"' : '"role" and "content"'
      throw rowError(place, `${where} must be an object with ${parts}, not ${describe(value)}`)
    }
    return readMessage(named(value, columns), where, place)
  })
}

/**
 * The message with the usual names, and without empty fields, which tables have in all messages if any message
 * uses them.
 */
function named(message: Json, { role, content }: Columns): Json {
  const isEmpty = (key: string, value: unknown) =>
    (value === null && key !== 'content') ||
    (key === 'tool_calls' && Array.isArray(value) && value.length === 0)
  const kept = Object.fromEntries(Object.entries(message).filter(([key, value]) => !isEmpty(key, value)))
  for (const [name, source] of [
    ['role', role],
    ['content', content],
  ] as const) {
    if (source === undefined || !Object.hasOwn(kept, source)) continue
    const value = kept[source]
    delete kept[source]
    kept[name] = value
  }
  return kept
}

/** Keys whose value may be a weight; an image's "height" is none. */
const weightLike = (message: Json): string[] =>
  Object.entries(message).flatMap(([key, value]) =>
    typeof value === 'boolean' || (typeof value === 'number' && value >= 0 && value <= 1) ? key : [],
  )

function readMessage(message: Json, where: string, place: RowPlace): DatasetMessage {
  const shareGpt = !('role' in message) && 'from' in message
  const value = shareGpt ? shareGptMessage(message, where, place) : message
  if ('function_call' in value || value.role === 'function_call')
    throw rowError(
      place,
      `${where} has a "function_call", the older form of "tool_calls"; write it as "tool_calls": [{"type": "function", "function": {"name": …, "arguments": …}}], and its result as a message of the role "tool"`,
    )
  const { role: given, content: _, weight: weighed, train, loss, ...rest } = value
  const weight = weighed ?? (train === false || loss === false ? 0 : undefined)
  const role = (ROLES as readonly unknown[]).includes(given) ? given : SHAREGPT_ROLES.get(given as string)
  if (given === undefined) throw rowError(place, `${where} has no "role"${meant(value, ['role'])}`)
  if (typeof role !== 'string') {
    const known = shareGpt ? [...SHAREGPT_ROLES.keys()] : ROLES
    const advice = given === 'function' ? '; the result of a call has the role "tool"' : ''
    throw rowError(
      place,
      `the role of ${where} must be one of ${known.join(', ')}, not ${describe(given)}${advice}`,
    )
  }
  const slip = weight === undefined ? nearest('weight', weightLike(rest), 2) : undefined
  if (slip !== undefined)
    throw rowError(place, `${where} has ${quote(slip)}, which is not used; did you mean "weight"?`)
  if (weight !== undefined && weight !== 0 && weight !== 1) {
    throw rowError(place, `the weight of ${where} must be 0 or 1, not ${describe(weight)}`)
  }
  const read: DatasetMessage = {
    ...rest,
    ...readToolCalls(rest, where, (message, cause) => rowError(place, message, cause)),
    // The two roles are equivalent; templates know the older name.
    role: role === 'developer' ? 'system' : role,
    content: readContent(value, 'tool_calls' in rest, where, place),
    ...(weight === 0 ? { weight } : {}),
  }
  const unclear = unclearReasoning(read)
  if (unclear !== undefined) throw rowError(place, `${where} ${unclear}`)
  return read
}

/** Text, or a list of text parts; null only beside tool calls. */
function readContent(
  { content, ...rest }: Json,
  callsTools: boolean,
  where: string,
  place: RowPlace,
): string | null {
  if (typeof content === 'string') return content
  if (content === null || content === undefined) {
    if (callsTools) return null
    const misspelled = meant(rest, ['content'])
    throw rowError(place, `${where} has no "content"${misspelled}`)
  }
  if (!Array.isArray(content)) {
    throw rowError(place, `the content of ${where} must be a string, not ${describe(content)}`)
  }
  return content
    .map((part) => {
      if (isObject(part) && part.type === 'text' && typeof part.text === 'string') return part.text
      const found = isObject(part) ? `type ${describe(part.type)}` : describe(part)
      throw rowError(
        place,
        `${where} has a content part of ${found}; only {"type": "text", "text": …} can be used`,
      )
    })
    .join('')
}
