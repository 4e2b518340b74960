/**
 * Datasets as JSON Lines: one JSON object per line, read as a stream so that a file may be larger than memory. Three
 * forms are known: chats (`messages`, as OpenAI's fine-tuning files), `prompt` with `completion`, and plain `text`.
 * Every row remembers its line, and every error names file and line.
 */

import { createReadStream } from 'node:fs'
import { ConfigError, DataError } from '../errors.js'
import type { ChatMessage } from './chat-template.js'
import { quote, withInputFile } from './input.js'

export const DATASET_FORMATS = ['messages', 'prompt_completion', 'text'] as const
export type DatasetFormat = (typeof DATASET_FORMATS)[number]

/** Where a row stands; lines count from 1. */
export interface RowPlace {
  path: string
  line: number
}

/** A message that was checked: the content is text, or absent beside tool calls. */
export interface DatasetMessage extends ChatMessage {
  content: string | null
  /** 0: the model does not learn this turn. */
  weight?: 0 | 1
}

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

export interface TextRow extends RowPlace {
  format: 'text'
  text: string
}

/** A prompt and a completion that are lists of messages become one chat, of which only the completion is learned. */
export type DatasetRow = MessagesRow | PromptCompletionRow | TextRow

export interface OpenDatasetOptions {
  /** `auto`, the default, goes by the keys of the first row; all rows must have the same form. */
  format?: DatasetFormat | 'auto'
}

/** A line longer than this is no training example. */
const LONGEST_LINE = 64 << 20

/**
 * The rows of one or more files, in order. Blank lines, a byte order mark and CRLF are tolerated.
 * @throws FileFormatError when a file cannot be read, DataError when a line is not a usable row, ConfigError for an
 * unknown format.
 */
export async function* openDataset(
  paths: string | readonly string[],
  options: OpenDatasetOptions = {},
): AsyncGenerator<DatasetRow, void, void> {
  const asked = options.format ?? 'auto'
  if (asked !== 'auto' && !DATASET_FORMATS.includes(asked)) {
    throw new ConfigError(
      `the dataset format ${quote(String(asked))} is not known; expected auto, ${DATASET_FORMATS.join(', ')}`,
      { format: asked },
    )
  }
  let format = asked === 'auto' ? undefined : asked
  for (const path of [paths].flat() as string[]) {
    for await (const { text, line } of readLines(path)) {
      const place = { path, line }
      const value = parseLine(text, place)
      format ??= detectFormat(value, place)
      yield readRow(value, format, place)
    }
  }
}

/** An error of one row. */
export function rowError(place: RowPlace, message: string, cause?: unknown): DataError {
  const { path, line } = place
  return new DataError(
    `${path}, line ${line}: ${message}`,
    { path, line },
    cause === undefined ? {} : { cause },
  )
}

/** The lines that hold anything, without their ends. */
async function* readLines(path: string): AsyncGenerator<{ text: string; line: number }, void, void> {
  await withInputFile(path, async () => undefined)
  const decoder = new TextDecoder('utf-8', { fatal: true })
  let line = 0
  const decode = (bytes: Uint8Array) => {
    line++
    try {
      // The decoder drops a byte order mark at the start of what it decodes.
      return { text: decoder.decode(bytes).trim(), line }
    } catch (cause) {
      throw rowError({ path, line }, 'the line is not UTF-8 text', cause)
    }
  }
  let parts: Uint8Array[] = []
  let length = 0
  for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
    let start = 0
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
      parts.push(chunk.subarray(start, end))
      const row = decode(parts.length === 1 ? (parts[0] as Uint8Array) : Buffer.concat(parts))
      parts = []
      length = 0
      start = end + 1
      if (row.text !== '') yield row
    }
    parts.push(chunk.subarray(start))
    length += chunk.length - start
    if (length > LONGEST_LINE) {
      throw rowError(
        { path, line: line + 1 },
        `the line is longer than ${LONGEST_LINE} bytes; expected JSON Lines, one example per line`,
      )
    }
  }
  const row = decode(Buffer.concat(parts))
  if (row.text !== '') yield row
}

type Json = Record<string, unknown>

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function parseLine(text: string, place: RowPlace): Json {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    const hint = /^[[{]\s*$/.test(text)
      ? '; a JSON document spread over several lines is not JSON Lines: put each example on one line, e.g. with jq -c'
      : ''
    throw rowError(place, `the line is not valid JSON: ${(cause as Error).message}${hint}`, cause)
  }
  if (isObject(value)) return value
  const found = Array.isArray(value) ? 'an array' : quote(text)
  const hint = Array.isArray(value) ? "; put each example on a line of its own, e.g. with jq -c '.[]'" : ''
  throw rowError(place, `expected a JSON object, found ${found}${hint}`)
}

const EXPECTED = {
  messages: '{"messages": [{"role": …, "content": …}, …]}',
  prompt_completion: '{"prompt": …, "completion": …}',
  text: '{"text": …}',
}

function detectFormat(value: Json, place: RowPlace): DatasetFormat {
  if ('messages' in value) return 'messages'
  if ('prompt' in value && 'completion' in value) return 'prompt_completion'
  if ('text' in value) return 'text'
  throw rowError(
    place,
    `the form of the dataset is not known from the ${keysOf(value)}; expected ${Object.values(EXPECTED).join(' or ')}`,
  )
}

function keysOf(value: Json): string {
  const keys = Object.keys(value)
  return keys.length === 0 ? 'empty object' : `keys ${keys.slice(0, 10).map(quote).join(', ')}`
}

function readRow(value: Json, format: DatasetFormat, place: RowPlace): DatasetRow {
  const wrong = (key: string) =>
    rowError(
      place,
      `expected ${EXPECTED[format]}, but ${key in value ? `${quote(key)} is ${describe(value[key])}` : `there are only ${keysOf(value)}`}`,
    )
  switch (format) {
    case 'text':
      if (typeof value.text !== 'string') throw wrong('text')
      return { format, text: value.text, ...place }
    case 'messages': {
      if (!Array.isArray(value.messages)) throw wrong('messages')
      return {
        format,
        messages: readMessages(value.messages, 'messages', place),
        ...readTools(value, place),
        ...place,
      }
    }
    case 'prompt_completion': {
      const { prompt, completion } = value
      if (typeof prompt === 'string' && typeof completion === 'string') {
        return { format, prompt, completion, ...place }
      }
      if (Array.isArray(prompt) && Array.isArray(completion)) {
        const before = readMessages(prompt, 'prompt', place)
        const after = readMessages(completion, 'completion', place)
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

function describe(value: unknown): string {
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'an array'
  if (typeof value === 'object') return 'an object'
  return typeof value === 'string' ? `the string ${quote(value)}` : String(value)
}

function readTools(value: Json, place: RowPlace): { tools?: unknown[] } {
  const { tools } = value
  if (tools === undefined || tools === null) return {}
  if (!Array.isArray(tools)) throw rowError(place, `"tools" must be an array, not ${describe(tools)}`)
  return tools.length === 0 ? {} : { tools }
}

const ROLES = ['system', 'developer', 'user', 'assistant', 'tool']

function readMessages(list: unknown[], key: string, place: RowPlace): DatasetMessage[] {
  if (list.length === 0) throw rowError(place, `"${key}" is empty; expected at least one message`)
  return list.map((value, index) => {
    const where = `${key}[${index}]`
    if (!isObject(value)) {
      throw rowError(place, `${where} must be an object with "role" and "content", not ${describe(value)}`)
    }
    const { role, content, weight, ...rest } = value
    if (typeof role !== 'string' || !ROLES.includes(role)) {
      throw rowError(place, `the role of ${where} must be one of ${ROLES.join(', ')}, not ${describe(role)}`)
    }
    if (weight !== undefined && weight !== null && weight !== 0 && weight !== 1) {
      throw rowError(place, `the weight of ${where} must be 0 or 1, not ${describe(weight)}`)
    }
    return {
      ...rest,
      ...readToolCalls(rest, where, place),
      // The two are one role; templates know the older name.
      role: role === 'developer' ? 'system' : role,
      content: readContent(content, 'tool_calls' in rest, where, place),
      ...(weight === 0 ? { weight } : {}),
    }
  })
}

/** Text, or a list of parts that are all text; null only beside tool calls. */
function readContent(content: unknown, callsTools: boolean, where: string, place: RowPlace): string | null {
  if (typeof content === 'string') return content
  if (content === null || content === undefined) {
    if (callsTools) return null
    throw rowError(place, `${where} has no "content"`)
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

/** OpenAI writes the arguments of a call as JSON text, templates expect what it stands for. */
function readToolCalls(message: Json, where: string, place: RowPlace): { tool_calls?: unknown[] } {
  const { tool_calls: calls } = message
  if (calls === undefined) return {}
  if (!Array.isArray(calls)) throw rowError(place, `"tool_calls" of ${where} must be an array`)
  const parsed = calls.map((call: unknown) => {
    if (!isObject(call) || !isObject(call.function)) {
      throw rowError(place, `every entry of "tool_calls" of ${where} needs a "function"`)
    }
    const { arguments: given } = call.function
    if (typeof given !== 'string') return call
    try {
      return { ...call, function: { ...call.function, arguments: JSON.parse(given) } }
    } catch (cause) {
      throw rowError(
        place,
        `the arguments of a tool call in ${where} are not valid JSON: ${quote(given)}`,
        cause,
      )
    }
  })
  return { tool_calls: parsed }
}
