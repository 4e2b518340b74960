/** The part of the page of a migration that compares scores. */
import { formatNumber } from './chart/index.js'
import {
  type ComparedParts,
  formatP,
  resultSection,
  sentencesOn,
  testsSection,
  valueCells,
} from './migrate-parts.js'

/** A mean and its 95 % interval, which a single value has not. */
interface PageMean {
  mean: number
  interval: readonly [number, number] | null
}

/** Models by the scores of their answers. The tuned model is the second. */
export interface ComparedScores {
  by: 'scores'
  models: readonly (PageMean & { label: string; answered: number })[]
  /** Every two of the models, by their labels: the second minus the first. */
  pairs: readonly (PageMean & { first: string; second: string; rows: number; p: number })[]
}

export function scoreParts(data: ComparedScores): ComparedParts {
  return {
    figures: data.models.map((model) => [
      model.label,
      meanShown(model),
      `mean score of ${formatNumber(model.answered)} answers`,
    ]),
    sentences: sentencesOn(
      data,
      ({ p, mean }) => ({ p, gain: mean }),
      (isBetter, other) =>
        `Its mean score is ${isBetter ? 'higher' : '<b>lower</b>'} than that of the ${other}`,
    ),
    sections: [result(data), tests(data)],
  }
}

const meanShown = ({ answered, mean }: ComparedScores['models'][number]) =>
  answered === 0 ? '–' : mean.toFixed(3)

const rangeOf = (interval: PageMean['interval']) =>
  interval === null ? 'no interval' : `${interval[0].toFixed(3)} to ${interval[1].toFixed(3)}`

function result({ models }: ComparedScores): string {
  const ends = models.flatMap(({ mean, interval }) => [mean, ...(interval ?? [])])
  const [low, high] = [Math.min(0, ...ends), Math.max(1, ...ends)]
  const cellsOf = (model: ComparedScores['models'][number], hue: number) => {
    const { label: name, answered, mean, interval } = model
    const [shown, range] = [meanShown(model), rangeOf(interval)]
    const title = `${name}: ${shown}, ${range}`
    const dot = { mean: answered === 0 ? null : mean, interval: interval ?? ([mean, mean] as const) }
    return valueCells({ name, hue, ...dot, shown, range, title }, [low, high])
  }
  return resultSection({
    text: 'Mean scores of the grader on held-out rows, with 95% intervals by Student’s t.',
    label: 'Mean scores',
    heads: ['mean score', `mean with its interval, from ${low.toFixed(2)} to ${high.toFixed(2)}`],
    models: models.map((model, hue) => ({ ...model, cells: cellsOf(model, hue) })),
  })
}

function tests({ pairs }: ComparedScores): string {
  return testsSection(
    'Scores of the second model minus those of the first on the same rows, and the p of Student’s paired t-test. It tells of these models on such rows.',
    ['rows', 'difference', '95% interval', 'p'],
    pairs,
    ({ rows, mean, interval, p }) => [formatNumber(rows), mean.toFixed(3), rangeOf(interval), formatP(p)],
  )
}
