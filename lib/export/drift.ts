/**
 * Compares a written model with the model and adapters it was made from: both process the same short texts, and their
 * predictions at every position are compared. Both sides compute in fp32, so only the weights differ.
 */
import { type ActiveAdapter, type BaseModel, logitsOf } from '../base/base.js'
import { DataError } from '../core/errors.js'
import { prepareEvaluation } from '../train/rows/data.js'
import type { DatasetConfig } from '../train/sources/data-sources.js'

/** Deviation between two models, over all positions of the sample. */
export interface Drift {
  /** Mean Kullback-Leibler divergence between the original's and the written model's predictions, in nats. */
  kl: number
  /** Fraction of positions at which both models predict the same top token. */
  top1Agreement: number
  /** Largest absolute difference between two logits. */
  maxAbsLogitError: number
  /** Number of positions compared. */
  positions: number
}

/** Number and length of sequences: enough to reveal a mistake, few enough to be quick. */
const SEQUENCES = 8
const SEQUENCE_TOKENS = 64

/** Prose, an instruction, code, numbers, and a list, so that any model makes meaningful predictions. */
const TEXTS = [
  'The river was low that summer, and the children walked across it to the old mill on the other side.',
  'Write a short answer: what does a thermometer measure, and in which units is it usually given?',
  'function sum(values) {\n  let total = 0\n  for (const value of values) total += value\n  return total\n}\n',
  'In 1969 two people walked on the Moon; it took them 102 hours, 45 minutes and 40 seconds to get there.',
  'Shopping list:\n- 2 kg of flour\n- a dozen eggs\n- butter\n- 250 ml of milk\n',
]

/**
 * Token ids for the comparison: the beginnings of a dataset's rows, or of a few built-in texts.
 * @throws {DataError} when no text has at least two tokens
 */
export async function sampleSequences(
  base: BaseModel,
  data: DatasetConfig | undefined,
  signal?: AbortSignal,
): Promise<Int32Array[]> {
  const sequences = data === undefined ? await builtIn(base) : await fromDataset(base, data, signal)
  const useful = sequences.filter(({ length }) => length > 1)
  if (useful.length === 0)
    throw new DataError(
      `${data?.path ?? 'the sample'} has no two consecutive tokens to compare the models on.`,
    )
  return useful
}

async function builtIn(base: BaseModel): Promise<Int32Array[]> {
  const tokenizer = await base.tokenizer()
  const encode = async (text: string) =>
    (await tokenizer.encode(text, { addSpecialTokens: true })).slice(0, SEQUENCE_TOKENS)
  return Promise.all(TEXTS.map(encode))
}

async function fromDataset(
  base: BaseModel,
  data: DatasetConfig,
  signal: AbortSignal | undefined,
): Promise<Int32Array[]> {
  const shape = {
    perDeviceTrainBatchSize: 1,
    maxSeqLength: SEQUENCE_TOKENS,
    packing: false,
    trainOn: 'all',
  } as const
  const { source } = await prepareEvaluation(base, data, shape, { signal })
  return Array.from({ length: Math.min(SEQUENCES, source.count(0)) }, (_, i) => source.get(0, i).tokens)
}

/** A model with its active adapters. */
export interface Subject {
  base: BaseModel
  adapters: readonly ActiveAdapter[]
}

/**
 * Compares two models with the same vocabulary. Can be aborted between sequences; it then rejects with the signal's
 * reason.
 */
export async function measureDrift(
  reference: Subject,
  written: Subject,
  sequences: readonly Int32Array[],
  signal?: AbortSignal,
): Promise<Drift> {
  const drift: Drift = { kl: 0, top1Agreement: 0, maxAbsLogitError: 0, positions: 0 }
  const vocabulary = reference.base.graph.vocabSize
  for (const tokens of sequences) {
    signal?.throwIfAborted()
    const expected = await logitsOf(reference.base, reference.adapters, tokens, 'f32')
    const found = await logitsOf(written.base, written.adapters, tokens, 'f32')
    for (let row = 0; row < tokens.length; row++) {
      const [from, to] = [row * vocabulary, (row + 1) * vocabulary]
      addPosition(drift, expected.subarray(from, to), found.subarray(from, to))
    }
  }
  drift.kl = Math.max(0, drift.kl / drift.positions)
  drift.top1Agreement /= drift.positions
  return drift
}

/** Adds the result of one position; `kl` and `top1Agreement` are sums until the end. */
function addPosition(drift: Drift, expected: Float32Array, found: Float32Array): void {
  const [p, q] = [logSumExp(expected), logSumExp(found)]
  for (let i = 0; i < expected.length; i++) {
    const [a, b] = [expected[i] as number, found[i] as number]
    drift.kl += Math.exp(a - p.logSum) * (a - p.logSum - (b - q.logSum))
    drift.maxAbsLogitError = Math.max(drift.maxAbsLogitError, Math.abs(a - b))
  }
  if (p.top === q.top) drift.top1Agreement++
  drift.positions++
}

function logSumExp(logits: Float32Array): { top: number; logSum: number } {
  let top = 0
  for (let i = 1; i < logits.length; i++) if ((logits[i] as number) > (logits[top] as number)) top = i
  const most = logits[top] as number
  let sum = 0
  for (const logit of logits) sum += Math.exp(logit - most)
  return { top, logSum: most + Math.log(sum) }
}
