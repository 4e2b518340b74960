/** The engine's calls of a session for each kind of loss, without a native one. */
import { expect, test } from 'vitest'
import type { AdapterState } from '../../../../lib/base/base.js'
import type { NativeSession, OptimizerStep, TrainInput } from '../../../../lib/native/addon.js'
import { Gradients, type Head, type Work } from '../../../../lib/train/engine/gradients.js'
import { ALONE } from '../../../../lib/train/engine/passes.js'

const batch = { tokens: Int32Array.of(1, 2), labels: Int32Array.of(2, -100), cuSeqlens: Int32Array.of(0, 2) }

/** An engine on a session that records its calls, and gives losses in order. */
function engine(...losses: number[]) {
  const calls: string[] = []
  const inputs: TrainInput[] = []
  const job = (call: string) => {
    calls.push(call)
    const lossSum = losses.shift() ?? 1
    return { promise: Promise.resolve({ lossSum, count: 1, logProbs: Float32Array.of(-2), gradNorm: 3 }) }
  }
  const session = {
    trainStep: (plan: string, input: TrainInput) => {
      inputs.push(input)
      return job(`train ${plan}`)
    },
    scoreStep: (plan: string, input: TrainInput) => {
      inputs.push(input)
      return job(`score ${plan}`)
    },
    finishStep: ({ weights }: { weights: Float32Array }) => job(`finish ${[...weights]}`),
  } as unknown as NativeSession
  const adapter = {
    version: 0,
    turns: {
      run: <T>(work: () => Promise<T>) => {
        calls.push(`turn ${adapter.version}`)
        return work()
      },
    },
  }
  const gradients = new Gradients({
    adapter: adapter as unknown as AdapterState,
    plans: { once: 'once', twice: 'twice' },
    passes: ALONE,
    rules: { updated: async (step) => void calls.push(`updated ${step}`) },
    diverged: (found) => new Error('loss' in found ? `loss ${found.loss}` : 'gradient'),
  })
  const add = (head: Head, more: { update?: OptimizerStep; before?: number; count?: number } = {}) => {
    const { update, before = 0, count = 1 } = more
    const work: Work = { batch, head }
    const step = { seed: 5, step: 2, ...(update ? { update } : {}) }
    return gradients.add(session, count, () => work, step, { before })
  }
  return { add, calls, inputs }
}
const scored: Head = {
  kind: 'scored',
  value: ([logProb = 0]) => ({ loss: -logProb, weights: Float32Array.of(4) }),
}
const update = { step: 2 } as OptimizerStep

test('cross-entropy is scaled in one pass, and micro-batches are counted over calls', async () => {
  const { add, calls, inputs } = engine(6, 8)
  const all = await add({ kind: 'scaled', lossScale: 0.5 }, { before: 3, count: 2 })
  expect(calls).toEqual(['train once', 'train once'])
  expect(inputs.map(({ microStep, lossScale }) => [microStep, lossScale])).toEqual([
    [3, 0.5],
    [4, 0.5],
  ])
  expect(all.map(({ loss }) => loss)).toEqual([6, 8])
})

test('weights that are known take one pass, and those that depend on log-probabilities two', async () => {
  const { add, calls, inputs } = engine()
  const weights = Float32Array.of(0.25)
  await add({ kind: 'weighted', weights, value: ([logProb = 0]) => ({ loss: logProb }) })
  const [{ loss } = {}] = await add(scored)
  expect(calls).toEqual(['train once', 'score twice', 'finish 4'])
  expect(inputs.map(({ weights, lossScale }) => [weights?.[0], lossScale])).toEqual([
    [0.25, 1],
    [undefined, 1],
  ])
  expect(loss).toBe(2)
})

test('a loss that is not finite adds no gradient', async () => {
  const { add, calls } = engine()
  const value = () => ({ loss: Number.NaN, weights: Float32Array.of(4) })
  await expect(add({ kind: 'scored', value })).rejects.toThrow('loss NaN')
  expect(calls).toEqual(['score twice'])
})

test('an update within a pass has the adapter alone, and is not made for the loss of another process', async () => {
  const whole = engine()
  await whole.add(scored, { update })
  expect(whole.calls).toEqual(['turn 1', 'score twice', 'finish 4', 'updated 2'])
  const elsewhere = engine(Number.NaN)
  await expect(elsewhere.add(scored, { update })).rejects.toThrow('loss NaN')
  expect(elsewhere.calls).toEqual(['turn 1', 'score twice'])
})
