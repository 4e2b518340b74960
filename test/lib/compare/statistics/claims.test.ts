import { expect, test } from 'vitest'
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

test('neither are they where items or chance vary more than seeds', () => {
  for (const [itemSpread, noise] of [
    [3, 0.3],
    [0.3, 12],
    [3, 12],
  ] as const)
    expect(simulated({ ...equal, itemSpread, noise, strategies: 13, seeds: 3 }).claimed).toBeLessThanOrEqual(
      MOST,
    )
})

test.each([3, 5])('nor where one of them has three times the spread of others, with %d seeds', (seeds) => {
  expect(simulated({ ...equal, strategies: 13, seeds, unstable: 3 }).claimed).toBeLessThanOrEqual(MOST)
})

test('a control of three times the spread makes false claims, and is remarked on in most compares', () => {
  const unstable = { ...equal, strategies: 13, unstableControl: 3 }
  const few = simulated({ ...unstable, seeds: 3 })
  expect(few.claimed).toBeLessThan(0.17)
  expect(few.remarked).toBeGreaterThan(0.5)
  const more = simulated({ ...unstable, seeds: 8 })
  expect(more.claimed).toBeLessThan(few.claimed)
  expect(more.remarked).toBeGreaterThan(few.remarked)
  expect(simulated({ ...equal, strategies: 13, seeds: 3 }).remarked).toBeLessThan(MOST)
})
