import { expect, test } from 'vitest'
import { claimsOf, equalityOf, nullKinds, powerOf } from '../../../benchmarks/laboratory/null-compares.js'

test('compares in which nothing differs claim little, and those of one search more, as docs/compare.md says', () => {
  for (const kind of nullKinds.filter(({ strategies, seeds }) => strategies === 13 && seeds === 4)) {
    const { against } = claimsOf(kind, 100)
    if (kind.remark !== 'shared search') expect(against, kind.name).toBeLessThanOrEqual(0.11)
    else if (kind.name.includes('one spread')) expect(against).toBeGreaterThan(0.25)
  }
})

test('a true difference is found, and equality is claimed where it is', () => {
  expect(powerOf(4, 10, 2, 60)).toBeGreaterThan(0.75)
  const { wrong, right } = equalityOf(5, 12, 40)
  expect(wrong).toBeLessThanOrEqual(0.15)
  expect(right).toBeGreaterThan(0.9)
})
