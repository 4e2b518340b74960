import { expect, test } from 'vitest'
import {
  type BatchSource,
  type BatchStream,
  StreamWindows,
  type Window,
  Windows,
} from '../../../../lib/train/rows/batches.js'

/** Epochs of 5, 4, 5, 4… micro-batches; micro-batch i of epoch e has one token, 10 e + i. */
const source: BatchSource = {
  count: (epoch) => 5 - (epoch % 2),
  get: (epoch, index) => ({
    tokens: Int32Array.of(10 * epoch + index),
    labels: Int32Array.of(1),
    cuSeqlens: Int32Array.of(0, 1),
    nSupervised: 1,
  }),
}

test('windows cover an epoch, the last one shorter, and never span two', async () => {
  const windows = new Windows(source, 2)
  let cursor = { epoch: 0, microBatch: 0 }
  const seen: number[][] = []
  const epochs: number[] = []
  for (let step = 0; step < 5; step++) {
    const window = await windows.at(cursor)
    seen.push(window.batches.map((batch) => batch.tokens[0] as number))
    epochs.push(window.epoch)
    expect(window).toMatchObject({ tokens: window.batches.length, supervised: window.batches.length })
    cursor = window.next
  }
  expect(seen).toEqual([[0, 1], [2, 3], [4], [10, 11], [12, 13]])
  expect(epochs).toEqual([0.4, 0.8, 1, 1.5, 2])
})

test('steps of whole and fractional epochs are counted by their windows', () => {
  const windows = new Windows(source, 2)
  expect(windows.steps(1)).toBe(3)
  expect(windows.steps(2)).toBe(5)
  expect(windows.steps(2.5)).toBe(5 + 2)
  expect(windows.steps(0.1)).toBe(1)
})

/** The same as a stream, which counts how often it is opened and closed. */
function stream({ rereadable = true, batches = 5 } = {}) {
  const opened: number[] = []
  const closed: number[] = []
  const source: BatchStream = {
    name: 'rows',
    rereadable,
    async *pass(epoch) {
      opened.push(epoch)
      try {
        for (let i = 0; i < batches; i++)
          yield {
            tokens: Int32Array.of(10 * epoch + i),
            labels: Int32Array.of(1),
            cuSeqlens: Int32Array.of(0, 1),
            nSupervised: 1,
          }
      } finally {
        closed.push(epoch)
      }
    },
  }
  return { source, opened, closed }
}

const idsOf = ({ batches }: Window) => batches.map(({ tokens }) => tokens[0])

test('windows of a stream end with its passes, and open the next', async () => {
  const { source, opened, closed } = stream()
  const windows = new StreamWindows(source, 2)
  let window = await windows.at({ epoch: 0, microBatch: 0 })
  const seen = [idsOf(window)]
  for (let step = 1; step < 5; step++) {
    window = await windows.at(window.next)
    seen.push(idsOf(window))
  }
  expect(seen).toEqual([[0, 1], [2, 3], [4], [10, 11], [12, 13]])
  expect([window.epoch, window.next.microBatch]).toEqual([1, 4])
  await windows.close()
  expect([opened, closed]).toEqual([
    [0, 1],
    [0, 1],
  ])
})

test('a stream goes on at any place to the same windows', async () => {
  const first = new StreamWindows(stream().source, 2)
  let { next } = await first.at({ epoch: 0, microBatch: 0 })
  for (let step = 1; step < 7; step++) {
    const expected = await first.at(next)
    expect(await new StreamWindows(stream().source, 2).at(next)).toEqual(expected)
    next = expected.next
  }
})

test('a stream of other rows, of fewer rows, or one that cannot be read again does not go on', async () => {
  const { next } = await new StreamWindows(stream().source, 4).at({ epoch: 0, microBatch: 0 })
  const other: BatchStream = {
    ...stream().source,
    async *pass(epoch, signal) {
      for await (const batch of stream().source.pass(epoch, signal))
        yield { ...batch, tokens: batch.tokens.map((id) => id + 1) }
    },
  }
  await expect(new StreamWindows(other, 4).at(next)).rejects.toThrow(
    'rows cannot be resumed exactly: its rows up to the position of the run have changed. Pass the stream again from its first row.',
  )
  await expect(new StreamWindows(stream({ batches: 3 }).source, 4).at(next)).rejects.toThrow(
    'rows cannot be resumed exactly: it ends after 3 micro-batches, and the run was at 4.',
  )
  const once = new StreamWindows(stream({ rereadable: false, batches: 4 }).source, 4)
  await expect(once.at(next)).rejects.toThrow(
    'rows has ended, and its rows can be read only once; lower max_steps, or pass',
  )
})
