/**
 * Prompt formats of a model and its adapters: by default as in training. A call that differs from training
 * causes one warning.
 */

import * as z from 'zod'
import type { ActiveAdapter, BaseModel } from '../../base/base.js'
import { ConfigError } from '../../core/errors.js'
import { nearest } from '../../core/nearest.js'
import { quote } from '../../core/quote.js'
import { flag } from '../../core/schema.js'
import { isRecord } from '../../core/schema-shape.js'
import type { RowPrompting } from '../../data/encoded-row.js'
import { nameOf, type Tools, toolSchemas, withReadCalls } from '../../data/prompt-tools.js'
import { renderChat } from '../../data/render-chat.js'
import type { WorkerTokenizer } from '../../data/worker-tokenizer.js'
import { type PromptFormat, sameFormat } from '../../formats/prompt-format.js'
import type { Pair, Row } from '../../losses/token-rows.js'
import type { TrainOptions } from '../../options/types.js'
import type { RenderOptions } from '../../tokenizer/chat-template.js'
import { type ChatMessage, ROLES, type Role, type TemplateMessage } from '../../tokenizer/message.js'
import { type TokenizerSource, withTemplate } from '../../tokenizer/source.js'
import { REASONED, UNREASONED } from '../../tokenizer/training-templates.js'

/** Prompt options of a call. */
export interface PromptOptions {
  /**
   * True if texts, and rows of prompt and completion, go through the chat template. Default: as the adapter was
   * trained; if nothing was recorded, rows do if there is a template, and texts do not.
   */
  chatTemplate?: boolean | undefined
  /** System prompt; null is none. Default: the system prompt shared by all training rows, if any. */
  system?: string | null | undefined
  /**
   * Schemas of the tools that the model may call, as in the `tools` of a row: a list, or its JSON. The answer, with
   * its calls, is text that keeps the special tokens around calls. Default: none.
   */
  tools?: Tools | undefined
}

export const promptShape = {
  chatTemplate: flag().optional(),
  system: z.string({ error: 'a text, or null for none' }).nullable().optional(),
  tools: z
    .custom<Tools>((given) => isTools(given) && isPlainData(given), {
      error:
        "a list of tool schemas with names, such as { type: 'function', function: { name: 'stock' } }, or its JSON",
    })
    .transform(givenTools)
    .optional(),
}

function isTools(given: unknown): boolean {
  const tools = toolSchemas(given)
  return tools?.every((tool) => nameOf(tool) !== undefined) ?? false
}

/** The schemas; undefined for an empty list, as in rows. */
function givenTools(tools: Tools): readonly unknown[] | undefined {
  const schemas = toolSchemas(tools)
  return schemas?.length === 0 ? undefined : schemas
}

/** True for a list of messages. The chat template checks them further, in a separate process. */
export function isMessages(given: unknown): given is readonly TemplateMessage[] {
  const isMessage = (one: unknown) => isRecord(one) && typeof one.role === 'string'
  return Array.isArray(given) && given.every(isMessage) && isPlainData(given)
}

/**
 * Messages with the roles and contents of data.
 * @param argument name of the list, for messages
 * @throws {ConfigError} that names the message
 */
export function checkedMessages(
  messages: readonly TemplateMessage[],
  name: string,
  argument: string,
): readonly ChatMessage[] {
  return messages.map((message, index) => {
    const where = `${argument}[${index}]`
    const { role, content, tool_calls: calls } = message
    if (!(ROLES as readonly string[]).includes(role))
      throw new ConfigError(
        `${name}: the role of ${where} must be one of ${ROLES.join(', ')}, not ${quote(role)}${close(role)}`,
        { argument, role },
      )
    if ((content === undefined || content === null) && calls === undefined)
      throw new ConfigError(`${name}: ${where} has no "content", the text of the message`, { argument })
    // The two roles are equivalent; templates know the older name.
    return { ...message, role: role === 'developer' ? 'system' : (role as Role) }
  })
}

function close(role: string): string {
  const meant = nearest(role, ROLES)
  return meant === undefined ? '' : `; did you mean ${quote(meant)}?`
}

/** Functions and symbols are not plain data, at any depth. */
function isPlainData(given: unknown): boolean {
  try {
    structuredClone(given)
    return true
  } catch {
    return false
  }
}

/** A recorded format; `unrecorded` for adapters whose folders do not record one; null if nothing was trained. */
export type KnownFormat = PromptFormat | 'unrecorded' | null

/** Formats of a prompt and its answer. */
export interface AnswerFormats {
  /** `unrecorded` for a row whose format differs from the adapter's. */
  format: KnownFormat
  /** Format whose tokens end the answer. */
  ends: KnownFormat
}

/** The format of the active adapters, else of the model, for prompts and answers. */
export function formatsOf(...asked: Parameters<typeof formatOf>): AnswerFormats {
  const format = formatOf(...asked)
  return { format, ends: format }
}

/** The format of the active adapters, else of the model. */
export function formatOf(base: BaseModel, adapters: readonly Pick<ActiveAdapter, 'state'>[]): KnownFormat {
  const formats = adapters.map(({ state }) => state.format)
  const recorded = formats.filter((format): format is PromptFormat => isRecorded(format))
  const [first] = recorded
  if (first === undefined)
    return formats.includes('unrecorded') ? 'unrecorded' : (base.files.promptFormat ?? null)
  if (recorded.every((format) => sameFormat(format, first))) return first
  base.warn(
    'the adapters were trained with different prompt formats; using the format of the first one, without a system prompt.',
  )
  return { ...first, system: null }
}

export function isRecorded(format: KnownFormat): format is PromptFormat {
  return format !== null && format !== 'unrecorded'
}

/** Prompt format of a run's rows. */
export function promptingOf(
  chatTemplate: TrainOptions['chatTemplate'],
  trainingTemplate?: TrainOptions['trainingTemplate'],
): RowPrompting {
  const how = trainingTemplate === undefined ? {} : { trainingTemplate }
  if (typeof chatTemplate === 'string')
    return { prompts: true, instructions: true, templateFile: chatTemplate, ...how }
  return { prompts: chatTemplate, instructions: chatTemplate, ...how }
}

/** Prompt format of evaluated rows. */
export function rowPrompting(
  format: KnownFormat,
  {
    chatTemplate,
    trainingTemplate,
  }: { [Key in 'chatTemplate' | 'trainingTemplate']?: TrainOptions[Key] | undefined },
): RowPrompting {
  if (typeof chatTemplate === 'string') return promptingOf(chatTemplate, trainingTemplate)
  const how = trainingTemplate === undefined ? {} : { trainingTemplate }
  if (chatTemplate === false || format === null)
    return { prompts: chatTemplate ?? true, instructions: chatTemplate ?? true, ...how }
  if (format === 'unrecorded') return { prompts: chatTemplate ?? false, instructions: true, ...how }
  if (format.form === 'raw')
    return { prompts: chatTemplate ?? false, instructions: chatTemplate ?? false, ...how }
  const { template, system } = format
  const recorded = format.trainingTemplate === undefined ? 'own' : 'auto'
  return { prompts: true, instructions: true, template, trainingTemplate: recorded, system, ...how }
}

/** Warns once per model that a prompt has another form than the training data. */
export function warnOfMismatch(base: BaseModel, format: KnownFormat, form: PromptFormat['form']): void {
  if (!isRecorded(format) || format.form === form) return
  base.warn(
    form === 'chat'
      ? 'the model was trained on raw text but is prompted through the chat template, so answers may be worse; use raw text (--raw, chatTemplate: false) as in training.'
      : 'the model was trained on chats but is prompted with raw text, so answers may be worse; leave out --raw (chatTemplate: false) as in training.',
  )
}

/** True if texts go through the chat template. */
export function asksAsChat(format: KnownFormat, { chatTemplate }: PromptOptions): boolean {
  return chatTemplate ?? (isRecorded(format) && format.form === 'chat')
}

/** Renders messages with the template and the system prompt of the training. */
export async function renderPrompt(
  source: TokenizerSource,
  format: KnownFormat,
  messages: readonly TemplateMessage[],
  { system, tools, signal }: Pick<PromptOptions, 'system' | 'tools'> & { signal?: AbortSignal | undefined },
): Promise<string> {
  const recorded = isRecorded(format) && format.form === 'chat' ? format : undefined
  const told = system === undefined ? (recorded?.system ?? null) : system
  const first = messages[0]?.role
  const read = withReadCalls(messages)
  const leads = told !== null && first !== 'system' && first !== 'developer'
  return renderChat(
    withTemplate(source, recorded?.template),
    leads ? [{ role: 'system', content: told }, ...read] : read,
    {
      addGenerationPrompt: true,
      ...askedOf(recorded),
      toolForm: recorded !== undefined && recorded.trainingTemplate === undefined ? 'own' : 'adapted',
      ...(tools === undefined ? {} : { tools: toolSchemas(tools) ?? [] }),
      signal,
    },
  )
}

/** Template variables that match the training. */
export function askedOf(format: PromptFormat | null | undefined): Pick<RenderOptions, 'variables'> {
  if (format?.thinking === false) return UNREASONED
  // With a training template, answers are told apart by whether they have reasoning.
  return format?.trainingTemplate === undefined ? {} : REASONED
}

/**
 * Ids of a prompt: a text, or messages for the chat template.
 * @param options.name the public function that received the prompt. Default `generate()`
 * @param options.escaping whether special tokens in messages, calls, and tools are characters. Default false
 */
export async function promptIds(
  base: BaseModel,
  tokenizer: WorkerTokenizer,
  prompt: string | readonly TemplateMessage[],
  format: KnownFormat,
  options: PromptOptions & { signal?: AbortSignal | undefined; name?: string; escaping?: boolean },
): Promise<Int32Array> {
  const { name = 'generate()', escaping = false } = options
  const plain = typeof prompt === 'string' && !asksAsChat(format, options)
  if (typeof prompt !== 'string' && options.chatTemplate === false)
    throw new ConfigError(
      `${name}: chatTemplate is false, but the prompt is a list of messages, which needs a chat template; pass a text.`,
    )
  if (plain && typeof options.system === 'string')
    throw new ConfigError(
      `${name}: a system prompt was given, but the prompt is raw text; write it into the prompt, or set chatTemplate: true.`,
    )
  if (plain && options.tools !== undefined) throw toolsInRawText(name)
  warnOfMismatch(base, format, plain ? 'raw' : 'chat')
  if (plain) {
    const { prefix, suffix } = isRecorded(format) ? format : { prefix: '', suffix: '' }
    return tokenizer.encode(prefix + prompt + suffix, { addSpecialTokens: true })
  }
  const messages = typeof prompt === 'string' ? [{ role: 'user', content: prompt }] : prompt
  const told = { messages: withReadCalls(messages), tools: toolSchemas(options.tools) }
  // Arguments are escaped after they are read, since JSON can spell a token in many ways.
  const given = escaping ? tokenizer.escaped(told) : told
  const text = await renderPrompt(tokenizer.about.source, format, given.messages, {
    ...options,
    tools: given.tools,
  })
  return tokenizer.encode(text, { addSpecialTokens: false, marked: escaping })
}

/** The error of a call with tools whose prompt is raw text. */
export function toolsInRawText(name: string): ConfigError {
  return new ConfigError(
    `${name}: tools were given, but the prompt is raw text, which has no place for them; use a model with a chat template, and chatTemplate: true (--chat, not --raw).`,
  )
}

/** Ids of the tokens that end an answer, from the tokenizer and from the training. */
export async function endIds(tokenizer: WorkerTokenizer, format: KnownFormat): Promise<ReadonlySet<number>> {
  const ends = new Set(tokenizer.about.eosIds)
  for (const stop of isRecorded(format) ? format.stop : []) {
    // A stop text of several tokens is not a single end token of this tokenizer.
    const id = await tokenizer.singleId(stop)
    if (id !== undefined) ends.add(id)
  }
  return ends
}

/** Prompt formats by the arrays of tokens that were written in them. */
const formats = new WeakMap<object, PromptFormat>()

/** Notes the format in which tokens were written; null is unknown. */
export function noteTokens(tokens: object, format: PromptFormat | null): void {
  if (format !== null) formats.set(tokens, format)
}

/**
 * The format that rows of a custom training loop share with those before them, as rows of one dataset do, so that the
 * adapter is asked as after `train`.
 * @param before null without any
 */
export function formatOfRows(
  before: PromptFormat | null,
  rows: readonly (Row | Pair)[],
): PromptFormat | null {
  return rows.reduce<PromptFormat | null>((shared, row) => {
    const { tokens } = 'chosen' in row ? row.chosen : row
    const own = formats.get(tokens)
    return own === undefined || own === shared ? shared : joined(shared, own)
  }, before)
}

/** If any row is raw text, the format of all is raw; a system prompt is that of all rows or of none. */
function joined(shared: PromptFormat | null, own: PromptFormat): PromptFormat {
  if (shared === null) return own
  const main = shared.form === 'raw' ? shared : own
  return { ...main, system: shared.system === own.system ? own.system : null }
}
