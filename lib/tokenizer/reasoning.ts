/**
 * Reasoning in chat messages: under its own key, or in the content between `<think>` tags. Templates of
 * reasoning models silently omit it from earlier turns, and others ignore these keys entirely.
 */

import type { DatasetMessage } from './message.js'

/** A key that holds reasoning. */
const REASONING_KEY = /^(reasoning|thinking)/
/** Keys from which templates read reasoning. */
const USUAL_KEYS = ['reasoning_content', 'reasoning', 'thinking'] as const
const PROBE = 'lowrankthought'

/** Tags around reasoning in data. */
const DATA_TAGS = ['<think>', '</think>'] as const
/** Tags around reasoning in the text of models. */
const TAGS = [DATA_TAGS, ['[THINK]', '[/THINK]']] as const
const either = (tags: readonly string[]) =>
  `(?:${tags.map((tag) => tag.replace(/[[\]]/g, '\\$&')).join('|')})`
const [OPENING, CLOSING] = [
  either(TAGS.map(([opening]) => opening)),
  either(TAGS.map(([, closing]) => closing)),
]

const [DATA_OPENING, DATA_CLOSING] = DATA_TAGS
/** Reasoning at the start of content. */
const THOUGHT = new RegExp(`^\\s*${DATA_OPENING}([^]*?)${DATA_CLOSING}`)
/** The same without its opening tag, which is then in the prompt. */
const OPENED_THOUGHT = new RegExp(`^((?:(?!${DATA_OPENING})[^])*?)${DATA_CLOSING}`)
/** Reasoning before an answer that a model wrote; its opening tag may be in the prompt. */
const WRITTEN_THOUGHT = new RegExp(`^(?:\\s*${OPENING}[^]*?|(?:(?!${OPENING})[^])*?)${CLOSING}\\s*(?=\\S)`)
/** Reasoning at the start of a turn as a template renders it; its opening tag may be in the prompt. */
const RENDERED_THOUGHT = new RegExp(`^[^]*?${CLOSING}\\n*`)

type Render = (messages: readonly DatasetMessage[]) => string | undefined

/** Reasoning by the key that contains it, without blank entries. */
export function reasoningOf(message: DatasetMessage): [key: string, text: string][] {
  const thought = message.content?.match(THOUGHT)?.[1] ?? ''
  const keyed = Object.entries(message).filter(([key]) => REASONING_KEY.test(key))
  return [['content', thought] as const, ...keyed].flatMap(([key, text]) =>
    typeof text === 'string' && text.trim() !== '' ? [[key, text.trim()] as [string, string]] : [],
  )
}

/** True if a message may contain reasoning, possibly empty. */
export function mayReason({ role, content, ...rest }: DatasetMessage): boolean {
  return role === 'assistant' && (USUAL_KEYS.some((key) => key in rest) || !!content?.includes('</think>'))
}

/** The key from which a template reads reasoning; undefined if it reads none. */
export function readKeyOf(render: Render): (typeof USUAL_KEYS)[number] | undefined {
  return USUAL_KEYS.find((key) => {
    const answer: DatasetMessage = { role: 'assistant', content: '2', [key]: PROBE }
    return render([{ role: 'user', content: '1' }, answer])?.includes(PROBE)
  })
}

/** The message with its reasoning under `key`, moved from another key or from tags in the content. */
export function withReasoningAt(message: DatasetMessage, key: string): DatasetMessage {
  if (message.role !== 'assistant') return message
  const keyed = USUAL_KEYS.map((name) => message[name]).find(
    (text) => typeof text === 'string' && text.trim() !== '',
  )
  const content = message.content ?? ''
  const tagged = THOUGHT.exec(content) ?? (keyed === undefined ? OPENED_THOUGHT.exec(content) : null)
  const reasoning = keyed ?? tagged?.[1]?.replace(/^\n+|\n+$/g, '')
  if (reasoning === undefined) return message
  const rest = Object.entries(message).filter(([name]) => !USUAL_KEYS.some((usual) => usual === name))
  return {
    ...(Object.fromEntries(rest) as DatasetMessage),
    ...(tagged === null ? {} : { content: content.slice(tagged[0].length).replace(/^\n+/, '') }),
    ...(reasoning === '' ? {} : { [key]: reasoning }),
  }
}

/**
 * The message with its reasoning in the content.
 * @param block the model's empty block, such as `<think>\n\n</think>\n`
 */
export function withReasoningIn(message: DatasetMessage, block: string): DatasetMessage {
  const { reasoning_content: reasoning, ...rest } = withReasoningAt(message, 'reasoning_content')
  if (typeof reasoning !== 'string') return message
  const filled = block.replace('\n\n', () => `\n${reasoning}\n`)
  return { ...(rest as DatasetMessage), content: `${filled}${rest.content ?? ''}` }
}

/** Why the reasoning of a message is ambiguous, with advice; undefined if it is not. */
export function unclearReasoning(message: DatasetMessage): string | undefined {
  if (message.role !== 'assistant') return undefined
  const isText = (text: unknown): text is string => typeof text === 'string' && text.trim() !== ''
  const [one, ...others] = USUAL_KEYS.filter((key) => isText(message[key]))
  const text = one === undefined ? undefined : (message[one] as string).trim()
  const other = others.find((key) => (message[key] as string).trim() !== text)
  if (other !== undefined) return `has different reasoning under "${one}" and "${other}"; keep one of them`
  const content = message.content ?? ''
  const inside = THOUGHT.exec(content)?.[1]?.trim()
  if (text !== undefined && inside && inside !== text)
    return `has reasoning under "${one}" and other reasoning between <think> tags in "content"; keep one of them`
  if (/^\s*<think>/.test(content) && !content.includes('</think>'))
    return 'begins with <think> that is never closed; write </think> behind the reasoning'
  return undefined
}

/** True for a token that begins or ends reasoning. */
export function marksReasoning(token: string): boolean {
  return TAGS.flat().some((tag) => tag === token)
}

/** Splits a generated text behind its reasoning, which is empty if there is none or nothing follows it. */
export function splitReasoning(text: string): { reasoning: string; answer: string } {
  const [reasoning = ''] = WRITTEN_THOUGHT.exec(text) ?? []
  return { reasoning, answer: text.slice(reasoning.length) }
}

/** Length of the reasoning at the start of a rendered turn. */
export function reasoningLength(turn: string): number {
  return RENDERED_THOUGHT.exec(turn)?.[0].length ?? 0
}

/** The content without leading reasoning. */
export function withoutThought(content: string): string {
  return content.replace(THOUGHT, '').trim()
}

/**
 * Indices of the assistant messages whose reasoning is missing from the rendered text.
 * @param render returns undefined if the template rejects the messages
 * @param text the messages as rendered by `render`
 */
export function droppedReasoning(
  render: Render,
  text: string,
  messages: readonly DatasetMessage[],
): number[] {
  const reasoned = messages.flatMap((message, index) =>
    message.role === 'assistant' && reasoningOf(message).length > 0 ? [index] : [],
  )
  if (reasoned.length === 0) return []
  const probed = render(
    messages.map((message, index) => (reasoned.includes(index) ? marked(message, markOf(index)) : message)),
  )
  return reasoned.filter((index) =>
    probed === undefined
      ? !reasoningOf(messages[index] as DatasetMessage).some(([, thought]) => text.includes(thought))
      : !probed.includes(markOf(index)),
  )
}

/** Error message for a turn trained without its reasoning, with the simplest way to keep it. */
export function lostReasoning(render: Render, messages: readonly DatasetMessage[], index: number): string {
  const message = messages[index] as DatasetMessage
  const [[key, thought] = ['content', '']] = reasoningOf(message)
  const { [key]: _, ...rest } = message
  const bare = key === 'content' ? { ...message, content: withoutThought(message.content ?? '') } : rest
  const readKey = USUAL_KEYS.find((name) =>
    render(messages.with(index, { ...bare, [name]: `${thought} ${PROBE}` } as DatasetMessage))?.includes(
      PROBE,
    ),
  )
  const lost = `the chat template does not render the reasoning (${key === 'content' ? '<think> in "content"' : `"${key}"`}) of messages[${index}], the last assistant turn, so it would not be trained on`
  if (readKey !== undefined) return `${lost}; the template reads "${readKey}": move it there`
  if (index < messages.length - 1) return `${lost}; end the row with that turn, or remove the reasoning`
  return `${lost}; remove it, or use a model whose template supports reasoning`
}

const markOf = (index: number) => `${PROBE}${index}x`

function marked(message: DatasetMessage, mark: string): DatasetMessage {
  const changes = reasoningOf(message).map(([key]) => [
    key,
    key === 'content' ? message.content?.replace('</think>', ` ${mark}</think>`) : `${message[key]} ${mark}`,
  ])
  return { ...message, ...Object.fromEntries(changes) }
}
