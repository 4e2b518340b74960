/** Claims on the page of a compare: its headline, the matrix of pairs, and tables of further metrics. */
import { escaped, formatNumber, formatShare } from './chart/index.js'
import { valueFormat } from './compare-charts.js'
import type { ComparedEntry, ComparedMetric, ComparePageData, Verdict } from './compare-data.js'

function list(words: readonly string[]): string {
  if (words.length < 3) return words.join(' and ')
  return `${words.slice(0, -1).join(', ')}, and ${words.at(-1)}`
}

const names = (entries: readonly ComparedEntry[]) => list(entries.map((entry) => escaped(entry.label)))

const middle = (values: readonly number[]) => values.toSorted((a, b) => a - b)[values.length >> 1]

/** The headline, which many readers will read alone; it states first what the seeds cannot settle. */
export function verdict(data: ComparePageData): string[] {
  const { entries, seeds, metric, judged } = data
  const format = valueFormat(data)
  const said: string[] = []
  const own = entries.filter(({ controlOf }) => controlOf === null)
  const best = own[0]
  if (!judged || best === undefined || best.mean === null)
    return ['<b>This compare is not finished.</b> What is there so far is below.']
  const several = `${seeds.length} seed${seeds.length === 1 ? '' : 's'}`
  const place = (entry: ComparedEntry) => entries.indexOf(entry)
  const beside = (one: ComparedEntry, other: ComparedEntry) => data.beside[place(one)]?.[place(other)] ?? null
  const others = own.slice(1)
  const of = (kind: Verdict) => others.filter((other) => beside(best, other) === kind)
  const [behind, equal, open] = [of('better'), of('equal'), of('cannot be told')]
  const decided = own.some((one) => own.some((other) => beside(one, other) === 'better'))
  const bestMean = `${escaped(best.label)} has the best mean, ${format(best.mean)}`
  const within = data.margin === null ? '' : difference(metric, data.margin)
  if (open.length === 0 && equal.length === 0) {
    said.push(`<b>${escaped(best.label)}</b> is best: ${format(best.mean)}.`)
  } else if (open.length === 0) {
    said.push(`<b>${names([best, ...equal])}</b> are best, and equal within ${within}: ${format(best.mean)}.`)
  } else if (!decided && equal.length === 0) {
    const gap = middle(entries.flatMap((entry) => entry.difference?.detectable ?? []))
    const small =
      gap === undefined ? '' : ` Differences to LoRA under ${difference(metric, gap)} would go unseen.`
    said.push(`<b>${several} cannot tell these strategies apart.</b>${small}`, `${bestMean}.`)
  } else {
    said.push(`<b>${several} cannot settle which is best.</b>`)
    if (open.length === others.length) said.push(`${bestMean}, but it cannot be told from any other.`)
    else {
      said.push(`${bestMean}; it cannot be told from ${names(open)}.`)
      if (equal.length > 0) said.push(`Equal to it within ${within}: ${names(equal)}.`)
    }
  }
  if (behind.length > 0) said.push(`Worse: ${names(behind)}.`)
  const toLora = own.filter(({ difference: gap }) => gap?.verdict === 'better')
  if (open.length > 0 && toLora.length > 0) said.push(`Better than LoRA: ${names(toLora)}.`)
  const each = data.rows.test === 1 ? '1 test row' : `${formatNumber(data.rows.test)} test rows`
  said.push(`Each mean is of ${several} and ${each}.`)
  const [low, high] = [
    Math.min(...own.map(({ mean }) => mean ?? 1)),
    Math.max(...own.map(({ mean }) => mean ?? 0)),
  ]
  if (metric.isShare && (high < 0.05 || low > 0.95))
    said.push(
      `All means are near ${high < 0.05 ? '0' : '100%'}, where a ranking says little: the task leaves no room.`,
    )
  const edge = own.filter(({ atEdge }) => atEdge)
  if (edge.length > 0)
    said.push(
      `A best rate of ${names(edge)} is at an edge of a search, so ${edge.length > 1 ? 'they' : 'it'} may do better.`,
    )
  const diverged = own.filter(({ diverged }) => diverged > 0)
  if (diverged.length > 0) said.push(`Seeds diverged of ${names(diverged)}.`)
  return said
}

/** Formats a difference between two values of a metric; for fractions, in percentage points. */
export function difference(metric: ComparedMetric, value: number, signed = false): string {
  const size = metric.isShare ? `${(Math.abs(value) * 100).toFixed(1)}` : formatNumber(Math.abs(value))
  const sign = signed ? (value > 0 ? '+' : value < 0 ? '−' : '±') : ''
  return `${sign}${size}${metric.isShare && !signed ? ' points' : ''}`
}

/** A verdict in a table. */
export const toldWords = (told: Verdict): string => (told === 'cannot be told' ? '?' : told)

export function section(id: string, title: string, words: string, body: string, kind = ''): string {
  return `<section id="${id}"${kind} aria-labelledby="${id}-title"><div class="side"><h2 id="${id}-title">${title}</h2><p>${words}</p></div><div class="body">${body}</div></section>`
}

const SIGNS: Record<Verdict, string> = { better: '+', worse: '−', equal: '=', 'cannot be told': '?' }

/** Verdicts on all pairs; empty for two entries, and where nothing was tested. */
export function pairMatrix({ entries, beside, margin, metric }: ComparePageData): string {
  if (entries.length < 3 || beside.every((row) => row.every((told) => told === null))) return ''
  const head = entries.map(({ label }, i) => `<th scope="col" aria-label="${escaped(label)}">${i + 1}</th>`)
  const rows = entries.map(({ label }, i) => {
    const cells = entries.map((other, j) => {
      const told = beside[i]?.[j]
      if (told === undefined || told === null) return '<td class="same"></td>'
      const words = `${label} ${told === 'cannot be told' ? 'cannot be told from' : told === 'equal' ? 'equals' : `is ${told} than`} ${other.label}`
      return `<td class="${told === 'cannot be told' ? 'open' : told}" title="${escaped(words)}">${SIGNS[told]}</td>`
    })
    return `<tr><th scope="row"><span class="quiet">${i + 1}</span> ${escaped(label)}</th>${cells.join('')}</tr>`
  })
  const equal = margin === null ? '' : ` = equal within ${difference(metric, margin)},`
  return section(
    'pairs',
    'Pairs',
    `A row beside a column: + better, − worse,${equal} ? cannot be told. Differences to LoRA are one family of tests, all other pairs a second; at most 5% of families make a false claim.`,
    `<div class="scroll" tabindex="0" role="region" aria-label="Pairs"><table class="pairs"><thead><tr><td></td>${head.join('')}</tr></thead><tbody>${rows.join('')}</tbody></table></div>`,
  )
}

/** The metrics beside the first, each with the difference that it can see. */
export function metricTables({ others }: ComparePageData): string {
  if (others.length === 0) return ''
  const tables = others.map(({ metric, rows }) => {
    const format = (value: number) => (metric.isShare ? formatShare(value) : formatNumber(value))
    const gap = (value: number | null, signed: boolean) =>
      value === null ? '' : difference(metric, value, signed)
    const body = rows.map(
      ({ label, mean, difference: value, verdict: told, detectable }) =>
        `<tr><th scope="row">${escaped(label)}</th><td class="number">${format(mean)}</td><td class="number">${told === null ? '' : `<b class="told">${toldWords(told)}</b> `}${gap(value, true)}</td><td class="number">${gap(detectable, false)}</td></tr>`,
    )
    return `<figure><figcaption><b>${escaped(metric.name)}</b>, ${metric.higherIsBetter ? 'higher' : 'lower'} is better</figcaption><div class="scroll" tabindex="0" role="region" aria-label="${escaped(metric.name)}"><table class="tight"><thead><tr><th scope="col">strategy</th><th scope="col" class="number">mean</th><th scope="col" class="number">to LoRA</th><th scope="col" class="number">detectable</th></tr></thead><tbody>${body.join('')}</tbody></table></div></figure>`
  })
  return section(
    'metrics',
    'Other metrics',
    'Detectable: the smallest difference to LoRA that this compare would have found in 8 of 10 cases. A question mark: cannot be told.',
    tables.join(''),
  )
}
