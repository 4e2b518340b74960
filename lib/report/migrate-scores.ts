/** The part of the page of a migration that compares scores. */
import { dotRow, escaped, formatNumber, markOf, scaleOf, svg } from './chart/index.js'
import { type ComparedParts, formatP, SIGNIFICANT } from './migrate-right.js'
import { region, section } from './section.js'

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
    figures: data.models.map(({ label, answered, mean }) => [
      label,
      answered === 0 ? '–' : mean.toFixed(3),
      `mean score of ${formatNumber(answered)} answers`,
    ]),
    sentences: sentencesOn(data),
    sections: [result(data), tests(data)],
  }
}

function sentencesOn({ models, pairs }: ComparedScores): string[] {
  const tuned = models[1]?.label ?? ''
  return pairs.flatMap(({ first, second, mean, p }) => {
    if (first !== tuned && second !== tuned) return []
    const [other, gain] = first === tuned ? [second, -mean] : [first, mean]
    const name = escaped(other.toLowerCase())
    if (p >= SIGNIFICANT) return [`These rows cannot tell it from the ${name} (p ${formatP(p)}).`]
    return [
      `Its mean score is ${gain > 0 ? 'higher' : '<b>lower</b>'} than that of the ${name} (p ${formatP(p)}).`,
    ]
  })
}

const [DOT_WIDTH, DOT_HEIGHT, DOT_MARGIN] = [240, 24, 8]

const rangeOf = (interval: PageMean['interval']) =>
  interval === null ? 'no interval' : `${interval[0].toFixed(3)} to ${interval[1].toFixed(3)}`

function result({ models }: ComparedScores): string {
  const ends = models.flatMap(({ mean, interval }) => [mean, ...(interval ?? [])])
  const [low, high] = [Math.min(0, ...ends), Math.max(1, ...ends)]
  const scale = scaleOf('linear', [low, high], [DOT_MARGIN, DOT_WIDTH - DOT_MARGIN])
  const body = models.map(({ label, answered, mean, interval }, hue) => {
    const shown = answered === 0 ? '–' : mean.toFixed(3)
    const title = `${label}: ${shown}, ${rangeOf(interval)}`
    const row = {
      ...{ name: label, mark: markOf(hue), mean: answered === 0 ? null : mean },
      interval: interval ?? ([mean, mean] as const),
    }
    const drawn = svg(DOT_WIDTH, DOT_HEIGHT, { title }, dotRow(row, scale, DOT_HEIGHT / 2))
    return `<tr><th scope="row">${escaped(label)}</th><td class="number">${formatNumber(answered)}</td><td class="number">${shown} <span class="quiet">${rangeOf(interval)}</span></td><td class="dots"><div class="plot">${drawn}</div></td></tr>`
  })
  const heads = `<th scope="col">model</th><th scope="col" class="number">rows</th><th scope="col" class="number">mean score</th><th scope="col" class="dots"><span class="hidden">mean with its interval, from ${low.toFixed(2)} to ${high.toFixed(2)}</span></th>`
  return section(
    'result',
    'Result',
    'Mean scores of the grader on held-out rows, with 95% intervals by Student’s t.',
    region(
      'Mean scores',
      `<table class="shares"><thead><tr>${heads}</tr></thead><tbody>${body.join('')}</tbody></table>`,
    ),
  )
}

function tests({ pairs }: ComparedScores): string {
  const body = pairs.map(({ first, second, rows, mean, interval, p }) => {
    const cells = [formatNumber(rows), mean.toFixed(3), rangeOf(interval), formatP(p)]
    const shown = cells.map((cell) => `<td class="number">${cell}</td>`).join('')
    return `<tr><th scope="row">${escaped(first)}, ${escaped(second.toLowerCase())}</th>${shown}</tr>`
  })
  const names = ['rows', 'difference', '95% interval', 'p']
  const heads = names.map((name) => `<th scope="col" class="number">${name}</th>`).join('')
  return section(
    'tests',
    'Test',
    'Scores of the second model minus those of the first on the same rows, and the p of Student’s paired t-test. It tells of these models on such rows.',
    region(
      'Pairs of models',
      `<table><thead><tr><th scope="col">models</th>${heads}</tr></thead><tbody>${body.join('')}</tbody></table>`,
    ),
  )
}
