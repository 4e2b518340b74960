/** The parts of the page of a migration that compare models, whatever they are compared by. */
import { dotRow, escaped, formatNumber, markOf, scaleOf, svg } from './chart/index.js'
import { region, section } from './section.js'

/** What a page says of a comparison. */
export interface ComparedParts {
  /** A figure for each model: its name, its value, and what the value counts. */
  figures: readonly (readonly [label: string, value: string, aside: string])[]
  /** HTML sentences on the tuned model beside each other one. */
  sentences: readonly string[]
  /** HTML sections. */
  sections: readonly string[]
}

interface Pair {
  first: string
  second: string
}

/** p below which a difference is called one. */
const SIGNIFICANT = 0.05

/**
 * HTML sentences on the tuned model, the second one, beside each other one.
 * @param test p of the difference of a pair, and the gain of its second model over the first
 * @param told a difference in words; `other` is HTML
 */
export function sentencesOn<P extends Pair>(
  { models, pairs }: { models: readonly { label: string }[]; pairs: readonly P[] },
  test: (pair: P) => { p: number; gain: number },
  told: (isBetter: boolean, other: string) => string,
): string[] {
  const tuned = models[1]?.label ?? ''
  return pairs.flatMap((pair) => {
    const { first, second } = pair
    if (first !== tuned && second !== tuned) return []
    const { p, gain } = test(pair)
    const [other, gained] = first === tuned ? [second, -gain] : [first, gain]
    const name = escaped(other.toLowerCase())
    const words = p >= SIGNIFICANT ? `These rows cannot tell it from the ${name}` : told(gained > 0, name)
    return [`${words} (p ${formatP(p)}).`]
  })
}

export function formatP(p: number): string {
  return p < 0.001 ? p.toExponential(1) : p.toFixed(3)
}

/** The value of a model, as text and as a dot with its interval. */
export interface ModelValue {
  name: string
  /** Index of the model. */
  hue: number
  /** Null without an answer. */
  mean: number | null
  interval: readonly [number, number]
  /** The value and its interval as text, and the title of the dot. */
  shown: string
  range: string
  title: string
}

const [DOT_WIDTH, DOT_HEIGHT, DOT_MARGIN] = [240, 24, 8]

/** Cells of the table of `resultSection`. */
export function valueCells(value: ModelValue, domain: readonly [number, number]): string {
  const { name, hue, mean, interval, shown, range, title } = value
  const scale = scaleOf('linear', domain, [DOT_MARGIN, DOT_WIDTH - DOT_MARGIN])
  const dot = dotRow({ name, mark: markOf(hue), mean, interval }, scale, DOT_HEIGHT / 2)
  const drawn = svg(DOT_WIDTH, DOT_HEIGHT, { title }, dot)
  return `<td class="number">${shown} <span class="quiet">${range}</span></td><td class="dots"><div class="plot">${drawn}</div></td>`
}

export interface ResultTable {
  text: string
  label: string
  /** Heads of the value, of its dot for those who do not see it, and of the cells after them. */
  heads: readonly [value: string, dot: string, ...more: string[]]
  /** Cells are HTML. */
  models: readonly { label: string; answered: number; cells: string }[]
}

export function resultSection({ text, label, heads, models }: ResultTable): string {
  const [value, dot, ...more] = heads
  const row = (one: ResultTable['models'][number]) =>
    `<tr><th scope="row">${escaped(one.label)}</th>${numberCell(formatNumber(one.answered))}${one.cells}</tr>`
  const dots = `<th scope="col" class="dots"><span class="hidden">${dot}</span></th>`
  const head = `<th scope="col">model</th>${numberHeads(['rows', value])}${dots}${numberHeads(more)}`
  const table = `<table class="shares"><thead><tr>${head}</tr></thead><tbody>${models.map(row).join('')}</tbody></table>`
  return section('result', 'Result', text, region(label, table))
}

/** @param cells of each pair, as many as heads */
export function testsSection<P extends Pair>(
  text: string,
  heads: readonly string[],
  pairs: readonly P[],
  cells: (pair: P) => readonly string[],
): string {
  const row = (pair: P) =>
    `<tr><th scope="row">${escaped(pair.first)}, ${escaped(pair.second.toLowerCase())}</th>${cells(pair).map(numberCell).join('')}</tr>`
  const table = `<table><thead><tr><th scope="col">models</th>${numberHeads(heads)}</tr></thead><tbody>${pairs.map(row).join('')}</tbody></table>`
  return section('tests', 'Test', text, region('Pairs of models', table))
}

const numberHeads = (names: readonly string[]) =>
  names.map((name) => `<th scope="col" class="number">${name}</th>`).join('')

export function numberCell(html: string): string {
  return `<td class="number">${html}</td>`
}
