/**
 * Training by a loss of scored answers: of pairs (DPO, ORPO), or of single ones that are good or bad (KTO). The reference
 * is the model at the start of the run. Its divergence is estimated on mismatched rows: prompts with the answers to other
 * prompts.
 */
import { DataError } from '../../core/errors.js'
import type { MicroBatch } from '../../data/pack.js'
import { denominatorsOf, lossOf, lossRulesOf, type NamedLoss, scoresAll } from '../../losses/index.js'
import { headWeights, inMicroBatches, rowsOf, scoredRows } from '../../losses/micro-batches.js'
import { type Denominators, join, type Metrics, means, type ScoredRow, sumOf } from '../../losses/rows.js'
import type { NativeSession } from '../../native/addon.js'
import type { RunOptions } from '../../options/options.js'
import { EVAL_PLAN } from '../../planning/plans.js'
import { taskRules } from '../../tasks/index.js'
import type { WeightedValue } from '../engine/gradients.js'
import { scoredBy } from '../engine/scored-rows.js'
import type { BatchSource, Window } from '../rows/batches.js'
import type { Examples, RunData } from '../rows/data.js'
import { type EvaluateControl, type Evaluation, measured, type PreferenceMetrics } from '../steps/evaluate.js'
import type { Objective, WorkOf } from '../steps/objective.js'
import type { RunPlace } from '../steps/step.js'
import { MismatchedRows } from './mismatched-rows.js'
import { type References, referencesOf } from './references.js'

/** Data of one kind: training or held-out. */
type Side = keyof References

export class ScoredObjective implements Objective {
  readonly losses = 'parts of a mean'
  readonly #loss: NamedLoss
  readonly #options: RunOptions
  readonly #run: string
  readonly #data: RunData
  /** Sequences of a row of the dataset: two if it is a pair. */
  readonly #sequences: 1 | 2
  /** Empty unless the reference scores mismatched rows. */
  readonly #mismatched: Partial<Record<Side, MismatchedRows>> = {}
  #references: References | undefined
  #control: EvaluateControl = {}

  /**
   * @param run name of the run
   * @throws {DataError} when all training rows have the same label
   */
  constructor(loss: NamedLoss, options: RunOptions, run: string, data: RunData) {
    this.#loss = loss
    this.#options = options
    this.#run = run
    this.#data = data
    this.#sequences = lossRulesOf(loss).paired ? 2 : 1
    if (taskRules(options.task).reference !== 'mismatched') return
    const { examples, evaluationExamples } = data
    const { maxSeqLength } = options
    if (examples) this.#mismatched.train = new MismatchedRows(examples, maxSeqLength)
    if (evaluationExamples) this.#mismatched.evaluation = new MismatchedRows(evaluationExamples, maxSeqLength)
    checkLabels(examples as Examples, options.task)
  }

  async prepare(session: NativeSession, about: RunPlace): Promise<void> {
    const { signal, ranks } = about.control
    this.#control = { signal, ranks }
    const { examples, evaluation } = this.#data
    if (taskRules(this.#options.task).reference === null || examples === null) return
    const score = async (batch: MicroBatch, of: Side) => {
      const own = (await scoredBy(session, EVAL_PLAN, [rowsOf(batch)])).map(sumOf)
      if (this.#sequences === 2) return inPairs(own)
      const others = await this.#mismatchedSums(session, batch, of)
      return own.map((sum, at) => [sum, others[at] as number] as const)
    }
    const [options, run] = [this.#options, this.#run]
    this.#references = await referencesOf({ examples, evaluation, options, run, score, ...about })
  }

  /** Loss and metrics; an abort rejects with the signal's reason between micro-batches. */
  async evaluate(session: NativeSession, source: BatchSource, control: EvaluateControl): Promise<Evaluation> {
    const batches = Array.from({ length: source.count(0) }, (_, index) => source.get(0, index))
    const per = this.#counts(batches)
    const kl = await this.#divergence(session, batches, 'evaluation', control)
    const found = await measured(batches.length, control, async (index) => {
      const batch = batches[index] as MicroBatch
      const input = { ...this.#labeled(batch), wantLogProbs: true }
      const { logProbs } = await session.evaluate(EVAL_PLAN, input).promise
      const { loss, metrics } = this.#value(batch, logProbs as Float32Array, 'evaluation', per, kl)
      return { loss, metrics }
    })
    const metrics: Metrics = {}
    let loss = 0
    for (const batch of found) {
      loss += batch.loss
      join(metrics, batch.metrics ?? {})
    }
    const tokens = batches.reduce((total, batch) => total + batch.tokens.length, 0)
    const supervisedTokens = batches.reduce((total, batch) => total + batch.nSupervised, 0)
    return { loss, perplexity: Math.exp(loss), tokens, supervisedTokens, ...this.named(metrics) }
  }

  async window(session: NativeSession, { batches }: Window): Promise<WorkOf> {
    const per = this.#counts(batches)
    const kl = await this.#divergence(session, batches, 'train', this.#control)
    return (batch) => {
      const value = (logProbs: Float32Array) => this.#value(batch, logProbs, 'train', per, kl)
      return { batch: this.#labeled(batch), head: { kind: 'scored', value } }
    }
  }

  named(metrics: Metrics): PreferenceMetrics {
    const named: PreferenceMetrics = Object.fromEntries(
      Object.entries(means(metrics)).map(([name, value]) => [
        name.replace(/[/_](\w)/g, (_, letter: string) => letter.toUpperCase()),
        value,
      ]),
    )
    const { rewardsChosen, rewardsRejected, rewardsMargins } = named
    if (rewardsMargins !== undefined || rewardsChosen === undefined || rewardsRejected === undefined)
      return named
    return { ...named, rewardsMargins: rewardsChosen - rewardsRejected }
  }

  /** The counts that the loss of some micro-batches is divided by. */
  #counts(batches: readonly MicroBatch[]): Denominators {
    const groups = batches.flatMap((batch) => {
      const { rows } = rowsOf(batch)
      return this.#sequences === 2 ? inPairs(rows) : rows.map((row) => [row])
    })
    return denominatorsOf(this.#loss, groups)
  }

  /** A micro-batch with labels at all tokens that the loss scores. */
  #labeled(batch: MicroBatch): MicroBatch {
    return { ...batch, labels: rowsOf(batch, scoresAll(this.#loss)).batch.labels }
  }

  #value(batch: MicroBatch, logProbs: Float32Array, of: Side, per: Denominators, kl: number): WeightedValue {
    const made = rowsOf(batch, scoresAll(this.#loss))
    const rows = scoredRows(made, logProbs).map((row, at) => ({ ...row, ...this.#facts(batch, at, of) }))
    const { loss, gradient, metrics } = lossOf(this.#loss, rows, per, kl)
    return { loss, weights: headWeights(made, gradient, 1), metrics }
  }

  /** The reference score and the label of a sequence, as far as the loss needs them. */
  #facts({ rows }: MicroBatch, sequence: number, of: Side): Partial<ScoredRow> {
    const row = rows?.[Math.floor(sequence / this.#sequences)] as number
    const facts = this.#references?.[of]
      ? { reference: this.#reference(of, row, sequence % this.#sequences) }
      : {}
    if (this.#sequences === 2) return facts
    const { examples, evaluationExamples } = this.#data
    const { data } = (of === 'train' ? examples : evaluationExamples) as Examples
    return { ...facts, label: data.rowDesirable(row) as boolean }
  }

  /** Log-probability under the reference: of an answer of a pair, or of a row (0) and its mismatched row (1). */
  #reference(of: Side, row: number, which: number): number {
    return this.#references?.[of]?.[2 * row + which] as number
  }

  /** Estimates the divergence from the reference over all rows of some micro-batches, at least 0. */
  async #divergence(
    session: NativeSession,
    batches: readonly MicroBatch[],
    of: Side,
    { signal, ranks }: EvaluateControl,
  ): Promise<number> {
    if (this.#mismatched[of] === undefined) return 0
    const found = await measured(batches.length, { signal, ranks }, async (index) => {
      const batch = batches[index] as MicroBatch
      const sums = await this.#mismatchedSums(session, batch, of)
      return sums.reduce(
        (total, sum, at) => total + sum - this.#reference(of, batch.rows?.[at] as number, 1),
        0,
      )
    })
    const total = found.reduce((sum, one) => sum + one, 0)
    return Math.max(0, total / this.#counts(batches).rows)
  }

  /** Log-probability of each mismatched row of a micro-batch. */
  async #mismatchedSums(session: NativeSession, batch: MicroBatch, of: Side): Promise<number[]> {
    const mismatched = this.#mismatched[of] as MismatchedRows
    const rows = Array.from(batch.rows ?? [], (row) => [mismatched.of(row)])
    const { perDeviceTrainBatchSize, maxSeqLength } = this.#options
    const batches = inMicroBatches(rows, perDeviceTrainBatchSize * maxSeqLength)
    return (await scoredBy(session, EVAL_PLAN, batches)).map(sumOf)
  }
}

function inPairs<Of>(all: readonly Of[]): [Of, Of][] {
  return Array.from({ length: all.length / 2 }, (_, pair) => [all[2 * pair] as Of, all[2 * pair + 1] as Of])
}

function checkLabels({ data, rows }: Examples, task: string): void {
  const desirable = rows.reduce((count, row) => count + Number(data.rowDesirable(row)), 0)
  if (desirable > 0 && desirable < rows.length) return
  throw new DataError(
    `task ${task} learns from good and bad answers, but the label of all ${rows.length} training rows is ${desirable > 0}; add rows of the other label, or train on good answers alone with task: causal_lm.`,
    { rows: rows.length, desirable },
  )
}
