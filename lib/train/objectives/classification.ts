/** Training and evaluation of classifiers, which predict the class of a row from its last token. */
import { ConfigError } from '../../core/errors.js'
import { quote } from '../../core/quote.js'
import type { MicroBatch } from '../../data/pack.js'
import type { NativeSession } from '../../native/addon.js'
import type { ClassWeights } from '../../options/task.js'
import { EVAL_PLAN } from '../../planning/plans.js'
import type { BatchSource, Window } from '../rows/batches.js'
import type { Examples } from '../rows/data.js'
import { Confusion, largestOf } from '../steps/class-metrics.js'
import { type EvaluateControl, type Evaluation, measured } from '../steps/evaluate.js'
import type { Objective, WorkOf } from '../steps/objective.js'

/**
 * Weight of each class in the loss.
 * @throws {ConfigError} for weights of unknown classes, or `balanced` when some class has no rows
 */
export function weightsOfClasses(
  asked: ClassWeights | null,
  labels: readonly string[],
  { data, rows }: Examples,
): Float64Array {
  if (asked === null) return new Float64Array(labels.length).fill(1)
  if (asked !== 'balanced') {
    const unknown = Object.keys(asked).find((name) => !labels.includes(name))
    if (unknown !== undefined)
      throw new ConfigError(
        `class_weights names ${quote(unknown)}, which is none of the labels ${labels.join(', ')}.`,
        { labels, name: unknown },
      )
    return Float64Array.from(labels, (label) => asked[label] ?? 1)
  }
  const counts = new Float64Array(labels.length)
  for (const row of rows) (counts[data.rowTarget(row) as number] as number)++
  const none = counts.indexOf(0)
  if (none >= 0)
    throw new ConfigError(
      `class_weights is balanced, but no training row has the label ${quote(labels[none] ?? '')}; add such rows, or leave the label out.`,
      { label: labels[none] },
    )
  return counts.map((count) => rows.length / (labels.length * count))
}

/** Classes of the rows in a micro-batch, in order. */
function targetsOf({ labels, cuSeqlens }: MicroBatch): number[] {
  return Array.from(
    { length: cuSeqlens.length - 1 },
    (_, row) => labels[(cuSeqlens[row + 1] as number) - 1] as number,
  )
}

/** Cross-entropy over classes; each row has the weight of its class. */
export class Classification implements Objective {
  readonly losses = 'parts of a mean'
  readonly #classes: number
  readonly #weights: Float64Array

  constructor(weights: Float64Array) {
    this.#classes = weights.length
    this.#weights = weights
  }

  evaluate(session: NativeSession, source: BatchSource, control: EvaluateControl): Promise<Evaluation> {
    return evaluateClasses(session, EVAL_PLAN, source, this.#classes, control)
  }

  window(_: NativeSession, { batches }: Window): WorkOf {
    const weightOf = (target: number) => this.#weights[target] as number
    let total = 0
    for (const batch of batches) for (const target of targetsOf(batch)) total += weightOf(target)
    return (batch) => {
      const weights = Float32Array.from(targetsOf(batch), (target) => weightOf(target) / total)
      const value = (logProbs: Float32Array) => {
        let loss = 0
        for (const [row, logProb] of logProbs.entries()) loss -= (weights[row] as number) * logProb
        return { loss }
      }
      return { batch, head: { kind: 'weighted', weights, value } }
    }
  }

  named(): Partial<Evaluation> {
    return {}
  }
}

/**
 * Loss and metrics of a classifier over labeled rows; an abort rejects with the signal's reason between
 * micro-batches.
 */
export async function evaluateClasses(
  session: NativeSession,
  plan: string,
  source: BatchSource,
  classes: number,
  control: EvaluateControl = {},
): Promise<Evaluation> {
  const found = await measured(source.count(0), control, async (index) => {
    const batch = source.get(0, index)
    const { lossSum, logits } = await session.evaluate(plan, { ...batch, wantLogits: true }).promise
    const targets = targetsOf(batch)
    const predicted = targets.map((_, row) => largestOf(logits as Float32Array, row, classes))
    return { lossSum, tokens: batch.tokens.length, targets, predicted }
  })
  const confusion = new Confusion(classes)
  let [sum, rows, tokens] = [0, 0, 0]
  for (const batch of found) {
    sum += batch.lossSum
    rows += batch.targets.length
    tokens += batch.tokens
    for (const [row, target] of batch.targets.entries()) confusion.add(target, batch.predicted[row] as number)
  }
  const loss = sum / rows
  return { loss, perplexity: Math.exp(loss), tokens, supervisedTokens: rows, ...confusion.metrics() }
}
