/**
 * Prompts with their completions: two strings, or two lists of messages, which become a chat. A prompt of messages may be
 * alone, as `task: grpo` takes it.
 */
import { rowError } from '../dataset/place.js'
import type { PromptCompletionRow } from '../rows.js'
import type { Form } from './form.js'
import { chatAt, turn } from './turns.js'

export const promptCompletion: Form<PromptCompletionRow> = {
  name: 'prompt_completion',
  precedence: 50,
  expected: '{"prompt": …, "completion": …}',
  columns: { prompt: 'the prompt', completion: 'the completion' },
  recognizes: (value) => 'prompt' in value && ('completion' in value || Array.isArray(value.prompt)),
  read(value, { place, wrong, messages, tools }) {
    const { prompt, completion } = value
    if (Array.isArray(prompt) && completion === undefined)
      return { format: 'messages', messages: messages(prompt, 'prompt'), ...tools(value), ...place }
    if (typeof prompt === 'string' && typeof completion === 'string')
      return { format: 'prompt_completion', prompt, completion, ...place }
    if (Array.isArray(prompt) && Array.isArray(completion)) {
      const before = messages(prompt, 'prompt')
      const after = messages(completion, 'completion')
      return {
        format: 'messages',
        messages: [...before.map((message) => ({ ...message, weight: 0 as const })), ...after],
        ...tools(value),
        ...place,
      }
    }
    const known = (part: unknown) => typeof part === 'string' || Array.isArray(part)
    if (!known(prompt)) throw wrong('prompt')
    if (!known(completion)) throw wrong('completion')
    throw rowError(place, '"prompt" and "completion" must both be strings or both be lists of messages')
  },
  rows: {
    chat: (row, { prompts, system }) =>
      prompts ? chatAt(row, system, turn(row.prompt, row.completion)) : undefined,
    plain: ({ prompt, completion }) => ({ prompt, completion }),
    label: {
      of: ({ completion }) => completion,
      with: (row, completion) => ({ ...row, completion }),
    },
    question: ({ prompt, completion }) => ({ prompt, expected: completion, system: null }),
    opening: ({ prompt }) => prompt.trim(),
    prompt: ({ prompt }) => prompt,
    texts: ({ prompt, completion }) => [prompt, completion],
    empty: () => 'the completion is empty',
  },
}
