import { expect, expectTypeOf, test } from 'vitest'
import type * as z from 'zod'
import { LOSSES, type LossOptions, lossOf, type NamedLoss, namedLoss } from '../../../lib/losses/index.js'
import type { LossRules } from '../../../lib/losses/loss.js'
import type { Denominators, ScoredRow } from '../../../lib/losses/rows.js'

const PER: Denominators = { tokens: 7, rows: 4, pairs: 2 }
/** Options of a loss besides its defaults. */
const VARIANTS: Record<string, object[]> = {
  dpo: [{ labelSmoothing: 0.2 }, { lossType: 'ipo', beta: 0.5 }],
  orpo: [{ nllOn: 'completions', beta: 0.7 }],
  kto: [{ kl: 0.3, desirableWeight: 2 }],
  importance_sampling: [
    { clip: null, beta: 0.4 },
    { normalize: 'sequence', clip: 0.5 },
  ],
}

const rows: ScoredRow[] = Array.from({ length: 4 }, (_, row) => {
  const drawn = (scale: number) => Float64Array.from({ length: 5 }, (_, t) => scale * wave(7 * row + t))
  return {
    tokens: Int32Array.of(1, 2, 3, 4, 5 + row),
    weights: Float64Array.of(0, 0, 1, 0.5, 1),
    logprobs: drawn(2).map((value) => value - 3),
    reference: drawn(1.5).map((value) => value - 3),
    sampled: drawn(1.8).map((value) => value - 3),
    advantages: wave(row),
    label: row % 2 === 0,
  }
})

function wave(index: number): number {
  return Math.sin(12.9898 * (index + 1))
}

const cases = LOSSES.flatMap(({ name }) =>
  [{}, ...(VARIANTS[name] ?? [])].map((options): [string, NamedLoss] => [
    `${name} ${JSON.stringify(options)}`,
    namedLoss({ name, ...options }, 'test'),
  ]),
)

test.each(cases)('the gradient of %s is the derivative of its value', (_, loss) => {
  const { gradient } = lossOf(loss, rows, PER, 0.1)
  for (const [index, row] of rows.entries())
    for (let t = 1; t < row.logprobs.length; t++) {
      const moved = (by: number) => {
        const logprobs = row.logprobs.map((value, at) => (at === t ? value + by : value))
        return lossOf(loss, rows.with(index, { ...row, logprobs }), PER, 0.1).loss
      }
      expect(gradient[index]?.[t]).toBeCloseTo((moved(1e-5) - moved(-1e-5)) / 2e-5, 7)
    }
})

test.each(LOSSES.map((rules) => [rules.name, rules] as const))('%s is what it states', (name, rules) => {
  const loss = namedLoss(name, 'test')
  const found = lossOf(loss, rows, PER)
  const likelier = rows.map((row) => ({ ...row, logprobs: row.logprobs.map((value) => value / 2) }))
  const moved = lossOf(loss, likelier, PER).gradient.flatMap((own, row) =>
    [...own].filter((value, t) => value !== found.gradient[row]?.[t]),
  )
  expect(moved.length > 0, 'the gradient depends on log-probabilities').toBe(rules.onePass !== true)
  const swapped = [1, 0, 3, 2].map((row) => rows[row] as ScoredRow)
  const differs = Math.abs(lossOf(loss, swapped, PER).loss - found.loss) > 1e-9
  expect(differs, 'rows are told apart by their places').toBe(rules.paired)
})

/** What the schemas of losses take. */
type Taken<Rules> =
  Rules extends LossRules<infer Name, infer Schema> ? { name: Name } & z.input<Schema> : never

test('the types of losses are those of their schemas', () => {
  // A schema without options takes a record of nothing.
  type WithOptions<Loss> = Exclude<Loss, { name: 'cross_entropy' }>
  type Loss = WithOptions<Taken<(typeof LOSSES)[number]>>
  expectTypeOf<WithOptions<LossOptions>>().toExtend<Loss>()
  expectTypeOf<Loss>().toExtend<LossOptions>()
})
