/** Measurements of single rows: the loss of each, and the answer to each by greedy generation. */
import { type ActiveAdapter, type BaseModel, withSession } from '../base/base.js'
import { IGNORE } from '../data/encoded-row.js'
import type { WorkerTokenizer } from '../data/worker-tokenizer.js'
import { EVAL_PLAN, evaluationPlans } from '../planning/plans.js'
import { type Examples, rowByRow } from './data.js'
import { Decoder } from './decoder.js'
import { contextLength, decodeText, generateSchema } from './generate.js'
import { endIds, formatOf } from './prompting.js'

/** Options that size the measurement. */
export interface RowShape {
  maxSeqLength: number
  logitsMemory: string
}

/**
 * The mean loss over the supervised tokens of each row, in nats; null where it is not finite. An abort rejects with
 * the signal's reason between two rows.
 */
export async function rowLosses(
  base: BaseModel,
  adapters: readonly ActiveAdapter[],
  examples: Examples,
  { maxSeqLength, logitsMemory }: RowShape,
  signal?: AbortSignal,
): Promise<(number | null)[]> {
  const source = rowByRow(examples, maxSeqLength)
  const shape = { perDeviceTrainBatchSize: 1, packing: false, maxSeqLength, logitsMemory }
  return withSession(base, adapters, evaluationPlans(shape, base), async (session) => {
    const losses: (number | null)[] = []
    for (let row = 0; row < examples.rows.length; row++) {
      signal?.throwIfAborted()
      const { lossSum, count } = await session.evaluate(EVAL_PLAN, source.get(0, row)).promise
      const loss = lossSum / count
      losses.push(Number.isFinite(loss) ? loss : null)
    }
    return losses
  })
}

/** The first question of a tokenized row, and its answer. */
export interface Question {
  prompt: Int32Array
  answer: Int32Array
}

/** Questions of rows: the tokens before the first that is learned, and those that are learned there. */
export function questionsOf({ data, rows }: Examples): (Question | null)[] {
  return [...rows].map((row) => {
    const ids = data.ids(row)
    const labels = data.labels(row)
    const start = labels.findIndex((label) => label !== IGNORE)
    const length = labels.subarray(start).indexOf(IGNORE)
    // A document is learned from its start, and asks nothing.
    if (start < 2) return null
    return { prompt: ids.slice(0, start), answer: ids.slice(start, length < 0 ? undefined : start + length) }
  })
}

/** The text of tokens, special ones left out. */
export async function textOf(tokenizer: WorkerTokenizer, ids: Iterable<number>): Promise<string> {
  const stream = tokenizer.decodeStream({ skipSpecialTokens: true, continues: true })
  let text = ''
  for (const id of ids) text += await stream.push(id)
  return text + (await stream.end())
}

/**
 * Answers by greedy generation; empty where a row asks nothing, or leaves no room for an answer. An abort rejects with
 * the signal's reason.
 * @param limit tokens after which an answer is cut
 */
export async function answers(
  base: BaseModel,
  adapters: readonly ActiveAdapter[],
  questions: readonly (Question | null)[],
  limit: number,
  signal?: AbortSignal,
): Promise<string[]> {
  const room = contextLength(base)
  const asked = questions.filter((question) => question !== null && question.prompt.length < room)
  const longest = Math.max(0, ...asked.map((question) => question?.prompt.length ?? 0))
  if (longest === 0) return questions.map(() => '')
  const tokenizer = await base.tokenizer()
  const ends = await endIds(tokenizer, formatOf(base, adapters))
  const decoder = await Decoder.open(base, adapters, Math.min(longest + limit, room))
  try {
    const found: string[] = []
    for (const question of questions) {
      signal?.throwIfAborted()
      if (question === null || question.prompt.length >= room) {
        found.push('')
        continue
      }
      const { prompt } = question
      const most = Math.min(limit, room - prompt.length)
      const text = decodeText(decoder, tokenizer, prompt, ends, most, generateSchema.parse({}), { signal })
      let next = await text.next()
      while (!next.done) next = await text.next()
      found.push(next.value.text)
    }
    return found
  } finally {
    await decoder.close()
  }
}
