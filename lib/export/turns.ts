/**
 * The structure of a chat template in a form that other template languages can express: the texts around each turn. It
 * is derived by rendering sample conversations, and accepted only if it reproduces all of them exactly.
 */

import { renderChats } from '../data/render-chat.js'
import type { RenderOptions } from '../tokenizer/chat-template.js'
import type { TemplateMessage } from '../tokenizer/message.js'
import type { TokenizerSource } from '../tokenizer/source.js'
import { DAYS, hasDate, markDates } from './dates.js'

/** Texts before and after the content of a turn. */
export interface Wrapping {
  before: string
  after: string
}

/** Rules that turn a chat into a prompt. The initial BOS token is not included. */
export interface Turns {
  /** System prompt: a separate turn, or inside the first or last user turn. Null if the template rejects it. */
  system: (Wrapping & { place: 'turn' | 'first' | 'last' }) | null
  user: Wrapping
  assistant: Wrapping
  /** Text before every user turn except the first. */
  between: string
  /** Text at the start of a chat without a system prompt. */
  opening: string
  /** Default system prompt; empty if none. */
  defaultSystem: string
  /** Text that opens the answer. */
  generation: string
}

const USER = ['qwvzaxu', 'qwvzbxu', 'qwvzcxu']
const ASSISTANT = ['qwvzaxs', 'qwvzbxs']
const SYSTEM = 'qwvzsystem'

/** A conversation with `users` user turns and the answers between them. */
function conversation(users: number, system: boolean, answered = false): TemplateMessage[] {
  const messages: TemplateMessage[] = system ? [{ role: 'system', content: SYSTEM }] : []
  for (let i = 0; i < users; i++) {
    messages.push({ role: 'user', content: USER[i] })
    if (i + 1 < users || answered) messages.push({ role: 'assistant', content: ASSISTANT[i] })
  }
  return messages
}

/**
 * Derives the turns of a tokenizer's chat template.
 * @param bos text that is prepended to every prompt anyway; may be empty
 * @param asked options of prompts, such as template variables
 * @returns undefined for a template that does not fit this structure. Dates in texts are marked (dates.ts).
 */
export async function turnsOf(
  source: TokenizerSource,
  bos: string,
  asked: Pick<RenderOptions, 'variables'> = {},
): Promise<Turns | undefined> {
  if (source.chatTemplate === undefined) return undefined
  const [today, later] = DAYS
  const chat = (messages: TemplateMessage[], addGenerationPrompt = true, now: Date = today) => ({
    messages,
    options: { ...asked, addGenerationPrompt, now },
  })
  const plain = [1, 2, 3].map((users) => conversation(users, false))
  const told = [1, 2, 3].map((users) => conversation(users, true))
  const rendered = await renderChats(source, [
    chat(conversation(1, false), true, later),
    chat(conversation(1, false), false),
    chat(conversation(1, false, true), false),
    ...[...plain, ...told].map((messages) => chat(messages)),
  ])
  const texts = rendered.map((text, i) => {
    if (!isText(text)) return text
    const own = bos !== '' && text.startsWith(bos) ? text.slice(bos.length) : text
    return markDates(own, i === 0 ? later : today)
  })
  const [otherDay, closed, answered, ...checks] = texts
  const [one, two] = checks
  // A template that rejects these conversations cannot be described.
  if (!isText(one) || !isText(two) || !isText(closed) || !isText(answered) || otherDay !== one)
    return undefined
  const second = checks[plain.length + 1]
  const withSystem = isText(second) ? second : undefined
  const end = endToken(source)
  const unended = (text: string) => (end !== '' && text.endsWith(end) ? text.slice(0, -end.length) : text)
  const readings = [
    { closed, answered },
    { closed: unended(closed), answered: unended(answered) },
  ]
  for (const { closed, answered } of readings) {
    const turns = derive({ one, closed, two, answered, withSystem }, bos)
    if (turns === undefined) continue
    const all = turns.system === null ? plain : [...plain, ...told]
    if (all.every((messages, i) => renderTurns(turns, messages) === checks[i])) return turns
  }
  return undefined
}

/** Some templates end a chat that asks for no answer with the end token, which no prompt has. */
function endToken({ tokenizerConfig }: TokenizerSource): string {
  const token = tokenizerConfig?.eos_token as string | { content?: string } | undefined
  return (typeof token === 'string' ? token : token?.content) ?? ''
}

const isText = (text: unknown): text is string => typeof text === 'string'

interface Rendered {
  /** One user turn, with and without the opening of an answer. */
  one: string
  closed: string
  two: string
  /** One turn with its answer. */
  answered: string
  /** Two turns after a system prompt. */
  withSystem: string | undefined
}

function derive({ one, closed, two, answered, withSystem }: Rendered, bos: string): Turns | undefined {
  const [first, second] = USER as [string, string]
  const [answer] = ASSISTANT as [string]
  const [opened = '', rest] = cut(one, first)
  const after = cut(closed, first)[1]
  const [, middle] = cut(two, first)
  if (rest === undefined || after === undefined || middle === undefined) return undefined
  const [beforeAnswer = '', afterAnswer] = cut(middle, answer)
  const answerEnd = cut(answered, answer)[1]
  if (afterAnswer === undefined || answerEnd === undefined) return undefined
  const [gap = '', last] = cut(afterAnswer, second)
  if (last !== rest || !rest.startsWith(after) || !beforeAnswer.startsWith(after)) return undefined
  let before = gap.startsWith(answerEnd) ? gap.slice(answerEnd.length) : commonEnd(gap, opened)
  let between = ''
  if (!opened.endsWith(before) && bos !== '' && before.startsWith(bos)) {
    between = bos
    before = before.slice(bos.length)
  }
  if (!opened.endsWith(before)) return undefined
  const turns: Turns = {
    system: null,
    user: { before, after },
    assistant: {
      before: beforeAnswer.slice(after.length),
      after: gap.slice(0, gap.length - between.length - before.length),
    },
    between,
    opening: opened.slice(0, opened.length - before.length),
    defaultSystem: '',
    generation: rest.slice(after.length),
  }
  return withSystem === undefined ? turns : addSystem(turns, withSystem)
}

/** Adds the position of the system prompt, and the text used without one. */
function addSystem(turns: Turns, text: string): Turns | undefined {
  const [first, second] = USER as [string, string]
  const [head = '', tail] = cut(text, SYSTEM)
  // A template that drops system prompts has none.
  if (tail === undefined) return turns
  const { before } = turns.user
  const reached = (word: string) => tail.indexOf(word)
  if (reached(first) < 0) {
    // If the system prompt is in the last turn, it follows the first one.
    const open = head.lastIndexOf(turns.between + before)
    const inner = cut(tail, second)[0]
    if (open < 0 || inner === undefined) return undefined
    const start = head.slice(open + turns.between.length + before.length)
    return { ...turns, system: { place: 'last', before: start, after: inner } }
  }
  const inner = tail.slice(0, reached(first))
  if (inner.endsWith(before) && before !== '') {
    const system = {
      place: 'turn' as const,
      before: head,
      after: inner.slice(0, inner.length - before.length),
    }
    const { opening } = turns
    const hasDefault =
      opening.startsWith(system.before) &&
      opening.endsWith(system.after) &&
      opening.length > system.before.length + system.after.length
    if (!hasDefault) return { ...turns, system }
    const defaultSystem = opening.slice(system.before.length, opening.length - system.after.length)
    // A Modelfile's SYSTEM is a fixed text.
    if (hasDate(defaultSystem)) return { ...turns, system }
    return { ...turns, system, opening: '', defaultSystem }
  }
  if (!head.startsWith(before)) return undefined
  return { ...turns, system: { place: 'first', before: head.slice(before.length), after: inner } }
}

function commonEnd(a: string, b: string): string {
  let length = 0
  while (length < a.length && a.at(-1 - length) === b.at(-1 - length)) length++
  return a.slice(a.length - length)
}

function cut(text: string, word: string): [string, string] | [] {
  const at = text.indexOf(word)
  return at < 0 ? [] : [text.slice(0, at), text.slice(at + word.length)]
}

/** The prompt of a chat, as the Jinja template would render it, without the initial BOS. */
export function renderTurns(turns: Turns, messages: readonly TemplateMessage[]): string {
  const { system, user, assistant, between, opening, defaultSystem, generation } = turns
  const asked = messages.find(({ role }) => role === 'system')?.content as string | undefined
  const told = asked ?? defaultSystem
  const users = messages.filter(({ role }) => role === 'user')
  let text = told === '' ? opening : ''
  if (told !== '' && system?.place === 'turn') text += system.before + told + system.after
  for (const message of messages) {
    const content = message.content as string
    if (message.role === 'user') {
      const host = system?.place === 'first' ? users[0] : system?.place === 'last' ? users.at(-1) : undefined
      const inside = host === message && told !== '' ? `${system?.before}${told}${system?.after}` : ''
      text += (message === users[0] ? '' : between) + user.before + inside + content + user.after
    } else if (message.role === 'assistant') text += assistant.before + content + assistant.after
  }
  return text + generation
}
