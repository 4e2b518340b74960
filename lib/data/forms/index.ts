/** Looks forms up, and asks their rules about rows; of a row of answers, those of its answers. */
import type { DatasetRow } from '../rows.js'
import type { AnswersRules, Form, RowRules } from './form.js'
import { ALL_FORMS, type DatasetFormat, type FormColumn } from './list.js'

export { ALL_FORMS, type DatasetFormat, type FormColumn }

/** All forms: first those that are detected, then those that only tasks ask for. */
export const FORMS = [
  ...ALL_FORMS.filter(({ ofTask }) => ofTask === undefined),
  ...ALL_FORMS.filter(({ ofTask }) => ofTask !== undefined),
]
export const DATASET_FORMATS: readonly DatasetFormat[] = FORMS.map(({ name }) => name)

const BY_NAME: ReadonlyMap<string, Form<DatasetRow, DatasetFormat>> = new Map(
  ALL_FORMS.map((form) => [form.name, form]),
)

export const formOf = (name: DatasetFormat): Form => BY_NAME.get(name) as Form

/** The first form whose columns and values a row has. */
export const recognized = (
  value: Record<string, unknown>,
  among: readonly Form<DatasetRow, DatasetFormat>[] = ALL_FORMS,
): Form<DatasetRow, DatasetFormat> | undefined =>
  among.find((form) => form.recognizes?.(value) ?? Object.keys(form.columns).every((key) => key in value))

/** How the rows of a form are encoded and asked. */
export const rulesOf = (row: DatasetRow): RowRules<DatasetRow> | AnswersRules<DatasetRow> =>
  formOf(row.format).rows as RowRules<DatasetRow> | AnswersRules<DatasetRow>

/** True if a head for classes predicts the labels of the rows. */
export function hasClasses(name: string): boolean {
  return 'classified' in (BY_NAME.get(name)?.rows ?? {})
}

/** True for text that is trained on as a whole and has no answer. */
export function isWhole(name: string): boolean {
  return 'whole' in (BY_NAME.get(name)?.rows ?? {})
}

/** True if rows have a prompt and one answer to it, so that the same prompt may have another answer elsewhere. */
export function isAsked(name: string): boolean {
  const { rows } = BY_NAME.get(name) ?? {}
  // Without rules, its rows become those of chats.
  return rows === undefined || 'prompt' in rows
}

/** All texts of a row. */
export function textsOf(row: DatasetRow): string[] {
  const rules = rulesOf(row)
  return 'answers' in rules ? rules.answers(row).flatMap(textsOf) : rules.texts(row)
}

/** The text that starts a row; empty if there is none. */
export function openingOf(row: DatasetRow): string {
  const rules = rulesOf(row)
  return 'answers' in rules ? openingOf(rules.answers(row)[0] as DatasetRow) : rules.opening(row)
}

/** A row without its last answer; undefined if there is nothing before it, or answers may share a prompt. */
export function promptOf(row: DatasetRow): unknown {
  const rules = rulesOf(row)
  return 'answers' in rules ? undefined : rules.prompt?.(row)
}

/** The class of a row; undefined if it has none. */
export function classOf(row: DatasetRow): string | undefined {
  const rules = rulesOf(row)
  return 'classified' in rules ? rules.label?.of(row) : undefined
}
