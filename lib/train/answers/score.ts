/** Log-likelihoods of given answers, to compute accuracies over label words and to compare wordings. */
import * as z from 'zod'
import { type ActiveAdapter, type BaseModel, withSession } from '../../base/base.js'
import { abortSignal, badArgument } from '../../core/arguments.js'
import { integer } from '../../core/schema.js'
import { isRecord } from '../../core/schema-shape.js'
import { IGNORE } from '../../data/encoded-row.js'
import type { PlanOptions } from '../../native/addon.js'
import { EVAL_PLAN } from '../../planning/plans.js'
import { formatOf, promptShape, rowPrompting } from '../rows/prompting.js'

/** A prompt and its completion, tokenized as in training. */
export interface Answer {
  prompt: string
  completion: string
}

/** Options of `Model.logLikelihoods`. */
export const scoreSchema = z.strictObject({
  maxSeqLength: integer(2, 'an integer from 2').default(512),
  chatTemplate: promptShape.chatTemplate,
  signal: abortSignal().optional(),
})

/** @throws {ConfigError} for anything but a list of prompts with their completions */
export function checkedAnswers(answers: unknown, name: string): readonly Answer[] {
  const one = 'such as { prompt: "2 + 2 =", completion: " 4" }'
  if (!Array.isArray(answers)) throw badArgument(answers, name, 'answers', `a list of answers ${one}`)
  for (const [index, answer] of answers.entries())
    if (!isRecord(answer) || typeof answer.prompt !== 'string' || typeof answer.completion !== 'string')
      throw badArgument(answer, name, `answers.${index}`, `an answer ${one}`)
  return answers
}

/**
 * The log-probability of each completion and its end token, given its prompt, in nats.
 * @throws {DataError} for an answer without tokens, or longer than `maxSeqLength`
 */
export async function logLikelihoods(
  base: BaseModel,
  adapters: readonly ActiveAdapter[],
  answers: readonly Answer[],
  { maxSeqLength, signal, ...asked }: z.output<typeof scoreSchema>,
): Promise<number[]> {
  const tokenizer = await base.tokenizer()
  const prompting = rowPrompting(formatOf(base, adapters), asked)
  const encode = async ({ prompt, completion }: Answer, index: number) => {
    const place = { path: 'logLikelihoods()', line: index + 1, unit: 'row' as const }
    const given = { format: 'prompt_completion' as const, prompt, completion, ...place }
    const { encoded } = await tokenizer.encodeRow(given, { maxSeqLength, unended: 'allow', prompting })
    // With the default `emptyRows`, an unusable answer is an error.
    return encoded as Exclude<typeof encoded, string>
  }
  const encoded = await Promise.all(answers.map(encode))
  const tokens = Math.max(1, ...encoded.map(({ inputIds }) => inputIds.length))
  const plan: PlanOptions = {
    mode: 'evaluate',
    tokens,
    sequences: 1,
    headRows: tokens,
    precision: base.precision,
  }
  return withSession(base, adapters, { [EVAL_PLAN]: plan }, async (session) => {
    const found: number[] = []
    for (const { inputIds, labels } of encoded) {
      signal?.throwIfAborted()
      const shifted = Int32Array.from(labels, (_, i) => labels[i + 1] ?? IGNORE)
      const batch = { tokens: inputIds, labels: shifted, cuSeqlens: Int32Array.of(0, inputIds.length) }
      found.push(-(await session.evaluate(EVAL_PLAN, batch).promise).lossSum)
    }
    return found
  })
}
