import { expect, test } from 'vitest'
import { sweepTest, swept } from '../../../sweep.js'
import { simulated } from './compares.js'

/** 1,000 compares of which 5 % claim something show more than 6.4 % once in fifty times. */
const MOST = 0.064
const equal = { spreads: 0, itemSpread: 0.3, noise: 0.3, compares: 1000 }

test.each<[strategies: number, seeds: number]>([
  [2, 3],
  [6, 3],
  [13, 3],
  [13, 5],
])('%d equal strategies with %d seeds are told apart in 5 of 100 compares at most', (strategies, seeds) => {
  expect(simulated({ ...equal, strategies, seeds }).claimed).toBeLessThanOrEqual(MOST)
})

sweepTest('neither are they where items or chance vary more than seeds', () => {
  for (const [itemSpread, noise] of [
    [3, 0.3],
    [0.3, 12],
    [3, 12],
  ] as const)
    expect(simulated({ ...equal, itemSpread, noise, strategies: 13, seeds: 3 }).claimed).toBeLessThanOrEqual(
      MOST,
    )
})

/** With three seeds of thirteen strategies, one of 5.3 times the spread is as likely in the pool as outside. */
const AT_THE_LIMIT = 5.3

test.each(
  swept(
    [3, 5].flatMap((seeds) =>
      [13, 6].flatMap((strategies) => [3, 5.3, 8, 30].map((spread) => [strategies, seeds, spread] as const)),
    ),
    0,
  ).concat([
    [13, 3, AT_THE_LIMIT],
    [13, 3, 30],
  ]),
)('nor where one of %d, with %d seeds, has %f times the spread of others', (strategies, seeds, unstable) => {
  const { claimed, left } = simulated({ ...equal, strategies, seeds, unstable })
  expect(claimed).toBeLessThanOrEqual(MOST)
  if (strategies === 13 && seeds === 3 && unstable === AT_THE_LIMIT) {
    expect(left).toBeGreaterThan(0.2)
    expect(left).toBeLessThan(0.5)
  }
})

test('no strategy leaves the pool by chance, and those that do make others no less certain', () => {
  const calm = simulated({ ...equal, strategies: 13, seeds: 5, spreads: 3, compares: 300 })
  expect(calm.left).toBe(0)
  const wild = simulated({ ...equal, strategies: 13, seeds: 5, spreads: 3, compares: 300, unstable: 50 })
  expect(wild.left).toBe(1)
  expect(Math.abs(wild.found - calm.found)).toBeLessThan(0.08)
})

sweepTest('two such strategies at once make more false claims, as docs/compare.md says', () => {
  const shares = [3, AT_THE_LIMIT, 8].map(
    (unstable) => simulated({ ...equal, strategies: 13, seeds: 3, unstable, unstableCount: 2 }).claimed,
  )
  expect(Math.max(...shares)).toBeGreaterThan(MOST)
  expect(Math.max(...shares)).toBeLessThan(0.1)
})

sweepTest(
  'a control of three times the spread makes false claims, and is remarked on in most compares',
  () => {
    const unstable = { ...equal, strategies: 13, unstableControl: 3 }
    const few = simulated({ ...unstable, seeds: 3 })
    expect(few.claimed).toBeLessThan(0.14)
    expect(few.remarked).toBeGreaterThan(0.5)
    const more = simulated({ ...unstable, seeds: 8 })
    expect(more.claimed).toBeLessThan(few.claimed)
    expect(more.remarked).toBeGreaterThan(few.remarked)
    expect(simulated({ ...equal, strategies: 13, seeds: 3 }).remarked).toBeLessThan(MOST)
  },
)
