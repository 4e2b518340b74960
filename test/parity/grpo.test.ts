/** GRPO against TRL's, through PEFT, in float64. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { groupAdvantages } from '../../lib/losses/advantages.js'
import { parity } from './engine.js'
import { goldenLosses } from './preference-model.js'

interface Case {
  options: {
    loss_type: 'dapo' | 'grpo' | 'dr_grpo'
    old?: number
    epsilon_low?: number
    epsilon_high?: number
    beta?: number
  }
  loss: number
  metrics: Record<string, number>
}

interface Golden {
  rows: {
    tokens: number[]
    prompt: number
    advantage: number
    current: number[]
    noise: number[]
    reference: number[]
  }[]
  max_completion_length: number
  rewards: number[][]
  advantages: Record<'group' | 'batch' | 'none', number[][]>
  cases: Record<string, Case>
}

const golden: Golden = JSON.parse(readFileSync(join(parity, 'preference', 'grpo.json'), 'utf8'))
const check = goldenLosses('preference/grpo_gradients.safetensors', 1e-5)

test.each(Object.keys(golden.cases))('%s: loss, metrics and gradients', async (name) => {
  const { options, loss, metrics } = golden.cases[name] as Case
  const { loss_type, old, epsilon_low: low = 0.2, epsilon_high: high = 0.2, beta = 0 } = options
  const batch = golden.rows.map(({ tokens, prompt, advantage, current, noise, reference }) => {
    const after = (values: number[]) => [...tokens.slice(0, prompt).fill(0), ...values]
    const sampled = current.map((value, t) => value + (old ?? 0) * (noise[t] as number))
    return {
      tokens,
      weights: after(current.map(() => 1)),
      advantages: advantage,
      ...(old === undefined ? {} : { logprobs: after(sampled) }),
      reference: after(reference),
    }
  })
  const answered = golden.rows.reduce((sum, { current }) => sum + current.length, 0)
  const normalizer = {
    dapo: answered,
    grpo: batch.length,
    dr_grpo: batch.length * golden.max_completion_length,
  }[loss_type]
  const normalize = loss_type === 'grpo' ? 'sequence' : 'token'
  await check(name, { loss, metrics }, (adapter, microBatchTokens) =>
    adapter.forwardBackward(
      batch,
      { name: 'importance_sampling', clip: { low, high }, beta, normalize },
      { normalizer, microBatchTokens },
    ),
  )
})

test('ratios are clipped on both sides', () => {
  for (const name of ['clipped', 'clipped_rows', 'kl'])
    for (const side of ['low', 'high'])
      expect(golden.cases[name]?.metrics[`clip_ratio/${side}`]).toBeGreaterThan(0)
})

test.each(['group', 'batch', 'none'] as const)('advantages scaled by %s', (scale) => {
  const found = groupAdvantages(golden.rewards, scale).flat()
  // TRL computes n / (n - 1) in float32.
  for (const [index, expected] of golden.advantages[scale].flat().entries())
    expect(found[index]).toBeCloseTo(expected, 7)
})
