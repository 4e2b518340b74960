/** Likenesses of texts against those of Python packages (test/parity/make_graders.py). */
import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { SIMILARITIES } from '../../../../lib/serve/graders/similarity.js'

type Metric = keyof typeof SIMILARITIES

const { cases } = JSON.parse(readFileSync('test/parity/numbers/graders.json', 'utf8')) as {
  cases: { input: string; reference: string; scores: Record<Metric, number> }[]
}

test.each(Object.keys(SIMILARITIES) as Metric[])('%s is that of the Python package', (metric) => {
  for (const { input, reference, scores } of cases) {
    const found = SIMILARITIES[metric](input, reference)
    expect(Math.abs(found - scores[metric]), `${JSON.stringify([input, reference])} ${found}`).toBeLessThan(
      1e-12,
    )
  }
})

test('long texts take no long time', () => {
  const long = Array.from({ length: 1 << 15 }, (_, i) => String.fromCodePoint(0x4e00 + (i % 20_000))).join('')
  const begun = performance.now()
  expect(SIMILARITIES.fuzzy_match(long, long.slice(1))).toBeCloseTo(1, 4)
  expect(performance.now() - begun).toBeLessThan(5000)
})
