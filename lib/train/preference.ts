/** Preference training: the loss of micro-batches of pairs, and the reference's scores of their answers. */
import { join } from 'node:path'
import { ConfigError, FileFormatError } from '../core/errors.js'
import { IGNORE } from '../data/encoded-row.js'
import { Batches, type MicroBatch } from '../data/pack.js'
import { writeFileWhole } from '../io/atomic.js'
import { readJsonObject } from '../io/input.js'
import type { NativeSession } from '../native/addon.js'
import type { RunOptions } from '../options/options.js'
import type { PreferenceLoss } from '../options/task.js'
import { EVAL_PLAN, TRAIN_PLAN } from '../planning/plans.js'
import type { BatchSource } from './batches.js'
import type { Examples, RunData } from './data.js'
import { type EvaluateControl, type Evaluation, measured, type PreferenceMetrics } from './evaluate.js'
import { hashOf } from './identity.js'
import { lossOf } from './losses/index.js'
import { headWeights, type RowBatch, scoredRows } from './losses/micro-batches.js'
import { lossPasses } from './losses/passes.js'
import { type Denominators, join as joinMetrics, type Metrics, means, sumOf } from './losses/rows.js'

import type { Objective, Pass } from './objective.js'
import type { RunPlace } from './step.js'

/** Log-probabilities of each row's chosen and rejected answers under the reference, alternating. */
type ReferenceSums = Float64Array

/** Counts by which the loss of some micro-batches is divided. */
function pairCounts(batches: readonly MicroBatch[]): Denominators {
  let [tokens, pairs] = [0, 0]
  for (const { labels, cuSeqlens, pairs: own } of batches) {
    pairs += own?.length ?? 0
    for (let s = 0; s + 1 < cuSeqlens.length; s += 2)
      for (let t = cuSeqlens[s] as number; t < (cuSeqlens[s + 1] as number); t++)
        if (labels[t] !== IGNORE) tokens++
  }
  return { tokens, pairs, rows: 2 * pairs }
}

/** The loss of a micro-batch, the weights of its labeled positions, and sums of its metrics. */
function pairLoss(
  loss: PreferenceLoss,
  batch: MicroBatch,
  logProbs: Float32Array,
  reference: ReferenceSums | null,
  per: Denominators,
): { loss: number; weights: Float32Array; metrics: Metrics } {
  const made = rowsOf(batch)
  const rows = scoredRows(made, logProbs).map((row, index) => {
    const pair = batch.pairs?.[index >> 1] as number
    return reference === null ? row : { ...row, reference: reference[2 * pair + (index & 1)] as number }
  })
  const value = lossOf(loss, rows, per)
  return { loss: value.loss, weights: headWeights(made, value.gradient, 1), metrics: value.metrics }
}

/** The sequences of a micro-batch as separate rows. */
function rowsOf(batch: MicroBatch): RowBatch {
  const { tokens, labels, cuSeqlens } = batch
  const places: [number, number][] = []
  const rows = Array.from({ length: cuSeqlens.length - 1 }, (_, row) => {
    const start = cuSeqlens[row] as number
    const own = tokens.subarray(start, cuSeqlens[row + 1])
    const weights = new Float64Array(own.length)
    for (let t = 1; t < own.length; t++) {
      if (labels[start + t - 1] === IGNORE) continue
      weights[t] = 1
      places.push([row, t])
    }
    return { tokens: own, weights }
  })
  return { rows, batch, places }
}

/** Metrics named as in events. */
function preferenceMetrics(metrics: Metrics): PreferenceMetrics {
  const named = Object.entries(means(metrics)).map(([name, value]) => [
    name.replace(/[/_](\w)/g, (_, letter: string) => letter.toUpperCase()),
    value,
  ])
  return Object.fromEntries(named) as PreferenceMetrics
}

/** A preference loss for the steps of a run. */
export class PairObjective implements Objective {
  readonly #loss: PreferenceLoss
  readonly #options: RunOptions
  readonly #run: string
  readonly #data: Pick<RunData, 'examples' | 'evaluation'>
  #references: References | undefined

  /** @param run name of the run */
  constructor(
    loss: PreferenceLoss,
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
    if (this.#loss.name !== 'dpo' || examples === null) return
    const [options, run] = [this.#options, this.#run]
    this.#references = await referencesOf({ session, examples, evaluation, options, run, ...about })
  }

  evaluate(session: NativeSession, source: BatchSource, control: EvaluateControl): Promise<Evaluation> {
    return evaluatePairs(session, this.#loss, source, this.#references?.evaluation ?? null, control)
  }

  window(session: NativeSession, batches: readonly MicroBatch[]): Pass {
    const per = pairCounts(batches)
    return (input, batch, valued) =>
      lossPasses(session, TRAIN_PLAN, input, (logProbs) => {
        const made = pairLoss(this.#loss, batch, logProbs, this.#references?.train ?? null, per)
        valued(made.loss, made.metrics)
        return made.weights
      })
  }

  named(metrics: Metrics): Partial<Evaluation> {
    return preferenceMetrics(metrics)
  }
}

/** Loss and metrics over pairs; an abort rejects with the signal's reason between micro-batches. */
async function evaluatePairs(
  session: NativeSession,
  loss: PreferenceLoss,
  source: BatchSource,
  reference: ReferenceSums | null,
  control: EvaluateControl,
): Promise<Evaluation> {
  const batches = Array.from({ length: source.count(0) }, (_, index) => source.get(0, index))
  const per = pairCounts(batches)
  const found = await measured(batches.length, control, async (index) => {
    const batch = batches[index] as MicroBatch
    const { logProbs } = await session.evaluate(EVAL_PLAN, { ...batch, wantLogProbs: true }).promise
    const { loss: value, metrics } = pairLoss(loss, batch, logProbs as Float32Array, reference, per)
    return { value, metrics }
  })
  const metrics: Metrics = {}
  let sum = 0
  for (const batch of found) {
    sum += batch.value
    joinMetrics(metrics, batch.metrics)
  }
  const tokens = batches.reduce((total, batch) => total + batch.tokens.length, 0)
  const supervisedTokens = batches.reduce((total, batch) => total + batch.nSupervised, 0)
  return { loss: sum, perplexity: Math.exp(sum), tokens, supervisedTokens, ...preferenceMetrics(metrics) }
}

/** Scores of the reference, which is the model at the start of the run. */
interface References {
  train: ReferenceSums
  /** Null without held-out data. */
  evaluation: ReferenceSums | null
}

/** The data to score with the reference, and where to store the scores. */
interface ReferenceJob {
  session: NativeSession
  examples: Examples
  evaluation: BatchSource | null
  options: Pick<RunOptions, 'perDeviceTrainBatchSize' | 'maxSeqLength' | 'packing'>
  /** Hash of model and data. */
  key: string
  /** Name of the run. */
  run: string
  /** Folder of its checkpoints; null keeps nothing. */
  runDir: string | null
  /** Folder in which the resumed run stored its scores; null for a run from the start. */
  resumedFrom: string | null
  control: EvaluateControl
}

/** File of the reference's log-probabilities, in the folder of a run. */
const REFERENCE_FILE = 'reference.json'
const VERSION = 1
const SIZE_LIMIT = 1 << 30

/**
 * Scores all answers before the first step and stores the sums. A resumed run reads the stored sums, since its
 * adapter has changed since the start.
 * @throws {FileFormatError} when the file of a resumed run is missing or damaged
 * @throws {ConfigError} when the file belongs to other data or another run
 */
async function referencesOf(job: ReferenceJob): Promise<References> {
  const { session, examples, evaluation, options, control, runDir, resumedFrom, run } = job
  const key = hashOf({ key: job.key, length: options.maxSeqLength })
  if (resumedFrom !== null) {
    const found = await readReferences(join(resumedFrom, REFERENCE_FILE), run, key)
    if (runDir !== null && runDir !== resumedFrom)
      await writeReferences(join(runDir, REFERENCE_FILE), run, key, found)
    return found
  }
  const { perDeviceTrainBatchSize, maxSeqLength, packing } = options
  const shape = { perDeviceTrainBatchSize, maxSeqLength, packing, shuffle: false, seed: 0 }
  const train = new Batches(examples.data, { ...shape, rows: examples.rows })
  const found = {
    train: await sums(session, train, control),
    evaluation: evaluation && (await sums(session, evaluation, control)),
  }
  if (runDir !== null) await writeReferences(join(runDir, REFERENCE_FILE), run, key, found)
  return found
}

async function sums(
  session: NativeSession,
  source: BatchSource,
  control: EvaluateControl,
): Promise<ReferenceSums> {
  const batches = await measured(source.count(0), control, async (index) => {
    const batch = source.get(0, index)
    const { logProbs } = await session.evaluate(EVAL_PLAN, { ...batch, wantLogProbs: true }).promise
    const rows = scoredRows(rowsOf(batch), logProbs as Float32Array)
    return [...(batch.pairs ?? [])].map((row, at) => {
      const [chosen, rejected] = rows.slice(2 * at, 2 * at + 2).map(sumOf) as [number, number]
      return [row, chosen, rejected] as const
    })
  })
  const found = batches.flat()
  const most = found.reduce((largest, [row]) => Math.max(largest, row), -1)
  const all = new Float64Array(2 * (most + 1)).fill(Number.NaN)
  for (const [row, chosen, rejected] of found) all.set([chosen, rejected], 2 * row)
  return all
}

async function writeReferences(path: string, run: string, key: string, { train, evaluation }: References) {
  const text = (of: ReferenceSums | null) =>
    of && Buffer.from(of.buffer, of.byteOffset, of.byteLength).toString('base64')
  const about = { version: VERSION, run, key, train: text(train), evaluation: text(evaluation) }
  await writeFileWhole(path, `${JSON.stringify({ ...about, hash: hashOf(about) })}\n`)
}

async function readReferences(path: string, run: string, key: string): Promise<References> {
  const again = 'Start a new run, whose reference is computed again.'
  const { hash, ...about } = await readJsonObject(path, SIZE_LIMIT).catch((cause: Error) => {
    throw new FileFormatError(
      `${path}, the log-probabilities by the reference, cannot be read: ${cause.message} ${again}`,
      { path },
      { cause },
    )
  })
  if (about.version !== VERSION || hashOf(about) !== hash)
    throw new FileFormatError(`${path} is damaged, or of another version of lowrank. ${again}`, { path })
  if (about.run !== run || about.key !== key)
    throw new ConfigError(
      `${path} is not of this run: ${about.run === run ? 'the model or the data have changed' : 'another run wrote it'}. ${again}`,
      { path },
    )
  const numbers = (text: unknown): ReferenceSums => {
    const bytes = Buffer.from(String(text), 'base64')
    return new Float64Array(Uint8Array.from(bytes).buffer)
  }
  return {
    train: numbers(about.train),
    evaluation: about.evaluation === null ? null : numbers(about.evaluation),
  }
}
