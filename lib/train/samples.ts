/** Examples of a run's effect: a few rows, held out if possible, answered by the base and by the adapter. */
import type { AdapterState, BaseModel } from '../base/base.js'
import { badValue, type OptionSource, snakeKey } from '../core/schema.js'
import type { AskedRow } from '../data/asked-rows.js'
import type { TrainOptions } from '../options/options.js'
import { ANSWER_TOKENS } from '../planning/plans.js'
import { isPrivate } from '../strategies/index.js'
import type { StrategyConfig } from '../strategies/strategy.js'
import type { Decoder } from './decoder.js'
import type { EvaluateControl } from './evaluate.js'
import {
  contextLength,
  decodeText,
  type Generation,
  generateSchema,
  generateText,
  lastOf,
} from './generate.js'
import { endIds, type KnownFormat, promptIds } from './prompting.js'

/** All answers together take no longer than this; a model that is slower shows fewer rows. */
const SAMPLE_MS = 30_000

/** A row, and how it is answered by greedy generation. */
export interface RunSample {
  prompt: string
  /** The system prompt of the row. */
  system: string | null
  expected: string
  base: string
  tuned: string
  /** True if an answer was truncated after `ANSWER_TOKENS`. */
  cut: boolean
}

/** The rows of a run with their answers. */
export interface Samples {
  rows: readonly RunSample[]
  /** True if the run did not train on them. */
  heldOut: boolean
  /** True if time ran out before all samples were answered. */
  late: boolean
  /** The system prompt that is used by default. */
  system: string | null
}

/** The rows that are asked. */
export interface AskedRows {
  rows: readonly AskedRow[]
  /** True if the run did not train on them. */
  heldOut: boolean
}

/** A held-out row as the adapter of a step answers it, by greedy generation. */
export interface StepAnswer extends Omit<AskedRow, 'index'> {
  answer: string
  /** True if the answer was truncated after `ANSWER_TOKENS`. */
  cut: boolean
}

/** @throws {ConfigError} if `evalGenerate` is set and no answers can be generated, or none may be shown */
export function checkEvalGenerate(
  { evalGenerate, task }: Pick<TrainOptions, 'evalGenerate' | 'task'>,
  run: { strategy: StrategyConfig; evalDataset: unknown; evalFraction: number },
  source: OptionSource,
): void {
  if (evalGenerate === 0) return
  const bad = (expected: string) => badValue(source, 'evalGenerate', evalGenerate, expected)
  const spelled = (camel: string) => (source.spelling === 'snake' ? snakeKey(camel) : camel)
  if (task === 'classification') throw bad('0 with task classification, whose model writes no text')
  if (isPrivate(run.strategy)) throw bad('0 in private training, which shows no rows')
  if (run.evalDataset === null && run.evalFraction === 0)
    throw bad(`held-out data beside it: ${spelled('evalDataset')} or ${spelled('evalFraction')}`)
}

/**
 * The rows whose answers were held out.
 * @param heldOut of the rows of `train`, in ascending order
 */
export function unseenRows(
  train: readonly AskedRow[],
  separate: readonly AskedRow[] | null,
  heldOut: Uint32Array | undefined,
): readonly AskedRow[] {
  const apart = new Set(heldOut)
  return separate ?? train.filter(({ index }) => apart.has(index))
}

/** The first rows whose answers were held out, else the first of the training. */
export function chooseRows(
  count: number,
  train: readonly AskedRow[],
  unseen: readonly AskedRow[],
): AskedRows {
  return unseen.length > 0
    ? { rows: unseen.slice(0, count), heldOut: true }
    : { rows: train.slice(0, count), heldOut: false }
}

/**
 * Asks the rows, each of the base and with the adapter.
 * @returns those that were answered in time
 */
export async function askRows(
  base: BaseModel,
  adapter: AdapterState,
  rows: readonly AskedRow[],
  signal: AbortSignal | undefined,
): Promise<Pick<Samples, 'rows' | 'late'>> {
  const late = AbortSignal.timeout(SAMPLE_MS)
  const stop = signal ? AbortSignal.any([signal, late]) : late
  const acting = [{ state: adapter, weight: 1, rank: null }]
  const samples: RunSample[] = []
  for (const { prompt, system, expected } of rows) {
    const ask = (adapters: typeof acting) => answer(base, adapters, adapter.format, prompt, system, stop)
    try {
      const tuned = await ask(acting)
      const plain = await ask([])
      const cut = [tuned, plain].some(({ finishReason }) => finishReason === 'length')
      samples.push({ prompt, system, expected, base: plain.text, tuned: tuned.text, cut })
    } catch (error) {
      if (late.aborted && !signal?.aborted) return { rows: samples, late: true }
      throw error
    }
  }
  return { rows: samples, late: false }
}

/**
 * Answers of one adapter from an open decoder. A row whose prompt fills the decoder's cache is skipped.
 * @param count the most answers to return
 */
export async function answerRows(
  base: BaseModel,
  format: KnownFormat,
  decoder: Decoder,
  rows: readonly AskedRow[],
  count: number,
  { signal, onProgress }: EvaluateControl,
): Promise<StepAnswer[]> {
  const tokenizer = await base.tokenizer()
  const ends = await endIds(tokenizer, format)
  const room = Math.min(decoder.capacity, contextLength(base))
  const found: StepAnswer[] = []
  for (const { prompt, system, expected } of rows) {
    if (found.length === count) break
    signal?.throwIfAborted()
    const ids = await promptIds(base, tokenizer, prompt, format, { system: system ?? undefined, signal })
    const limit = Math.min(ANSWER_TOKENS, room - ids.length)
    if (ids.length === 0 || limit < 1) continue
    const text = decodeText(decoder, tokenizer, ids, ends, limit, generateSchema.parse({}), { signal })
    const { text: answer, finishReason } = await lastOf(text)
    found.push({ prompt, system, expected, answer, cut: finishReason === 'length' })
    onProgress?.({ batches: found.length, totalBatches: count })
  }
  return found
}

async function answer(
  base: BaseModel,
  adapters: Parameters<typeof generateText>[1],
  format: KnownFormat,
  prompt: string,
  system: string | null,
  signal: AbortSignal,
): Promise<Generation> {
  const asked = { ...(system === null ? {} : { system }), maxNewTokens: ANSWER_TOKENS, signal }
  const text = generateText(base, adapters, prompt, { ...generateSchema.parse({}), ...asked }, format)
  return lastOf(text)
}
