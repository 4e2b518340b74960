/**
 * Detects parts of a chat that a chat template omits from its text. Many templates do not support tools, and
 * silently skip calls, results, and whole roles; a model trained on the rest learns answers to questions that
 * it never sees.
 */

import type { RenderOptions } from './chat-template.js'
import type { DatasetMessage } from './message.js'
import { entriesOf } from './python-values.js'

type Render = (messages: readonly DatasetMessage[], options: RenderOptions) => string
interface Call {
  function: { name?: unknown; arguments?: unknown }
}

/** Marker put into names, arguments and content to see whether they are rendered. */
const PROBE = 'lowrankprobe'

/**
 * @param text the messages as rendered by `render`
 * @returns the omitted part and advice, or undefined
 */
export function droppedPart(
  render: Render,
  text: string,
  messages: readonly DatasetMessage[],
  options: RenderOptions,
): string | undefined {
  const { tools, ...without } = options
  if (tools && attempt(() => render(messages, without)) === text) return IGNORED_TOOLS
  const probed = messages.some(({ role, tool_calls }) => tool_calls !== undefined || role === 'tool')
    ? attempt(() => render(messages.map(probe), options))
    : undefined
  for (const [index, message] of messages.entries()) {
    const dropped = (changed: DatasetMessage) =>
      attempt(() => render(messages.with(index, changed), options)) === text
    for (const [number, call] of callsOf(message).entries()) {
      const mark = probeOf(index, number)
      if (probed === undefined ? dropped(withoutCalls(message)) : !probed.includes(`${mark}name`))
        return unknownCalls(index, call)
      if (
        probed !== undefined &&
        entriesOf(call.function.arguments).length > 0 &&
        !probed.includes(`${mark}key`)
      )
        return `the chat template does not render the arguments of ${nameOf(call)} in the tool calls of messages[${index}]; ${MEND_CALLS}`
    }
    const content = message.content?.trim() ?? ''
    if (content === '') continue
    const seen =
      message.role === 'tool' && probed !== undefined
        ? probed.includes(probeOf(index))
        : message.role !== 'tool' && text.includes(content)
    if (!seen && dropped({ ...message, content: `${message.content} ${PROBE}` }))
      return callsOf(message).length > 0
        ? `the chat template does not render the content of messages[${index}] next to its tool calls; move it into a separate message, or remove it`
        : `the chat template does not render messages[${index}], whose role is ${message.role}; remove it, put its content into a message of another role, or use a model whose template supports the role`
  }
  return undefined
}

/** @returns a message that the calls are omitted, for a template that never refers to tool calls */
export function unknownToolCalls(template: string, messages: readonly DatasetMessage[]): string | undefined {
  if (/tool_calls|tojson/.test(template)) return undefined
  const index = messages.findIndex((message) => callsOf(message).length > 0)
  return index < 0 ? undefined : unknownCalls(index, callsOf(messages[index])[0] as Call)
}

const IGNORED_TOOLS =
  'the chat template ignores "tools", so the model would not see them; remove them, describe them in a system message, or use a model whose template supports tools'
const MEND_CALLS =
  'write the answer into "content" as text, or use a model whose template supports tool calls'

function unknownCalls(index: number, call: Call): string {
  return `the chat template does not render the tool calls of messages[${index}] (${nameOf(call)}), so they would not be trained on; ${MEND_CALLS}`
}

const nameOf = ({ function: { name } }: Call) => (typeof name === 'string' ? name.slice(0, 80) : 'no name')

function callsOf(message: DatasetMessage | undefined): Call[] {
  return (message?.tool_calls ?? []) as Call[]
}

const probeOf = (message: number, call?: number) =>
  call === undefined ? `${PROBE}${message}x` : `${PROBE}${message}x${call}x`

/** The message with a marker in the names and arguments of its calls, or appended to a tool result. */
function probe(message: DatasetMessage, index: number): DatasetMessage {
  if (message.role === 'tool')
    return message.content?.trim() ? { ...message, content: `${message.content} ${probeOf(index)}` } : message
  if (message.tool_calls === undefined) return message
  const calls = callsOf(message).map((call, number) => {
    const mark = probeOf(index, number)
    const given = call.function.arguments
    const [first] = entriesOf(given)
    const changed = first ? { [`${mark}key`]: first[1] } : given
    return { ...call, function: { ...call.function, name: `${mark}name`, arguments: changed } }
  })
  return { ...message, tool_calls: calls }
}

function withoutCalls({ tool_calls: _, ...message }: DatasetMessage): DatasetMessage {
  return message as DatasetMessage
}

/** A template that rejects the change must have read the changed part. */
function attempt(render: () => string): string | undefined {
  try {
    return render()
  } catch {
    return undefined
  }
}
