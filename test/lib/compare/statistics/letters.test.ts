import fc from 'fast-check'
import { expect, test } from 'vitest'
import { letters } from '../../../../lib/compare/statistics/index.js'

const share = (a: string, b: string) => [...a].some((letter) => b.includes(letter))

test('strategies share a letter if and only if they cannot be told apart', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 8 }),
      fc.array(fc.boolean(), { minLength: 64, maxLength: 64 }),
      (count, drawn) => {
        const differs = (a: number, b: number) => drawn[Math.min(a, b) * 8 + Math.max(a, b)] as boolean
        const found = letters(count, differs)
        for (let a = 0; a < count; a++)
          for (let b = 0; b < count; b++)
            expect(share(found[a] as string, found[b] as string)).toBe(a === b || !differs(a, b))
        // No letter is redundant: what another letter's strategies include.
        const sets = [...new Set(found.join(''))].map((letter) => found.map((own) => own.includes(letter)))
        for (const set of sets)
          for (const other of sets)
            expect(set !== other && set.every((member, i) => !member || other[i])).toBe(false)
      },
    ),
  )
})

test('neighbors in the middle have two letters', () => {
  expect(letters(4, (a, b) => Math.abs(a - b) > 1)).toEqual(['a', 'ab', 'bc', 'c'])
  expect(letters(3, () => false)).toEqual(['a', 'a', 'a'])
  expect(letters(3, () => true)).toEqual(['a', 'b', 'c'])
})
