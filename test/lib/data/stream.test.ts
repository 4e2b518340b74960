import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ChunkBuilder, type EncodedChunk } from '../../../lib/data/encoded-dataset.js'
import { IGNORE } from '../../../lib/data/encoded-row.js'
import type { MicroBatch } from '../../../lib/data/pack.js'
import { rowsOfChunks, type StreamRow, shuffleBuffer, streamBatches } from '../../../lib/data/stream.js'

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const item of items) all.push(item)
  return all
}

async function* each<T>(items: Iterable<T>): AsyncGenerator<T, void, void> {
  yield* items
}

const numbers = (count: number) => Array.from({ length: count }, (_, i) => i)

describe('a shuffle buffer', () => {
  const shuffled = (count: number, size: number, ...counters: number[]) =>
    collect(shuffleBuffer(each(numbers(count)), size, ...counters))

  it('gives every item once, in an order that follows from its counters', async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(50), fc.integer({ min: 1, max: 60 }), fc.nat(), async (count, size, seed) => {
        const order = await shuffled(count, size, seed, 0)
        expect([...order].sort((a, b) => a - b)).toEqual(numbers(count))
        expect(await shuffled(count, size, seed, 0)).toEqual(order)
      }),
    )
    expect(await shuffled(200, 50, 7, 0)).not.toEqual(await shuffled(200, 50, 7, 1))
    expect(await shuffled(200, 50, 7, 0)).not.toEqual(await shuffled(200, 50, 8, 0))
  })

  it('keeps the order at size 1, and moves items forward by less than its size', async () => {
    expect(await shuffled(20, 1, 3)).toEqual(numbers(20))
    const order = await shuffled(1000, 10, 3)
    for (const [place, item] of order.entries()) expect(item - place).toBeLessThan(10)
    // Items stay in it for about as long as it is large; most are moved.
    expect(order.filter((item, place) => item === place).length).toBeLessThan(300)
  })

  it('reads no further than it is large', async () => {
    let read = 0
    const counted = async function* () {
      for (;;) yield read++
    }
    const items = shuffleBuffer(counted(), 10, 1)
    for (let taken = 1; taken <= 30; taken++) {
      await items.next()
      expect(read).toBe(taken + 10)
    }
    await items.return()
  })
})

const MAX = 12
const rowArbitrary = fc
  .array(fc.tuple(fc.nat(60_000), fc.boolean()), { minLength: 2, maxLength: MAX })
  .map((tokens): StreamRow => Int32Array.from(tokens, ([id, learned]) => (learned ? id : ~id)))
const rowsArbitrary = fc.array(rowArbitrary, { maxLength: 300 })

/** Rows of a micro-batch. */
function rowsOf({ tokens, labels, cuSeqlens, nSupervised }: MicroBatch): number[][] {
  expect(labels.filter((label) => label !== IGNORE)).toHaveLength(nSupervised)
  return numbers(cuSeqlens.length - 1).map((i) => {
    const [start, end] = [cuSeqlens[i] as number, cuSeqlens[i + 1] as number]
    expect(labels[end - 1]).toBe(IGNORE)
    return numbers(end - start).map((j) => {
      const id = tokens[start + j] as number
      if (j === 0) return id
      const label = labels[start + j - 1]
      if (label !== IGNORE) expect(label).toBe(id)
      return label === IGNORE ? ~id : id
    })
  })
}

/** The first token of a row is never learned, since nothing comes before it. */
const seen = (rows: Iterable<StreamRow>) =>
  Array.from(rows, ([first = 0, ...rest]) => [first < 0 ? ~first : first, ...rest].join()).sort()

describe('the micro-batches of a stream', () => {
  it('hold every row once, within their room, in an order that follows from seed and epoch', async () => {
    const options = fc.record({
      perDeviceTrainBatchSize: fc.integer({ min: 1, max: 4 }),
      maxSeqLength: fc.constant(MAX),
      packing: fc.boolean(),
      seed: fc.nat(),
    })
    await fc.assert(
      fc.asyncProperty(rowsArbitrary, options, fc.nat(5), async (rows, given, epoch) => {
        const batches = await collect(streamBatches(each(rows), given, epoch))
        expect(
          batches
            .flatMap(rowsOf)
            .map((row) => row.join())
            .sort(),
        ).toEqual(seen(rows))
        for (const { tokens, cuSeqlens } of batches) {
          expect(tokens.length).toBeLessThanOrEqual(given.perDeviceTrainBatchSize * MAX)
          if (!given.packing) expect(cuSeqlens.length - 1).toBeLessThanOrEqual(given.perDeviceTrainBatchSize)
        }
        expect(await collect(streamBatches(each(rows), given, epoch))).toEqual(batches)
      }),
      { numRuns: 50 },
    )
  })

  it('are nearly full with packing, and read only what is packed together', async () => {
    let read = 0
    const rows = async function* () {
      for (;;) yield new Int32Array(3 + (read++ % 8)).fill(5)
    }
    const options = { perDeviceTrainBatchSize: 4, maxSeqLength: 10, packing: true, seed: 1 }
    const batches = streamBatches(rows(), options, 0)
    let tokens = 0
    for (let taken = 1; taken <= 100; taken++) {
      const { value } = await batches.next()
      tokens += (value as MicroBatch).tokens.length
      expect(6.5 * read - tokens).toBeLessThan(17 * 40)
    }
    expect(tokens).toBeGreaterThan(0.97 * 100 * 40)
    await batches.return()
  })
})

describe('the rows of chunks', () => {
  const chunk = () => {
    const builder = new ChunkBuilder()
    builder.add(Int32Array.of(0, 7, 8), Int32Array.of(IGNORE, 7, IGNORE), 1, 0, 1)
    builder.add(Int32Array.of(9, 0), Int32Array.of(9, 0), 1, 0, 2)
    return builder.build()
  }

  it('carry what is learned, even of id 0, and end with what the chunks return', async () => {
    const chunks = async function* (): AsyncGenerator<EncodedChunk, string, void> {
      yield chunk()
      return 'summary'
    }
    const rows = rowsOfChunks(chunks())
    expect(await rows.next()).toEqual({ done: false, value: Int32Array.of(~0, 7, ~8) })
    expect(await rows.next()).toEqual({ done: false, value: Int32Array.of(9, 0) })
    expect(await rows.next()).toEqual({ done: true, value: 'summary' })
  })

  it('let the chunks go when they are left', async () => {
    let left = false
    const chunks = async function* (): AsyncGenerator<EncodedChunk, undefined, void> {
      try {
        for (;;) yield chunk()
      } finally {
        left = true
      }
    }
    for await (const _ of rowsOfChunks(chunks())) break
    expect(left).toBe(true)
  })
})
