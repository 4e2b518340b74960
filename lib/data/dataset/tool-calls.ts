/** Reads tool calls in messages. OpenAI stores their arguments as a JSON string; templates expect the parsed value. */
import { quote } from '../../core/quote.js'
import { parseExactJson } from './exact-json.js'
import { RepeatedKey } from './json.js'
import { describe } from './place.js'
import { isObject, type Json } from './value.js'

/** Makes the error of a malformed call. */
export type CallError = (message: string, cause?: unknown) => Error

/** @throws what `failed` makes when a call is malformed, or its arguments are not an object */
export function readToolCalls(message: Json, where: string, failed: CallError): { tool_calls?: unknown[] } {
  const { tool_calls: calls } = message
  if (calls === undefined) return {}
  if (!Array.isArray(calls)) throw failed(`"tool_calls" of ${where} must be an array`)
  return {
    tool_calls: calls.map((call: unknown) => {
      if (!isObject(call) || !isObject(call.function))
        throw failed(`every entry of "tool_calls" of ${where} needs a "function"`)
      const { arguments: given } = call.function
      if (given === undefined || given === null) return call
      return { ...call, function: { ...call.function, arguments: argumentsOf(given, where, failed) } }
    }),
  }
}

function argumentsOf(given: unknown, where: string, failed: CallError): Json {
  const parsed = typeof given === 'string' ? parsedText(given, where, failed) : given
  if (isObject(parsed)) return parsed
  throw failed(
    `the arguments of a tool call in ${where} must be an object such as {"city": "Rome"}, or its JSON, not ${describe(given)}`,
  )
}

function parsedText(text: string, where: string, failed: CallError): unknown {
  // Some data has an empty string for calls without arguments.
  if (text === '') return {}
  try {
    return parseExactJson(text)
  } catch (cause) {
    if (cause instanceof RepeatedKey)
      throw failed(`in the arguments of a tool call in ${where} ${cause.message}`, cause)
    throw failed(`the arguments of a tool call in ${where} are not valid JSON: ${quote(text)}`, cause)
  }
}
