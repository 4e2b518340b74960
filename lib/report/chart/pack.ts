/**
 * Packs columns of numbers into short JSON: each value is quantized to whole units and stored as the difference from
 * the previous one.
 */
import { isNumber } from './numbers.js'
import type { Value } from './series.js'

export interface PackedColumn {
  unit: number
  /** null is a missing value. */
  differences: readonly Value[]
}

/** A column 1, 2, 3, … is stored as its length. */
export type Packed = PackedColumn | number

/** @param parts resolution: number of units in the largest value; the error is at most half a unit */
export function pack(values: readonly Value[], parts: number): Packed {
  if (values.length > 0 && values.every((value, index) => value === index + 1)) return values.length
  let most = 0
  for (const value of values) if (isNumber(value)) most = Math.max(most, Math.abs(value))
  const unit = most / parts || 1
  let before = 0
  const differences = values.map((value) => {
    if (!isNumber(value)) return null
    const whole = Math.round(value / unit)
    const difference = whole - before
    before = whole
    return difference
  })
  return { unit, differences }
}

export function unpack(packed: Packed): Value[] {
  if (typeof packed === 'number') return Array.from({ length: packed }, (_, index) => index + 1)
  let whole = 0
  return packed.differences.map((difference) => {
    if (difference === null) return null
    whole += difference
    return whole * packed.unit
  })
}
