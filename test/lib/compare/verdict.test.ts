import { expect, test } from 'vitest'
import type { CompareCell, CompareEntry, CompareResults } from '../../../lib/compare/results.js'
import { newSearch } from '../../../lib/compare/search.js'
import { judged, remarksOn } from '../../../lib/compare/verdict.js'

function cell(seed: number, losses: (number | null)[], matched: number[]): CompareCell {
  const average = losses.reduce<number>((sum, loss) => sum + (loss ?? 0), 0) / losses.length
  const diverged = losses.includes(null)
  return {
    ...({ seed, diverged, metrics: { loss: diverged ? null : average } } as unknown as CompareCell),
    items: { loss: losses, scores: diverged ? {} : { exact_match: matched } },
  }
}

function entry(name: string, cells: CompareCell[], format = 'none'): CompareEntry {
  const search = newSearch([1e-3], 42, 7)
  return { name, cells, base_format: format, searches: [search] } as unknown as CompareEntry
}

function compared(...entries: CompareEntry[]): CompareResults {
  const metrics = ['loss', 'exact_match', 'f1'].map((name) => ({
    ...{ name, higher_is_better: name !== 'loss', primary: name === 'loss' },
  }))
  return { entries, metrics, model: { quantization: 'none' } } as unknown as CompareResults
}

const lora = entry('lora', [cell(1, [1, 2, 3], [1, 0, 0]), cell(2, [1.1, 2.1, 3.1], [1, 0, 1])])

test('a seed that diverged counts as the worst of every item, for all metrics, and is told', () => {
  const vera = entry('vera', [cell(1, [1, 2, 3], [1, 1, 1]), cell(2, [null, null, null], [])])
  const results = compared(lora, vera)
  const found = judged(results)
  const group = (metric: string) => found?.[metric]?.means.find(({ name }) => name === 'vera')
  expect(group('loss')).toMatchObject({ diverged: 1, mean: expect.closeTo((6 + 6.3) / 6) })
  expect(group('exact_match')).toMatchObject({ diverged: 1, mean: expect.closeTo(4 / 6) })
  expect(Object.keys(found ?? {})).toEqual(['loss', 'exact_match'])
  expect(remarksOn(results)).toEqual([expect.stringContaining('1 of 2 seeds of vera diverged')])
})

test('an entry that left the pool is named', () => {
  const results = compared(...['a', 'b', 'c'].map((name) => ({ ...lora, name })), lora)
  results.statistics = judged(results)
  expect(remarksOn(results)).toEqual([])
  if (results.statistics?.loss) results.statistics.loss.left_pool = ['c']
  expect(remarksOn(results)[0]).toMatch(/^c left the pool: /)
})

test('a base in another format, and a search whose rates all diverged, are told', () => {
  const search = newSearch([1, 2], 42, 7)
  for (const rate of search.rates) rate.rungs.push({ steps: 2, loss: null, items: [], seconds: 1 })
  const qlora = { ...entry('qlora', lora.cells, 'nf4'), searches: [search] }
  expect(remarksOn(compared(lora, qlora))).toEqual([
    'Every rate of qlora diverged; it was trained at the lowest.',
    'qlora was trained on a base in nf4, the others on one in none.',
  ])
})

test('a rate is flat where its neighbors differ by less than the seeds', () => {
  const search = newSearch([1, 2, 3], 42, 7)
  for (const [i, rate] of search.rates.entries())
    rate.rungs.push({ steps: 2, loss: 2 + 0.01 * i, items: [], seconds: 1 })
  search.chosen = 2
  const sharp = structuredClone(search)
  const [first] = sharp.rates
  if (first?.rungs[0]) first.rungs[0].loss = 5
  const results = compared(
    lora,
    { ...lora, name: 'a', searches: [search] },
    { ...lora, name: 'b', searches: [sharp] },
  )
  judged(results)
  expect(results.entries.map((one) => one.searches[0]?.flat)).toEqual([false, true, false])
})
