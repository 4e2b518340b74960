/** What the hashes of a compare cover, and whether stored results agree with themselves. */
import { FileFormatError } from '../core/errors.js'
import { canonical, hashOf } from '../train/checkpoints/run-identity.js'
import type { RunConfig } from '../train/config/config.js'
import { METRIC_NAMES } from './metrics.js'
import type { CompareCell, CompareEntry, CompareItems, CompareResults } from './results.js'
import { chooseRate, nextRungs } from './search.js'
import { hashedSettings } from './settings.js'
import { mean } from './training.js'
import { judgedAgain } from './verdict.js'

/** The version of results that this one writes, and the only one that it can repeat. */
export const VERSION = 2
/** Statistics may differ by so much on another machine, whose logarithms may round otherwise. */
const ROUNDING = 1e-9

type Bits = Pick<CompareCell, 'train_losses' | 'curve' | 'general_losses' | 'thirds' | 'items'>

/** The hash over the results of a cell. Metrics that are functions are not there to be computed again. */
export function bitsOf({ train_losses: losses, curve, general_losses: general, thirds, items }: Bits) {
  const { loss, scores, predictions = null } = items
  const known = Object.entries(scores).filter(([name]) => METRIC_NAMES.some((one) => one === name))
  return hashOf({ losses, curve, general, thirds, loss, predictions, scores: Object.fromEntries(known) })
}

/** Everything that decides the results of a cell. */
export interface CellInputs extends Pick<CompareResults, 'data' | 'binary'> {
  strategy: CompareEntry['strategy']
  rate: number
  steps: number
  seed: number
  settings: ReturnType<typeof hashedSettings>
  /** Hash of the model, and the format of its frozen weights. */
  model: string
  format: string
  precision: string
}

export const cellHash = (inputs: CellInputs, bits: string) => hashOf({ inputs, bits })

/** Means over the test rows. */
export function meansOf({ loss, scores }: CompareItems): CompareCell['metrics'] {
  return Object.fromEntries(
    [['loss', loss] as const, ...Object.entries(scores)].map(([name, values]) => [name, mean(values)]),
  )
}

/**
 * Checks that stored results follow from what they say was measured.
 * @param config of the compare, from its settings
 * @throws {FileFormatError} naming the first thing that does not
 */
export function checkProof(results: CompareResults, config: RunConfig, file: string): void {
  const wrong = (what: string) =>
    new FileFormatError(
      `${file} contradicts itself: ${what}. It was changed after lowrank wrote it; restore the file, or run the compare again with --force.`,
      { path: file },
    )
  const { entries, seeds, base } = results
  const expect = (what: string, stored: unknown, computed: unknown) => {
    if (!agree(stored, computed))
      throw wrong(`${what} is ${shown(stored)}, and ${shown(computed)} follows from the rest`)
  }
  if (base !== null) {
    checkRows('the base', base.items, results, wrong)
    expect('a metric of the base', base.metrics, meansOf(base.items))
  }
  const { asked, plan } = results
  expect(
    'the list of seeds',
    seeds,
    seeds.map((_, i) => config.seed + i),
  )
  if (asked.detect === null && seeds.length !== asked.seeds && !plan.cuts.some((cut) => / seeds, /.test(cut)))
    throw wrong(`there are ${seeds.length} seeds, ${asked.seeds} were asked for, and no cut is told`)
  const names = entries.map(({ name }) => name)
  if (new Set(names).size < names.length) throw wrong(`two entries are named alike, of ${names.join(', ')}`)
  for (const entry of entries) {
    checkSearches(entry, results, expect)
    for (const cell of entry.cells) {
      if (!seeds.includes(cell.seed))
        throw wrong(`${cell.id} has the seed ${cell.seed}, which is not among the seeds`)
      checkCell(entry, cell, results, config, wrong, expect)
    }
    const own = entry.cells.map(({ seed }) => seed)
    if (new Set(own).size < own.length) throw wrong(`${entry.name} has a seed twice`)
  }
  if (results.statistics === null) return
  const { statistics, remarks } = judgedAgain(results)
  for (const [name, one] of Object.entries(statistics ?? {}))
    expect(`a statistic of ${name}`, results.statistics[name], one)
  expect('a remark', results.remarks, remarks)
}

type Expect = (what: string, stored: unknown, computed: unknown) => void

function checkSearches(
  { name, searches }: CompareEntry,
  { plan, seeds, base }: CompareResults,
  expect: Expect,
): void {
  expect(
    `the list of seeds with a search of ${name}`,
    searches.map(({ seed }) => seed),
    seeds,
  )
  expect(`the first loss of the base on the validation rows`, searches[0]?.start, base?.validation_loss)
  for (const search of searches) {
    const { seed, rates, chosen } = search
    const own = `${name} with the seed ${seed}`
    for (const { rate, rungs } of rates)
      for (const { loss, items, steps } of rungs)
        if (items.length > 0)
          expect(`the loss of ${own} after ${steps} steps of the search at ${rate}`, loss, mean(items))
    if (chosen === null) continue
    const again = { ...structuredClone(search), chosen: null }
    if (rates.length > 1)
      expect(`the number of runs that the search of ${own} lacks`, 0, nextRungs(again, plan.rungs).length)
    chooseRate(again, plan.rungs)
    expect(`the chosen rate of ${own}`, chosen, again.chosen)
  }
}

function checkCell(
  { name, strategy, base_format: format, searches, steps }: CompareEntry,
  cell: CompareCell,
  results: CompareResults,
  config: RunConfig,
  wrong: (what: string) => FileFormatError,
  expect: Expect,
): void {
  const { id, seed, rate, train_losses: losses } = cell
  expect(`the id of the cell of ${name} and the seed ${seed}`, id, `${name}/${seed}`)
  expect(`the rate of ${id}`, rate, searches.find((search) => search.seed === seed)?.chosen)
  expect(`the number of steps of ${id}`, cell.steps, losses.length)
  checkRows(id, cell.items, results, wrong)
  expect(`a metric of ${id}`, cell.metrics, meansOf(cell.items))
  expect(`the loss of ${id} on the general text`, cell.general_loss, mean(cell.general_losses))
  expect(`the hash of the results of ${id} (bits)`, cell.bits, bitsOf(cell))
  const { model, data, binary } = results
  const inputs = {
    ...{ strategy, rate, steps, seed, settings: hashedSettings(config) },
    ...{ model: model.hash, format, precision: model.precision, data, binary },
  }
  expect(`the hash of ${id}`, cell.hash, cellHash(inputs, cell.bits))
}

function checkRows(
  what: string,
  { loss, scores, predictions }: CompareItems,
  { data }: CompareResults,
  wrong: (what: string) => FileFormatError,
): void {
  const { rows } = data.test
  for (const [name, values] of Object.entries({ loss, ...(predictions && { predictions }), ...scores }))
    if (values.length !== rows)
      throw wrong(`${what} has the ${name} of ${values.length} rows, and the test has ${rows}`)
}

/** The first value in which a cell that was trained again differs, in words; null without any. */
export function differenceOf(stored: CompareCell, found: CompareCell): string | null {
  const values = ({ train_losses, curve, general_losses, thirds, items }: CompareCell) => ({
    ...{
      'loss of step': train_losses,
      'point of the curve': curve,
      'loss of general paragraph': general_losses,
      'loss of test row at thirds': thirds.flatMap(({ loss }) => loss),
    },
    ...{ 'loss of test row': items.loss, 'answer to test row': items.predictions ?? [] },
    ...Object.fromEntries(
      Object.entries(items.scores).map(([name, scores]) => [`${name} of test row`, scores]),
    ),
  })
  const [before, after] = [values(stored), values(found)] as Record<string, readonly unknown[]>[]
  for (const [name, list] of Object.entries(after ?? {})) {
    const at = list.findIndex((value, i) => canonical(value) !== canonical(before?.[name]?.[i] ?? null))
    if (at >= 0)
      return `${name} ${at + 1} is ${shown(before?.[name]?.[at])} there and ${shown(list[at])} here`
  }
  return null
}

/** True if two values are equal, numbers up to rounding. */
function agree(one: unknown, other: unknown): boolean {
  if (typeof one === 'number' && typeof other === 'number')
    return one === other || Math.abs(one - other) <= ROUNDING * Math.max(Math.abs(one), Math.abs(other))
  if (typeof one !== 'object' || typeof other !== 'object' || one === null || other === null)
    return (one ?? null) === (other ?? null)
  const keys = new Set([...Object.keys(one), ...Object.keys(other)])
  return [...keys].every((key) => agree(one[key as never], other[key as never]))
}

const LONGEST = 60
function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? 'absent'
  return text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text
}
