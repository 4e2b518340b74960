/** Scores of single answers. */
import { ConfigError } from '../../core/errors.js'
import type { CustomMetric, ScoredRow } from '../../tasks/metrics.js'
import { splitReasoning } from '../../tokenizer/reasoning.js'

export { splitReasoning }

/** True if an answer is the expected one, apart from white space around it and reasoning before it. */
export function isRight(answer: string, expected: string): boolean {
  const [given, wanted] = [answer, expected].map((text) => splitReasoning(text).answer.trim())
  return given === wanted
}

/**
 * F1 over the words shared by the prediction and the expected answer, ignoring case and punctuation, as in SQuAD.
 * @see Rajpurkar et al. 2016, arXiv 1606.05250
 */
export function wordF1({ prediction, expected }: Pick<ScoredRow, 'prediction' | 'expected'>): number {
  const [given, wanted] = [wordsOf(prediction), wordsOf(expected)]
  if (given.length === 0 || wanted.length === 0) return Number(given.length === wanted.length)
  const left = new Map<string, number>()
  for (const word of wanted) left.set(word, (left.get(word) ?? 0) + 1)
  let shared = 0
  for (const word of given) {
    const count = left.get(word) ?? 0
    if (count === 0) continue
    shared++
    left.set(word, count - 1)
  }
  return (2 * shared) / (given.length + wanted.length)
}

function wordsOf(text: string): string[] {
  return text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? []
}

/**
 * Scores rows with a custom metric.
 * @param caller the public function that received the metric, for error messages
 * @throws {ConfigError} when a score is not a finite number
 */
export function customScores(
  { name, score }: Pick<CustomMetric, 'name' | 'score'>,
  rows: readonly ScoredRow[],
  caller: string,
): number[] {
  return rows.map((row) => {
    const value: unknown = score(row)
    if (typeof value === 'number' && Number.isFinite(value)) return value
    throw new ConfigError(
      `${caller}: metric ${name} returned ${String(value)} for a row, expected a finite number.`,
      { name, value: String(value) },
    )
  })
}
