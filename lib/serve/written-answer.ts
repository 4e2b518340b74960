/** Reads a whole answer as its text and its tool calls. */
import type { WrittenCall } from './call-forms.js'
import { CallReader } from './call-reader.js'
import type { Answering } from './models.js'
import { callStyleOf } from './tools.js'

/**
 * @param tools schemas of the tools that the model could call
 * @throws {ApiError} for a template without tools, or with calls in a form that is not known
 */
export async function writtenAnswer(
  answering: Pick<Answering, 'base' | 'adapters'>,
  tools: readonly { function: { name: string; parameters?: unknown } }[],
  text: string,
): Promise<{ content: string; calls: WrittenCall[] }> {
  const { form } = await callStyleOf(answering)
  const reader = new CallReader(form, new Map(tools.map(({ function: one }) => [one.name, one.parameters])))
  const parts = [...reader.push(text), ...reader.end()]
  return {
    content: parts.flatMap((part) => ('text' in part ? part.text : [])).join(''),
    calls: parts.flatMap((part) => ('calls' in part ? part.calls : [])),
  }
}
