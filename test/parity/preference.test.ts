/** Losses over pairs against TRL's, through PEFT, in float64. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'vitest'
import type { LossOptions } from '../../lib/losses/index.js'
import { parity } from './engine.js'
import { goldenLosses } from './preference-model.js'

interface Golden {
  rows: { chosen: number[]; rejected: number[] }[]
  prompts: number[]
  reference: [chosen: number[], rejected: number[]]
  cases: Record<string, { loss: number; metrics: Record<string, number> }>
}

const golden: Golden = JSON.parse(readFileSync(join(parity, 'preference', 'losses.json'), 'utf8'))
const check = goldenLosses('preference/gradients.safetensors')

const LOSSES: Record<string, LossOptions> = {
  dpo: { name: 'dpo', beta: 0.3 },
  ipo: { name: 'dpo', beta: 0.3, lossType: 'ipo' },
  dpo_strong: { name: 'dpo', beta: 1.5 },
  orpo: { name: 'orpo', beta: 0.4 },
  orpo_completions: { name: 'orpo', beta: 0.4, nllOn: 'completions' },
}

test.each(Object.keys(LOSSES))('%s: loss, metrics and gradients', async (name) => {
  const batch = golden.rows.map((row, pair) => {
    const side = (tokens: number[], which: 0 | 1) => ({
      tokens,
      weights: tokens.map((_, t) => (t < (golden.prompts[pair] as number) ? 0 : 1)),
      reference: golden.reference[which][pair] as number,
    })
    return { chosen: side(row.chosen, 0), rejected: side(row.rejected, 1) }
  })
  const loss = LOSSES[name] as LossOptions
  // Tokens of the chosen rows but the first of each, or of the chosen answers.
  const counts = { pairs: 3, tokens: name === 'orpo' ? 37 : 26 }
  const normalizer = loss.name === 'orpo' ? counts : counts.pairs
  await check(name, golden.cases[name] as Golden['cases'][string], (adapter, microBatchTokens) =>
    adapter.forwardBackward(batch, loss, { normalizer, microBatchTokens }),
  )
})
