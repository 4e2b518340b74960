import { bitsOf, cellHash, meansOf } from '../../../lib/compare/proof.js'
import type { CompareCell, CompareResults } from '../../../lib/compare/results.js'
import { hashedSettings } from '../../../lib/compare/settings.js'
import { judgedAgain } from '../../../lib/compare/verdict.js'
import { resolveConfig } from '../../../lib/train/config/config.js'

/** A copy with the first cell of an entry changed, and all hashes made again, which hides it from all but a training. */
export function resealed(results: CompareResults, change: (cell: CompareCell) => void, index = 0) {
  return rehashed(results, ({ entries }) => change(entries[index]?.cells[0] as CompareCell))
}

/** A changed copy with the hashes of all cells made again. */
export function rehashed(results: CompareResults, change: (copy: CompareResults) => void) {
  const copy = structuredClone(results)
  change(copy)
  const { model, data, binary, settings, asked } = copy
  const config = resolveConfig(
    { ...settings, strategy: asked.strategy },
    { name: 'test', spelling: 'snake' },
    '/',
  )
  for (const { strategy, steps, base_format: format, cells } of copy.entries)
    for (const cell of cells) {
      cell.metrics = meansOf(cell.items)
      cell.bits = bitsOf(cell)
      const inputs = { strategy, rate: cell.rate, steps, seed: cell.seed, settings: hashedSettings(config) }
      const named = { model: model.hash, format, precision: model.precision, data, binary }
      cell.hash = cellHash({ ...inputs, ...named }, cell.bits)
    }
  return judgedAgain(copy)
}
