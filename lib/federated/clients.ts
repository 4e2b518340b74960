/** Assigns rows to clients: by a column of the data, or by a simulated partition. */

import { counterUniform } from '../core/counter-random.js'
import { exp, log } from '../core/portable-exp.js'
import { cosPi } from '../core/portable-math.js'
import type { EncodedDataset } from '../data/encoded-dataset.js'
import type { ClientsConfig } from '../strategies/strategy.js'

type Grouped = Pick<EncodedDataset, 'rowGroup'>

/** The column to read with the rows, if any. */
export function clientColumn(clients: ClientsConfig | null): string | undefined {
  return clients?.column ?? undefined
}

/**
 * Rows of each client. With a column, only clients that have rows; with a partition, all requested clients,
 * some of which may have no rows. Partitions depend only on the seed and the rows.
 */
export function clientsOf(
  data: Grouped,
  rows: Uint32Array,
  clients: ClientsConfig,
  seed: number,
): Uint32Array[] {
  const { partition, count, alpha } = clients
  if (partition === null || count === null) return [...byColumn(data, rows).values()]
  const dealt = Array.from({ length: count }, (): number[] => [])
  const uniforms = drawing(seed, `${partition} partition`)
  const client =
    alpha === null ? () => Math.floor(uniforms() * count) : dirichletDealer(data, count, alpha, uniforms)
  for (const row of rows) dealt[client(row)]?.push(row)
  return dealt.map((own) => Uint32Array.from(own))
}

function byColumn(data: Grouped, rows: Uint32Array): Map<number, Uint32Array> {
  const groups = new Map<number, number[]>()
  for (const row of rows) {
    const group = data.rowGroup(row)
    const known = groups.get(group)
    if (known) known.push(row)
    else groups.set(group, [row])
  }
  return new Map([...groups].map(([group, own]) => [group, Uint32Array.from(own)]))
}

/** Assigns each row to a random client, by shares of its column value that are drawn at the value's first row. */
function dirichletDealer(data: Grouped, count: number, alpha: number, uniforms: () => number) {
  const shares = new Map<number, number[]>()
  return (row: number): number => {
    const value = data.rowGroup(row)
    const own = shares.get(value) ?? dirichlet(count, alpha, uniforms)
    shares.set(value, own)
    let left = uniforms()
    for (const [client, share] of own.entries()) {
      left -= share
      if (left < 0) return client
    }
    return count - 1
  }
}

/**
 * Shares drawn from a symmetric Dirichlet distribution. Computed with logarithms, since gamma deviates
 * underflow at small concentrations.
 */
export function dirichlet(count: number, alpha: number, uniforms: () => number): number[] {
  const logs = Array.from({ length: count }, () => logGamma(alpha, uniforms))
  const most = Math.max(...logs)
  const weights = logs.map((each) => exp(each - most))
  const total = weights.reduce((sum, weight) => sum + weight, 0)
  return weights.map((weight) => weight / total)
}

/** Logarithm of a gamma deviate of shape `alpha`, by Marsaglia and Tsang 2000, with their boost for shapes below 1. */
function logGamma(alpha: number, uniforms: () => number): number {
  if (alpha < 1) return logGamma(alpha + 1, uniforms) + log(1 - uniforms()) / alpha
  const d = alpha - 1 / 3
  const c = 1 / Math.sqrt(9 * d)
  for (;;) {
    const radius = Math.sqrt(-2 * log(1 - uniforms()))
    const turn = 2 * uniforms()
    const normal = radius * cosPi(Math.min(turn, 2 - turn))
    const root = 1 + c * normal
    const v = root * root * root
    if (v > 0 && log(1 - uniforms()) < 0.5 * normal * normal + d - d * v + d * log(v)) return log(d) + log(v)
  }
}

/** A sequence of uniform numbers, determined by the seed. */
function drawing(seed: number, stream: string): () => number {
  let index = 0
  return () => counterUniform(seed, stream, index++)
}
