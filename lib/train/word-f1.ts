/** The words that generated answers share with those of the data. */
import { type ActiveAdapter, type BaseModel, withSession } from '../base/base.js'
import { DataError } from '../core/errors.js'
import { mean } from '../core/mean.js'
import { exactMatchPlan } from '../planning/plans.js'
import { wordF1 } from './answer-scores.js'
import { type Examples, rowsInOrder } from './data.js'
import type { EvaluateControl } from './evaluate.js'
import { countMatches } from './exact-match.js'
import { answers, questionsOf, scoredRows } from './row-measures.js'

/** How many words generated answers share with those of the data. */
export interface AnswerF1 {
  /** Mean over the rows, from 0 to 1. */
  f1: number
  /** Rows with a prompt and an answer. */
  rows: number
}

/**
 * Answers each row greedily, unless the model is known to answer it word for word.
 * @throws {DataError} when no row has a prompt and an answer
 */
export async function measureWordF1(
  base: BaseModel,
  adapters: readonly ActiveAdapter[],
  examples: Examples,
  maxSeqLength: number,
  control: EvaluateControl = {},
): Promise<AnswerF1> {
  const questions = questionsOf(examples)
  if (questions.every((question) => question === null))
    throw new DataError(
      'no row has a prompt and an answer to it, so there is nothing to generate; measure the loss, exact_match, or accuracy, or use other rows.',
    )
  const plans = { forward: exactMatchPlan(maxSeqLength, base.precision) }
  const { matched } = await withSession(base, adapters, plans, (session) =>
    countMatches(session, 'forward', rowsInOrder(examples, maxSeqLength), control),
  )
  const answered = await scoredRows(await base.tokenizer(), questions, matched, (open, limit) =>
    answers(base, adapters, open, limit, control),
  )
  const asked = answered.filter((_, row) => questions[row] !== null)
  return { f1: mean(asked.map(wordF1)), rows: asked.length }
}
