/** The order of passes over micro-batches on ranks that share the layers. */
import { expect, test } from 'vitest'
import { orderOfPasses, type Pass } from '../../../../lib/train/processes/pipe.js'

const each = [1, 2, 3, 4, 6].flatMap((ranks) => [1, 2, 3, 5, 9].map((count) => [ranks, count] as const))

/** Both halves of a pass. */
const halves = ({ kind, microBatch }: Pass) =>
  (kind === 'both' ? (['forward', 'backward'] as const) : [kind]).map((half) => ({ half, microBatch }))

test.each(each)(
  '%i ranks come through %i micro-batches with one message under way each way',
  (ranks, count) => {
    const left = Array.from({ length: ranks }, (_, rank) =>
      orderOfPasses(ranks - 1 - rank, count).flatMap(halves),
    )
    /** Micro-batches under way from a rank, onward or back. */
    const messages = new Map<string, number[]>()
    const queue = (way: string, from: number) => {
      const key = `${way} ${from}`
      if (!messages.has(key)) messages.set(key, [])
      return messages.get(key) as number[]
    }
    const kept = Array.from({ length: ranks }, () => 0)
    /** Makes the next half of a rank if what it needs has come and what it sent before is gone. */
    const goesOn = (rank: number): boolean => {
      const [next] = left[rank] as { half: 'forward' | 'backward'; microBatch: number }[]
      if (next === undefined) return false
      const [way, step] = next.half === 'forward' ? (['onward', 1] as const) : (['back', -1] as const)
      const [from, to] = [rank - step, rank + step]
      const comes = from >= 0 && from < ranks ? queue(way, from) : undefined
      const goes = to >= 0 && to < ranks ? queue(way, rank) : undefined
      if (comes?.length === 0 || (goes?.length ?? 0) > 0) return false
      if (comes) expect(comes.shift()).toBe(next.microBatch)
      goes?.push(next.microBatch)
      kept[rank] = (kept[rank] as number) + step
      expect(kept[rank]).toBeLessThanOrEqual(ranks - rank)
      left[rank]?.shift()
      return true
    }
    while (Array.from({ length: ranks }, (_, rank) => goesOn(rank)).includes(true));
    expect(left).toEqual(left.map(() => []))
    for (const waiting of messages.values()) expect(waiting).toEqual([])
  },
)
