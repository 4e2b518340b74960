/** The GPU of each of several processes on a machine. */
import { expect, test } from 'vitest'
import type { CudaCard } from '../../../lib/native/addon.js'
import { cardAt } from '../../../lib/native/device.js'

test('processes take a card each, and begin again where there are more of them', () => {
  const cards = [3, 5].map((number) => ({ number }) as CudaCard)
  expect([0, 1, 2].map((place) => cardAt(place, cards)?.number)).toEqual([3, 5, 3])
  expect(cardAt(1, [])).toBeUndefined()
})
