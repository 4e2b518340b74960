/** Input of the engine in a step: windows, scales, rates, and decay, without an engine. */

import { expect, test } from 'vitest'
import type { NativeSession, OptimizerStep, TrainInput } from '../../../../lib/native/addon.js'
import { adamW } from '../../../../lib/options/optimizers.js'
import type { TrainOptions } from '../../../../lib/options/types.js'
import { lora } from '../../../../lib/strategies/lora.js'
import type { OptimizerGroup } from '../../../../lib/strategies/strategy.js'
import { gradientSteps } from '../../../../lib/train/objectives/gradient-steps.js'
import { Processes } from '../../../../lib/train/processes/processes.js'
import type { BatchSource } from '../../../../lib/train/rows/batches.js'
import type { RunData } from '../../../../lib/train/rows/data.js'
import type { RunSetup } from '../../../../lib/train/run/run-setup.js'
import { type TrainingState, updateOf } from '../../../../lib/train/steps/step.js'

const options = {
  optimizer: 'adamw',
  optimizerInBackward: false,
  learningRate: 0.1,
  weightDecay: 0.5,
  lrSchedulerType: 'constant',
  warmupRatio: 0,
  warmupSteps: null,
  maxSteps: 3,
  gradientAccumulationSteps: 2,
  maxGradNorm: 0.25,
  seed: 7,
} as const satisfies Partial<TrainOptions>

const plain: OptimizerGroup = { name: 'plain', learningRateFactor: 1 }

function setupOf(groups: readonly OptimizerGroup[], own: Partial<TrainOptions> = {}) {
  const updates: OptimizerStep[] = []
  const native = {
    optimizerStep: (update: OptimizerStep) => {
      updates.push(update)
      return { promise: Promise.resolve({ gradNorm: 1 }) }
    },
  }
  const turns = { run: (work: () => unknown) => work() }
  const adapter = { native, turns, description: { strategy: lora(), groups }, privacy: [], version: 0 }
  return {
    updates,
    setup: { adapter, options: { ...options, ...own }, ranks: Processes.alone() } as unknown as RunSetup,
  }
}

test('an update decays what decays, at the rate of each group', () => {
  const { setup } = setupOf([
    plain,
    { name: 'fast', learningRateFactor: 16 },
    { name: 'spared', learningRateFactor: 1, decays: false },
    { name: 'own rate', learningRateFactor: 1, learningRate: 0.3 },
  ])
  const { groups } = updateOf(setup, 0.5, 1)
  expect(groups.map(({ weightDecay }) => weightDecay)).toEqual([0.5, 0.5, 0, 0.5])
  const expected = [0.05, 0.8, 0.05, 0.15]
  for (const [i, { learningRate }] of groups.entries())
    expect(learningRate).toBeCloseTo(expected[i] as number)
})

test('a group with a rate of its own keeps it exactly, whatever the rate of the run', () => {
  const own = 0.3
  for (const learningRate of [0.1, 7e-4, 3.3e-5]) {
    const { setup } = setupOf([{ name: 'own rate', learningRateFactor: 1, learningRate: own }], {
      learningRate,
    })
    expect(updateOf(setup, 1 / 3, 1).groups[0]?.learningRate).toBe(own * (1 / 3))
  }
})

test("the optimizer's own decay stands before the run's", () => {
  const { setup } = setupOf([plain], { optimizer: adamW({ weightDecay: 0.01 }) })
  expect(updateOf(setup, 0.05, 1).groups[0]?.weightDecay).toBe(0.01)
})

test('steps take one window after the other, as one mean over the labels of each', async () => {
  // Micro-batch i has i + 2 tokens, of which i + 1 are learned.
  const source: BatchSource = {
    count: () => 6,
    get: (_, index) => ({
      tokens: new Int32Array(index + 2).fill(index),
      labels: new Int32Array(index + 2),
      cuSeqlens: Int32Array.of(0, index + 2),
      nSupervised: index + 1,
    }),
  }
  const inputs: TrainInput[] = []
  const session = {
    trainStep: (_: string, input: TrainInput) => {
      inputs.push(input)
      return { promise: Promise.resolve({ lossSum: 10, count: 1 }) }
    },
  } as unknown as NativeSession
  const { setup, updates } = setupOf([plain])
  const state = {
    step: 0,
    cursor: { epoch: 0, microBatch: 0 },
    totals: { tokens: 0, supervisedTokens: 0, lossSum: 0, seconds: 0 },
    ranks: 1,
  } as TrainingState
  const steps = gradientSteps(setup, state, { train: source } as unknown as RunData)
  const made = []
  for (let i = 0; i < 3; i++) made.push(await steps.next(session))
  expect(inputs.map(({ tokens }) => tokens[0])).toEqual([0, 1, 2, 3, 4, 5])
  expect(inputs.map(({ lossScale }) => lossScale)).toEqual([1 / 3, 1 / 3, 1 / 7, 1 / 7, 1 / 11, 1 / 11])
  expect(inputs.map(({ step, microStep }) => [step, microStep])).toEqual([
    [1, 0],
    [1, 1],
    [2, 0],
    [2, 1],
    [3, 0],
    [3, 1],
  ])
  expect(updates.map(({ step, maxGradNorm }) => [step, maxGradNorm])).toEqual([
    [1, 0.25],
    [2, 0.25],
    [3, 0.25],
  ])
  expect(made.map(({ loss }) => loss)).toEqual([20 / 3, 20 / 7, 20 / 11])
  expect(state.cursor).toEqual({ epoch: 0, microBatch: 6 })
  expect(state.totals).toMatchObject({ tokens: 27, supervisedTokens: 21, lossSum: 60 })
})
