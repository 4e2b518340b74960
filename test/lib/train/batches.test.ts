import { expect, test } from 'vitest'
import { type BatchSource, Windows } from '../../../lib/train/batches.js'

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

test('windows cover an epoch, the last one shorter, and never span two', () => {
  const windows = new Windows(source, 2)
  let cursor = { epoch: 0, microBatch: 0 }
  const seen: number[][] = []
  const epochs: number[] = []
  for (let step = 0; step < 5; step++) {
    const window = windows.at(cursor)
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
