/** The part of the page of a migration that compares right answers. */
import { formatNumber, formatShare } from './chart/index.js'
import {
  type ComparedParts,
  formatP,
  numberCell,
  resultSection,
  sentencesOn,
  testsSection,
  valueCells,
} from './migrate-parts.js'

interface PageShare {
  right: number
  /** 95 % interval of the share. */
  interval: readonly [number, number]
}

interface PageTest {
  onlyFirst: number
  onlySecond: number
  p: number
}

/** Models by their right answers. The tuned model is the second. */
export interface ComparedRight {
  by: 'right answers'
  models: readonly { label: string; answered: number; exact: PageShare; normalized: PageShare; f1: number }[]
  /** Every two of the models, by their labels. */
  pairs: readonly { first: string; second: string; rows: number; exact: PageTest; normalized: PageTest }[]
}

export function rightParts(data: ComparedRight): ComparedParts {
  return {
    figures: data.models.map(({ label, answered, exact }) => [
      label,
      formatShare(shareOf(exact, answered)),
      `${formatNumber(exact.right)} of ${formatNumber(answered)} word for word`,
    ]),
    sentences: sentencesOn(
      data,
      ({ exact: { p, onlyFirst, onlySecond } }) => ({ p, gain: onlySecond - onlyFirst }),
      (isBetter, other) =>
        `It answers ${isBetter ? 'more' : '<b>fewer</b>'} rows word for word than the ${other}`,
    ),
    sections: [result(data), tests(data)],
  }
}

/** Null without an answer. */
const shareOf = ({ right }: PageShare, answered: number) => (answered === 0 ? null : right / answered)

function result({ models }: ComparedRight): string {
  return resultSection({
    text: 'Shares of held-out rows with the expected answer, with 95% intervals by Wilson. Normalized: JSON by its value, other text without regard to case, spacing, and punctuation at its end. F1: mean over words.',
    label: 'Shares of right answers',
    heads: ['word for word', 'share with its interval, from 0% to 100%', 'normalized', 'F1'],
    models: models.map((model, hue) => ({ ...model, cells: cellsOf(model, hue) })),
  })
}

function cellsOf(model: ComparedRight['models'][number], hue: number): string {
  const { label, answered, exact, normalized, f1 } = model
  const [name, mean] = [`${label}, word for word`, shareOf(exact, answered)]
  const [shown, range] = [formatShare(mean), exact.interval.map(formatShare).join(' to ')]
  const title = `${name}: ${shown}, interval ${range}`
  const value = { name, hue, mean, interval: exact.interval, shown, range, title }
  const more = [formatShare(shareOf(normalized, answered)), answered === 0 ? '–' : f1.toFixed(2)]
  return `${valueCells(value, [0, 1])}${more.map(numberCell).join('')}`
}

function tests({ pairs }: ComparedRight): string {
  return testsSection(
    'Rows that only one of two models answers word for word, and McNemar’s exact p. It tells of these models on such rows. Numbers of tokens are not compared, since each model counts its own.',
    ['rows', 'only the first', 'only the second', 'p', 'p, normalized'],
    pairs,
    ({ rows, exact, normalized }) => [
      ...[rows, exact.onlyFirst, exact.onlySecond].map((count) => formatNumber(count)),
      ...[exact.p, normalized.p].map(formatP),
    ],
  )
}
