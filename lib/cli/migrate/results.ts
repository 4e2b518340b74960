/** The results of a migration: every answer to the held-out rows, and the comparison of the models. */
import type * as z from 'zod'
import { compareAnswers, type Match } from '../../compare/index.js'
import type { comparisonShape, modelName } from '../schemas/migrate.js'
import type { SavedAnswer } from './folder.js'
import type { OldAnswers } from './old-answers.js'
import { rowId } from './old-answers.js'
import type { HeldOutRow } from './split.js'

/** The models and their pairs. */
type Comparison = z.infer<z.ZodObject<typeof comparisonShape>>
export type ModelName = z.infer<typeof modelName>

/** The answer of a model; null where it gave none. */
export interface RowAnswer {
  model: ModelName
  text: string | null
  cut?: boolean
}

/** A held-out row with its answers. */
export interface ResultRow {
  /** As in requests.jsonl. */
  id: string
  prompt: string
  expected: string
  answers: (RowAnswer & { exact: boolean | null; normalized: boolean | null })[]
}

export interface MigrationResults extends Comparison {
  rows: ResultRow[]
}

/** @param old undefined without a file of the old answers */
export function resultsOf(
  rows: readonly HeldOutRow[],
  saved: readonly SavedAnswer[],
  old: OldAnswers | undefined,
): MigrationResults {
  const names = namesOf(old)
  const answers = rows.map((row, index) => answersOf(names, row, index, saved, old))
  const { scores, pairs, right } = compareAnswers(
    rows.map(({ expected }, index) => ({
      expected,
      answers: (answers[index] as RowAnswer[]).map(({ text }) => text),
    })),
    names.length,
  )
  const judged = (match: Match, index: number, model: number) => right[match][index]?.[model] ?? null
  return {
    models: scores.map((score, index) => ({ name: names[index] as ModelName, ...score })),
    pairs: pairs.map(({ first, second, rows: both, exact, normalized }) => ({
      ...{ first: names[first] as ModelName, second: names[second] as ModelName, rows: both },
      ...{ exact: inFile(exact), normalized: inFile(normalized) },
    })),
    rows: rows.map((row, index) => ({
      ...shownRow(row),
      answers: (answers[index] as RowAnswer[]).map((answer, at) => ({
        ...answer,
        ...{ exact: judged('exact', index, at), normalized: judged('normalized', index, at) },
      })),
    })),
  }
}

/** The models of a migration. */
export function namesOf(old: OldAnswers | undefined): ModelName[] {
  return ['base', 'tuned', ...(old === undefined ? [] : (['old'] as const))]
}

/** The answers of the models to a held-out row. @param index of the row among them */
export function answersOf(
  names: readonly ModelName[],
  { row }: HeldOutRow,
  index: number,
  saved: readonly SavedAnswer[],
  old: OldAnswers | undefined,
): RowAnswer[] {
  return names.map((model) => ({
    model,
    ...(model === 'old' ? { text: old?.answers[index] ?? null } : answerBy(model, row, saved)),
  }))
}

/** A row for people. */
export function shownRow({ row, prompt, expected }: HeldOutRow): Omit<ResultRow, 'answers'> {
  return { id: rowId(row), prompt: promptText(prompt), expected }
}

function answerBy(name: SavedAnswer['by'], row: number, saved: readonly SavedAnswer[]) {
  const found = saved.find((one) => one.by === name && one.row === row)
  return found === undefined ? { text: null } : { text: found.text, ...(found.cut ? { cut: true } : {}) }
}

function inFile({ onlyFirst, onlySecond, p }: { onlyFirst: number; onlySecond: number; p: number }) {
  return { only_first: onlyFirst, only_second: onlySecond, p }
}

/** A prompt for people: its only turn, or every turn with its role. */
function promptText(prompt: HeldOutRow['prompt']): string {
  if (typeof prompt === 'string') return prompt
  const texts = prompt.map(({ role, content, tool_calls: calls }) => {
    const text = typeof content === 'string' ? content : ''
    return { role, text: calls === undefined ? text : `${text}${JSON.stringify(calls)}` }
  })
  const [first, ...more] = texts
  return more.length === 0
    ? (first?.text ?? '')
    : texts.map(({ role, text }) => `${role}: ${text}`).join('\n')
}
