import { expect, it } from 'vitest'
import { LabelCounts, labelKey, mergeTwins, nearTwins } from '../../../lib/data/labels.js'

function counted(labels: readonly string[]): LabelCounts {
  const counts = new LabelCounts()
  for (const label of labels) counts.add(label)
  return counts
}

it('counts the rows of each class, the most frequent one first', () => {
  const { classes } = counted(['b', 'a', 'b', 'c', 'a', 'b'])
  expect(classes).toEqual([
    { label: 'b', rows: 3 },
    { label: 'a', rows: 2 },
    { label: 'c', rows: 1 },
  ])
})

it('finds labels that differ only by white space, case, or Unicode form', () => {
  const { classes } = counted([
    'sports',
    'Sports ',
    'sports',
    'caf\u00e9',
    'cafe\u0301',
    'new  york',
    'New York',
    'arts',
  ])
  const found = nearTwins(classes).map((group) => group.map(({ label }) => label))
  expect(found).toHaveLength(3)
  expect(found).toContainEqual(['sports', 'Sports '])
  expect(found.flat()).not.toContain('arts')
  expect(labelKey('\u00a0New\tYork ')).toBe('new york')
})

it('merges near twins under their most frequent spelling', () => {
  const { classes } = counted(['SPORTS', 'sports ', 'sports ', 'arts'])
  expect(mergeTwins(classes)).toEqual([
    { label: 'sports', rows: 3 },
    { label: 'arts', rows: 1 },
  ])
})

it('tells labels from answers of free text', () => {
  expect(counted(['yes', 'no', 'yes', 'no']).areLabels).toBe(true)
  expect(counted(['one', 'two', 'three']).areLabels).toBe(false)
  expect(counted(['yes', 'yes']).areLabels).toBe(false)
  expect(counted(['a\nb', 'a\nb', 'c', 'c']).areLabels).toBe(false)
  const long = 'x'.repeat(200)
  expect(counted([long, 'b', long, 'b']).areLabels).toBe(false)
  expect(counted([long, 'b']).classes).toEqual([])
})
