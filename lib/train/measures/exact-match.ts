/**
 * Counts rows that a model answers word for word. The trained part of a row is processed in one forward pass,
 * and the row matches if every trained token is the likeliest one after the tokens before it. Greedy generation
 * would have produced exactly these tokens, end token included, but would take one pass per token.
 */
import { type ActiveAdapter, type BaseModel, withSession } from '../../base/base.js'
import type { NativeSession } from '../../native/addon.js'
import { exactMatchPlan } from '../../planning/plans.js'
import type { BatchSource } from '../rows/batches.js'
import { type EvaluateControl, measured } from '../steps/evaluate.js'

/** How well answers match the data. */
export interface ExactMatch {
  /** Share of rows, from 0 to 1. */
  exactMatch: number
  /** Rows with supervised tokens; answers with `reasoningHistory: 'drop'`. */
  rows: number
  /** For each row, in order: true if it was answered word for word; false for a prompt alone. */
  matched: boolean[]
  /** For each row: share of its supervised tokens that are the likeliest one after the tokens before them. */
  accuracies: number[]
  /** Share of all supervised tokens that are the likeliest one after the tokens before them, from 0 to 1. */
  meanTokenAccuracy: number
  supervisedTokens: number
}

/**
 * @param source one row per batch
 * @param maxSeqLength most tokens in a row
 * @param control an abort rejects with the signal's reason between two rows
 */
export async function measureExactMatch(
  base: BaseModel,
  adapters: readonly ActiveAdapter[],
  source: BatchSource,
  maxSeqLength: number,
  control: EvaluateControl = {},
): Promise<ExactMatch> {
  const plans = { forward: exactMatchPlan(maxSeqLength, base.precision) }
  return withSession(base, adapters, plans, (session) => countMatches(session, 'forward', source, control))
}

/**
 * @param plan name of a plan of the session, made by `exactMatchPlan`
 * @param source one row per batch
 */
export async function countMatches(
  session: NativeSession,
  plan: string,
  source: BatchSource,
  control: EvaluateControl = {},
): Promise<ExactMatch> {
  const found = await measured(source.count(0), control, async (index) => {
    const { tokens, labels } = source.get(0, index)
    const positions = Int32Array.from(labels.keys()).filter((at) => (labels[at] as number) >= 0)
    if (positions.length === 0) return { right: 0, supervised: 0 }
    const input = { tokens, past: 0, rows: positions, wantLogits: true }
    const logits = (await session.forward(plan, input).promise).logits as Float32Array
    const size = logits.length / positions.length
    const right = positions.filter((at, row) =>
      isLargest(logits.subarray(row * size, (row + 1) * size), labels[at] as number),
    ).length
    return { right, supervised: positions.length }
  })
  const rows = found.filter(({ supervised }) => supervised > 0).length
  const matched = found.map(({ right, supervised }) => supervised > 0 && right === supervised)
  const accuracies = found.map(({ right, supervised }) => right / supervised)
  const rightTokens = found.reduce((sum, { right }) => sum + right, 0)
  const supervisedTokens = found.reduce((sum, { supervised }) => sum + supervised, 0)
  const exactMatch = matched.filter(Boolean).length / rows
  const meanTokenAccuracy = rightTokens / supervisedTokens
  return { exactMatch, rows, matched, accuracies, meanTokenAccuracy, supervisedTokens }
}

/** On a tie the first logit wins, as in generation. */
function isLargest(logits: Float32Array, index: number): boolean {
  const value = logits[index] as number
  return logits.every((other, at) => other < value || (other === value && at >= index))
}
