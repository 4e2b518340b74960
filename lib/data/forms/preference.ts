/** Pairs of answers to one prompt. The prompt may be separate, or the common beginning of two chats. */
import { isDeepStrictEqual } from 'node:util'
import type { DatasetMessage } from '../../tokenizer/message.js'
import { rowError } from '../dataset/place.js'
import { isObject, type Json, keysOf } from '../dataset/value.js'
import type { EncodedRow } from '../encoded-row.js'
import type { AnswerRow, PreferenceRow } from '../rows.js'
import type { Form, Reading } from './form.js'

const EXPECTED = '{"prompt": …, "chosen": …, "rejected": …}'
const SIDES = ['chosen', 'rejected'] as const

/** A prompt and two answers to it. */
type Sides =
  | { kind: 'text'; prompt: string; chosen: string; rejected: string }
  | { kind: 'messages'; prompt: DatasetMessage[]; chosen: DatasetMessage[]; rejected: DatasetMessage[] }

export const preference: Form<PreferenceRow> = {
  name: 'preference',
  precedence: 10,
  expected: EXPECTED,
  columns: { prompt: 'the prompt', chosen: 'the better answer', rejected: 'the worse answer' },
  recognizes: hasPair,
  ofTask: {
    namesAnswers: true,
    advice(value) {
      // With a completion, it is clear which answer to train on.
      if (!hasPair(value) || 'completion' in value) return undefined
      const answer = 'prompt' in value ? 'completion' : Array.isArray(value.chosen) ? 'messages' : 'text'
      const other = 'messages' in value ? ', or train on its messages with format: messages' : ''
      return `the row has "chosen" and "rejected", as for preference training: set task: dpo or task: orpo for it; to train on the chosen answers alone, map their column: columns: {${answer}: chosen}${other}`
    },
  },
  read(given, reading) {
    const { place, tools } = reading
    const value = standard(given)
    const sides = readSides(value, reading)
    if (sides.kind === 'text') {
      const { prompt } = sides
      const side = (completion: string): AnswerRow => ({
        ...{ format: 'prompt_completion', prompt, completion },
        ...place,
      })
      return { format: 'preference', chosen: side(sides.chosen), rejected: side(sides.rejected), ...place }
    }
    const before = sides.prompt.map((message) => ({ ...message, weight: 0 as const }))
    const own = tools(value)
    const side = (after: DatasetMessage[]): AnswerRow => ({
      ...{ format: 'messages', messages: [...before, ...after] },
      ...own,
      ...place,
    })
    return { format: 'preference', chosen: side(sides.chosen), rejected: side(sides.rejected), ...place }
  },
  rows: {
    answers: ({ chosen, rejected }) => [chosen, rejected],
    expected: ({ chosen }) => chosen,
    joined(_, [chosen, rejected]) {
      const [one, other] = [chosen as EncodedRow, rejected as EncodedRow]
      // The answers may differ only in what was cut off.
      if (isDeepStrictEqual(one.inputIds, other.inputIds)) return 'truncated_away'
      const both = (key: 'inputIds' | 'labels') => Int32Array.from([...one[key], ...other[key]])
      return {
        ...one,
        inputIds: both('inputIds'),
        labels: both('labels'),
        supervised: one.supervised + other.supervised,
        split: one.inputIds.length,
        truncated: one.truncated || other.truncated,
        fullLength: one.fullLength + other.fullLength,
        specialTokens: [...one.specialTokens, ...other.specialTokens],
      }
    },
  },
}

function hasPair(value: Json): boolean {
  return ('chosen' in value && 'rejected' in value) || ('preferred_output' in value && 'input' in value)
}

/** A row of OpenAI's preference data with the usual names: its prompt and tools are in `input`. */
function standard(value: Json): Json {
  if (!('preferred_output' in value)) return value
  const { input, preferred_output: chosen, non_preferred_output: rejected, ...rest } = value
  const { messages: prompt, ...about } = isObject(input) ? input : { messages: input }
  return { ...rest, ...about, prompt, chosen, rejected }
}

/** @throws {DataError} when the row does not have two different answers to one prompt */
function readSides(value: Json, { place, messages, parsed, chatColumns }: Reading): Sides {
  const wrong = (problem: string) => rowError(place, problem)
  for (const side of SIDES)
    if (value[side] === undefined || value[side] === null)
      throw wrong(`expected ${EXPECTED}, but there is no "${side}", only ${keysOf(value)}`)
  const [chosen, rejected] = SIDES.map((side) => {
    const given = parsed(value[side], side)
    return isObject(given) ? [given] : given
  })
  const key = chatColumns.find((column) => column in value) ?? 'prompt'
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
