/**
 * Answers of the model that is left behind: the output of OpenAI's Batch API, or JSON Lines of answers. Lines with an id
 * (`custom_id`, or `id`) are of the row that it names; without ids, lines are in the order of the rows.
 */
import { ConfigError } from '../../core/errors.js'
import { isRecord } from '../../core/schema-shape.js'
import { type RowPlace, rawRows, rowError } from '../../data/dataset.js'
import { answerText } from './question.js'

/** An answer file, for the held-out rows. */
export interface OldAnswers {
  /** By held-out row; null where the file has none. */
  answers: (string | null)[]
  /** Requests of a batch that failed. */
  failed: number
}

/** The name by which answers refer to a row. @param row its number in the data, from 1 */
export const rowId = (row: number) => `row-${row}`

interface Line {
  id: string | undefined
  /** null: the request failed. */
  text: string | null
  place: RowPlace
}

/**
 * @param rows number of rows of the data
 * @param heldOut numbers of the held-out rows, from 1
 * @throws {DataError} for a line without an answer
 * @throws {ConfigError} for ids of other rows, and for another number of lines than there are rows
 */
export async function readOldAnswers(
  path: string,
  rows: number,
  heldOut: readonly number[],
): Promise<OldAnswers> {
  const read: Line[] = []
  for await (const { value, place } of rawRows(path, { fileType: 'jsonl' })) read.push(lineOf(value, place))
  const withId = read.find(({ id }) => id !== undefined)
  const texts = withId === undefined ? byOrder(path, read, rows, heldOut) : byId(path, read, rows, heldOut)
  if (texts.every((text) => text === null))
    throw new ConfigError(
      `${path} has no answer to a held-out row; ask the old model the rows of held-out.jsonl (requests.jsonl has them as a batch).`,
      { path, lines: read.length },
    )
  return { answers: texts, failed: read.filter(({ text }) => text === null).length }
}

function byId(path: string, read: readonly Line[], rows: number, heldOut: readonly number[]) {
  const texts = new Map<string, string | null>()
  for (const { id, text, place } of read) {
    const number = /^(?:row-)?(\d+)$/.exec(id ?? '')?.[1]
    if (number === undefined || Number(number) < 1 || Number(number) > rows)
      throw rowError(
        place,
        `the id is ${id === undefined ? 'missing' : JSON.stringify(id)}, expected that of a row, from "row-1" to "${rowId(rows)}", as in requests.jsonl`,
      )
    const known = rowId(Number(number))
    if (texts.has(known)) throw rowError(place, `${path} has two answers to ${known}; remove one`)
    texts.set(known, text)
  }
  return heldOut.map((row) => texts.get(rowId(row)) ?? null)
}

/** Answers to all rows of the data, or to the held-out ones alone. */
function byOrder(path: string, read: readonly Line[], rows: number, heldOut: readonly number[]) {
  const texts = read.map(({ text }) => text)
  if (texts.length === heldOut.length) return texts
  if (texts.length === rows) return heldOut.map((row) => texts[row - 1] ?? null)
  throw new ConfigError(
    `${path} has ${texts.length} answers without ids, expected ${heldOut.length}, one for each row of held-out.jsonl in its order, or ${rows}, one for each row of the data.`,
    { path, answers: texts.length, held_out: heldOut.length, rows },
  )
}

const EXPECTED =
  'expected a line of a batch ({"custom_id": …, "response": …}), or an object with "answer", "content", "messages", or "choices"'

function lineOf(value: unknown, place: RowPlace): Line {
  if (!isRecord(value)) throw rowError(place, EXPECTED)
  if ('response' in value || 'custom_id' in value) return batchLine(value, place)
  const text = textOf(value)
  if (text === undefined) throw rowError(place, EXPECTED)
  // The id of a completion names itself and no row.
  return { id: 'choices' in value ? undefined : idOf(value.id), text, place }
}

function batchLine({ custom_id: id, response, error }: Record<string, unknown>, place: RowPlace): Line {
  const body = isRecord(response) && isRecord(response.body) ? response.body : undefined
  const text = body === undefined ? undefined : textOf(body)
  const isFailed = isRecord(error) || (body !== undefined && isRecord(body.error))
  if (text === undefined && !isFailed)
    throw rowError(place, 'the response has no choices; expected the output of a batch of chat completions')
  return { id: idOf(id), text: text ?? null, place }
}

function idOf(id: unknown): string | undefined {
  return typeof id === 'string' || typeof id === 'number' ? String(id) : undefined
}

function textOf(value: Record<string, unknown>): string | undefined {
  const { answer, choices, messages } = value
  if (typeof answer === 'string') return answer
  if (Array.isArray(choices)) {
    const [first] = choices
    if (!isRecord(first)) return undefined
    return typeof first.text === 'string' ? first.text : answerText(first.message)
  }
  if (Array.isArray(messages)) {
    const last = messages.findLast((one) => isRecord(one) && one.role === 'assistant')
    return last === undefined ? undefined : answerText(last)
  }
  return 'content' in value || 'tool_calls' in value ? answerText(value) : undefined
}
