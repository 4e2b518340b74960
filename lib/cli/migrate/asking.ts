/** Asks the base and the tuned model the held-out rows, greedily. Answers are saved one by one. */
import type { Model } from '../../model/model.js'
import { writtenAnswer } from '../../serve/index.js'
import { rulesOf } from '../../strategies/index.js'
import { taskRules } from '../../tasks/index.js'
import { pythonJson } from '../../tokenizer/python-text.js'
import { generateSchema, generateText, lastOf } from '../../train/answers/generate.js'
import { loadQuantization, type RunConfig } from '../../train/config/config.js'
import { formatsOf } from '../../train/rows/prompting.js'
import type { Output } from '../output.js'
import { type StatusLine, shown } from '../progress.js'
import { loadShown } from '../subject.js'
import type { MigrationFolder, SavedAnswer } from './folder.js'
import { callsText } from './question.js'
import type { HeldOutRow } from './split.js'

/** Tokens that an answer may have beyond those of the longest expected one. */
const SLACK_TOKENS = 32

type BaseModel = Model['base']
type ActiveAdapter = Parameters<typeof generateText>[1][number]

/** The held-out rows, and what is needed to ask them. */
interface Asked {
  rows: readonly HeldOutRow[]
  folder: MigrationFolder
  signal: AbortSignal
}

/** @throws {ApiError} if rows have tools and the template of the model writes calls in no known form */
export async function checkCalls(
  config: RunConfig,
  rows: readonly HeldOutRow[],
  output: Output,
  signal: AbortSignal,
): Promise<void> {
  if (rows.every(({ tools }) => tools === undefined)) return
  const model = await loaded(config, config.model, output, signal)
  try {
    await writtenAnswer({ base: model.base, adapters: [] }, [], '')
  } finally {
    await model.dispose()
  }
}

/** The answers of both models to the rows, of which those saved before are not asked again. */
export async function askBoth(config: RunConfig, asked: Asked, output: Output): Promise<SavedAnswer[]> {
  const { folder, rows, signal } = asked
  const isModel = rulesOf(config.strategy).saves === 'model'
  const saved = await folder.answers()
  if (saved.length === 2 * rows.length) return saved
  const tuned = await loaded(config, isModel ? config.outputDir : config.model, output, signal)
  try {
    if (!isModel) await tuned.loadAdapter(config.outputDir, { signal })
    const adapters = tuned.adapters.map(({ state }) => ({ state, weight: 1, rank: null }))
    const formats = formatsOf(tuned.base, adapters)
    const limit = await tokenLimit(config, tuned, rows)
    const ask = (by: SavedAnswer['by'], base: BaseModel, acting: readonly ActiveAdapter[]) =>
      shown(output, `Asking the ${by} model`, (line) =>
        askRows(by, { base, adapters: acting, formats, limit }, { ...asked, line }),
      )
    await ask('tuned', tuned.base, adapters)
    if (!isModel) await ask('base', tuned.base, [])
    else {
      await tuned.dispose()
      const base = await loaded(config, config.model, output, signal)
      try {
        await ask('base', base.base, [])
      } finally {
        await base.dispose()
      }
    }
  } finally {
    await tuned.dispose()
  }
  return folder.answers()
}

function loaded(config: RunConfig, path: string, output: Output, signal: AbortSignal): Promise<Model> {
  const { precision, pagedWeights, device, threads, revision } = config
  const isBase = path === config.model
  return loadShown(
    path,
    {
      ...{ precision, pagedWeights, device, threads, signal },
      ...(isBase ? { ...loadQuantization(config), revision } : {}),
    },
    output,
  )
}

/** Tokens for the longest expected answer, and some more; for sampled answers, what the run allows. */
async function tokenLimit(
  { task, maxCompletionLength, maxSeqLength }: RunConfig,
  { tokenizer }: Model,
  rows: readonly HeldOutRow[],
): Promise<number> {
  if (taskRules(task).samplesAnswers) return maxCompletionLength ?? maxSeqLength
  let longest = 0
  for (const { expected } of rows) longest = Math.max(longest, (await tokenizer.encode(expected)).length)
  return longest + SLACK_TOKENS
}

interface Asking {
  base: BaseModel
  adapters: readonly ActiveAdapter[]
  /** The prompt format of the tuned model, in which both are asked. */
  formats: ReturnType<typeof formatsOf>
  limit: number
}

async function askRows(
  by: SavedAnswer['by'],
  asking: Asking,
  { rows, folder, signal, line }: Asked & { line: StatusLine },
): Promise<void> {
  const known = new Set((await folder.answers()).filter((one) => one.by === by).map(({ row }) => row))
  for (const [index, row] of rows.entries()) {
    line.update(`${index} of ${rows.length} held-out rows`, index / rows.length)
    if (known.has(row.row)) continue
    await folder.saveAnswer({ row: row.row, by, ...(await answerTo(row, asking, signal)) })
  }
}

async function answerTo(
  { prompt, tools }: HeldOutRow,
  { base, adapters, formats, limit }: Asking,
  signal: AbortSignal,
): Promise<Pick<SavedAnswer, 'text' | 'cut'>> {
  const options = {
    ...generateSchema.parse({}),
    ...{ maxNewTokens: limit, signal },
    ...(tools === undefined ? {} : { tools: pythonJson(tools) }),
  }
  const { text, finishReason } = await lastOf(generateText(base, adapters, prompt, options, formats))
  const cut = finishReason === 'length'
  if (tools === undefined) return { text, cut }
  const { content, calls } = await writtenAnswer({ base, adapters }, tools, text)
  return { text: calls.length > 0 ? callsText(calls) : content, cut }
}
