/** The part of the page of a migration that compares right answers. */
import { dotRow, escaped, formatNumber, formatShare, markOf, scaleOf, svg } from './chart/index.js'
import { region, section } from './section.js'

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

/** What a page says of a comparison. */
export interface ComparedParts {
  /** A figure for each model: its name, its value, and what the value counts. */
  figures: readonly (readonly [label: string, value: string, aside: string])[]
  /** HTML sentences on the tuned model beside each other one. */
  sentences: readonly string[]
  /** HTML sections. */
  sections: readonly string[]
}

/** p from which a difference is called one. */
export const SIGNIFICANT = 0.05

export function rightParts(data: ComparedRight): ComparedParts {
  return {
    figures: data.models.map(({ label, answered, exact }) => [
      label,
      formatShare(answered === 0 ? null : exact.right / answered),
      `${formatNumber(exact.right)} of ${formatNumber(answered)} word for word`,
    ]),
    sentences: sentencesOn(data),
    sections: [result(data), tests(data)],
  }
}

function sentencesOn({ models, pairs }: ComparedRight): string[] {
  const tuned = models[1]?.label ?? ''
  return pairs.flatMap(({ first, second, exact }) => {
    if (first !== tuned && second !== tuned) return []
    const [other, better, worse] =
      first === tuned
        ? [second, exact.onlyFirst, exact.onlySecond]
        : [first, exact.onlySecond, exact.onlyFirst]
    const name = escaped(other.toLowerCase())
    if (exact.p >= SIGNIFICANT) return [`These rows cannot tell it from the ${name} (p ${formatP(exact.p)}).`]
    const words = better > worse ? 'more' : '<b>fewer</b>'
    return [`It answers ${words} rows word for word than the ${name} (p ${formatP(exact.p)}).`]
  })
}

export function formatP(p: number): string {
  return p < 0.001 ? p.toExponential(1) : p.toFixed(3)
}

const [DOT_WIDTH, DOT_HEIGHT, DOT_MARGIN] = [240, 24, 8]

function result({ models }: ComparedRight): string {
  const scale = scaleOf('linear', [0, 1], [DOT_MARGIN, DOT_WIDTH - DOT_MARGIN])
  const cell = (answered: number, { right, interval }: PageShare, label: string, hue: number) => {
    const share = answered === 0 ? null : right / answered
    const range = `${formatShare(interval[0])} to ${formatShare(interval[1])}`
    const title = `${label}: ${formatShare(share)}, interval ${range}`
    const row = { name: label, mark: markOf(hue), mean: share, interval }
    const drawn = svg(DOT_WIDTH, DOT_HEIGHT, { title }, dotRow(row, scale, DOT_HEIGHT / 2))
    return `<td class="number">${formatShare(share)} <span class="quiet">${range}</span></td><td class="dots"><div class="plot">${drawn}</div></td>`
  }
  const body = models.map(
    ({ label, answered, exact, normalized, f1 }, hue) =>
      `<tr><th scope="row">${escaped(label)}</th><td class="number">${formatNumber(answered)}</td>${cell(answered, exact, `${label}, word for word`, hue)}<td class="number">${formatShare(answered === 0 ? null : normalized.right / answered)}</td><td class="number">${answered === 0 ? '–' : f1.toFixed(2)}</td></tr>`,
  )
  const heads = `<th scope="col">model</th><th scope="col" class="number">rows</th><th scope="col" class="number">word for word</th><th scope="col" class="dots"><span class="hidden">share with its interval, from 0% to 100%</span></th><th scope="col" class="number">normalized</th><th scope="col" class="number">F1</th>`
  return section(
    'result',
    'Result',
    'Shares of held-out rows with the expected answer, with 95% intervals by Wilson. Normalized: JSON by its value, other text without regard to case, spacing, and punctuation at its end. F1: mean over words.',
    region(
      'Shares of right answers',
      `<table class="shares"><thead><tr>${heads}</tr></thead><tbody>${body.join('')}</tbody></table>`,
    ),
  )
}

function tests({ pairs }: ComparedRight): string {
  const body = pairs.map(({ first, second, rows: both, exact, normalized }) => {
    const numbers = [both, exact.onlyFirst, exact.onlySecond].map(formatCell)
    const p = [formatP(exact.p), formatP(normalized.p)].map((one) => `<td class="number">${one}</td>`)
    return `<tr><th scope="row">${escaped(first)}, ${escaped(second.toLowerCase())}</th>${numbers.join('')}${p.join('')}</tr>`
  })
  const names = ['rows', 'only the first', 'only the second', 'p', 'p, normalized']
  const heads = names.map((name) => `<th scope="col" class="number">${name}</th>`).join('')
  return section(
    'tests',
    'Test',
    'Rows that only one of two models answers word for word, and McNemar’s exact p. It tells of these models on such rows. Numbers of tokens are not compared, since each model counts its own.',
    region(
      'Pairs of models',
      `<table><thead><tr><th scope="col">models</th>${heads}</tr></thead><tbody>${body.join('')}</tbody></table>`,
    ),
  )
}

const formatCell = (value: number) => `<td class="number">${formatNumber(value)}</td>`
