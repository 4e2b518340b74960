/** Answers as the parts that the AI SDK reads: as a stream, or put together. */
import type { Ended, LocalAnswer } from '../serve/local-chat.js'
import type { Content, Finish, Streamed, StreamPart } from './sdk.js'

/** The parts of an answer: texts and calls in the order in which they are said, and the end. */
export async function* partsOf(answer: LocalAnswer): AsyncGenerator<StreamPart, void, void> {
  let texts = 0
  let inText = false
  let called = false
  const id = () => String(texts)
  for await (const piece of answer.pieces) {
    if ('text' in piece && piece.text !== '') {
      if (!inText) yield { type: 'text-start', id: id() }
      inText = true
      yield { type: 'text-delta', id: id(), delta: piece.text }
    }
    if (inText && !('text' in piece && piece.calls === undefined)) {
      yield { type: 'text-end', id: id() }
      inText = false
      texts++
    }
    if ('end' in piece) yield finishOf(answer, piece.end, called)
    else
      for (const { id: toolCallId, function: call } of piece.calls ?? []) {
        called = true
        yield { type: 'tool-input-start', id: toolCallId, toolName: call.name }
        yield { type: 'tool-input-delta', id: toolCallId, delta: call.arguments }
        yield { type: 'tool-input-end', id: toolCallId }
        yield { type: 'tool-call', toolCallId, toolName: call.name, input: call.arguments }
      }
  }
}

function finishOf(answer: LocalAnswer, end: Ended, called: boolean): Finish {
  const { prompt_tokens, completion_tokens, prompt_tokens_details } = answer.usage(end)
  const cached = prompt_tokens_details.cached_tokens
  const raw = end.finishReason
  return {
    type: 'finish',
    // A call that is named by the request ends with `stop` in the service, and with `tool-calls` in the SDK.
    finishReason: { unified: raw === 'length' ? raw : called ? 'tool-calls' : 'stop', raw },
    usage: {
      inputTokens: {
        ...{ total: prompt_tokens, noCache: prompt_tokens - cached },
        ...{ cacheRead: cached, cacheWrite: undefined },
      },
      outputTokens: { total: completion_tokens, text: completion_tokens, reasoning: undefined },
    },
  }
}

/** The end of an answer that could not be computed. */
export const FAILED: Finish = {
  type: 'finish',
  finishReason: { unified: 'error', raw: undefined },
  usage: {
    inputTokens: { total: undefined, noCache: undefined, cacheRead: undefined, cacheWrite: undefined },
    outputTokens: { total: undefined, text: undefined, reasoning: undefined },
  },
}

/** All parts together. */
export async function wholeOf(
  parts: AsyncIterable<StreamPart>,
): Promise<Pick<Finish, 'finishReason' | 'usage'> & { content: Content[] }> {
  const content: Content[] = []
  let finish: Finish | undefined
  for await (const part of parts) {
    const last = content.at(-1)
    if (part.type === 'text-start') content.push({ type: 'text', text: '' })
    else if (part.type === 'text-delta' && last?.type === 'text') last.text += part.delta
    else if (part.type === 'tool-call') content.push(part)
    else if (part.type === 'finish') finish = part
  }
  const { finishReason, usage } = finish as Finish
  return { content, finishReason, usage }
}

/** A stream that computes a part when it is asked for one; leaving it ends the answer. */
export function streamOf(
  parts: AsyncGenerator<StreamPart, void, void>,
  stop: AbortController,
): Streamed['stream'] {
  return new ReadableStream<StreamPart>(
    {
      async pull(controller) {
        const { done, value } = await parts.next()
        if (done) controller.close()
        else controller.enqueue(value)
      },
      async cancel(reason) {
        stop.abort(reason)
        await parts.return()
      },
    },
    { highWaterMark: 0 },
  )
}
