/** KTO against TRL's, through PEFT, in float64. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { parity } from './engine.js'
import { goldenLosses } from './preference-model.js'

interface Golden {
  rows: { own: number[]; mismatched: number[]; prompt: number; label: boolean }[]
  reference: { own: number[]; mismatched: number[] }
  cases: Record<
    string,
    {
      options: { beta: number; desirable_weight?: number; undesirable_weight?: number; shift?: number }
      loss: number
      metrics: Record<string, number>
    }
  >
}

const golden: Golden = JSON.parse(readFileSync(join(parity, 'preference', 'kto.json'), 'utf8'))
const check = goldenLosses('preference/kto_gradients.safetensors')

test.each(Object.keys(golden.cases))('%s: loss, metrics and gradients', async (name) => {
  const { options, loss, metrics } = golden.cases[name] as Golden['cases'][string]
  const { beta, shift = 0, desirable_weight = 1, undesirable_weight = 1 } = options
  const { reference } = golden
  const batch = golden.rows.map(({ own, mismatched, prompt, label }, i) => {
    const row = (tokens: number[], sum: number) => ({
      tokens,
      weights: tokens.map((_, t) => (t < prompt ? 0 : 1)),
      reference: sum,
    })
    const kl = row(mismatched, (reference.mismatched[i] as number) - shift)
    return { ...row(own, reference.own[i] as number), label, kl }
  })
  const weights = { desirableWeight: desirable_weight, undesirableWeight: undesirable_weight }
  await check(name, { loss, metrics }, (adapter, microBatchTokens) =>
    adapter.forwardBackward(
      batch,
      { name: 'kto', beta, ...weights },
      { normalizer: batch.length, microBatchTokens },
    ),
  )
})

test('the divergence counts where it is positive', () => {
  expect(golden.cases.kto_far?.metrics.kl).toBeGreaterThan(0.5)
  expect(golden.cases.kto_weighted?.metrics.kl).toBeGreaterThan(0.1)
})
