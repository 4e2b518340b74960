/** Remarks on data that is valid but may not be what the user intended. */

import { quote } from '../core/quote.js'
import { type Detected, placeName } from './dataset.js'
import type { DatasetStats } from './encoded-dataset.js'
import type { EncodeRowOptions } from './encoded-row.js'
import { hasClasses } from './forms/index.js'
import { type LabelCount, nearTwins } from './labels.js'
import type { FoundCharacter } from './row-survey.js'

/**
 * Remarks, one sentence each.
 * @param whole whether all rows were read, so that their number is meaningful
 */
export function datasetRemarks(
  detected: Detected | undefined,
  stats: Pick<DatasetStats, 'specialTokens' | 'lostReasoning' | 'classes' | 'damagedText' | 'misspelled'>,
  { specialTokensInContent = 'keep' }: Pick<EncodeRowOptions, 'specialTokensInContent'>,
  whole = true,
): string[] {
  const { specialTokens, lostReasoning, classes, damagedText, misspelled } = stats
  const { rows, first } = specialTokens
  const remarks: string[] = []
  const label = detected?.unusedLabel
  if (label !== undefined)
    remarks.push(
      `the column "${label}" is not used: rows of format text are trained on as plain text; to train on the label as an answer, write it as a word and map the columns: {prompt: text, completion: ${label}}`,
    )
  if (first !== undefined && specialTokensInContent === 'keep') {
    const one = whole ? '1 row has special tokens in its' : 'the data has special tokens in its'
    remarks.push(
      `${whole && rows !== 1 ? `${rows} rows have special tokens in their` : one} text, the first one ${quote(first.token)} in ${first.path}, ${placeName(first)}; the model reads them as control tokens. If they are plain text, set special_tokens_in_content: escape`,
    )
  }
  if (lostReasoning.first !== undefined) {
    const { rows: lost, first: where } = lostReasoning
    const which = !whole ? 'the data has' : lost === 1 ? '1 row has' : `${lost} rows have`
    remarks.push(
      `${which} reasoning in earlier assistant turns that the chat template does not render, the first one in ${where.path}, ${placeName(where)}; those turns are trained on without it. To train on it, set reasoning_history: drop, which makes an example of every answer`,
    )
  }
  if (damagedText.first !== undefined) remarks.push(damagedRemark(damagedText.rows, damagedText.first, whole))
  for (const { key, meant, ...where } of misspelled)
    remarks.push(
      `the key ${quote(key)} is not used, first in ${where.path}, ${placeName(where)}; did you mean ${quote(meant)}?`,
    )
  if (whole) remarks.push(...classRemarks(classes, detected !== undefined && hasClasses(detected.format)))
  return remarks
}

function damagedRemark(rows: number, first: FoundCharacter, whole: boolean): string {
  const { character } = first
  const wasUtf8 = character.length > 1
  const code = character.codePointAt(0)?.toString(16).toUpperCase().padStart(4, '0')
  const advice = wasUtf8
    ? 'the text was UTF-8 and was read as windows-1252: go back to the file before its conversion, or set encoding: utf-8'
    : 'go back to the file before its conversion, and read it with its own encoding, such as encoding: windows-1252'
  const which = !whole ? 'the data has' : rows === 1 ? '1 row has' : `${rows} rows have`
  return `${which} characters that a wrong conversion leaves, such as ${wasUtf8 ? quote(character) : `U+${code}`}, the first one in ${first.path}, ${placeName(first)}; ${advice}`
}

/** Most classes or groups of them that a remark names. */
const NAMED = 5

/** @param labels true for labels of a classifier, false for completions */
function classRemarks(classes: readonly LabelCount[], labels: boolean): string[] {
  const remarks: string[] = []
  const what = labels ? 'classes' : 'completions'
  const twins = nearTwins(classes)
  if (twins.length > 0) {
    const groups = twins.map((group) =>
      group.map(({ label, rows }) => `${quote(label)} (${rows})`).join(' and '),
    )
    remarks.push(
      `${what} differ only by white space or case: ${listed(groups)}; strip_labels: true makes one of each such group`,
    )
  }
  const alone = classes.filter(({ rows }) => rows === 1).map(({ label }) => quote(label))
  if (labels && alone.length > 0)
    remarks.push(
      `${alone.length === 1 ? 'a class has' : `${alone.length} classes have`} one row: ${listed(alone)}; nothing can be learned or measured of a class with so few`,
    )
  return remarks
}

function listed(items: readonly string[]): string {
  const rest = items.length - NAMED
  return items.slice(0, NAMED).join(', ') + (rest > 0 ? `, and ${rest} more` : '')
}
