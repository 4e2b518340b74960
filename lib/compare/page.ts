/** Builds the HTML page of a compare from its results. */
import { basename, join, resolve } from 'node:path'
import { writeFileWhole } from '../io/atomic.js'
import type { ComparedEntry, ComparePageData } from '../report/compare-page.js'
import { comparePage } from '../report/compare-page.js'
import { rulesNamed } from '../strategies/index.js'
import type { CompareEntry, CompareResults } from './results.js'
import { PAGE } from './results-file.js'
import { mcnemar } from './statistics/mcnemar.js'
import { verdictBeside } from './verdict.js'
import { verifiedWords } from './verified.js'

const REFERENCE = 'lora'
/** Maximum number of flipped answers shown as examples. */
const EXAMPLES = 6

/** Writes the page of a compare, compare.html, next to its results. */
export async function writePage(folder: string, results: CompareResults): Promise<void> {
  await writeFileWhole(join(folder, PAGE), pageOf(results, basename(resolve(folder))))
}

/** @param title of the page: the name of the compare */
export function pageOf(results: CompareResults, title: string): string {
  return comparePage(pageData(results, title))
}

/** Results as shown on the page: sorted by the primary metric, best first. */
export function pageData(results: CompareResults, title: string): ComparePageData {
  const { model, metrics, base, seeds, entries, statistics, machine, binary, data } = results
  const primary = metrics.find((metric) => metric.primary) ?? metrics[0]
  const name = primary?.name ?? 'loss'
  const tested = statistics?.[name]
  const order = tested?.means.map((one) => one.name) ?? []
  const place = (entry: CompareEntry) =>
    order.includes(entry.name) ? order.indexOf(entry.name) : order.length
  const sorted = [...entries].sort((a, b) => place(a) - place(b))
  const cells = entries.flatMap((entry) => entry.cells)
  const { told, wrong } = verifiedWords(results)
  const total = (values: number[]) => values.reduce((sum, value) => sum + value, 0)
  return {
    title,
    model: basename(model.name),
    finished: results.finished !== null,
    when: (results.finished ?? results.created).slice(0, 16).replace('T', ' '),
    command: results.command,
    metric: { name, higherIsBetter: primary?.higher_is_better ?? false, isShare: isShare(results, name) },
    seeds,
    equal: results.equal,
    rows: { train: data.train.rows, validation: data.validation.rows, test: data.test.rows },
    base: base && { value: base.metrics[name] ?? null, loss: base.metrics.loss ?? null },
    entries: sorted.map((entry) => comparedEntry(entry, results, name)),
    judged: order.length > 0,
    beside: sorted.map((one) =>
      sorted.map((other) => (tested ? verdictBeside(tested, one.name, other.name) : null)),
    ),
    margin: tested?.margin ?? null,
    others: otherMetrics(results, name),
    remarks: [...results.plan.cuts, ...results.remarks, ...wrong],
    verified: told,
    leftOut: results.left_out,
    machine: `${machine.processor}, ${machine.platform}, ${binary.level}, ${machine.threads} thread${machine.threads === 1 ? '' : 's'}`,
    version: binary.version,
    hashes: [
      ['Model', model.hash],
      ['Training data', data.pool?.hash ?? data.train.hash ?? ''],
      ['Test data', data.test.hash],
      ['Addon', binary.hash],
      ['Results', results.hash],
    ],
    searchSeconds: total(entries.flatMap(({ searches }) => searches.map(({ seconds }) => seconds))),
    cellSeconds: total(cells.map(({ seconds }) => seconds)),
    power: results.plan.power,
  }
}

function otherMetrics(results: CompareResults, primary: string): ComparePageData['others'] {
  const { entries, metrics, statistics } = results
  return metrics.flatMap(({ name, higher_is_better: higherIsBetter }) => {
    const found = statistics?.[name]
    if (name === primary || found === undefined) return []
    const rows = found.means.flatMap(({ name: of, mean }) => {
      const entry = entries.find((one) => one.name === of)
      const against = found.against.find((one) => one.name === of)
      if (entry === undefined) return []
      return [
        {
          ...{ label: shownAs(entry).label, mean, difference: against?.difference ?? null },
          ...{ verdict: against?.verdict ?? null, detectable: against?.detectable ?? null },
        },
      ]
    })
    return [{ metric: { name, higherIsBetter, isShare: isShare(results, name) }, rows }]
  })
}

/** True if all values of the metric lie between 0 and 1. Never true of the loss. */
function isShare({ base, entries }: CompareResults, metric: string): boolean {
  if (metric === 'loss') return false
  const all = [base, ...entries.flatMap(({ cells }) => cells)].flatMap(
    (one) => one?.items.scores[metric] ?? [],
  )
  return all.length > 0 && all.every((value) => value >= 0 && value <= 1)
}

function comparedEntry(entry: CompareEntry, results: CompareResults, metric: string): ComparedEntry {
  const { cells, searches, planned } = entry
  const { means = [], against = [] } = results.statistics?.[metric] ?? {}
  const own = means.find(({ name }) => name === entry.name)
  const difference = against.find(({ name }) => name === entry.name)
  const general = meanOf(cells.map(({ general_loss }) => general_loss))
  const before = results.base?.general_loss ?? null
  const peaks = cells.map(({ measured_peak }) => measured_peak.bytes)
  return {
    name: entry.name,
    controlOf: entry.control_of ?? null,
    ...shownAs(entry),
    about: entry.about ?? null,
    mean: own?.mean ?? meanOf(cells.map(({ metrics }) => metrics[metric] ?? null)),
    interval: own?.interval ?? null,
    spread: own?.spread ?? null,
    diverged: cells.filter(({ diverged }) => diverged).length,
    difference: difference
      ? {
          verdict: difference.verdict,
          value: difference.difference,
          interval: difference.interval,
          p: difference.p_holm,
          detectable: difference.detectable,
        }
      : null,
    loss: meanOf(cells.map(({ metrics }) => metrics.loss ?? null)),
    forgotten: general === null || before === null ? null : general - before,
    parameters: entry.trainable_parameters,
    plannedBytes: planned.bytes,
    measuredBytes: peaks.length > 0 ? Math.max(...peaks) : null,
    fileBytes: entry.file_bytes,
    tokensPerSecond: meanOf(cells.map(({ tokens_per_second }) => tokens_per_second)),
    chosen: searches.flatMap(({ chosen }) => chosen ?? []),
    atEdge: searches.some(({ at_edge: atEdge }) => atEdge),
    isFlat: searches.every(({ flat }) => flat),
    searches: searches.map(({ rates }) =>
      rates.flatMap(({ rate, rungs }) => {
        const last = rungs.at(-1)
        return last ? [{ rate, loss: last.loss, steps: last.steps }] : []
      }),
    ),
    cells: cells.map(({ seed, rate, metrics, seconds, hash, curve }) => ({
      ...{ seed, rate, value: metrics[metric] ?? null, seconds, hash, curve },
    })),
    ...answered(entry, results),
  }
}

/** Rows answered correctly, by seed, and rows whose result differs from LoRA's. */
function answered(entry: CompareEntry, { entries }: CompareResults): Pick<ComparedEntry, 'shares' | 'flips'> {
  const right = (of: CompareEntry | undefined, seed: number) =>
    of?.cells[seed]?.items.scores.exact_match ?? []
  const own = entry.cells.map((_, seed) => right(entry, seed)).filter((scores) => scores.length > 0)
  const rows = own[0]?.length ?? 0
  const shares = Array.from(
    { length: rows },
    (_, row) => meanOf(own.map((scores) => scores[row] ?? null)) ?? 0,
  )
  const reference = entries.find(({ name }) => name === REFERENCE)
  const [before, after] = [right(reference, 0), right(entry, 0)]
  if (entry === reference || before.length === 0 || before.length !== after.length)
    return { shares, flips: null }
  const flipped = [...after.keys()].filter((row) => before[row] !== after[row])
  const gained = flipped.filter((row) => after[row] === 1)
  const answers = [reference, entry].map((of) => of?.cells[0]?.items.predictions ?? [])
  const lost = flipped.length - gained.length
  return {
    shares,
    flips: {
      gained: gained.length,
      lost,
      p: mcnemar(lost, gained.length),
      examples: flipped.slice(0, EXAMPLES).map((row) => ({
        item: row + 1,
        gained: after[row] === 1,
        before: answers[0]?.[row] ?? '',
        after: answers[1]?.[row] ?? '',
      })),
    },
  }
}

function meanOf(values: readonly (number | null)[]): number | null {
  const there = values.filter((value) => value !== null)
  return there.length === 0 ? null : there.reduce((sum, value) => sum + value, 0) / there.length
}

/** How an entry is shown. A control is named after the strategy that it varies: `lora+alpha` varies LoRA. */
function shownAs({
  name,
  strategy,
  control_of: controlOf,
}: CompareEntry): Pick<ComparedEntry, 'label' | 'controlLabel' | 'mark'> {
  if (controlOf === undefined) {
    const { label, mark } = rulesNamed(String(strategy.name))
    return { label: name === strategy.name ? label : name, controlLabel: null, mark }
  }
  const [varied = '', ...change] = name.split('+')
  const label = [rulesNamed(varied).label, ...change].join(', ')
  const explained = rulesNamed(controlOf)
  return { label, controlLabel: explained.label, mark: { hue: explained.mark.hue, shape: 'square' } }
}
