/** The words that generated answers share with those of the data. */
import type { ActiveAdapter, BaseModel } from '../../base/base.js'
import { DataError } from '../../core/errors.js'
import { mean } from '../../core/mean.js'
import type { Examples } from '../rows/data.js'
import type { EvaluateControl } from '../steps/evaluate.js'
import { wordF1 } from './answer-scores.js'
import { answeredRows, questionsOf } from './row-measures.js'

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
      'no row has a prompt and an answer to it, so there is nothing to generate; measure the loss, exact_match, or mean_token_accuracy, or use other rows.',
    )
  const { answered } = await answeredRows(base, adapters, { examples, questions }, maxSeqLength, control)
  const asked = answered.filter((_, row) => questions[row] !== null)
  return { f1: mean(asked.map(wordF1)), rows: asked.length }
}
