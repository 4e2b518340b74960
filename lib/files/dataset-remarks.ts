/** Remarks on data that can be trained on, but perhaps not in the way that is meant. */
import type { Detected } from './dataset.js'

/** One sentence each. */
export function datasetRemarks(detected: Detected | undefined): string[] {
  const label = detected?.unusedLabel
  if (label === undefined) return []
  return [
    `the column "${label}" is not used: rows of the form text are learned as plain text; to learn the label as the answer, write it as a word and name the columns: {prompt: text, completion: ${label}}`,
  ]
}
