import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { ranksWithRoom } from '../../../lib/compare/deal.js'
import { Meetings, type Talk } from '../../../lib/compare/meetings.js'
import type { Processes } from '../../../lib/train/processes/processes.js'

function meeting() {
  let resolve: (turns: unknown[]) => void = () => undefined
  let reject: (error: unknown) => void = () => undefined
  const promise = new Promise<unknown[]>((done, failed) => {
    resolve = done
    reject = failed
  })
  return { promise, resolve, reject }
}

/** Ranks in this process, which meet as those of MPI do. */
function ranksOf(size: number) {
  let turns: unknown[] = []
  let next = meeting()
  const arrive = (rank: number, turn: unknown) => {
    turns[rank] = turn
    const present = next
    if (Object.keys(turns).length === size) {
      const failed = turns.find((one) => one instanceof Error)
      if (failed === undefined) present.resolve(turns)
      else present.reject(failed)
      turns = []
      next = meeting()
    }
    return present.promise
  }
  const stops = Array.from({ length: size }, () => new AbortController())
  const asked: (AbortSignal | undefined)[] = []
  return Array.from({ length: size }, (_, rank) => ({
    fail: (error: unknown) => arrive(rank, error).catch(() => undefined),
    ranks: {
      joint: (signal?: AbortSignal) => {
        asked[rank] = signal
        return stops[rank]?.signal
      },
      meet: async (_at: string, value: unknown) => {
        const stop = asked[rank]?.aborted ?? false
        const all = (await arrive(rank, { value, stop })) as { value: unknown; stop: boolean }[]
        if (all.some((one) => one.stop)) stops[rank]?.abort(new Error('asked to stop'))
        return all.map((one) => one.value)
      },
    } as unknown as Processes,
  }))
}

/** Ends after a while, or with the reason of the signal. */
async function working<T>(milliseconds: number, value: T, signal: AbortSignal): Promise<T> {
  await sleep(milliseconds, undefined, { signal }).catch(() => signal.throwIfAborted())
  return value
}

describe('ranks that meet while they work', () => {
  test('wait for the slowest, and hear all that was said', async () => {
    const [a, b] = ranksOf(2).map(({ ranks }) => new Meetings(ranks, undefined)) as [Meetings, Meetings]
    const heard: unknown[] = []
    const talk: Talk<string> = { say: () => 'a', hear: (turns) => heard.push(turns.map(({ said }) => said)) }
    const other: Talk<string> = { say: () => 'b', hear: () => undefined }
    const found = await Promise.all([
      a.during(working(1, 1, a.signal), talk),
      b.during(working(250, 2, b.signal), other),
    ])
    expect(found).toEqual([1, 2])
    expect(heard.length).toBeGreaterThan(2)
    expect(heard[0]).toEqual(['a', 'b'])
  })

  test('stop together, once one is asked to, with what the last meeting said', async () => {
    const controller = new AbortController()
    const [first, second] = ranksOf(2) as [ReturnType<typeof ranksOf>[0], ReturnType<typeof ranksOf>[0]]
    const a = new Meetings(first.ranks, undefined)
    const b = new Meetings(second.ranks, controller.signal)
    const heard: unknown[] = []
    const talk: Talk<string> = { say: () => '', hear: ([, turn]) => heard.push(turn?.said) }
    const said: Talk<string> = {
      say: () => (controller.signal.aborted ? 'last words' : ''),
      hear: () => undefined,
    }
    setTimeout(() => controller.abort(), 150)
    const ends = await Promise.allSettled([
      a.during(working(60_000, 0, a.signal), talk),
      b.during(working(60_000, 0, b.signal), said),
    ])
    for (const end of ends)
      expect(end).toMatchObject({ status: 'rejected', reason: { message: 'asked to stop' } })
    expect(heard.at(-1)).toBe('last words')
  })

  test('end once one has failed, all with its error', async () => {
    const made = ranksOf(3)
    const failure = new Error('disk full')
    const ends = await Promise.allSettled(
      made.map(async ({ ranks, fail }, rank) => {
        const meetings = new Meetings(ranks, undefined)
        const work = rank === 1 ? Promise.reject(failure) : working(60_000, 0, meetings.signal)
        try {
          await meetings.during(work)
        } catch (error) {
          if (rank === 1) await fail(error)
          throw error
        }
      }),
    )
    expect(ends).toEqual(Array.from({ length: 3 }, () => ({ status: 'rejected', reason: failure })))
  })
})

test('ranks of a machine share its memory, and rank 0 always works', () => {
  const room = (machine: string, available: number) => ({ machine, available })
  const rooms = [
    room('a', 250),
    room('a', 250),
    room('a', 250),
    room('b', 100),
    room('b', 100),
    room('c', 99),
  ]
  expect(ranksWithRoom(rooms, 100)).toEqual([1, 3])
  expect(ranksWithRoom(rooms, 1000)).toEqual([])
  expect(ranksWithRoom(rooms, 1)).toEqual([1, 2, 3, 4, 5])
})
