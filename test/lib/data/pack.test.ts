import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ConfigError, DataError } from '../../../lib/core/errors.js'
import { ChunkBuilder, EncodedDataset, emptyStats } from '../../../lib/data/encoded-dataset.js'
import { IGNORE } from '../../../lib/data/encoded-row.js'
import {
  Batches,
  type BatchOptions,
  type MicroBatch,
  packBestFit,
  splitHeldOut,
  splitHeldOutGroups,
} from '../../../lib/data/pack.js'

interface Row {
  ids: number[]
  learned: boolean[]
}

/** A dataset of these rows, in chunks of `perChunk` rows. */
function datasetOf(rows: Row[], perChunk = 3): EncodedDataset {
  const chunks = []
  for (let from = 0; from < rows.length; from += perChunk) {
    const chunk = new ChunkBuilder()
    rows.slice(from, from + perChunk).forEach(({ ids, learned }, index) => {
      const labels = ids.map((id, i) => (learned[i] ? id : IGNORE))
      const supervised = learned.slice(1).filter(Boolean).length
      chunk.add(Int32Array.from(ids), Int32Array.from(labels), supervised, 0, from + index + 1)
    })
    chunks.push(chunk.build())
  }
  const tokens = rows.reduce((sum, { ids }) => sum + ids.length, 0)
  const stats = {
    ...emptyStats(),
    rows: rows.length,
    examples: rows.length,
    ended: rows.length,
    tokens,
  }
  return new EncodedDataset(chunks, { stats, now: 0, usesClock: false, paths: ['train.jsonl'] })
}

const MAX = 16

const rowsArbitrary = fc.array(
  fc
    .array(fc.tuple(fc.nat(60_000), fc.boolean()), { minLength: 1, maxLength: MAX })
    .map((tokens): Row => ({ ids: tokens.map(([id]) => id), learned: tokens.map(([, flag]) => flag) })),
  { minLength: 1, maxLength: 60 },
)

const optionsArbitrary = fc.record({
  perDeviceTrainBatchSize: fc.integer({ min: 1, max: 4 }),
  maxSeqLength: fc.constant(MAX),
  packing: fc.boolean(),
  shuffle: fc.boolean(),
  seed: fc.nat(),
})

function epochOf(batches: Batches, epoch: number): MicroBatch[] {
  return Array.from({ length: batches.count(epoch) }, (_, index) => batches.get(epoch, index))
}

function sequences({ tokens, labels, cuSeqlens }: MicroBatch): { tokens: number[]; labels: number[] }[] {
  return Array.from({ length: cuSeqlens.length - 1 }, (_, i) => ({
    tokens: Array.from(tokens.subarray(cuSeqlens[i], cuSeqlens[i + 1])),
    labels: Array.from(labels.subarray(cuSeqlens[i], cuSeqlens[i + 1])),
  }))
}

describe('the micro-batches of an epoch', () => {
  it('hold every row once, whole, with the labels of the tokens that follow', () => {
    fc.assert(
      fc.property(rowsArbitrary, optionsArbitrary, fc.nat(5), (rows, options, epoch) => {
        const found = epochOf(new Batches(datasetOf(rows), options), epoch).flatMap(sequences)
        const expected = rows.map(({ ids, learned }) => ({
          tokens: ids,
          labels: ids.map((_, i) => (learned[i + 1] ? ids[i + 1] : IGNORE)),
        }))
        const text = (list: unknown[]) => list.map((one) => JSON.stringify(one)).sort()
        expect(text(found)).toEqual(text(expected))
      }),
    )
  })

  it('have rising bounds, true counts and stay within the limits that are planned for', () => {
    fc.assert(
      fc.property(rowsArbitrary, optionsArbitrary, fc.nat(5), (rows, options, epoch) => {
        const batches = new Batches(datasetOf(rows), options)
        const { limits } = batches
        expect(limits.tokens).toBeLessThanOrEqual(options.perDeviceTrainBatchSize * MAX)
        for (const { tokens, labels, cuSeqlens, nSupervised } of epochOf(batches, epoch)) {
          expect(cuSeqlens[0]).toBe(0)
          expect(cuSeqlens.at(-1)).toBe(tokens.length)
          expect(labels.length).toBe(tokens.length)
          for (let i = 1; i < cuSeqlens.length; i++)
            expect(cuSeqlens[i]).toBeGreaterThan(cuSeqlens[i - 1] as number)
          expect(labels.filter((label) => label !== IGNORE).length).toBe(nSupervised)
          expect(tokens.length).toBeLessThanOrEqual(limits.tokens)
          expect(cuSeqlens.length - 1).toBeLessThanOrEqual(limits.sequences)
          expect(nSupervised).toBeLessThanOrEqual(limits.supervised)
          if (!options.packing)
            expect(cuSeqlens.length - 1).toBeLessThanOrEqual(options.perDeviceTrainBatchSize)
        }
      }),
    )
  })

  it('are the same when a run starts in the midst of them', () => {
    fc.assert(
      fc.property(rowsArbitrary, optionsArbitrary, fc.nat(3), fc.nat(100), (rows, options, epoch, at) => {
        const whole = [0, 1, 2, 3].flatMap((e) =>
          epochOf(new Batches(datasetOf(rows), options), e).map((b) => [e, b]),
        )
        const resumed = new Batches(datasetOf(rows, 1000), options)
        const start = at % resumed.count(epoch)
        const rest = []
        for (let e = epoch; e <= 3; e++) {
          for (let i = e === epoch ? start : 0; i < resumed.count(e); i++) rest.push([e, resumed.get(e, i)])
        }
        expect(rest).toEqual(whole.slice(-rest.length))
      }),
      { numRuns: 50 },
    )
  })
})

describe('an epoch', () => {
  const rows = Array.from({ length: 500 }, (_, i): Row => {
    const ids = Array.from({ length: 2 + ((i * 7) % 15) }, (_, j) => i * 100 + j)
    return { ids, learned: ids.map(() => true) }
  })
  const data = datasetOf(rows, 64)
  const base: BatchOptions = { perDeviceTrainBatchSize: 4, maxSeqLength: MAX, packing: false, seed: 42 }
  const orderOf = (options: Partial<BatchOptions>, epoch: number) => {
    const batches = new Batches(data, { ...base, ...options })
    return Array.from({ length: batches.count(epoch) }, (_, i) => Array.from(batches.rows(epoch, i))).flat()
  }

  it('has an order of its own, which the seed decides', () => {
    expect(orderOf({}, 0)).toEqual(orderOf({}, 0))
    expect(orderOf({}, 0)).not.toEqual(orderOf({}, 1))
    expect(orderOf({}, 0)).not.toEqual(orderOf({ seed: 43 }, 0))
    expect(orderOf({ packing: true }, 0)).not.toEqual(orderOf({ packing: true }, 1))
  })

  it('keeps the order of the dataset when it is not shuffled', () => {
    expect(orderOf({ shuffle: false }, 3)).toEqual(rows.map((_, i) => i))
  })

  it('mixes all rows: positions in two epochs have next to nothing in common', () => {
    const rank = (epoch: number) => {
      const ranks: number[] = []
      orderOf({}, epoch).forEach((row, position) => {
        ranks[row] = position
      })
      return ranks
    }
    for (const [a, b] of [
      [rank(0), rank(1)],
      [rank(0), rows.map((_, i) => i)],
    ] as const) {
      const mean = (rows.length - 1) / 2
      const covariance = a.reduce((sum, value, i) => sum + (value - mean) * ((b[i] as number) - mean), 0)
      const variance = a.reduce((sum, value) => sum + (value - mean) ** 2, 0)
      // Three standard deviations of a correlation of 500 pairs.
      expect(Math.abs(covariance / variance)).toBeLessThan(3 / Math.sqrt(rows.length))
    }
  })

  it('leaves little room unused when packed', () => {
    const batches = new Batches(data, { ...base, packing: true })
    const fewest = Math.ceil(data.stats.tokens / (4 * MAX))
    expect(batches.count(0)).toBeLessThanOrEqual(Math.ceil(1.02 * fewest))
  })

  it('can be made of some of the rows', () => {
    const some = Uint32Array.of(3, 5, 400)
    expect(orderOf({ rows: some }, 0).sort((a, b) => a - b)).toEqual([3, 5, 400])
  })

  it('has no micro-batch beyond its last', () => {
    const batches = new Batches(data, base)
    expect(() => batches.get(0, batches.count(0))).toThrow(
      /epoch 0 has 125 micro-batches, so there is no micro-batch 125/,
    )
  })
})

it('packs best-fit decreasing', () => {
  const lengths = [4, 8, 1, 4, 2, 1]
  const bins = packBestFit(Uint32Array.of(0, 1, 2, 3, 4, 5), (row) => lengths[row] as number, 10)
  expect(bins).toEqual([
    [1, 4],
    [0, 3, 2, 5],
  ])
  expect(packBestFit(Uint32Array.of(0, 1), () => 12, 10)).toEqual([[0], [1]])
})

it('packs no worse than a plain search for the fullest bin', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 50 }), { maxLength: 80 }), (lengths) => {
      const rows = Uint32Array.from(lengths.keys())
      const bins = packBestFit(rows, (row) => lengths[row] as number, 50)
      const fill = (bin: number[]) => bin.reduce((sum, row) => sum + (lengths[row] as number), 0)
      const plain: number[] = []
      for (const length of [...lengths].sort((a, b) => b - a)) {
        let best = -1
        plain.forEach((filled, i) => {
          if (filled + length <= 50 && (best < 0 || filled > (plain[best] as number))) best = i
        })
        if (best < 0) plain.push(length)
        else plain[best] = (plain[best] as number) + length
      }
      const sorted = (list: number[]) => list.sort((a, b) => a - b)
      expect(sorted(bins.map(fill))).toEqual(sorted(plain))
    }),
  )
})

describe('a dataset in arrays', () => {
  it('gives back rows, labels, places and sizes', () => {
    fc.assert(
      fc.property(rowsArbitrary, fc.integer({ min: 1, max: 20 }), (rows, perChunk) => {
        const data = datasetOf(rows, perChunk)
        expect(data.length).toBe(rows.length)
        rows.forEach(({ ids, learned }, row) => {
          expect(Array.from(data.ids(row))).toEqual(ids)
          expect(Array.from(data.labels(row))).toEqual(ids.map((id, i) => (learned[i] ? id : IGNORE)))
          expect(data.rowLength(row)).toBe(ids.length)
          expect(data.rowSupervised(row)).toBe(learned.slice(1).filter(Boolean).length)
          expect(data.place(row)).toEqual({ path: 'train.jsonl', line: row + 1 })
        })
      }),
    )
  })

  it('takes little more than four bytes per token', () => {
    const ids = Array.from({ length: 1000 }, (_, i) => i)
    const data = datasetOf(
      Array.from({ length: 30 }, () => ({ ids, learned: ids.map(() => true) })),
      10,
    )
    expect(data.bytes).toBeLessThan(4.2 * 30_000)
  })

  it('has no rows beyond its last', () => {
    const data = datasetOf([{ ids: [1, 2], learned: [true, true] }])
    expect(() => data.ids(1)).toThrow(/has 1 rows, so there is no row 1/)
  })
})

describe('rows that are held out', () => {
  it('and those that are left make up the whole, in order', () => {
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 300 }), fc.nat(), fc.nat(), (rows, pick, seed) => {
        const count = 1 + (pick % (rows - 1))
        const { train, heldOut } = splitHeldOut(rows, { count, seed })
        expect(heldOut.length).toBe(count)
        expect(Array.from([...train, ...heldOut]).sort((a, b) => a - b)).toEqual(
          Array.from({ length: rows }, (_, i) => i),
        )
        for (const part of [train, heldOut])
          expect(Array.from(part)).toEqual(Array.from(part).sort((a, b) => a - b))
        expect(splitHeldOut(rows, { count, seed })).toEqual({ train, heldOut })
      }),
    )
  })

  it('may be a fraction, and other ones with another seed', () => {
    expect(splitHeldOut(200, { fraction: 0.1, seed: 1 }).heldOut.length).toBe(20)
    expect(splitHeldOut(200, { fraction: 0.1, seed: 1 })).not.toEqual(
      splitHeldOut(200, { fraction: 0.1, seed: 2 }),
    )
  })

  it('may be those of whole groups', () => {
    fc.assert(
      fc.property(
        fc
          .array(fc.integer({ min: 3, max: 9 }), { minLength: 2, maxLength: 60 })
          .filter((all) => new Set(all).size > 1),
        fc.nat(),
        (groups, seed) => {
          const { train, heldOut } = splitHeldOutGroups(Uint32Array.from(groups), { count: 1, seed })
          expect([...train, ...heldOut].sort((a, b) => a - b)).toEqual([...groups.keys()])
          const held = new Set(Array.from(heldOut, (row) => groups[row]))
          expect(held.size).toBe(1)
          expect(Array.from(train).some((row) => held.has(groups[row]))).toBe(false)
        },
      ),
    )
    expect(() => splitHeldOutGroups(Uint32Array.of(4, 4, 4), { fraction: 0.5, seed: 1 })).toThrow(
      'cannot hold out the fraction 0.5 of 1 groups of rows',
    )
  })

  it.each([
    [10, { fraction: 0 }],
    [10, { fraction: 1 }],
    [10, { count: 10 }],
    [10, { count: 2.5 }],
    [1, { count: 1 }],
  ])('of %j rows cannot be %j', (rows, options) => {
    expect(() => splitHeldOut(rows, { ...options, seed: 1 })).toThrow(ConfigError)
    expect(() => splitHeldOut(rows, { ...options, seed: 1 })).toThrow(/cannot hold out .* of \d+ rows/)
  })
})

it.each([
  [
    { perDeviceTrainBatchSize: 0 },
    ConfigError,
    /per_device_train_batch_size must be an integer of at least 1, not 0/,
  ],
  [{ maxSeqLength: 1.5 }, ConfigError, /max_seq_length must be an integer of at least 1, not 1.5/],
  [{ seed: -1 }, ConfigError, /seed must be an integer of at least 0, not -1/],
  [{ rows: new Uint32Array(0) }, DataError, /no rows to train on/],
] as const)('refuses %j', (options, type, message) => {
  const data = datasetOf([{ ids: [1, 2], learned: [true, true] }])
  const attempt = () =>
    new Batches(data, { perDeviceTrainBatchSize: 1, maxSeqLength: 8, packing: true, seed: 1, ...options })
  expect(attempt).toThrow(type)
  expect(attempt).toThrow(message)
})
