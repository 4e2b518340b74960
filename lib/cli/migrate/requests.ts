/** The held-out questions as the input of OpenAI's Batch API, so that the old model can be asked before it is gone. */
import { rowId } from './old-answers.js'
import type { HeldOutRow } from './split.js'

/** Tokens of an answer to a prompt without turns, whose usual limit at OpenAI is 16. */
const COMPLETION_TOKENS = 512

/** JSON Lines, a request for each row. @param model the old model */
export function requestsOf(rows: readonly HeldOutRow[], model: string): string {
  return rows.map((row) => `${JSON.stringify(requestOf(row, model))}\n`).join('')
}

function requestOf({ row, prompt, tools }: HeldOutRow, model: string): object {
  const request = { custom_id: rowId(row), method: 'POST' }
  if (typeof prompt === 'string')
    return {
      ...{ ...request, url: '/v1/completions' },
      body: { model, prompt, max_tokens: COMPLETION_TOKENS, temperature: 0 },
    }
  return {
    ...{ ...request, url: '/v1/chat/completions' },
    body: { model, messages: prompt, ...(tools === undefined ? {} : { tools }), temperature: 0 },
  }
}
