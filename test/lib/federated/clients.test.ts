import { describe, expect, test } from 'vitest'
import { counterUniform } from '../../../lib/core/counter-random.js'
import { clientsOf, dirichlet } from '../../../lib/federated/clients.js'
import type { ClientsConfig } from '../../../lib/strategies/configs.js'

const VALUES = 4
const data = { rowGroup: (row: number) => row % VALUES }
const rows = Uint32Array.from({ length: 2000 }, (_, i) => 3 * i)
const none = { column: null, partition: null, count: null, alpha: null }
const kinds: Record<string, ClientsConfig> = {
  column: { ...none, column: 'user' },
  iid: { ...none, partition: 'iid', count: 10 },
  dirichlet: { ...none, partition: 'dirichlet', count: 10, alpha: 0.5, column: 'label' },
}

describe.each(Object.entries(kinds))('clients by %s', (name, clients) => {
  const dealt = clientsOf(data, rows, clients, 5)

  test('have every row exactly once, each in order', () => {
    expect(dealt).toHaveLength(clients.count ?? VALUES)
    expect(dealt.flatMap((own) => [...own]).sort((a, b) => a - b)).toEqual([...rows])
    for (const own of dealt) expect([...own]).toEqual([...own].sort((a, b) => a - b))
  })

  test('are the same for the same seed, and others for another if they are dealt out', () => {
    expect(clientsOf(data, rows, clients, 5)).toEqual(dealt)
    if (name === 'column') expect(clientsOf(data, rows, clients, 6)).toEqual(dealt)
    else expect(clientsOf(data, rows, clients, 6)).not.toEqual(dealt)
  })
})

test('clients by column have the rows of one value', () => {
  for (const own of clientsOf(data, rows, kinds.column as ClientsConfig, 1))
    expect(new Set([...own].map(data.rowGroup)).size).toBe(1)
})

test('clients that are dealt rows at random have about equally many', () => {
  // 200 expected of each, with a deviation of 13.4.
  for (const own of clientsOf(data, rows, kinds.iid as ClientsConfig, 1))
    expect(Math.abs(own.length - 200)).toBeLessThan(5 * 13.4)
})

test('more clients than rows leave some without any', () => {
  const dealt = clientsOf(data, rows.slice(0, 3), { ...none, partition: 'iid', count: 10 }, 1)
  expect(dealt).toHaveLength(10)
  expect(dealt.reduce((sum, own) => sum + own.length, 0)).toBe(3)
})

/** Mean over the values of the largest share that one client has of a value's rows. */
function concentration(alpha: number): number {
  const dealt = clientsOf(data, rows, { ...(kinds.dirichlet as ClientsConfig), alpha }, 3)
  const largest = Array.from({ length: VALUES }, (_, value) =>
    Math.max(...dealt.map((own) => own.filter((row) => data.rowGroup(row) === value).length)),
  )
  return largest.reduce((sum, count) => sum + count / (rows.length / VALUES), 0) / VALUES
}

test('a small alpha gives the rows of a value to few clients, a large one to all', () => {
  expect(concentration(0.01)).toBeGreaterThan(0.9)
  expect(concentration(1000)).toBeLessThan(0.2)
  expect(concentration(0.5)).toBeLessThan(concentration(0.01))
  expect(concentration(0.5)).toBeGreaterThan(concentration(1000))
})

test.each([1e-4, 0.1, 1, 10])(
  'shares of a Dirichlet distribution of %d have its mean and variance',
  (alpha) => {
    const count = 5
    let index = 0
    const uniforms = () => counterUniform(2, 'shares', index++)
    const draws = Array.from({ length: 4000 }, () => dirichlet(count, alpha, uniforms))
    for (const shares of draws) {
      expect(shares.reduce((sum, share) => sum + share, 0)).toBeCloseTo(1, 12)
      expect(shares.every((share) => share >= 0)).toBe(true)
    }
    const variance = (count - 1) / (count * count * (count * alpha + 1))
    for (let client = 0; client < count; client++) {
      const own = draws.map((shares) => shares[client] as number)
      const mean = own.reduce((sum, share) => sum + share, 0) / own.length
      expect(Math.abs(mean - 1 / count)).toBeLessThan(5 * Math.sqrt(variance / own.length))
      const found = own.reduce((sum, share) => sum + (share - 1 / count) ** 2, 0) / own.length
      expect(found / variance).toBeGreaterThan(0.85)
      expect(found / variance).toBeLessThan(1.15)
    }
  },
)
