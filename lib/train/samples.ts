/** Examples of a run's effect: a few rows, held out if possible, answered by the base and by the adapter. */
import type { AdapterState, BaseModel } from '../base/base.js'
import type { AskedRow } from '../data/asked-rows.js'
import { ANSWER_TOKENS } from '../planning/plans.js'
import { type Generation, generateSchema, generateText } from './generate.js'
import type { KnownFormat } from './prompting.js'

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

/**
 * The first rows whose answers were held out, else the first of the training.
 * @param heldOut of the rows of `train`, in ascending order
 */
export function chooseRows(
  count: number,
  train: readonly AskedRow[],
  separate: readonly AskedRow[] | null,
  heldOut: Uint32Array | undefined,
): AskedRows {
  const apart = new Set(heldOut)
  const unseen = separate ?? train.filter(({ index }) => apart.has(index))
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
  for (;;) {
    const { done, value } = await text.next()
    if (done) return value
  }
}
