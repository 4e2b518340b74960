/** Measurements of single rows: the loss of each, and the greedy answer to each. */
import { type ActiveAdapter, type BaseModel, withSession } from '../../base/base.js'
import { IGNORE } from '../../data/encoded-row.js'
import type { MicroBatch } from '../../data/pack.js'
import type { WorkerTokenizer } from '../../data/worker-tokenizer.js'
import { rowsOf, scoredRows as scoredSequences } from '../../losses/micro-batches.js'
import { sumOf, weightOf } from '../../losses/rows.js'
import { EVAL_PLAN, evaluationPlans, exactMatchPlan } from '../../planning/plans.js'
import type { ScoredRow } from '../../tasks/metrics.js'
import { contextLength, decodeText, generateSchema, lastOf } from '../answers/generate.js'
import { Decoder } from '../decoding/decoder.js'
import { type Examples, rowsInOrder } from '../rows/data.js'
import { endIds, formatOf, type KnownFormat } from '../rows/prompting.js'
import { type EvaluateControl, measured } from '../steps/evaluate.js'
import { countMatches, type ExactMatch } from './exact-match.js'

/** Options that determine the size of the measurement. */
export interface RowShape {
  perDeviceTrainBatchSize: number
  maxSeqLength: number
  logitsMemory: string
}

/**
 * The mean loss over the supervised tokens of each row, nats; null if it is not finite. An abort rejects with
 * the signal's reason between micro-batches.
 */
export async function rowLosses(
  base: BaseModel,
  adapters: readonly ActiveAdapter[],
  examples: Examples,
  { perDeviceTrainBatchSize, maxSeqLength, logitsMemory }: RowShape,
  signal?: AbortSignal,
): Promise<(number | null)[]> {
  const source = rowsInOrder(examples, maxSeqLength, perDeviceTrainBatchSize)
  const shape = { perDeviceTrainBatchSize, packing: false, maxSeqLength, logitsMemory }
  return withSession(base, adapters, evaluationPlans(shape, base), async (session) => {
    const losses: (number | null)[] = []
    for (let index = 0; index < source.count(0); index++) {
      signal?.throwIfAborted()
      const batch = source.get(0, index)
      const { logProbs } = await session.evaluate(EVAL_PLAN, { ...batch, wantLogProbs: true }).promise
      for (const row of scoredSequences(rowsOf(batch), logProbs as Float32Array)) {
        const loss = -sumOf(row) / weightOf(row)
        losses.push(Number.isFinite(loss) ? loss : null)
      }
    }
    return losses
  })
}

/** The first question of a tokenized row, and its answer, which is empty for a prompt alone. */
export interface Question {
  prompt: Int32Array
  answer: Int32Array
}

/**
 * The question of each row: the tokens before its first trained token, and the trained tokens from there; of a prompt
 * alone, all of its tokens.
 */
export function questionsOf({ data, rows }: Examples): (Question | null)[] {
  return [...rows].map((row) => {
    const labels = data.labels(row)
    return questionIn(data.ids(row), (t) => labels[t] !== IGNORE)
  })
}

/** The question of each sequence of a micro-batch. */
export function questionsIn(batch: MicroBatch): (Question | null)[] {
  return rowsOf(batch).rows.map(({ tokens, weights }) => questionIn(tokens, (t) => weights[t] !== 0))
}

function questionIn(ids: Int32Array, isTrained: (token: number) => boolean): Question | null {
  let start = 0
  while (start < ids.length && !isTrained(start)) start++
  let end = start
  while (end < ids.length && isTrained(end)) end++
  // A document is trained from its start, so it has no question.
  if (start < 2) return null
  return { prompt: ids.slice(0, start), answer: ids.slice(start, end) }
}

/** Decodes tokens without special ones. */
export async function textOf(tokenizer: WorkerTokenizer, ids: Iterable<number>): Promise<string> {
  const stream = tokenizer.decodeStream({ skipSpecialTokens: true, continues: true })
  let text = ''
  for (const id of ids) text += await stream.push(id)
  return text + (await stream.end())
}

/** Tokens that an answer may have beyond the longest answer in the data. */
const SPARE_TOKENS = 8

/** Token limit for answers to these questions, if all of them have an answer. */
function answerLimit(questions: readonly (Question | null)[]): number {
  return Math.max(1, ...questions.map((question) => question?.answer.length ?? 0)) + SPARE_TOKENS
}

/**
 * Rows with their answers.
 * @param matched true for rows already known to be answered word for word, which are not asked again
 * @param limit most tokens in an answer. Default: a few more than the longest answer in the data
 */
export async function scoredRows(
  tokenizer: WorkerTokenizer,
  questions: readonly (Question | null)[],
  matched: readonly boolean[],
  ask: (questions: readonly (Question | null)[], limit: number) => Promise<string[]>,
  limit = answerLimit(questions),
): Promise<ScoredRow[]> {
  const texts = (ids: (Int32Array | undefined)[]) =>
    Promise.all(ids.map((one) => (one ? textOf(tokenizer, one) : '')))
  const expected = await texts(questions.map((question) => question?.answer))
  const prompts = await texts(questions.map((question) => question?.prompt))
  const open = questions.map((question, row) => (matched[row] ? null : question))
  const answers = await ask(open, limit)
  return expected.map((text, row) => ({
    prompt: prompts[row] as string,
    expected: text,
    prediction: matched[row] ? text : (answers[row] as string),
  }))
}

/**
 * Greedy answers; empty if a row has no question or leaves no room for an answer. An abort rejects with the
 * signal's reason.
 * @param limit most tokens in an answer
 */
async function answers(
  base: BaseModel,
  adapters: readonly ActiveAdapter[],
  questions: readonly (Question | null)[],
  limit: number,
  control: EvaluateControl = {},
): Promise<string[]> {
  const room = contextLength(base)
  const asked = questions.filter((question) => question !== null && question.prompt.length < room)
  const longest = Math.max(0, ...asked.map((question) => question?.prompt.length ?? 0))
  if (longest === 0) return questions.map(() => '')
  const decoder = await Decoder.open(base, adapters, Math.min(longest + limit, room))
  try {
    return await answersBy(decoder, base, formatOf(base, adapters), questions, limit, control)
  } finally {
    await decoder.close()
  }
}

/** The same with an open decoder; answers are also limited by its cache. */
export async function answersBy(
  decoder: Decoder,
  base: BaseModel,
  format: KnownFormat,
  questions: readonly (Question | null)[],
  limit: number,
  control: EvaluateControl = {},
): Promise<string[]> {
  const tokenizer = await base.tokenizer()
  const ends = await endIds(tokenizer, format)
  const room = Math.min(decoder.capacity, contextLength(base))
  const options = generateSchema.parse({})
  const { signal } = control
  return measured(questions.length, control, async (index) => {
    const question = questions[index] ?? null
    const most = Math.min(limit, room - (question?.prompt.length ?? room))
    if (question === null || most < 1) return ''
    const text = decodeText(decoder, tokenizer, question.prompt, ends, most, options, { signal })
    return (await lastOf(text)).text
  })
}

/**
 * Answers rows greedily, those alone that the model is not known to answer word for word.
 * @param questions the questions of the rows, as `questionsOf` finds them
 */
export async function answeredRows(
  base: BaseModel,
  adapters: readonly ActiveAdapter[],
  { examples, questions }: { examples: Examples; questions: readonly (Question | null)[] },
  maxSeqLength: number,
  control: EvaluateControl = {},
): Promise<Pick<ExactMatch, 'matched' | 'accuracies'> & { answered: ScoredRow[] }> {
  const plans = { forward: exactMatchPlan(maxSeqLength, base.precision) }
  const { matched, accuracies } = await withSession(base, adapters, plans, (session) =>
    countMatches(session, 'forward', rowsInOrder(examples, maxSeqLength), control),
  )
  const answered = await scoredRows(await base.tokenizer(), questions, matched, (open, limit) =>
    answers(base, adapters, open, limit, control),
  )
  return { matched, accuracies, answered }
}
