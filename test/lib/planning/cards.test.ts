import { expect, test } from 'vitest'
import type { KernelCounts, StepCounts, WorkCounts } from '../../../lib/native/addon.js'
import { CARDS, type CardRates, cardNamed, leastSeconds, leastWork } from '../../../lib/planning/cards.js'

const kernel = (multiplyAdds: number, bytesMoved: number): KernelCounts => ({
  ...{ kernel: 'k', launches: 1, workspaceBytes: 0, multiplyAdds, bytesMoved },
})
const counts = (...kernels: KernelCounts[]): WorkCounts => ({
  ...{ kernels, uploadedBytes: 0, downloadedBytes: {}, stashedBytes: 0, fetchedBytes: 0 },
})
const rates: CardRates = { operationsPerSecond: 100, bytesPerSecond: 10, busBytesPerSecond: 2 }

test('the least time is that of products or of memory, kernel by kernel', () => {
  // 4 s of products, and 7 s of memory; the update moves for 2 s.
  const step: StepCounts = {
    ...counts(kernel(200, 10), kernel(50, 70)),
    update: counts(kernel(0, 20)),
  }
  expect(leastSeconds(step, 1, rates)).toBe(4 + 7 + 2)
  expect(leastSeconds(step, 3, rates)).toBe(3 * 11 + 2)
  expect(leastSeconds(step, 3, rates, 60)).toBe(3 * 11 + 2)
  expect(leastSeconds(step, 3, rates, 80)).toBe(40)
  expect(leastWork(step, 3)).toEqual({ operations: 3 * 500, bytes: 3 * 80 + 20 })
  expect(leastWork(counts(kernel(5, 6)), 2)).toEqual({ operations: 20, bytes: 12 })
})

test('cards are found by name, and an unknown one names them', () => {
  expect(cardNamed('RTX-4090')).toMatchObject({ sm: 89, multiprocessors: 128, sharedBytes: 99 * 1024 })
  expect(() => cardNamed('rtx-4080i')).toThrow(
    /card 'rtx-4080i' is unknown.*expected one of rtx-3060, .*or an amount/,
  )
  expect(() => cardNamed('rtx-409')).toThrow('did you mean rtx-4090?')
})

test('a card may be known by its memory alone', () => {
  expect(cardNamed('24GB')).toMatchObject({ label: '24.0 GiB card', memoryBytes: 24 * 2 ** 30, rates: null })
  expect(cardNamed('16GiB').memoryBytes).toBe(2 ** 34)
})

test('every card has a name of its own, and rates', () => {
  expect(new Set(CARDS.map(({ name }) => name)).size).toBe(CARDS.length)
  for (const { sharedBytes, rates } of CARDS)
    for (const value of [sharedBytes, rates?.operationsPerSecond, rates?.bytesPerSecond])
      expect(value).toBeGreaterThan(0)
})
