import { expect, test } from 'vitest'
import { metricsOf, scoresOf } from '../../../lib/compare/metrics.js'
import { wordF1 } from '../../../lib/train/measures/answer-scores.js'

const question = { prompt: Int32Array.of(1, 2), answer: Int32Array.of(3) }
const results = {
  questions: [question, question],
  matched: [true, false],
  accuracies: [1, 0.5],
  rows: [
    { prompt: 'one', expected: 'a b', prediction: 'a b' },
    { prompt: 'two', expected: 'b c', prediction: 'b' },
  ],
}

test('metrics are a number for each row', () => {
  const metrics = metricsOf([
    'exact_match',
    'mean_token_accuracy',
    'f1',
    { name: 'length', score: ({ prediction }) => prediction.length },
  ])
  expect(scoresOf(metrics, results)).toEqual({
    exact_match: [1, 0],
    mean_token_accuracy: [1, 0.5],
    f1: [1, 2 / 3],
    length: [3, 1],
  })
  expect(metrics[0]).toEqual({ name: 'loss', higherIsBetter: false })
})

test('F1 of a row without a prompt is its exact match', () => {
  const rows = results.rows.map(({ prompt }) => ({ prompt, expected: '', prediction: '' }))
  const documents = { ...results, rows, questions: [null, null] }
  expect(scoresOf(metricsOf(['f1']), documents)).toEqual({ f1: [1, 0] })
})

test('F1 counts a word as often as both have it, without case and punctuation', () => {
  expect(wordF1({ prediction: 'The, the cat!', expected: 'the Cat sat' })).toBeCloseTo(2 / 3)
  expect(wordF1({ prediction: '', expected: 'x' })).toBe(0)
  expect(wordF1({ prediction: '', expected: '' })).toBe(1)
})

test('a metric that is unknown, there twice, or no number is an error', () => {
  expect(() => metricsOf(['exact_mach'])).toThrow('did you mean exact_match?')
  expect(() => metricsOf([{ name: 'f1', score: () => 1 }])).toThrow('there twice')
  const metrics = metricsOf([{ name: 'own', score: () => Number.NaN }])
  expect(() => scoresOf(metrics, results)).toThrow('metric own returned NaN for a row')
})
