/** How micro-batches reach the adapter: which process computes which, and in which order results come back. */
import { expect, test } from 'vitest'
import { type Made, passesOf, type StepWork } from '../../../../lib/train/engine/passes.js'
import type { LayerPipe } from '../../../../lib/train/processes/pipe.js'
import { Processes } from '../../../../lib/train/processes/processes.js'

const made = (microStep: number): Made => ({ microStep, loss: microStep, metrics: {} })

/** Records what a process does in a step. */
function recorded(): { work: StepWork; log: string[] } {
  const log: string[] = []
  const work: StepWork = {
    pass: async (microBatch, isLast) => {
      log.push(`pass ${microBatch}${isLast ? ', the last' : ''}`)
      return made(microBatch)
    },
    forward: async (microBatch) => void log.push(`forward ${microBatch}`),
    idle: async () => void log.push('idle'),
  }
  return { work, log }
}

/** A process beside one other, whose results are given. */
function beside(rank: number, other: Made[]): Processes {
  const together = async (_: string, work: () => Promise<Made[]>) => {
    const own = await work()
    return rank === 0 ? [own, other] : [other, own]
  }
  return { rank, size: 2, isAlone: false, together } as unknown as Processes
}

test('a process alone computes all micro-batches, and none waits for its gradients', async () => {
  const { work, log } = recorded()
  const all = await passesOf({ ranks: Processes.alone() }).run(2, work)
  expect(log).toEqual(['pass 0', 'pass 1'])
  expect(all).toEqual([made(0), made(1)])
})

test.each([
  [0, 3, ['pass 0', 'pass 2, the last'], [made(1)]],
  [1, 3, ['pass 1, the last'], [made(0), made(2)]],
  [1, 1, ['idle'], [made(0)]],
])(
  'process %i of two has its share of %i, and the results of both in order',
  async (rank, count, log, other) => {
    const process = recorded()
    const all = await passesOf({ ranks: beside(rank, other) }).run(count, process.work)
    expect(process.log).toEqual(log)
    expect(all).toEqual(Array.from({ length: count }, (_, microStep) => made(microStep)))
  },
)

test('layers on several processes pass each micro-batch forward and backward, and have the results of the last', async () => {
  const pipe = {
    isLast: false,
    passes: () => [
      { kind: 'forward', microBatch: 0 },
      { kind: 'backward', microBatch: 0 },
    ],
    run: async (passes: object[], work: (pass: object) => Promise<void>) => {
      for (const pass of passes) await work(pass)
    },
    expectWhole: () => undefined,
  } as unknown as LayerPipe
  const { work, log } = recorded()
  const passes = passesOf({ ranks: beside(0, [made(7)]), pipe })
  expect(passes.knowsLoss).toBe(false)
  expect(await passes.run(1, work)).toEqual([made(7)])
  expect(log).toEqual(['forward 0', 'pass 0'])
})
