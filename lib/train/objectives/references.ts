/** Log-probabilities under the reference, which is the model at the start of a run, and the file that stores them. */
import { join } from 'node:path'
import { ConfigError, FileFormatError } from '../../core/errors.js'
import { Batches, type MicroBatch } from '../../data/pack.js'
import { readJsonObject } from '../../io/input.js'
import type { RunOptions } from '../../options/options.js'
import { hashOf } from '../checkpoints/run-identity.js'
import { REFERENCE_FILE } from '../folders/output-folder.js'
import { writeOwnFile } from '../folders/run-files.js'
import type { BatchSource } from '../rows/batches.js'
import type { Examples } from '../rows/data.js'
import { type EvaluateControl, measured } from '../steps/evaluate.js'

/** Two log-probabilities of each row of a dataset, alternating; those of a pair are its answers. */
export type ReferenceSums = Float64Array

/** Scores of the reference. */
export interface References {
  train: ReferenceSums
  /** Null without held-out data. */
  evaluation: ReferenceSums | null
}

/** The data to score with the reference, and where to store the scores. */
interface ReferenceJob {
  examples: Examples
  evaluation: BatchSource | null
  options: Pick<RunOptions, 'perDeviceTrainBatchSize' | 'maxSeqLength' | 'packing'>
  /** The two log-probabilities of each row of a micro-batch. */
  score: (batch: MicroBatch, of: keyof References) => Promise<(readonly [first: number, second: number])[]>
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
const VERSION = 1
const SIZE_LIMIT = 1 << 30

/**
 * Scores all answers before the first step and stores the sums. A resumed run reads the stored sums, since its
 * adapter has changed since the start.
 * @throws {FileFormatError} when the file of a resumed run is missing or damaged
 * @throws {ConfigError} when the file belongs to other data or another run
 */
export async function referencesOf(job: ReferenceJob): Promise<References> {
  const { examples, evaluation, options, runDir, resumedFrom, run } = job
  const key = hashOf({ key: job.key, length: options.maxSeqLength })
  if (resumedFrom !== null) {
    const found = await readReferences(join(resumedFrom, REFERENCE_FILE), run, key)
    if (runDir !== null && runDir !== resumedFrom) await writeReferences(runDir, run, key, found)
    return found
  }
  const { perDeviceTrainBatchSize, maxSeqLength, packing } = options
  const shape = { perDeviceTrainBatchSize, maxSeqLength, packing, shuffle: false, seed: 0 }
  const train = new Batches(examples.data, { ...shape, rows: examples.rows })
  const found = {
    train: await sums(job, train, 'train'),
    evaluation: evaluation && (await sums(job, evaluation, 'evaluation')),
  }
  if (runDir !== null) await writeReferences(runDir, run, key, found)
  return found
}

async function sums(
  { score, control }: ReferenceJob,
  source: BatchSource,
  of: keyof References,
): Promise<ReferenceSums> {
  const batches = await measured(source.count(0), control, async (index) => {
    const batch = source.get(0, index)
    const scores = await score(batch, of)
    return [...(batch.rows ?? [])].map(
      (row, at) => [row, ...(scores[at] as readonly [number, number])] as const,
    )
  })
  const found = batches.flat()
  const most = found.reduce((largest, [row]) => Math.max(largest, row), -1)
  const all = new Float64Array(2 * (most + 1)).fill(Number.NaN)
  for (const [row, first, second] of found) all.set([first, second], 2 * row)
  return all
}

async function writeReferences(runDir: string, run: string, key: string, { train, evaluation }: References) {
  const text = (of: ReferenceSums | null) =>
    of && Buffer.from(of.buffer, of.byteOffset, of.byteLength).toString('base64')
  const about = { version: VERSION, run, key, train: text(train), evaluation: text(evaluation) }
  await writeOwnFile(runDir, REFERENCE_FILE, `${JSON.stringify({ ...about, hash: hashOf(about) })}\n`)
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
