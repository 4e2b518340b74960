/**
 * Chat templates for training, which replace a model's own template if it changes or drops parts of earlier
 * turns. A training template is used only if it renders single answers, including their prompts, exactly as the
 * model's own, so that prompts look the same in training and in use. Other templates stay, but get chats in the form
 * that they read.
 */
import { type Adapt, AdaptedTemplate, type TrainingRenderer } from './adapted-template.js'
import { ChatTemplate, DEFAULT_TEMPLATE_LIMITS, type RenderOptions } from './chat-template.js'
import type { TemplateMessage as ChatMessage } from './message.js'

/** A training template and its model family. */
export interface TrainingTemplate {
  family: string
  template: TrainingRenderer
}

/** A template that replaces a model's own where both render single answers alike. */
export interface TemplateText {
  readonly family: string
  readonly source: string
  /** Strings that the model's own template must contain. */
  readonly needs: readonly string[]
}

/** How a model's own template reads reasoning, tools, and tool calls, which it drops in the usual form. */
export interface TemplateConvention {
  readonly family: string
  /** Strings that the model's own template must contain. */
  readonly needs: readonly string[]
  readonly adapt: Adapt
  /** Template variables with which the template keeps the reasoning of earlier turns, which it leaves out in use. */
  readonly history?: Readonly<Record<string, unknown>>
  /** Special token that the template writes after the last turn of a chat only. */
  readonly closing?: 'eos_token'
}

/** The chat templates that a family has for training. */
export type TrainingTemplateForm = TemplateText | TemplateConvention

/** The training template that matches a model's own; undefined if none does. */
export function trainingTemplateFor(
  own: ChatTemplate,
  specialTokens: Readonly<Record<string, string>>,
  forms: readonly TrainingTemplateForm[],
  limits = DEFAULT_TEMPLATE_LIMITS,
): TrainingTemplate | undefined {
  for (const form of forms) {
    const { family, needs } = form
    if (!('source' in form) || !needs.every((text) => own.source.includes(text))) continue
    const { source } = form
    const template = new ChatTemplate(source, specialTokens, limits)
    if (equals(template, own)) return { family, template }
  }
  return adaptedTemplateFor(own, specialTokens, forms)
}

/**
 * The model's own template behind an adapter for chats that it would render only in part; undefined if none is needed.
 * @param asUsed whether it leaves out the reasoning of earlier turns, if it does so in use
 */
export function adaptedTemplateFor(
  own: ChatTemplate,
  specialTokens: Readonly<Record<string, string>>,
  forms: readonly TrainingTemplateForm[],
  asUsed = false,
): TrainingTemplate | undefined {
  for (const form of forms) {
    if (!('adapt' in form) || !form.needs.every((text) => own.source.includes(text))) continue
    const { family, adapt, history, closing } = form
    const shown = asUsed || !history ? adapt : withVariables(adapt, history)
    const template = new AdaptedTemplate(own, shown, closing && specialTokens[closing])
    if (showsMore(template, own)) return { family, template }
  }
  return undefined
}

const withVariables =
  (adapt: Adapt, variables: Readonly<Record<string, unknown>>): Adapt =>
  ({ messages, options }) =>
    adapt({ messages, options: { ...options, variables: { ...variables, ...options.variables } } })

const SYSTEM = { role: 'system', content: 'Be brief.' }
const QUESTION = { role: 'user', content: 'Which word?' }
const ANSWER = { role: 'assistant', content: 'This one.' }
const CALL = {
  role: 'assistant',
  content: '',
  tool_calls: [
    {
      // Mistral's templates ask for nine characters.
      id: 'call00001',
      type: 'function',
      function: { name: 'look_up', arguments: { word: 'one', n: 2, all: true } },
    },
  ],
}
const TOOL = {
  type: 'function',
  function: {
    name: 'look_up',
    description: 'Looks a word up',
    parameters: { type: 'object', properties: { word: { type: 'string' } }, required: ['word'] },
  },
}
const REASONING = 'It was named.\n\nOnce.'
const NOW = new Date(Date.UTC(2026, 0, 2, 12))

function equals(template: ChatTemplate, own: ChatTemplate): boolean {
  const openings = [[QUESTION], [SYSTEM, QUESTION]]
  try {
    return openings.every((opening) =>
      [false, true].every(
        (reasoned) =>
          equalsOn(template, own, opening, ANSWER, reasoned, {}) &&
          equalsOn(template, own, opening, CALL, reasoned, { tools: [TOOL] }),
      ),
    )
  } catch {
    // A template that rejects one of these chats is not a match.
    return false
  }
}

/** True if chats without reasoning and tools stay as they are, unless they lose their system prompt, and something is rendered that was dropped. */
function showsMore(template: AdaptedTemplate, own: ChatTemplate): boolean {
  const reasoned = { ...ANSWER, reasoning_content: REASONING }
  const chats: [ChatMessage[], RenderOptions][] = [
    [[SYSTEM, QUESTION, reasoned], { now: NOW }],
    [[SYSTEM, QUESTION, CALL], { now: NOW, tools: [TOOL] }],
    [[QUESTION, reasoned, QUESTION, ANSWER], { now: NOW }],
  ]
  try {
    const same = [
      [QUESTION, ANSWER],
      [SYSTEM, QUESTION, ANSWER],
    ].every((chat) => {
      const text = own.render(chat, { now: NOW })
      const dropped = chat.includes(SYSTEM) && !text.includes(SYSTEM.content)
      return dropped || text.startsWith(template.render(chat, { now: NOW }))
    })
    const gained = chats.map(([chat, options]) => {
      const [more, before] = [template, own].map((one) => partsIn(one, chat, options)) as [string[], string[]]
      return before.every((part) => more.includes(part)) ? more.length - before.length : Number.NaN
    })
    return same && gained.reduce((sum, parts) => sum + parts, 0) > 0
  } catch {
    return false
  }
}

/** The parts of the test chats that are in the text. */
function partsIn(template: TrainingRenderer, chat: readonly ChatMessage[], options: RenderOptions): string[] {
  const text = template.render(chat, options)
  return [
    SYSTEM.content,
    REASONING,
    ANSWER.content,
    '"one"',
    TOOL.function.name,
    TOOL.function.description,
  ].filter((part) => text.includes(part))
}

/** True if both templates render an answer alike, and the marked span starts where the own template's prompt ends. */
function equalsOn(
  template: ChatTemplate,
  own: ChatTemplate,
  opening: readonly ChatMessage[],
  answer: ChatMessage,
  reasoned: boolean,
  options: RenderOptions,
): boolean {
  const how = { ...options, now: NOW, ...(reasoned ? REASONED : UNREASONED) }
  const chat = [...opening, reasoned ? { ...answer, reasoning_content: REASONING } : answer]
  const { text, spans } = template.renderWithSpans(chat, how)
  const prompt = own.render(opening, { ...how, addGenerationPrompt: true })
  const start = spans[0]?.start ?? Number.POSITIVE_INFINITY
  const begins = reasoned ? start === prompt.length : start <= prompt.length
  return begins && text.startsWith(prompt) && own.render(chat, how) === text
}

/** Template variables that open an answer with reasoning, which some templates do only if asked. */
export const REASONED = { variables: { enable_thinking: true } } as const

/** Template variables that open an answer without reasoning. */
export const UNREASONED = { variables: { enable_thinking: false } } as const
