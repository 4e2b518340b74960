/** Renders chats by their template, in processes that wait for more. */
import { DataError, InternalError, type LowrankError } from '../core/errors.js'
import type { RenderOptions, TemplateLimits } from '../tokenizer/chat-template.js'
import type { TemplateMessage } from '../tokenizer/message.js'
import type { TokenizerSource } from '../tokenizer/source.js'
import { specialTokensOf } from '../tokenizer/tokenizer.js'
import type { PromptChat } from './prompt-tools.js'
import { TextCall } from './text-call.js'
import { fromPlainError, type TextFeed } from './text-jobs.js'

/** Heap limit of a process in MB. */
const RENDER_MEGABYTES = 256
/** Processes that render at once, and how long they wait for more chats. */
const MOST_PROCESSES = 2
const IDLE_MILLISECONDS = 60_000

/**
 * Renders a conversation as prompt text with the model's chat template. The text includes the BOS if the
 * template writes one, so tokenize it with `addSpecialTokens: false`.
 * @throws {DataError} when there is no template or it rejects the messages; FileFormatError when it is invalid
 * or exceeds a limit
 */
export async function renderChat(
  source: TokenizerSource,
  messages: readonly TemplateMessage[],
  options: RenderOptions & RenderControl & Pick<PromptChat, 'toolForm'> = {},
): Promise<string> {
  const { limits, signal, toolForm, ...renderOptions } = options
  const control = { ...(limits ? { limits } : {}), signal }
  const [text] = await renderChats(
    source,
    [{ messages, options: renderOptions, ...(toolForm ? { toolForm } : {}) }],
    control,
  )
  if (typeof text === 'string') return text
  throw text
}

/** Limits and signal for rendering. */
export interface RenderControl {
  /** Limits for each chat. */
  limits?: TemplateLimits
  /** Stops the work; the promise rejects with the signal's reason. */
  signal?: AbortSignal | undefined
}

/**
 * Renders several chats in a process, which has a memory limit and can be stopped at any moment.
 * @returns the text of each chat, or the error of a template that rejects its messages
 */
export async function renderChats(
  source: TokenizerSource,
  chats: readonly Omit<PromptChat, 'template'>[],
  { limits, signal }: RenderControl = {},
): Promise<(string | LowrankError)[]> {
  const withTemplates = chats.map((chat) => {
    const template = (chat.options.tools ? source.namedTemplates?.tool_use : undefined) ?? source.chatTemplate
    if (template === undefined)
      throw new DataError('the model has no chat template; give the prompt as text instead')
    return { ...chat, template }
  })
  const job: TextFeed = {
    kind: 'render',
    chats: withTemplates,
    specialTokens: specialTokensOf(source),
    ...(limits ? { limits } : {}),
  }
  return withRenderer(async (call) => {
    call.send(job)
    const answer = await call.next()
    if (answer.kind !== 'rendered')
      throw new InternalError(`the text worker answered ${answer.kind} to a chat`)
    return answer.texts.map((text) => (typeof text === 'string' ? text : fromPlainError(text)))
  }, signal)
}

/** Processes that have rendered chats, and wait for more: the start of one takes longer than most chats. */
const idle: TextCall[] = []
/** Chats that wait for a process, and the number of those that have one. */
const waiting: (() => void)[] = []
let atWork = 0

/** Works with a process of its own, which is killed if the work fails. */
async function withRenderer<T>(work: (call: TextCall) => Promise<T>, signal?: AbortSignal): Promise<T> {
  if (atWork < MOST_PROCESSES) atWork++
  else await new Promise<void>((resolve) => waiting.push(resolve))
  try {
    return await rendering(work, signal)
  } finally {
    const next = waiting.shift()
    if (next === undefined) atWork--
    else next()
  }
}

async function rendering<T>(work: (call: TextCall) => Promise<T>, signal?: AbortSignal): Promise<T> {
  signal?.throwIfAborted()
  const call = waitingRenderer() ?? new TextCall({ kind: 'renderer' }, RENDER_MEGABYTES)
  const abort = () => call.fail(signal?.reason)
  signal?.addEventListener('abort', abort)
  call.ref()
  try {
    const done = await work(call)
    keep(call)
    return done
  } catch (error) {
    await call.close()
    throw error
  } finally {
    signal?.removeEventListener('abort', abort)
  }
}

function waitingRenderer(): TextCall | undefined {
  for (;;) {
    const call = idle.pop()
    if (call === undefined || !call.hasFailed) return call
    void call.close()
  }
}

/** Keeps a process for later chats, and this program need not wait for it. */
function keep(call: TextCall): void {
  if (call.hasFailed) return void call.close()
  call.unref()
  idle.push(call)
  const end = () => {
    const at = idle.indexOf(call)
    if (at < 0) return
    idle.splice(at, 1)
    void call.close()
  }
  setTimeout(end, IDLE_MILLISECONDS).unref()
}
