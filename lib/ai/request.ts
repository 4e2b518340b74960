/** The options of a call as a request of the service, and errors about that request in terms of the call. */
import * as z from 'zod'
import { checkedOptions } from '../core/arguments.js'
import { ConfigError, UnsupportedError } from '../core/errors.js'
import { flag } from '../core/schema.js'
import { ApiError, type ChatRequest } from '../serve/local-chat.js'
import { messagesOf } from './messages.js'
import type { CallOptions, Warning } from './sdk.js'

export type Request = Omit<ChatRequest, 'model'>

/** Keys of a request of the service whose options have other names in the SDK. */
const OPTIONS: Readonly<Record<string, string>> = {
  messages: 'prompt',
  max_completion_tokens: 'maxOutputTokens',
  top_p: 'topP',
  top_k: 'topK',
  presence_penalty: 'presencePenalty',
  frequency_penalty: 'frequencyPenalty',
  stop: 'stopSequences',
  response_format: 'responseFormat',
  tool_choice: 'toolChoice',
}

const ownOptions = z.strictObject({ parallelToolCalls: flag().optional() })

export function requestOf(options: CallOptions): { request: Request; warnings: Warning[] } {
  const { prompt, responseFormat: format, toolChoice: choice, providerOptions } = options
  const own = checkedOptions(ownOptions, providerOptions?.lowrank, 'languageModel(): providerOptions.lowrank')
  const warnings: Warning[] = []
  const request: Request = {
    messages: messagesOf(prompt),
    max_completion_tokens: options.maxOutputTokens,
    temperature: options.temperature,
    top_p: options.topP,
    top_k: options.topK,
    presence_penalty: options.presencePenalty,
    frequency_penalty: options.frequencyPenalty,
    seed: options.seed,
    stop: options.stopSequences,
    tools: toolsOf(options.tools, warnings),
    tool_choice:
      choice?.type === 'tool' ? { type: 'function', function: { name: choice.toolName } } : choice?.type,
    parallel_tool_calls: own.parallelToolCalls,
    response_format:
      format?.type !== 'json'
        ? undefined
        : format.schema === undefined
          ? { type: 'json_object' }
          : { type: 'json_schema', json_schema: { name: 'answer', schema: format.schema } },
  }
  if (options.includeRawChunks) warnings.push({ type: 'unsupported', feature: 'includeRawChunks' })
  return { request, warnings }
}

function toolsOf(tools: CallOptions['tools'], warnings: Warning[]): Request['tools'] {
  return tools?.flatMap((tool) => {
    if (tool.type === 'provider') {
      const details = 'lowrank runs no tools of its own'
      warnings.push({ type: 'unsupported', feature: `provider-defined tool ${tool.id}`, details })
      return []
    }
    const { name, description, inputSchema, inputExamples, strict } = tool
    if (inputExamples?.length)
      warnings.push({ type: 'unsupported', feature: `inputExamples of the tool ${name}` })
    return [{ type: 'function', function: { name, description, parameters: { ...inputSchema }, strict } }]
  })
}

/** An error of the request by the options of the call; any other error as it is. */
export function errorOfCall(error: unknown): unknown {
  if (!(error instanceof ApiError)) return error
  const keys = new RegExp(`'(${Object.keys(OPTIONS).join('|')})\\b`, 'g')
  const message = error.message.replace(keys, (_, key: string) => `'${OPTIONS[key]}`)
  const key = error.param?.match(/^\w+/)?.[0] ?? ''
  const details = { option: OPTIONS[key] ?? key }
  const text = `languageModel(): ${message}`
  return error.code === 'unsupported_parameter'
    ? new UnsupportedError(text, details)
    : new ConfigError(text, details)
}
