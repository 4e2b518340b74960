/** Reads the two answers of a preference row. The prompt may be separate, or the common beginning of two chats. */
import { isDeepStrictEqual } from 'node:util'
import type { DatasetMessage } from '../../tokenizer/message.js'
import { isObject, type Json, keysOf } from './columns.js'
import { type RowPlace, rowError } from './place.js'

/** A prompt and two answers to it. */
export type Sides =
  | { kind: 'text'; prompt: string; chosen: string; rejected: string }
  | { kind: 'messages'; prompt: DatasetMessage[]; chosen: DatasetMessage[]; rejected: DatasetMessage[] }

/** Readers for the content of a row. */
export interface SideReaders {
  /** Validates a list of messages. */
  messages(list: unknown[], key: string): DatasetMessage[]
  /** Parses a list that tables store as a JSON string. */
  parsed(value: unknown, key: string): unknown
}

const EXPECTED = '{"prompt": …, "chosen": …, "rejected": …}'
const SIDES = ['chosen', 'rejected'] as const

/** @throws {DataError} when the row does not have two different answers to one prompt */
export function readSides(value: Json, { messages, parsed }: SideReaders, place: RowPlace): Sides {
  const wrong = (problem: string) => rowError(place, problem)
  for (const side of SIDES)
    if (value[side] === undefined || value[side] === null)
      throw wrong(`expected ${EXPECTED}, but there is no "${side}", only ${keysOf(value)}`)
  const [chosen, rejected] = SIDES.map((side) => {
    const given = parsed(value[side], side)
    return isObject(given) ? [given] : given
  })
  const key = 'messages' in value ? 'messages' : 'conversations' in value ? 'conversations' : 'prompt'
  const prompt = parsed(value[key], key) ?? undefined
  const sides = textSides(prompt, chosen, rejected, wrong) ?? messageSides()
  if (isDeepStrictEqual(sides.chosen, sides.rejected))
    throw wrong('"chosen" and "rejected" are equal, so there is nothing to prefer; remove the row')
  return sides

  function messageSides(): Sides {
    for (const [side, given] of [
      ['chosen', chosen],
      ['rejected', rejected],
    ] as const)
      if (!Array.isArray(given)) throw wrong(`"${side}" must be a list of messages, as the other answer is`)
    const [own, other] = [
      messages(chosen as unknown[], 'chosen'),
      messages(rejected as unknown[], 'rejected'),
    ]
    const before = Array.isArray(prompt) ? messages(prompt, key) : []
    const shared = before.length > 0 ? 0 : commonStart(own, other)
    if (typeof prompt === 'string' && !own.slice(0, shared).some(({ content }) => content === prompt))
      throw wrong('the chats of "chosen" and "rejected" do not begin with the "prompt" that is beside them')
    const read = { chosen: own.slice(shared), rejected: other.slice(shared) }
    const all = [...before, ...own.slice(0, shared)]
    for (const side of SIDES)
      if (read[side].at(-1)?.role !== 'assistant')
        throw wrong(`"${side}" must end with an answer of the assistant after the prompt`)
    if (all.length === 0)
      throw wrong('there is no "prompt", and "chosen" and "rejected" do not begin with the same message')
    return { kind: 'messages', prompt: all, ...read }
  }
}

function textSides(
  prompt: unknown,
  chosen: unknown,
  rejected: unknown,
  wrong: (problem: string) => Error,
): Sides | undefined {
  if (typeof chosen !== 'string' || typeof rejected !== 'string') return undefined
  if (typeof prompt === 'string') return { kind: 'text', prompt, chosen, rejected }
  if (Array.isArray(prompt))
    throw wrong(
      '"prompt" is a list of messages, but "chosen" and "rejected" are strings; make all of them lists',
    )
  throw wrong(`expected ${EXPECTED}, but there is no "prompt"`)
}

/** Number of leading messages that both share, leaving at least one of each. */
function commonStart(one: readonly DatasetMessage[], other: readonly DatasetMessage[]): number {
  const most = Math.min(one.length, other.length) - 1
  let count = 0
  while (count < most && isDeepStrictEqual(one[count], other[count])) count++
  return count
}
