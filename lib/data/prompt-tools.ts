/** Chats with tools as prompts: schemas as templates show them, and templates that have a place for them. */
import { DataError } from '../core/errors.js'
import { isRecord } from '../core/schema-shape.js'
import { TRAINING_TEMPLATES } from '../models/index.js'
import type { TrainingRenderer } from '../tokenizer/adapted-template.js'
import { droppedPart } from '../tokenizer/chat-dropped.js'
import { ChatRenderer } from '../tokenizer/chat-spans.js'
import { ChatTemplate, type RenderOptions, type TemplateLimits } from '../tokenizer/chat-template.js'
import type { DatasetMessage, TemplateMessage } from '../tokenizer/message.js'
import { adaptedTemplateFor } from '../tokenizer/training-templates.js'
import { parseExactJson } from './dataset/exact-json.js'
import { readToolCalls } from './dataset/tool-calls.js'

/** Schemas of tools: a list, or its JSON, whose values reach the template as Python would read them. */
export type Tools = readonly unknown[] | string

/** The schemas of a list or its JSON; undefined if it is neither. */
export function toolSchemas(given: unknown): readonly unknown[] | undefined {
  const list = typeof given === 'string' ? parsed(given) : given
  return Array.isArray(list) && list.every((tool) => isRecord(tool) || tool instanceof Map) ? list : undefined
}

/** The names of tools, without those that have none. */
export function namesOf(tools: readonly unknown[]): string[] {
  return tools.flatMap((tool) => nameOf(tool) ?? [])
}

/** The name in the schema of a tool; undefined if it has none. */
export function nameOf(tool: unknown): string | undefined {
  const name = entry(entry(tool, 'function') ?? tool, 'name')
  return typeof name === 'string' && name !== '' ? name : undefined
}

function entry(value: unknown, key: string): unknown {
  if (value instanceof Map) return value.get(key)
  return isRecord(value) ? value[key] : undefined
}

/**
 * Messages whose tool calls have objects as arguments, as templates read them; OpenAI's have their JSON.
 * @throws {DataError} when a call is malformed
 */
export function withReadCalls(messages: readonly TemplateMessage[]): readonly TemplateMessage[] {
  return messages.map((message, at) => ({
    ...message,
    ...readToolCalls(message, `messages[${at}]`, (text, cause) => new DataError(text, {}, { cause })),
  }))
}

function parsed(text: string): unknown {
  try {
    return parseExactJson(text)
  } catch {
    return undefined
  }
}

/** A prompt as the text worker gets it. */
export interface PromptChat {
  template: string
  messages: readonly TemplateMessage[]
  options: RenderOptions
  /**
   * For a prompt as in training, with reasoning where the template reads it, and with tools in whole: as they are, or in
   * the form that the template reads. Default: messages as they are, and unchecked.
   */
  toolForm?: 'own' | 'adapted'
}

/** Renders prompts of a model; each of its templates is prepared once. */
export class PromptRenderer {
  readonly #specialTokens: Readonly<Record<string, string>>
  readonly #limits: TemplateLimits | undefined
  readonly #templates = new Map<string, ChatTemplate>()
  readonly #adapted = new Map<ChatTemplate, TrainingRenderer | undefined>()

  constructor(specialTokens: Readonly<Record<string, string>>, limits?: TemplateLimits) {
    this.#specialTokens = specialTokens
    this.#limits = limits
  }

  /** @throws {DataError} when the template rejects the messages, or leaves out tools, calls, or results */
  render({ template, messages, options, toolForm }: PromptChat): string {
    const own = made(
      this.#templates,
      template,
      () => new ChatTemplate(template, this.#specialTokens, this.#limits),
    )
    if (toolForm === undefined) return own.render(messages, options)
    const ofTools = options.tools !== undefined || messages.some(isOfTools)
    const renderer = (toolForm === 'adapted' && ofTools ? this.#adaptedOf(own) : undefined) ?? own
    if (!messages.every(hasTextOnly)) return renderer.render(messages, options)
    // Answers of a chat have their reasoning in the content.
    const read = new ChatRenderer(renderer, [], () => false, own).withReasoning(messages)
    const text = renderer.render(read, options)
    const dropped = ofTools
      ? droppedPart((all, how) => renderer.render(all, how), text, read, options)
      : undefined
    if (dropped !== undefined) throw new DataError(dropped)
    return text
  }

  #adaptedOf(own: ChatTemplate): TrainingRenderer | undefined {
    return made(
      this.#adapted,
      own,
      () => adaptedTemplateFor(own, this.#specialTokens, TRAINING_TEMPLATES, true)?.template,
    )
  }
}

function made<K, V>(known: Map<K, V>, key: K, make: () => V): V {
  if (known.has(key)) return known.get(key) as V
  const value = make()
  known.set(key, value)
  return value
}

const isOfTools = ({ role, tool_calls: calls }: TemplateMessage) => role === 'tool' || calls !== undefined

function hasTextOnly(message: TemplateMessage): message is DatasetMessage {
  return message.content === null || typeof message.content === 'string'
}
