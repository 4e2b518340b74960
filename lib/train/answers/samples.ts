/** Examples of a run's effect: a few rows, preferably held out, answered by the base and by the adapter. */
import type { ActiveAdapter, AdapterState, BaseModel } from '../../base/base.js'
import { badValue, type OptionSource, snakeKey } from '../../core/schema.js'
import type { AskedRow } from '../../data/asked-rows.js'
import { namesOf, toolSchemas } from '../../data/prompt-tools.js'
import type { PromptFormat } from '../../formats/prompt-format.js'
import type { TrainOptions } from '../../options/types.js'
import { ANSWER_TOKENS } from '../../planning/plans.js'
import { isPrivate } from '../../strategies/index.js'
import type { StrategyConfig } from '../../strategies/strategy.js'
import { taskRules } from '../../tasks/index.js'
import type { Decoder } from '../decoding/decoder.js'
import {
  type AnswerFormats,
  endIds,
  isRecorded,
  type KnownFormat,
  type PromptOptions,
  promptIds,
} from '../rows/prompting.js'
import type { AskedRows } from '../rows/rows-to-ask.js'
import type { EvaluateControl } from '../steps/evaluate.js'
import type { StepAnswer } from '../steps/events.js'
import { classifyTexts } from './classify.js'
import {
  contextLength,
  decodeText,
  type Generation,
  generateSchema,
  generateText,
  lastOf,
  withCalls,
} from './generate.js'

/** Time limit for all answers together; a slower model shows fewer rows. */
const SAMPLE_MS = 30_000

/** A row with the greedy answers of the base and of the tuned model. */
export interface RunSample extends Omit<StepAnswer, 'answer'> {
  base: string
  tuned: string
}

/** A row with the class that a classifier predicts. */
export interface ClassifiedRow {
  text: string
  /** Its class. */
  expected: string
  predicted: string
  /** Probability of the predicted class. */
  probability: number
}

/** The rows of a run with their answers. */
export interface Samples {
  rows: readonly RunSample[]
  /** Only of a classifier, whose `rows` are empty. */
  classified?: readonly ClassifiedRow[]
  /** True if the run did not train on them. */
  heldOut: boolean
  /** True if time ran out before all samples were answered. */
  late: boolean
  /** The default system prompt. */
  system: string | null
}

/** The run whose rows are asked. */
interface Sampled {
  base: BaseModel
  adapter: AdapterState
  options: Pick<TrainOptions, 'maxSeqLength' | 'perDeviceTrainBatchSize'>
  /** Runs native work while the adapter is kept alive. */
  use: <T>(work: () => Promise<T>) => Promise<T>
}

/** @throws {ConfigError} if `evalGenerate` is set and answers cannot be generated or must not be shown */
export function checkEvalGenerate(
  { evalGenerate, task }: Pick<TrainOptions, 'evalGenerate' | 'task'>,
  run: { strategy: StrategyConfig; evalDataset: unknown; evalFraction: number },
  source: OptionSource,
): void {
  if (evalGenerate === 0) return
  const bad = (expected: string) => badValue(source, 'evalGenerate', evalGenerate, expected)
  const spelled = (camel: string) => (source.spelling === 'snake' ? snakeKey(camel) : camel)
  if (taskRules(task).classes) throw bad(`0 with task ${task}, whose model writes no text`)
  if (isPrivate(run.strategy)) throw bad('0 in private training, which shows no rows')
  if (run.evalDataset === null && run.evalFraction === 0)
    throw bad(`held-out data beside it: ${spelled('evalDataset')} or ${spelled('evalFraction')}`)
}

/**
 * Asks the rows that a run has kept, or classifies them.
 * @param data undefined for a run that has not begun
 */
export async function samplesOf(
  { base, adapter, options, use }: Sampled,
  data: { asked(): AskedRows; format(): PromptFormat | null } | undefined,
  signal: AbortSignal | undefined,
): Promise<Samples> {
  const { rows, heldOut } = data?.asked() ?? { rows: [], heldOut: false }
  const format = data?.format() ?? null
  const asked = await use(() =>
    base.labels === null
      ? askRows(base, adapter, rows, signal)
      : classifiedRows(base, adapter, rows, options, signal),
  )
  return { ...asked, heldOut, system: format?.system ?? null }
}

/**
 * Asks each row of the base and of the adapter.
 * @returns the rows answered in time
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
  for (const row of rows) {
    const asking = askingOf(row, adapter.format)
    const ask = (adapters: typeof acting) => answerTo(asking, base, adapters, stop)
    try {
      const tuned = await ask(acting)
      const plain = await ask([])
      const cut = [tuned, plain].some(({ finishReason }) => finishReason === 'length')
      samples.push({ ...shownOf(row, asking), base: plain.text, tuned: tuned.text, cut })
    } catch (error) {
      if (late.aborted && !signal?.aborted) return { rows: samples, late: true }
      throw error
    }
  }
  return { rows: samples, late: false }
}

/** Classifies the text of each row. */
export async function classifiedRows(
  base: BaseModel,
  adapter: AdapterState,
  rows: readonly AskedRow[],
  options: Pick<TrainOptions, 'maxSeqLength' | 'perDeviceTrainBatchSize'>,
  signal: AbortSignal | undefined,
): Promise<Pick<Samples, 'rows' | 'classified' | 'late'>> {
  if (rows.length === 0) return { rows: [], classified: [], late: false }
  const { maxSeqLength, perDeviceTrainBatchSize } = options
  const texts = rows.map(({ prompt }) => prompt)
  const acting = [{ state: adapter, weight: 1, rank: null }]
  const found = await classifyTexts(base, acting, texts, { maxSeqLength, perDeviceTrainBatchSize, signal })
  const classified = found.map(({ label, probabilities }, row) => ({
    text: texts[row] as string,
    expected: (rows[row] as AskedRow).expected,
    predicted: label,
    probability: probabilities[label] as number,
  }))
  return { rows: [], classified, late: false }
}

/**
 * Answers of one adapter, generated by an open decoder. Rows whose prompts fill the decoder's cache are
 * skipped.
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
  const room = Math.min(decoder.capacity, contextLength(base))
  const found: StepAnswer[] = []
  for (const row of rows) {
    if (found.length === count) break
    signal?.throwIfAborted()
    const asking = askingOf(row, format)
    const ids = await promptIds(base, tokenizer, asking.prompt, asking.format, { ...asking.options, signal })
    const limit = Math.min(ANSWER_TOKENS, room - ids.length)
    if (ids.length === 0 || limit < 1) continue
    const options = withCalls(generateSchema.parse({}), row.tools)
    const ends = await endIds(tokenizer, asking.ends)
    const text = decodeText(decoder, tokenizer, ids, ends, limit, options, { signal })
    const { text: answer, finishReason } = await lastOf(text)
    found.push({ ...shownOf(row, asking), answer, cut: finishReason === 'length' })
    onProgress?.({ batches: found.length, totalBatches: count })
  }
  return found
}

/** Prompt of a row, with its options and formats. */
interface Asking extends AnswerFormats, Pick<RunSample, 'form'> {
  prompt: string
  options: PromptOptions
}

/**
 * Asks a row as it was trained on.
 * @param format prompt format of the adapter
 */
export function askingOf({ prompt, system, tools, around }: AskedRow, format: KnownFormat): Asking {
  const raw = isRecorded(format) && format.form === 'raw' ? format : undefined
  if (around === undefined) {
    const options: PromptOptions = {
      chatTemplate: true,
      ...(system === null ? {} : { system }),
      ...(tools === undefined ? {} : { tools }),
    }
    return raw === undefined
      ? { prompt, options, format, ends: format }
      : { prompt, options, format: 'unrecorded', ends: format, form: 'chat' }
  }
  const { prefix, suffix } = around
  const options: PromptOptions = { chatTemplate: false }
  return raw?.prefix === prefix && raw.suffix === suffix
    ? { prompt, options, format, ends: format }
    : { prompt: `${prefix}${prompt}${suffix}`, options, format: 'unrecorded', ends: format, form: 'raw' }
}

function shownOf(
  { system, tools, expected, around }: AskedRow,
  { prompt, form }: Asking,
): Omit<StepAnswer, 'answer' | 'cut'> {
  return {
    prompt,
    // The text around a raw prompt has the system prompt.
    system: around === undefined ? system : null,
    ...(form === undefined ? {} : { form }),
    ...(tools === undefined ? {} : { tools: namesOf(toolSchemas(tools) ?? []) }),
    expected,
  }
}

/** The greedy answer to a row. */
export async function answerTo(
  { prompt, options: asked, ...formats }: Asking,
  base: BaseModel,
  adapters: readonly ActiveAdapter[],
  signal: AbortSignal | undefined,
): Promise<Generation> {
  const options = { ...generateSchema.parse({}), maxNewTokens: ANSWER_TOKENS, ...asked, signal }
  return lastOf(generateText(base, adapters, prompt, options, formats))
}
