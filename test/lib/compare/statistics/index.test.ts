import { expect, test } from 'vitest'
import { metricStatistics } from '../../../../lib/compare/statistics/index.js'
import { simulatedScores } from '../../../../lib/compare/statistics/simulate.js'

const names = ['lora', 'dora', 'vera']
const bootstrap = { draws: 200 }

test('the best comes first, and what differs is better or worse', () => {
  const scores = simulatedScores({ seeds: 5, items: 30, means: [2, 2.1, 9], itemSpread: 0.5, noise: 1 }, 3, 0)
  const lower = metricStatistics({ names, scores, control: 0, higherIsBetter: false, bootstrap })
  expect(lower.means.at(-1)).toMatchObject({ name: 'vera', diverged: 0 })
  expect(lower.against.map(({ name, verdict }) => [name, verdict])).toEqual([
    ['dora', 'cannot be told'],
    ['vera', 'worse'],
  ])
  expect(lower.against[1]?.difference).toBeCloseTo(7, 0)
  expect(lower.against[1]?.p_holm).toBeLessThan(0.05)
  expect(lower.pairs).toMatchObject([{ name: 'dora', other: 'vera', verdict: 'better', p_equal: null }])
  for (const { mean, interval } of lower.means) {
    expect(interval[0]).toBeLessThan(mean)
    expect(interval[1]).toBeGreaterThan(mean)
  }
  const higher = metricStatistics({ names, scores, control: 0, higherIsBetter: true, bootstrap })
  expect(higher.against[0]).toMatchObject({ name: 'vera', verdict: 'better' })
})

test('what surely differs by less than the margin is equal', () => {
  const scores = simulatedScores({ seeds: 10, items: 20, means: [0, 0, 30], itemSpread: 0, noise: 0.1 }, 3, 0)
  const judge = (margin: number) =>
    metricStatistics({ names, scores, control: 0, higherIsBetter: false, margin, bootstrap }).against
  expect(judge(4).map(({ verdict }) => verdict)).toEqual(['equal', 'worse'])
  expect(judge(0.1)[0]?.verdict).toBe('cannot be told')
  expect(judge(40).map(({ verdict }) => verdict)).toEqual(['equal', 'equal'])
})

test('p-values are adjusted for the number of strategies', () => {
  const scores = simulatedScores({ seeds: 4, items: 10, means: [0, 1, 1.5], itemSpread: 0, noise: 1 }, 9, 0)
  const { against } = metricStatistics({ names, scores, control: 0, higherIsBetter: true, bootstrap })
  const p = against.map((row) => row.p as number).sort((a, b) => a - b) as [number, number]
  const adjusted = against.map((row) => row.p_holm as number).sort((a, b) => a - b)
  expect(adjusted[0]).toBe(2 * p[0])
  expect(adjusted[1]).toBe(Math.max(2 * p[0], p[1]))
})

test('with one seed nothing is claimed', () => {
  const scores = [[[1, 2]], [[5, 6]], [[9, 9]]]
  const { against, pairs, means } = metricStatistics({
    ...{ names, scores, control: 0, higherIsBetter: true, margin: 100, bootstrap },
  })
  expect(against[0]).toEqual({
    ...{ name: 'vera', difference: 7.5, verdict: 'cannot be told', p_equal: null },
    ...{ interval: null, df: null, p: null, p_holm: null, detectable: null },
  })
  expect(pairs[0]?.verdict).toBe('cannot be told')
  expect(means.map(({ spread }) => spread)).toEqual([null, null, null])
})

test('a run that diverged counts as the worst on each item, and is reported', () => {
  const scores = [
    [
      [1, 2],
      [1, 3],
    ],
    [
      [1, 4],
      [Number.NaN, Number.POSITIVE_INFINITY],
    ],
    [
      [2, 2],
      [2, 2],
    ],
  ]
  const { means } = metricStatistics({ names, scores, control: 0, higherIsBetter: false, bootstrap })
  expect(means.find(({ name }) => name === 'dora')).toMatchObject({ mean: (1 + 4 + 2 + 4) / 4, diverged: 1 })
  const nothing = [[[Number.NaN]], [[Number.NaN]], [[Number.NaN]]]
  expect(() => metricStatistics({ names, scores: nothing, control: 0, higherIsBetter: false })).toThrow(
    'finite score',
  )
})

test('a control that varies more than others is named', () => {
  const simulated = (spreads: number[]) =>
    simulatedScores({ seeds: 8, items: 5, means: [0, 0, 0, 0], spreads, itemSpread: 0, noise: 0.1 }, 2, 0)
  const unstable = (scores: Float64Array[][]) =>
    metricStatistics({ names: [...names, 'full'], scores, control: 0, higherIsBetter: true, bootstrap })
      .unstable_control
  expect(unstable(simulated([5, 1, 1, 1]))).toBeGreaterThan(4)
  expect(unstable(simulated([1, 1, 1, 1]))).toBeNull()
  expect(unstable(simulated([1, 5, 1, 1]))).toBeNull()
})

test('a strategy that varies far more than others leaves the pool, and makes others no less certain', () => {
  const spreads = [1, 1, 40, 1, 1]
  const means = [0, 9, 400, 0, 0]
  const scores = simulatedScores({ seeds: 4, items: 5, means, spreads, itemSpread: 0.1, noise: 0.1 }, 5, 0)
  const all = ['lora', 'dora', 'wild', 'oft', 'full']
  const found = metricStatistics({ names: all, scores, control: 0, higherIsBetter: false, bootstrap })
  expect(found.left_pool).toEqual(['wild'])
  const [dora, wild] = ['dora', 'wild'].map((name) => found.against.find((one) => one.name === name))
  expect(wild?.df).toBeLessThan(3.1)
  expect(dora?.df).toBeGreaterThan(5)
  const calm = metricStatistics({
    ...{ names: all.filter((name) => name !== 'wild'), control: 0, higherIsBetter: false, bootstrap },
    scores: scores.filter((_, s) => s !== 2),
  })
  expect(dora?.interval).toEqual(calm.against.find(({ name }) => name === 'dora')?.interval)
})
