/**
 * Rounds of private training in native code: clipping one by one, sums, noise where it belongs, and what they allocate.
 */

import { createCipheriv } from 'node:crypto'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import {
  type AdapterSpec,
  addon,
  type MicroBatch,
  type NativeAdapter,
  type PlanOptions,
  type Precision,
} from '../../../lib/native/addon.js'
import { withRoles } from '../../../lib/strategies/terms.js'
import { type Loaded, loadTiny, loraSpec, relativeError } from '../../parity/engine.js'
import { sweepTest } from '../../sweep.js'

let loaded: Loaded
const cpu = addon().cpu()
const key = Uint8Array.from({ length: 32 }, (_, i) => 3 * i + 1)

beforeAll(async () => {
  loaded = await loadTiny('llama3', 'nf4_double')
})
afterAll(() => loaded.model.dispose())
afterEach(() => addon().configure({ threads: cpu.threads, isa: cpu.isa }))

function specOf(privacy?: AdapterSpec['privacy']): AdapterSpec {
  const weights = new Map(loaded.graph.weights.map((w) => [w.name, w]))
  const entries = loaded.graph.nodes.flatMap((node) => {
    const weight = node.op === 'linear' ? weights.get(node.weight) : undefined
    return weight ? [{ path: node.path, rank: 4, scale: 2, inputs: weight.cols, outputs: weight.rows }] : []
  })
  return { ...loraSpec(entries), ...(privacy ? { privacy } : {}) }
}

function newAdapter(spec: AdapterSpec): NativeAdapter {
  const adapter = addon().createAdapter(spec, { trainable: true })
  for (const { name } of spec.parameters) adapter.fill(name, { kind: 'normal', std: 0.1, seed: 3 })
  return adapter
}

const plans = (precision: Precision): Record<string, PlanOptions> => ({
  train: { mode: 'train', tokens: 64, sequences: 5, headRows: 64, precision },
})

/** Sequences of awkward lengths, one of which has nothing to learn. */
function sequences(): MicroBatch[] {
  return [13, 1, 7, 22, 9].map((length, sequence) => {
    const tokens = Int32Array.from({ length }, (_, i) => (17 * sequence + 5 * i + 3) % 100)
    const labels = tokens.map((_, i) => (sequence === 1 || i % 3 === 0 ? -100 : (11 * i + sequence) % 100))
    return { tokens, labels, cuSeqlens: Int32Array.of(0, length) }
  })
}

function packed(batches: MicroBatch[]): MicroBatch {
  const cuSeqlens = [0]
  for (const { tokens } of batches) cuSeqlens.push((cuSeqlens.at(-1) as number) + tokens.length)
  return {
    tokens: Int32Array.from(batches.flatMap(({ tokens }) => [...tokens])),
    labels: Int32Array.from(batches.flatMap(({ labels }) => [...labels])),
    cuSeqlens: Int32Array.from(cuSeqlens),
  }
}

const gradients = (adapter: NativeAdapter, spec: AdapterSpec) =>
  spec.parameters.flatMap(({ name }) => [...adapter.read(name, 'gradient')])
const norm = (values: number[]) => Math.sqrt(values.reduce((sum, value) => sum + value * value, 0))

/** Gradients of each sequence on its own, by ordinary training. */
async function oneByOne(precision: Precision, ranks = {}): Promise<number[][]> {
  const spec = specOf()
  const adapter = newAdapter(spec)
  const session = await addon().createSession(loaded.model, [adapter], plans(precision)).promise
  const found: number[][] = []
  for (const batch of sequences()) {
    const labeled = batch.labels.filter((label) => label !== -100).length
    const lossScale = labeled === 0 ? 0 : 1 / labeled
    if (labeled > 0)
      await session.trainStep('train', { ...batch, lossScale, seed: 1, step: 1, microStep: 0, ...ranks })
        .promise
    found.push(gradients(adapter, spec))
    await adapter.zeroGradients().promise
  }
  await session.dispose()
  await adapter.dispose()
  return found
}

describe.each([cpu.isa, 'reference'])('examples at instruction-set level %s', (isa) => {
  it.each([
    ['f32', {}],
    ['bf16', {}],
    ['f32', { activeRank: 3 }],
    ['f32', { activeRank: 3, lastRankOnly: true }],
  ] as const)('have the gradients and norms that each has on its own (%s, %o)', async (precision, ranks) => {
    addon().configure({ isa })
    const alone = await oneByOne(precision, ranks)
    const spec = specOf('examples')
    const adapter = newAdapter(spec)
    const session = await addon().createSession(loaded.model, [adapter], plans(precision)).promise
    const [active, lastOnly] = [
      'activeRank' in ranks ? ranks.activeRank : 0,
      'lastRankOnly' in ranks ? ranks.lastRankOnly : false,
    ]
    const tolerance = precision === 'f32' ? 1e-5 : 2e-2
    const bounds = [1e6, 0.5 * norm(alone[2] as number[])]
    for (const clippingNorm of bounds) {
      await adapter.beginRound().promise
      const input = { ...packed(sequences()), lossScale: 1, seed: 1, step: 1, microStep: 0, ...ranks }
      const { norms } = await session.trainStep('train', { ...input, clippingNorm }).promise
      expect(relativeError(norms ?? [], alone.map(norm))).toBeLessThan(tolerance)
      await adapter.release({ key, round: 1, deviation: 0, cohort: 2, active, lastOnly }).promise
      const expected = (alone[0] as number[]).map((_, i) =>
        alone.reduce(
          (sum, g) => sum + ((g[i] as number) * Math.min(1, clippingNorm / (norm(g) + 1e-6))) / 2,
          0,
        ),
      )
      expect(relativeError(gradients(adapter, spec), expected)).toBeLessThan(tolerance)
    }
    await session.dispose()
    await adapter.dispose()
  })
})

it('the released sum is the same at one, two and three threads', async () => {
  const runs: number[][] = []
  for (const threads of [1, 2, 3]) {
    addon().configure({ threads })
    const spec = specOf('examples')
    const adapter = newAdapter(spec)
    const session = await addon().createSession(loaded.model, [adapter], plans('f32')).promise
    await adapter.beginRound().promise
    const input = { ...packed(sequences()), lossScale: 1, seed: 1, step: 1, microStep: 0, clippingNorm: 0.01 }
    await session.trainStep('train', input).promise
    await adapter.release({ key, round: 4, deviation: 0.1, cohort: 4, active: 2 }).promise
    runs.push(gradients(adapter, spec))
    await session.dispose()
    await adapter.dispose()
  }
  expect(runs[1]).toEqual(runs[0])
  expect(runs[2]).toEqual(runs[0])
})

describe('clients', () => {
  /** Moves every number of every factor. */
  function move(adapter: NativeAdapter, spec: AdapterSpec, by: (i: number) => number): void {
    let i = 0
    for (const { name } of spec.parameters)
      adapter.write(
        name,
        'value',
        adapter.read(name, 'value').map((value) => value + by(i++)),
      )
  }

  const values = (adapter: NativeAdapter, spec: AdapterSpec) =>
    spec.parameters.flatMap(({ name }) => [...adapter.read(name, 'value')])

  it('start from the same values and contribute at most the bound, whatever they return', async () => {
    const spec = specOf('clients')
    const adapter = newAdapter(spec)
    const start = values(adapter, spec)
    const bound = 0.7
    await adapter.beginRound().promise
    let contributions = 0
    const changes = [() => 1e-5, (i: number) => Math.sin(i), () => 1e30, () => Number.NaN, () => 0]
    for (const change of [...changes, () => Number.POSITIVE_INFINITY, () => -1e-3]) {
      await adapter.beginClient().promise
      expect(values(adapter, spec)).toEqual(start)
      move(adapter, spec, change)
      const before = await adapter.addClient({ clippingNorm: bound }).promise
      if (Number.isFinite(before)) contributions += Math.min(before, bound)
    }
    await adapter.release({ key, round: 1, deviation: 0, cohort: 1 }).promise
    expect(values(adapter, spec)).toEqual(start)
    const sum = gradients(adapter, spec)
    expect(sum.every(Number.isFinite)).toBe(true)
    expect(norm(sum)).toBeLessThanOrEqual(contributions * (1 + 1e-6))
    await adapter.dispose()
  })

  it('change the sum by at most the bound when one of them is left out', async () => {
    const spec = specOf('clients')
    const adapter = newAdapter(spec)
    const bound = 0.25
    const sumOf = async (clients: number[]) => {
      await adapter.beginRound().promise
      for (const client of clients) {
        await adapter.beginClient().promise
        move(adapter, spec, (i) => 0.02 * client * Math.cos(i * client))
        await adapter.addClient({ clippingNorm: bound, active: 3 }).promise
      }
      await adapter.release({ key, round: 1, deviation: 0, cohort: 1, active: 3 }).promise
      return gradients(adapter, spec)
    }
    const all = await sumOf([1, 2, 3, 4])
    for (const left of [1, 2, 3, 4]) {
      const rest = await sumOf([1, 2, 3, 4].filter((client) => client !== left))
      const difference = norm(all.map((value, i) => value - (rest[i] as number)))
      expect(difference).toBeLessThanOrEqual(bound * (1 + 1e-6))
      expect(difference).toBeGreaterThan(0)
    }
    await adapter.dispose()
  })

  it('leave the moments of the server alone', async () => {
    const spec = specOf('clients')
    const adapter = newAdapter(spec)
    const first = spec.parameters[0] as AdapterSpec['parameters'][0]
    const moments = Uint8Array.from({ length: 4 * first.rows * first.cols }, (_, i) => i)
    adapter.writeState(first.name, 'm', moments)
    await adapter.beginRound().promise
    await adapter.beginClient().promise
    expect(adapter.readState(first.name, 'm').every((byte) => byte === 0)).toBe(true)
    await adapter.release({ key, round: 1, deviation: 0, cohort: 1 }).promise
    expect(adapter.readState(first.name, 'm')).toEqual(moments)
    await adapter.dispose()
  })
})

describe('noise', () => {
  const release = async (rest: { round?: number; active?: number; lastOnly?: boolean; key?: Uint8Array }) => {
    const spec = specOf('clients')
    const adapter = newAdapter(spec)
    await adapter.beginRound().promise
    await adapter.release({ key, round: 1, deviation: 2, cohort: 4, ...rest }).promise
    const found = new Map(spec.parameters.map(({ name }) => [name, adapter.read(name, 'gradient')]))
    await adapter.dispose()
    return { spec, found }
  }

  it.each([
    { active: 3, lastOnly: false, first: 0, end: 3 },
    { active: 3, lastOnly: true, first: 2, end: 3 },
    { active: 0, lastOnly: false, first: 0, end: 4 },
  ])('is normal in the coordinates that are released and absent elsewhere (%o)', async (ranks) => {
    const { spec, found } = await release(ranks)
    const inside: number[] = []
    for (const { name, rows, cols } of spec.parameters) {
      const isA = name.includes('lora_A')
      found.get(name)?.forEach((value, i) => {
        const rank = isA ? Math.floor(i / cols) : i % cols
        if (rank >= ranks.first && rank < ranks.end) inside.push(value)
        else expect(value).toBe(0)
      })
      expect(found.get(name)).toHaveLength(rows * cols)
    }
    expect(inside.length).toBeGreaterThan(1000)
    expect(ksDistance(inside, 0.5)).toBeLessThan(1.95)
  })

  it('is the same for the same key and round, and another for another', async () => {
    const flat = async (rest: Parameters<typeof release>[0]) =>
      [...(await release(rest)).found.values()].flatMap((values) => [...values])
    const first = await flat({})
    expect(await flat({})).toEqual(first)
    for (const other of [{ round: 2 }, { key: key.map((byte) => byte ^ 1) }])
      expect((await flat(other)).filter((value, i) => value === first[i])).toHaveLength(0)
  })

  it('comes from the stream that OpenSSL makes of the key', async () => {
    const { spec, found } = await release({})
    const nonce = Buffer.from([0, 0, 0, 0, ...Buffer.from('nois'), 1, 0, 0, 0, 0, 0, 0, 0])
    const bytes = createCipheriv('chacha20', key, nonce).update(Buffer.alloc(64))
    const uniform = (at: number) => (Number(bytes.readBigUInt64LE(at) >> 11n) + 0.5) * 2 ** -53
    const expected = [0, 16, 32, 48].flatMap((at) => {
      const radius = Math.sqrt(-2 * Math.log(uniform(at)))
      const angle = 2 * Math.PI * uniform(at + 8)
      return [radius * Math.cos(angle), radius * Math.sin(angle)]
    })
    const first = found.get((spec.parameters[0] as { name: string }).name)?.slice(0, 8)
    expect(
      relativeError(
        [...(first as Float32Array)],
        expected.map((value) => value * 0.5),
      ),
    ).toBeLessThan(1e-6)
  })
})

it.each(['examples', 'clients'] as const)('training by %s allocates what was planned', async (privacy) => {
  const before = addon().allocated()
  const spec = specOf(privacy)
  const formats = Object.fromEntries(
    loaded.graph.weights.map(({ name, kind }) => [
      name,
      kind === 'matrix' && name.startsWith('model.layers.') ? ('nf4_double' as const) : ('f32' as const),
    ]),
  )
  const planned = addon().plan(loaded.graph, formats, [{ spec, trainable: true }], plans('f32'))
  const adapter = addon().createAdapter(spec, { trainable: true })
  await adapter.restart().promise
  const session = await addon().createSession(loaded.model, [adapter], plans('f32')).promise
  expect(session.total()).toEqual(planned)
  const after = addon().allocated()
  for (const category of ['adapters', 'gradients', 'optimizer'] as const)
    expect(after[category] - before[category]).toBe(
      planned.rows.find((row) => row.category === category)?.bytes,
    )
  await session.dispose()
  await adapter.dispose()
})

it('what trains anything but A and B and copies is refused', () => {
  const spec = specOf('examples')
  const [term] = spec.terms as [AdapterSpec['terms'][0]]
  const gain = { name: 'gain', rows: 1, cols: term.numbers.rank as number, trained: true }
  const other = { ...spec, parameters: [...spec.parameters, gain], terms: [withRoles(term, { d: 'gain' })] }
  expect(() => addon().createAdapter(other, { trainable: true })).toThrow(/only A and B without gains/)
  const loose = { ...spec, parameters: [...spec.parameters, gain] }
  expect(() => addon().createAdapter(loose, { trainable: true })).toThrow(/gain is not a factor or copy/)
})

describe('beside A and B of linears', () => {
  /** A term at an embedding of 50 words, a matrix of more numbers than one thread takes at once, and a vector. */
  const spec: AdapterSpec = {
    parameters: [
      { name: 'A', rows: 4, cols: 50, trained: true },
      { name: 'B', rows: 30, cols: 4, trained: true },
      { name: 'head', rows: 500, cols: 333, trained: true },
      { name: 'frozen', rows: 2, cols: 3, trained: false },
      { name: 'norm', rows: 1, cols: 77, trained: true },
    ],
    terms: [
      { kind: 'embedding', target: 'embed', parameters: { a: 'A', b: 'B' }, numbers: { rank: 4, scale: 1 } },
    ],
    copies: [
      { parameter: 'head', weight: 'lm_head.weight' },
      { parameter: 'norm', weight: 'norm.weight' },
    ],
    privacy: 'clients',
  }
  const trained = spec.parameters.filter(({ trained }) => trained)
  const all = (adapter: NativeAdapter) =>
    trained.flatMap(({ name }) => Array.from(adapter.read(name, 'gradient')))

  /** Release of a round in which clients changed every number by given amounts. */
  async function released(changes: ((i: number) => number)[], options: object, clippingNorm = 0.7) {
    const adapter = newAdapter(spec)
    await adapter.beginRound().promise
    const norms: number[] = []
    for (const change of changes) {
      await adapter.beginClient().promise
      let i = 0
      for (const { name } of trained)
        adapter.write(
          name,
          'value',
          adapter.read(name, 'value').map((value) => value + change(i++)),
        )
      norms.push((await adapter.addClient({ clippingNorm }).promise) as number)
    }
    await adapter.release({ key, round: 1, deviation: 0, cohort: 1, ...options }).promise
    const sum = all(adapter)
    await adapter.dispose()
    return { norms, sum }
  }

  sweepTest('one bound holds for everything together, whatever a client returns', async () => {
    const only = (from: number, value: number) => (i: number) => (i === from ? value : 0)
    const last = trained.reduce((sum, { rows, cols }) => sum + rows * cols, 0) - 1
    const harmless = await released([(i) => Math.sin(i)], {})
    expect(harmless.norms[0]).toBeGreaterThan(100)
    expect(norm(harmless.sum)).toBeLessThanOrEqual(0.7)
    expect(norm(harmless.sum)).toBeCloseTo(0.7, 5)
    // In the embedding's A, in the middle of the matrix, and in the last number of the vector.
    for (const value of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])
      for (const place of [0, 100_000, last]) {
        const { sum } = await released([only(place, value), () => 0, (i) => Math.sin(i)], {})
        expect(sum).toEqual(harmless.sum)
      }
  })

  it('the sum and the noise are the same at one, two and three threads', async () => {
    const runs: number[][] = []
    for (const threads of [1, 2, 3]) {
      addon().configure({ threads })
      runs.push((await released([(i) => Math.sin(i)], { deviation: 0.1, cohort: 4 })).sum)
    }
    expect(runs[1]).toEqual(runs[0])
    expect(runs[2]).toEqual(runs[0])
  })

  it('noise is normal in every number of a copy, and in the ranks in use of an embedding', async () => {
    const { sum } = await released([], { deviation: 2, cohort: 4, active: 3 })
    const copies = sum.slice(4 * 50 + 30 * 4)
    expect(copies).toHaveLength(500 * 333 + 77)
    expect(ksDistance(copies, 0.5)).toBeLessThan(1.95)
    // Neighbors draw apart, across the borders of what one thread takes at once, too.
    const product = copies.slice(1).reduce((total, value, i) => total + value * (copies[i] as number), 0)
    expect(Math.abs(product / copies.length / 0.25)).toBeLessThan(4 / Math.sqrt(copies.length))
    expect(sum.slice(0, 3 * 50).every((value) => value !== 0)).toBe(true)
    expect(sum.slice(3 * 50, 4 * 50).every((value) => value === 0)).toBe(true)
    sum.slice(4 * 50, 4 * 50 + 30 * 4).forEach((value, i) => {
      expect(value === 0).toBe(i % 4 === 3)
    })
  })

  it('examples go one at a time', async () => {
    const weight = loaded.graph.weights.find(({ name }) => name === 'lm_head.weight')
    const head = { rows: weight?.rows as number, cols: weight?.cols as number }
    const own = specOf('examples')
    const withHead: AdapterSpec = {
      ...own,
      parameters: [...own.parameters, { name: 'head', ...head, trained: true }],
      copies: [{ parameter: 'head', weight: 'lm_head.weight' }],
    }
    const adapter = addon().createAdapter(withHead, { trainable: true })
    const open = (sequences: number) =>
      addon().createSession(loaded.model, [adapter], {
        train: { mode: 'train', tokens: 64, sequences, headRows: 64, precision: 'f32' },
      }).promise
    await expect(open(2)).rejects.toThrow(/one sequence at a time, but a plan has room for 2/)
    const before = addon().allocated().gradients
    // The gradient of the one is the adapter's, and takes no room of its own.
    const session = await open(1)
    expect(addon().allocated().gradients).toBe(before)
    await session.dispose()
    await adapter.dispose()
  })
})

/**
 * Kolmogorov and Smirnov's distance from a normal distribution, times the root of the number of values; 1.95 is passed
 * once in a thousand keys, and the one here is fixed.
 */
function ksDistance(values: number[], deviation: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  const n = sorted.length
  const distance = sorted.reduce((most, value, i) => {
    const cdf = normalCdf(value / deviation)
    return Math.max(most, (i + 1) / n - cdf, cdf - i / n)
  }, 0)
  return Math.sqrt(n) * distance
}

/**
 * By the error function's series and continued fraction would be exact; Abramowitz and Stegun 7.1.26 is within 2e-7.
 */
function normalCdf(x: number): number {
  const t = 1 / (1 + 0.3275911 * Math.abs(x / Math.SQRT2))
  const poly =
    t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
  const erf = 1 - poly * Math.exp((-x * x) / 2)
  return x >= 0 ? (1 + erf) / 2 : (1 - erf) / 2
}
