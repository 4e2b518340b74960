/**
 * Training on answers that are good or bad by themselves (KTO). The divergence of the model from its reference is
 * estimated on mismatched rows: prompts with the answers to other prompts.
 */
import { DataError } from '../core/errors.js'
import { IGNORE } from '../data/encoded-row.js'
import type { MicroBatch } from '../data/pack.js'
import type { NamedLoss } from '../losses/index.js'
import { inMicroBatches, scoredRows } from '../losses/micro-batches.js'
import { lossPasses } from '../losses/passes.js'
import { type Denominators, type Metrics, sumOf } from '../losses/rows.js'
import type { TokenRow } from '../losses/token-rows.js'
import type { NativeSession } from '../native/addon.js'
import type { RunOptions } from '../options/options.js'
import { EVAL_PLAN, TRAIN_PLAN } from '../planning/plans.js'
import type { BatchSource } from './batches.js'
import type { Examples, RunData } from './data.js'
import { type EvaluateControl, type Evaluation, measured } from './evaluate.js'
import type { Objective, Pass } from './objective.js'
import {
  allBatches,
  type BatchLoss,
  batchLoss,
  evaluatePreference,
  preferenceMetrics,
  sequenceSums,
} from './preference.js'
import { type References, referencesOf } from './references.js'
import type { RunPlace } from './step.js'

/** Earlier rows that are searched for one with another prompt. */
const LOOK_BACK = 32

/** The rows of a dataset, each with the answer of the closest row before it that has another prompt. */
export class MismatchedRows {
  readonly #examples: Examples
  readonly #maxLength: number
  /** Place of each row among those used. */
  readonly #places: ReadonlyMap<number, number>

  /** @param maxLength tokens after which a row is truncated */
  constructor(examples: Examples, maxLength: number) {
    this.#examples = examples
    this.#maxLength = maxLength
    this.#places = new Map(Array.from(examples.rows, (row, place) => [row, place]))
  }

  of(row: number): TokenRow {
    const { data } = this.#examples
    const other = this.#other(row)
    const prompt = this.#prompt(row)
    const start = this.#prompt(other).length
    const length = Math.min(prompt.length + data.rowLength(other) - start, this.#maxLength)
    const tokens = new Int32Array(length)
    tokens.set(prompt)
    const answer = length - prompt.length
    tokens.set(data.ids(other).subarray(start, start + answer), prompt.length)
    const labels = data.labels(other)
    const weights = Float64Array.from(tokens, (_, t) =>
      t > 0 && t >= prompt.length && labels[start + t - prompt.length] !== IGNORE ? 1 : 0,
    )
    return { tokens, weights }
  }

  #other(row: number): number {
    const { rows } = this.#examples
    const place = this.#places.get(row) as number
    const before = (back: number) => rows[(place - back + rows.length) % rows.length] as number
    for (let back = 1; back <= LOOK_BACK && back < rows.length; back++)
      if (!sameIds(this.#prompt(row), this.#prompt(before(back)))) return before(back)
    return before(1)
  }

  /** Ids before the first token that is trained on. */
  #prompt(row: number): Int32Array {
    const { data } = this.#examples
    const start = data.labels(row).findIndex((label) => label !== IGNORE)
    return data.ids(row).subarray(0, start)
  }
}

function sameIds(one: Int32Array, other: Int32Array): boolean {
  return one.length === other.length && one.every((id, t) => id === other[t])
}

/** Data of one kind, training or held-out, with its mismatched rows. */
interface Side {
  examples: Examples
  mismatched: MismatchedRows
}

/** A loss of single answers with a reference and mismatched rows, for the steps of a run. */
export class UnpairedObjective implements Objective {
  readonly #loss: NamedLoss
  readonly #options: RunOptions
  readonly #run: string
  readonly #evaluation: BatchSource | null
  readonly #sides: Record<keyof References, Side | null>
  #references: References | undefined
  #control: EvaluateControl = {}

  /**
   * @param run name of the run
   * @throws {DataError} when all training rows have the same label
   */
  constructor(
    loss: NamedLoss,
    options: RunOptions,
    run: string,
    { examples, evaluation, evaluationExamples }: RunData,
  ) {
    this.#loss = loss
    this.#options = options
    this.#run = run
    this.#evaluation = evaluation
    const side = (of: Examples | null) =>
      of && { examples: of, mismatched: new MismatchedRows(of, options.maxSeqLength) }
    this.#sides = { train: side(examples), evaluation: side(evaluationExamples) }
    checkLabels(examples as Examples, options.task)
  }

  async prepare(session: NativeSession, about: RunPlace): Promise<void> {
    const { signal, ranks } = about.control
    this.#control = { signal, ranks }
    const score = async (batch: MicroBatch, of: keyof References) => {
      const own = await sequenceSums(session, batch)
      const others = await this.#mismatchedSums(session, batch, of)
      return own.map((sum, at) => [sum, others[at] as number] as const)
    }
    const { examples } = this.#sides.train as Side
    const [options, run, evaluation] = [this.#options, this.#run, this.#evaluation]
    this.#references = await referencesOf({ examples, evaluation, options, run, score, ...about })
  }

  async evaluate(session: NativeSession, source: BatchSource, control: EvaluateControl): Promise<Evaluation> {
    const batches = allBatches(source)
    const per = rowCounts(batches)
    const kl = await this.#divergence(session, batches, 'evaluation', control)
    const value = (batch: MicroBatch, logProbs: Float32Array) =>
      this.#value(batch, logProbs, 'evaluation', per, kl)
    const { evaluation, metrics } = await evaluatePreference(session, this.#loss, batches, control, value)
    return { ...evaluation, ...this.named(metrics) }
  }

  async window(session: NativeSession, batches: readonly MicroBatch[]): Promise<Pass> {
    const per = rowCounts(batches)
    const kl = await this.#divergence(session, batches, 'train', this.#control)
    return (input, batch, valued) =>
      lossPasses(session, TRAIN_PLAN, input, (logProbs) => {
        const made = this.#value(batch, logProbs, 'train', per, kl)
        valued(made.loss, made.metrics)
        return made.weights
      })
  }

  named(metrics: Metrics): Partial<Evaluation> {
    const named = preferenceMetrics(metrics)
    const { rewardsChosen, rewardsRejected } = named
    if (rewardsChosen === undefined || rewardsRejected === undefined) return named
    return { ...named, rewardsMargins: rewardsChosen - rewardsRejected }
  }

  #value(
    batch: MicroBatch,
    logProbs: Float32Array,
    of: keyof References,
    per: Denominators,
    kl: number,
  ): BatchLoss {
    const { data } = (this.#sides[of] as Side).examples
    return batchLoss(
      this.#loss,
      batch,
      logProbs,
      per,
      (sequence) => {
        const row = batch.rows?.[sequence] as number
        return { reference: this.#reference(of, row, 0), label: data.rowDesirable(row) as boolean }
      },
      kl,
    )
  }

  /** Estimates the divergence from the reference over all rows of some micro-batches, at least 0. */
  async #divergence(
    session: NativeSession,
    batches: readonly MicroBatch[],
    of: keyof References,
    { signal, ranks }: EvaluateControl,
  ): Promise<number> {
    const found = await measured(batches.length, { signal, ranks }, async (index) => {
      const batch = batches[index] as MicroBatch
      const sums = await this.#mismatchedSums(session, batch, of)
      return sums.reduce(
        (total, sum, at) => total + sum - this.#reference(of, batch.rows?.[at] as number, 1),
        0,
      )
    })
    const total = found.reduce((sum, one) => sum + one, 0)
    return Math.max(0, total / rowCounts(batches).rows)
  }

  /** Log-probability of each mismatched row of a micro-batch. */
  async #mismatchedSums(session: NativeSession, batch: MicroBatch, of: keyof References): Promise<number[]> {
    const { mismatched } = this.#sides[of] as Side
    const rows = Array.from(batch.rows ?? [], (row) => [mismatched.of(row)])
    const { perDeviceTrainBatchSize, maxSeqLength } = this.#options
    const sums: number[] = []
    for (const made of inMicroBatches(rows, perDeviceTrainBatchSize * maxSeqLength)) {
      const { logProbs } = await session.evaluate(EVAL_PLAN, { ...made.batch, wantLogProbs: true }).promise
      sums.push(...scoredRows(made, logProbs as Float32Array).map(sumOf))
    }
    return sums
  }

  /** Log-probability of a row (0), or of its prompt with another answer (1), under the reference. */
  #reference(of: keyof References, row: number, which: 0 | 1): number {
    return this.#references?.[of]?.[2 * row + which] as number
  }
}

function rowCounts(batches: readonly MicroBatch[]): Denominators {
  const rows = batches.reduce((sum, batch) => sum + (batch.rows?.length ?? 0), 0)
  return { tokens: 1, pairs: 1, rows }
}

function checkLabels({ data, rows }: Examples, task: string): void {
  const desirable = rows.reduce((count, row) => count + Number(data.rowDesirable(row)), 0)
  if (desirable > 0 && desirable < rows.length) return
  throw new DataError(
    `task ${task} learns from good and bad answers, but the label of all ${rows.length} training rows is ${desirable > 0}; add rows of the other label, or train on good answers alone with task: causal_lm.`,
    { rows: rows.length, desirable },
  )
}
