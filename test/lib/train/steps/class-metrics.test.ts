import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { Confusion, classScores, largestOf } from '../../../../lib/train/steps/class-metrics.js'

interface Case {
  classes: number
  actual: number[]
  predicted: number[]
  accuracy: number
  macroF1: number
  microF1: number
  matthewsCorrelation: number
  confusionMatrix: number[][]
  precision: number[]
  recall: number[]
  f1: number[]
  support: number[]
}

const path = new URL('../../../parity/classification/metrics.json', import.meta.url)
const cases: Case[] = JSON.parse(readFileSync(path, 'utf8'))

test.each(cases)('metrics of $classes classes are those of scikit-learn', (c) => {
  const confusion = new Confusion(c.classes)
  for (const [row, actual] of c.actual.entries()) confusion.add(actual, c.predicted[row] as number)
  const { confusionMatrix, ...metrics } = confusion.metrics()
  for (const [name, value] of Object.entries(metrics))
    expect(value, name).toBeCloseTo(c[name as keyof Case] as number, 12)
  expect(confusionMatrix).toEqual(c.confusionMatrix)
  const scores = classScores(confusionMatrix)
  expect(scores).toHaveLength(c.classes)
  for (const name of ['precision', 'recall', 'f1', 'support'] as const)
    for (const [id, one] of scores.entries())
      expect(one[name], `${name} of ${id}`).toBeCloseTo(c[name][id] as number, 12)
})

test('without rows all metrics are 0', () => {
  expect(new Confusion(2).metrics()).toEqual({
    ...{ accuracy: 0, macroF1: 0, microF1: 0, matthewsCorrelation: 0 },
    confusionMatrix: [
      [0, 0],
      [0, 0],
    ],
  })
})

test('of equal scores the first counts', () => {
  expect(largestOf(Float32Array.of(9, 1, 3, 3, 0), 1, 2)).toBe(0)
  expect(largestOf(Float32Array.of(0, 1, 3, 3, 0, 7), 1, 3)).toBe(2)
})
