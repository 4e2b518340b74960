import { expect, test } from 'vitest'
import { matchPatterns } from '../../../lib/strategies/patterns.js'

test('a pattern that would backtrack for ages is stopped', () => {
  const path = 'a'.repeat(64)
  expect(() => matchPatterns(['(a+)+b'], [path], 'full')).toThrow('took longer than 500 ms')
})

test('a pattern in a dialect that JavaScript lacks is refused by name', () => {
  expect(() => matchPatterns(['(?P<kind>q)_proj'], ['q_proj'], 'full')).toThrow(
    '"(?P<kind>q)_proj" is not a valid regular',
  )
})

test('alternatives stay inside the anchors', () => {
  expect(matchPatterns(['q|v'], ['q', 'xq', 'vx'], 'full')).toEqual([new Set(['q'])])
  expect(matchPatterns(['q|v'], ['m.q', 'xq', 'm.vx', 'v'], 'suffix')).toEqual([new Set(['m.q', 'v'])])
})
