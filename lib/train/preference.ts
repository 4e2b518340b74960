/** Preference training on pairs of answers: the loss of micro-batches, and its evaluation. */
import type { MicroBatch } from '../data/pack.js'
import { denominatorsOf, lossOf, type NamedLoss, scoresAll } from '../losses/index.js'
import { headWeights, rowsOf, scoredRows } from '../losses/micro-batches.js'
import { lossPasses } from '../losses/passes.js'
import { type Denominators, join, type Metrics, means, type ScoredRow, sumOf } from '../losses/rows.js'
import type { NativeSession } from '../native/addon.js'
import type { RunOptions } from '../options/options.js'
import { EVAL_PLAN, TRAIN_PLAN } from '../planning/plans.js'
import { taskRules } from '../tasks/index.js'
import type { BatchSource } from './batches.js'
import type { RunData } from './data.js'
import { type EvaluateControl, type Evaluation, measured, type PreferenceMetrics } from './evaluate.js'
import type { Objective, Pass } from './objective.js'
import { type ReferenceSums, type References, referencesOf } from './references.js'
import type { RunPlace } from './step.js'

/** Counts by which the loss of some micro-batches is divided. */
function pairCounts(loss: NamedLoss, batches: readonly MicroBatch[]): Denominators {
  const pairs = batches.flatMap((batch) => {
    const { rows } = rowsOf(batch)
    return Array.from({ length: rows.length / 2 }, (_, pair) => rows.slice(2 * pair, 2 * pair + 2))
  })
  return denominatorsOf(loss, pairs)
}

/** A micro-batch whose labels are at all tokens that a loss scores. */
const scoredBy = (loss: NamedLoss, batch: MicroBatch): MicroBatch => ({
  ...batch,
  labels: rowsOf(batch, scoresAll(loss)).batch.labels,
})

/** The loss of a micro-batch, the weights of its labeled positions, and sums of its metrics. */
export interface BatchLoss {
  loss: number
  weights: Float32Array
  metrics: Metrics
}

/** @param about what a loss needs to know about each sequence, by its index */
export function batchLoss(
  loss: NamedLoss,
  batch: MicroBatch,
  logProbs: Float32Array,
  per: Denominators,
  about: (sequence: number) => Partial<ScoredRow>,
  kl?: number,
): BatchLoss {
  const made = rowsOf(batch, scoresAll(loss))
  const rows = scoredRows(made, logProbs).map((row, index) => ({ ...row, ...about(index) }))
  const value = lossOf(loss, rows, per, kl)
  return { loss: value.loss, weights: headWeights(made, value.gradient, 1), metrics: value.metrics }
}

/** Metrics named as in events. */
export function preferenceMetrics(metrics: Metrics): PreferenceMetrics {
  const named = Object.entries(means(metrics)).map(([name, value]) => [
    name.replace(/[/_](\w)/g, (_, letter: string) => letter.toUpperCase()),
    value,
  ])
  return Object.fromEntries(named) as PreferenceMetrics
}

/** The micro-batches of a source's first epoch. */
export function allBatches(source: BatchSource): MicroBatch[] {
  return Array.from({ length: source.count(0) }, (_, index) => source.get(0, index))
}

/** Log-probability of each sequence of a micro-batch. */
export async function sequenceSums(session: NativeSession, batch: MicroBatch): Promise<number[]> {
  const { logProbs } = await session.evaluate(EVAL_PLAN, { ...batch, wantLogProbs: true }).promise
  return scoredRows(rowsOf(batch), logProbs as Float32Array).map(sumOf)
}

/**
 * Loss and metrics over micro-batches; an abort rejects with the signal's reason between them.
 * @param lossOfBatch the loss of a micro-batch, as a part of the mean over all of them
 */
export async function evaluatePreference(
  session: NativeSession,
  loss: NamedLoss,
  batches: readonly MicroBatch[],
  control: EvaluateControl,
  lossOfBatch: (batch: MicroBatch, logProbs: Float32Array) => BatchLoss,
): Promise<{ evaluation: Evaluation; metrics: Metrics }> {
  const found = await measured(batches.length, control, async (index) => {
    const batch = batches[index] as MicroBatch
    const input = { ...scoredBy(loss, batch), wantLogProbs: true }
    const { logProbs } = await session.evaluate(EVAL_PLAN, input).promise
    const { loss: value, metrics } = lossOfBatch(batch, logProbs as Float32Array)
    return { value, metrics }
  })
  const metrics: Metrics = {}
  let mean = 0
  for (const batch of found) {
    mean += batch.value
    join(metrics, batch.metrics)
  }
  const tokens = batches.reduce((total, batch) => total + batch.tokens.length, 0)
  const supervisedTokens = batches.reduce((total, batch) => total + batch.nSupervised, 0)
  return { evaluation: { loss: mean, perplexity: Math.exp(mean), tokens, supervisedTokens }, metrics }
}

/** A loss over pairs of answers for the steps of a run. */
export class PairObjective implements Objective {
  readonly #loss: NamedLoss
  readonly #options: RunOptions
  readonly #run: string
  readonly #data: Pick<RunData, 'examples' | 'evaluation'>
  #references: References | undefined

  /** @param run name of the run */
  constructor(
    loss: NamedLoss,
    options: RunOptions,
    run: string,
    data: Pick<RunData, 'examples' | 'evaluation'>,
  ) {
    this.#loss = loss
    this.#options = options
    this.#run = run
    this.#data = data
  }

  async prepare(session: NativeSession, about: RunPlace): Promise<void> {
    const { examples, evaluation } = this.#data
    if (taskRules(this.#options.task).reference === null || examples === null) return
    const score = async (batch: MicroBatch) => {
      const sums = await sequenceSums(session, batch)
      const pairs = sums.length / 2
      return Array.from(
        { length: pairs },
        (_, pair) => sums.slice(2 * pair, 2 * pair + 2) as [number, number],
      )
    }
    const [options, run] = [this.#options, this.#run]
    this.#references = await referencesOf({ examples, evaluation, options, run, score, ...about })
  }

  async evaluate(session: NativeSession, source: BatchSource, control: EvaluateControl): Promise<Evaluation> {
    const batches = allBatches(source)
    const per = pairCounts(this.#loss, batches)
    const reference = this.#references?.evaluation ?? null
    const value = (batch: MicroBatch, logProbs: Float32Array) => this.#value(batch, logProbs, reference, per)
    const { evaluation, metrics } = await evaluatePreference(session, this.#loss, batches, control, value)
    return { ...evaluation, ...preferenceMetrics(metrics) }
  }

  window(session: NativeSession, batches: readonly MicroBatch[]): Pass {
    const per = pairCounts(this.#loss, batches)
    return (input, batch, valued) => {
      const { labels } = scoredBy(this.#loss, batch)
      return lossPasses(session, TRAIN_PLAN, { ...input, labels }, (logProbs) => {
        const made = this.#value(batch, logProbs, this.#references?.train ?? null, per)
        valued(made.loss, made.metrics)
        return made.weights
      })
    }
  }

  named(metrics: Metrics): Partial<Evaluation> {
    return preferenceMetrics(metrics)
  }

  #value(
    batch: MicroBatch,
    logProbs: Float32Array,
    reference: ReferenceSums | null,
    per: Denominators,
  ): BatchLoss {
    return batchLoss(this.#loss, batch, logProbs, per, (sequence) => {
      const pair = batch.rows?.[sequence >> 1] as number
      return reference === null ? {} : { reference: reference[2 * pair + (sequence & 1)] as number }
    })
  }
}
