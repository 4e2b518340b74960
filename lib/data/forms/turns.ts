/** Messages, tools, and questions of chats, for all forms whose rows are chats or can be. */
import type { DatasetMessage } from '../../tokenizer/message.js'
import type { RowPlace } from '../dataset/place.js'
import type { Json } from '../dataset/value.js'
import type { MessagesRow } from '../rows.js'
import type { Reading } from './form.js'

/** Reads a chat whose system prompt may be beside its messages. */
export const readChat =
  (column: string) =>
  (value: Json, { place, wrong, messages, tools, parsed }: Reading): MessagesRow => {
    const list = parsed(value[column], column)
    if (!Array.isArray(list)) throw wrong(column)
    const told = messages(list, column)
    const { system } = value
    const leads = typeof system === 'string' && system !== '' && told[0]?.role !== 'system'
    return {
      format: 'messages',
      messages: leads ? [{ role: 'system', content: system }, ...told] : told,
      ...tools(value),
      ...place,
    }
  }

/** A question and its answer. */
export const turn = (question: string, answer: string): DatasetMessage[] => [
  { role: 'user', content: question },
  { role: 'assistant', content: answer },
]

/** A chat in the place of a row, with a system prompt if there is one. */
export function chatAt(
  { path, line, unit, group }: RowPlace,
  system: string | null,
  turns: readonly DatasetMessage[],
): MessagesRow {
  return {
    format: 'messages',
    messages: [...(system === null ? [] : [{ role: 'system', content: system }]), ...turns],
    ...{ path, line, ...(unit ? { unit } : {}), ...(group === undefined ? {} : { group }) },
  }
}
