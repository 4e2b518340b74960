/** Reads tool calls in messages. OpenAI stores their arguments as a JSON string; templates expect the parsed value. */
import { quote } from '../../core/quote.js'
import { isObject, type Json } from './columns.js'
import { parseExactJson } from './exact-json.js'
import { RepeatedKey } from './json.js'
import { describe, type RowPlace, rowError } from './place.js'

/** @throws {DataError} when a call is malformed, or its arguments are not an object */
export function readToolCalls(message: Json, where: string, place: RowPlace): { tool_calls?: unknown[] } {
  const { tool_calls: calls } = message
  if (calls === undefined) return {}
  if (!Array.isArray(calls)) throw rowError(place, `"tool_calls" of ${where} must be an array`)
  return {
    tool_calls: calls.map((call: unknown) => {
      if (!isObject(call) || !isObject(call.function))
        throw rowError(place, `every entry of "tool_calls" of ${where} needs a "function"`)
      const { arguments: given } = call.function
      if (given === undefined || given === null) return call
      return { ...call, function: { ...call.function, arguments: argumentsOf(given, where, place) } }
    }),
  }
}

function argumentsOf(given: unknown, where: string, place: RowPlace): Json {
  const parsed = typeof given === 'string' ? parsedText(given, where, place) : given
  if (isObject(parsed)) return parsed
  throw rowError(
    place,
    `the arguments of a tool call in ${where} must be an object such as {"city": "Rome"}, or its JSON, not ${describe(given)}`,
  )
}

function parsedText(text: string, where: string, place: RowPlace): unknown {
  // Some data has an empty string for calls without arguments.
  if (text === '') return {}
  try {
    return parseExactJson(text)
  } catch (cause) {
    if (cause instanceof RepeatedKey)
      throw rowError(place, `in the arguments of a tool call in ${where} ${cause.message}`, cause)
    throw rowError(
      place,
      `the arguments of a tool call in ${where} are not valid JSON: ${quote(text)}`,
      cause,
    )
  }
}
