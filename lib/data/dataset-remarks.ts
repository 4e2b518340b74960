/** Remarks on data that is valid but may not be what the user intended. */

import { quote } from '../core/quote.js'
import { type Detected, placeName } from './dataset.js'
import type { DatasetStats } from './encoded-dataset.js'
import type { EncodeRowOptions } from './encoded-row.js'

/**
 * Remarks, one sentence each.
 * @param whole whether all rows were read, so that their number is meaningful
 */
export function datasetRemarks(
  detected: Detected | undefined,
  { specialTokens: { rows, first }, lostReasoning }: Pick<DatasetStats, 'specialTokens' | 'lostReasoning'>,
  { specialTokensInContent = 'keep' }: Pick<EncodeRowOptions, 'specialTokensInContent'>,
  whole = true,
): string[] {
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
  return remarks
}
