/** Compares scores of several models on the same rows: means, and Student's paired t-test for every pair. */
import { type MeanInterval, meanInterval, pairedTest } from './statistics/index.js'

/** Scores of a model: their mean over the rows that it answered, and its 95 % interval. */
export interface ModelScore extends MeanInterval {
  answered: number
}

/** The second model minus the first on the rows that both answered. */
export interface ScorePair extends MeanInterval {
  /** Indices of the models. */
  first: number
  second: number
  rows: number
  p: number
}

/** @param rows with a score for each model; null where it gave no answer */
export function compareScores(
  rows: readonly (readonly (number | null)[])[],
  models: number,
): { scores: ModelScore[]; pairs: ScorePair[] } {
  const each = Array.from({ length: models }, (_, model) => model)
  const scores = each.map((model) => {
    const given = rows.flatMap((row) => row[model] ?? [])
    return { answered: given.length, ...meanInterval(given) }
  })
  const pairs = each.flatMap((first) =>
    each.slice(first + 1).map((second) => {
      const differences = rows.flatMap((row) => {
        const [one = null, other = null] = [row[first], row[second]]
        return one === null || other === null ? [] : other - one
      })
      return {
        ...{ first, second, rows: differences.length },
        ...meanInterval(differences),
        p: pairedTest(differences),
      }
    }),
  )
  return { scores, pairs }
}
