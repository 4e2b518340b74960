/** Results of a comparison as text of at most 80 columns. */

import { type Verdict, verdictBeside, verifiedNow, verifiedWords } from '../compare/index.js'
import type { CompareEntry, CompareResults, MetricStatistics } from '../compare/results.js'
import { counted, digits, fittedTable, formatCount, formatDuration } from './format.js'

const COLUMNS = 80

/** The tables of a finished comparison, and notes on their limits. */
export function compareText(results: CompareResults): string {
  const parts = [
    qualityTable(results),
    againstTable(results),
    pairMatrix(results),
    costTable(results),
    notes(results).join('\n'),
  ]
  return parts.filter((part) => part !== '').join('\n\n')
}

/** Words of the column to LoRA. */
const WORDS: Record<Verdict, string> = {
  better: 'better',
  worse: 'worse',
  equal: 'equal',
  'cannot be told': '?',
}

/** Signs of the matrix of pairs. */
const SIGNS: Record<Verdict, string> = { better: '+', worse: '-', equal: '=', 'cannot be told': '?' }

function qualityTable({ entries, statistics, metrics, base }: CompareResults): string {
  const found = statistics?.loss
  const names = metrics.map(({ name }) => name).filter((name) => name !== 'loss' && statistics?.[name])
  const rows = (found?.means ?? []).map(({ name, mean, spread }) => {
    const { searches, cells } = entryOf(entries, name)
    const beside = found && verdictBeside(found, name, 'lora')
    const others = names.map((metric) => {
      const of = statistics?.[metric]?.means.find((one) => one.name === name)
      return of === undefined ? '' : metricText(of.mean)
    })
    return [
      ...[name, rateText(searches), mean.toFixed(4), spread === null ? '' : spread.toFixed(4)],
      ...[beside ? WORDS[beside] : '', ...others],
      forgottenText(cells, base),
    ]
  })
  const untouched = [
    ...['base', '', (base?.metrics.loss ?? Number.NaN).toFixed(4), '', ''],
    ...names.map((name) => metricText(base?.metrics[name] ?? Number.NaN)),
    '',
  ]
  const head = ['strategy', 'rate', 'loss', 'spread', 'to lora', ...names.map(short), 'general']
  const right = [1, 2, 3, ...names.map((_, i) => 5 + i), 5 + names.length]
  return fittedTable([head, ...rows, untouched], COLUMNS, right)
}

/** Verdicts on all pairs by the loss; empty where nothing was tested. */
function pairMatrix({ statistics }: CompareResults): string {
  const found = statistics?.loss
  if (found === undefined || found.means.length < 3 || found.against.every(({ p }) => p === null)) return ''
  const names = found.means.map(({ name }) => name)
  const width = Math.max(...names.map(({ length }) => length))
  const cell = (row: string, column: string) => {
    const beside = verdictBeside(found, row, column)
    return beside ? SIGNS[beside] : '\\'
  }
  const lines = names.map((row, i) =>
    [`${columnName(i)} ${row.padEnd(width)} `, ...names.map((column) => cell(row, column))].join(' '),
  )
  const head = ['', ...names.map((_, i) => columnName(i))].join(' ')
  const equal = found.margin === null ? '' : `, = equal within ${found.margin}`
  return [
    `row beside column, by loss: + better, - worse${equal}, ? cannot be told`,
    `${' '.repeat(width + 3)}${head}`.trimEnd(),
    ...lines,
  ].join('\n')
}

/** a to z, then A to Z. */
function columnName(place: number): string {
  return 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ'[place] ?? '.'
}

/** Verdicts on all entries by a metric, in a sentence with its middle detectable difference. */
function metricSentence(name: string, { against, margin }: MetricStatistics): string {
  const of = (verdict: Verdict) => against.filter((one) => one.verdict === verdict).map((one) => one.name)
  const parts = (['better', 'worse', 'equal'] as const).flatMap((verdict) => {
    const found = of(verdict)
    const words = verdict === 'equal' ? `equal within ${margin}` : `${verdict} than lora`
    return found.length === 0 ? [] : [`${words}: ${found.join(', ')}`]
  })
  const open = of('cannot be told').length
  const gaps = against.flatMap(({ detectable }) => detectable ?? []).sort((a, b) => a - b)
  const gap = gaps[Math.floor(gaps.length / 2)]
  if (parts.length === 0) parts.push('no entry can be told from lora')
  else if (open > 0) parts.push(`${open} cannot be told from it`)
  const seen = gap === undefined ? '' : ` (detectable: ${metricText(gap)})`
  return `By ${name}${seen}, ${parts.join('; ')}.`
}

const short = (metric: string): string => (metric === 'exact_match' ? 'exact' : metric)

function metricText(value: number): string {
  return value >= 0 && value <= 1 ? `${(100 * value).toFixed(1)}%` : value.toPrecision(4)
}

/** Change of the loss on general text, averaged over seeds. */
function forgottenText(cells: CompareEntry['cells'], base: CompareResults['base']): string {
  const before = base?.general_loss
  const changes = cells.flatMap(({ general_loss: loss }) =>
    typeof loss === 'number' && typeof before === 'number' ? [loss - before] : [],
  )
  return changes.length === 0 ? '' : signed(average(changes), 3)
}

function againstTable({ statistics }: CompareResults): string {
  const against = statistics?.loss?.against ?? []
  if (against.length === 0 || against.every(({ p }) => p === null)) return ''
  const rows = against.map(({ name, difference, interval, p_holm: holm, detectable }) => [
    ...[
      name,
      signed(difference, 4),
      interval === null ? '' : interval.map((end) => signed(end, 4)).join(' to '),
    ],
    ...[holm === null ? '' : pText(holm), detectable === null ? '' : detectable.toFixed(4)],
  ])
  const head = ['loss against lora', 'difference', '95 % interval', 'p (Holm)', 'detectable']
  return fittedTable([head, ...rows], COLUMNS, [1, 2, 3, 4])
}

function costTable({ entries }: CompareResults): string {
  const rows = entries.map(
    ({ name, trainable_parameters: trained, file_bytes: file, planned, cells, searches }) => {
      const peak = Math.max(0, ...cells.map(({ measured_peak: seen }) => seen.bytes))
      const best = cells.flatMap(({ seconds_to_best: seconds }) => (seconds === null ? [] : [seconds]))
      const speed = average(cells.map(({ tokens_per_second: rate }) => rate))
      return [
        ...[
          name,
          formatCount(trained),
          file === null ? '' : sizeText(file),
          sizeText(planned.bytes),
          sizeText(peak),
        ],
        ...[
          formatCount(Math.round(speed)),
          best.length === 0 ? '' : timeText(average(best)),
          timeText(total(searches, ({ seconds }) => seconds)),
        ],
      ]
    },
  )
  const head = ['strategy', 'trained', 'MiB: file', 'plan', 'peak', 'tok/s', 'best', 'search']
  return fittedTable([head, ...rows], COLUMNS, [1, 2, 3, 4, 5, 6, 7])
}

/** Warnings and remarks, one per line. */
function notes(results: CompareResults): string[] {
  const { entries, seeds, statistics, left_out: leftOut, plan, remarks } = results
  const found = [...remarks]
  const named = (of: readonly CompareEntry[]) => of.map(({ name }) => name).join(', ')
  const all = entries.flatMap(({ searches }) => searches)
  const searched = total(all, ({ steps }) => steps)
  const spent = total(all, ({ seconds }) => seconds)
  found.unshift(variedText(results))
  if (searched > 0)
    found.push(`The search of learning rates took ${counted(searched, 'step')} in ${formatDuration(spent)}.`)
  const edges = entries.filter(({ searches }) =>
    searches.some(({ at_edge: atEdge, rates }) => atEdge && rates.length > 1),
  )
  if (edges.length > 0)
    found.push(
      `With some seed the best rate was the lowest or highest tried, so that a better one may lie beyond: ${named(edges)}.`,
    )
  const flat = entries.filter(({ searches }) => searches.every(({ flat }) => flat))
  if (flat.length > 0)
    found.push(`The rate matters less than the seed around the chosen ones: ${named(flat)}.`)
  for (const cut of plan.cuts) found.push(`Cut: ${cut}.`)
  const unstable = statistics?.loss?.unstable_control
  if (typeof unstable === 'number')
    found.push(
      `LoRA varies ${unstable.toFixed(1)} times as much over seeds as the others, so p-values are too small; take more seeds.`,
    )
  for (const [name, of] of Object.entries(statistics ?? {}))
    if (name !== 'loss' && of.against.some(({ p }) => p !== null)) found.push(metricSentence(name, of))
  if (seeds.length === 1) found.push('With one seed, nothing tells differences from chance.')
  for (const { name, reason } of leftOut) found.push(`Left out: ${name}: ${reason}`)
  const { told, wrong } = verifiedWords(results)
  if (verifiedNow(results).length > 0) found.push(told, ...wrong)
  return found
}

function entryOf(entries: readonly CompareEntry[], name: string): CompareEntry {
  return entries.find((entry) => entry.name === name) as CompareEntry
}

/** The lowest and the highest of the rates that seeds chose. */
function rateText(searches: CompareEntry['searches']): string {
  const chosen = searches.flatMap(({ chosen }) => chosen ?? [])
  if (chosen.length === 0) return ''
  const [low, high] = [Math.min(...chosen), Math.max(...chosen)]
  return low === high ? String(low) : `${low}-${high}`
}

/** What differs between the seeds of an entry, in a sentence. */
function variedText({ entries, version, asked, seeds }: CompareResults): string {
  if (version === 1) return 'Seeds differ in order and initial values; all share one search of the rate.'
  const isSearched = entries.some(({ searches }) => searches.some(({ rates }) => rates.length > 1))
  const share = typeof asked.train_share === 'number' ? asked.train_share : 1
  const varied = [
    ...[
      'order',
      'initial values',
      ...(isSearched ? ['rows set aside', 'search of the rate'] : ['rows set aside']),
    ],
    ...(share < 1 ? [`draw of ${Number((100 * share).toPrecision(3))} % of the training rows`] : []),
  ]
  return `Each of the ${counted(seeds.length, 'seed')} has its own ${varied.slice(0, -1).join(', ')}, and ${varied.at(-1)}.`
}

function pText(p: number): string {
  return p < 0.001 ? '<0.001' : p.toFixed(3)
}

function signed(value: number, places: number): string {
  return `${value < 0 ? '' : '+'}${value.toFixed(places)}`
}

/** A size in MiB. */
function sizeText(bytes: number): string {
  return digits(bytes / 2 ** 20)
}

function timeText(seconds: number): string {
  return seconds < 10 ? `${seconds.toFixed(1)} s` : formatDuration(seconds)
}

function total<T>(list: readonly T[], amount: (one: T) => number): number {
  return list.reduce((sum, one) => sum + amount(one), 0)
}

function average(values: readonly number[]): number {
  return values.length === 0 ? 0 : values.reduce((sum, value) => sum + value, 0) / values.length
}
