/** Computes the statistics of a finished compare. */
import { REFERENCE } from './entries.js'
import { unequalSizes } from './equal.js'
import { busyRemarks } from './load.js'
import type { CompareEntry, CompareResults, CompareSearch, MetricStatistics } from './results.js'
import { rungOf } from './search.js'
import { metricStatistics, type Verdict } from './statistics/index.js'

/** Statistics by metric name; metrics that the data does not provide are omitted. */
export function judged({ entries, metrics, margins }: CompareResults): CompareResults['statistics'] {
  const found: NonNullable<CompareResults['statistics']> = {}
  for (const { name, higher_is_better: higherIsBetter } of metrics) {
    const scores = entries.map(({ cells }) => cells.map(({ items }) => itemsOf(items, name)))
    const rows = Math.max(0, ...scores.flat().map((items) => items.length))
    if (rows === 0) continue
    const filled = scores.map((runs) =>
      runs.map((items) => (items.length === rows ? items : new Array<number>(rows).fill(Number.NaN))),
    )
    const control = entries.findIndex((entry) => entry.name === REFERENCE)
    const names = entries.map((entry) => entry.name)
    if (filled.every((runs) => runs.every((items) => items.some(Number.isNaN)))) continue
    const margin = margins?.[name] ?? null
    found[name] = metricStatistics({ names, scores: filled, control, higherIsBetter, margin })
  }
  for (const entry of entries) for (const search of entry.searches) search.flat = isFlat(search, entry)
  return found
}

/** Warnings about a compare with statistics, one sentence each. */
export function remarksOn(results: CompareResults): string[] {
  const { entries, model, statistics } = results
  const found = unequalSizes(results)
  const left = statistics?.loss?.left_pool ?? []
  if (left.length > 0)
    found.push(
      `${left.join(', ')} left the pool: the loss varies far more over seeds than that of the others, so differences from it have wide intervals.`,
    )
  for (const { name, searches, cells, base_format: format } of entries) {
    const diverged = cells.filter((cell) => cell.diverged).length
    const lost = searches.filter(
      ({ rates }) => rates.length > 1 && rates.every(({ rungs }) => rungs[0]?.loss === null),
    )
    if (lost.length > 0)
      found.push(
        `Every rate of ${name} diverged${lost.length < searches.length ? ` with ${lost.length} of ${searches.length} seeds` : ''}; it was trained at the lowest.`,
      )
    if (diverged > 0)
      found.push(
        `${diverged} of ${cells.length} seeds of ${name} diverged; their rows count as the worst that any entry has.`,
      )
    if (format !== model.quantization)
      found.push(`${name} was trained on a base in ${format}, the others on one in ${model.quantization}.`)
  }
  return [...found, ...busyRemarks(results)]
}

function itemsOf(items: CompareEntry['cells'][number]['items'], metric: string): number[] {
  const values = metric === 'loss' ? items.loss : (items.scores[metric] ?? [])
  return values.map((value) => value ?? Number.NaN)
}

/** True if the chosen rate and its neighbors differ by less than the seeds do. */
function isFlat({ rates, chosen }: CompareSearch, { cells }: CompareEntry): boolean {
  const at = rates.findIndex(({ rate }) => rate === chosen)
  const own = rates[at]?.rungs
  const means = cells.map(({ metrics }) => metrics.loss ?? Number.NaN)
  if (own === undefined || own.length === 0 || means.length < 2) return false
  const average = means.reduce((sum, value) => sum + value, 0) / means.length
  const squares = means.reduce((sum, value) => sum + (value - average) ** 2, 0)
  const spread = Math.sqrt(squares / (means.length - 1))
  return [rates[at - 1], rates[at + 1]].every((neighbor) => {
    const shared = own.findLast(
      ({ steps }) => neighbor !== undefined && rungOf(neighbor, steps) !== undefined,
    )
    const losses = [neighbor && shared && rungOf(neighbor, shared.steps)?.loss, shared?.loss]
    return losses.every((loss) => typeof loss === 'number')
      ? Math.abs((losses[0] as number) - (losses[1] as number)) < spread
      : false
  })
}

/** Outcome of comparing an entry with another; null for an entry with itself, and for unknown ones. */
export function verdictBeside(
  { against, pairs }: MetricStatistics,
  name: string,
  other: string,
): Verdict | null {
  const all = [...against.map((one) => ({ ...one, other: REFERENCE })), ...pairs]
  const found = all.find((one) => one.name === name && one.other === other)
  if (found) return found.verdict
  const turned = all.find((one) => one.name === other && one.other === name)?.verdict ?? null
  return turned === 'better' ? 'worse' : turned === 'worse' ? 'better' : turned
}

/** The same results with statistics recomputed by this version. */
export function judgedAgain(results: CompareResults): CompareResults {
  const again = structuredClone(results)
  again.statistics = judged(again)
  again.remarks = remarksOn(again)
  return again
}
