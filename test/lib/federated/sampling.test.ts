import { expect, test } from 'vitest'
import { drawCohort } from '../../../lib/federated/sampling.js'

const key = Uint8Array.from({ length: 32 }, (_, i) => 5 * i + 2)

test('a rate of 0 draws nobody, and a rate of 1 everybody', () => {
  for (const round of [1, 2, 3]) {
    expect(drawCohort(key, round, 1000, 0)).toEqual([])
    expect(drawCohort(key, round, 1000, 1)).toEqual(Array.from({ length: 1000 }, (_, i) => i))
  }
})

test.each([0.001, 0.1, 0.5, 0.9])('members are drawn independently with a rate of %d', (rate) => {
  const [population, rounds] = [500, 400]
  const times = new Array<number>(population).fill(0)
  const sizes: number[] = []
  let together = 0
  for (let round = 1; round <= rounds; round++) {
    const drawn = drawCohort(key, round, population, rate)
    expect(drawn).toEqual([...new Set(drawn)].sort((a, b) => a - b))
    sizes.push(drawn.length)
    for (const member of drawn) times[member] = (times[member] as number) + 1
    for (const [i, member] of drawn.entries()) if (drawn[i + 1] === member + 1) together++
  }
  const within = (found: number, trials: number, p: number) =>
    expect(Math.abs(found - trials * p)).toBeLessThan(5 * Math.sqrt(trials * p * (1 - p)) + 1)
  within(
    sizes.reduce((sum, size) => sum + size, 0),
    population * rounds,
    rate,
  )
  for (const count of times) within(count, rounds, rate)
  // Neighboring pairs overlap, which at most triples the variance.
  const pairs = (population - 1) * rounds
  expect(Math.abs(together - pairs * rate ** 2)).toBeLessThan(5 * Math.sqrt(3 * pairs) * rate + 1)
  // The number varies as that of independent draws does: binomial, not fixed.
  const mean = population * rate
  const variance = sizes.reduce((sum, size) => sum + (size - mean) ** 2, 0) / rounds
  expect(variance / (mean * (1 - rate))).toBeGreaterThan(0.6)
  expect(variance / (mean * (1 - rate))).toBeLessThan(1.5)
})

test('the same key and round draw the same, others something else', () => {
  const drawn = drawCohort(key, 7, 1000, 0.5)
  expect(drawCohort(key, 7, 1000, 0.5)).toEqual(drawn)
  expect(drawCohort(key, 8, 1000, 0.5)).not.toEqual(drawn)
  expect(drawCohort(key, 7 + 2 ** 32, 1000, 0.5)).not.toEqual(drawn)
  expect(
    drawCohort(
      key.map((byte) => byte ^ 1),
      7,
      1000,
      0.5,
    ),
  ).not.toEqual(drawn)
})

test('who is drawn at a rate is drawn at every higher one', () => {
  const few = new Set(drawCohort(key, 3, 1000, 0.2))
  const many = new Set(drawCohort(key, 3, 1000, 0.6))
  expect([...few].filter((member) => !many.has(member))).toEqual([])
})
