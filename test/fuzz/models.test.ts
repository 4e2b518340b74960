/** Short runs of `npm run fuzz:models`: damaged models and data open or are refused, in time and memory. */
import { execFileSync } from 'node:child_process'
import { expect, it } from 'vitest'
import { mutateJson, randomFrom } from './mutate.mjs'

it.each(['models', 'data'])('opens damaged %s or says what is wrong with them', (of) => {
  const words = ['--of', of, '--count', of === 'data' ? '600' : '200', '--seed', '7']
  const told = execFileSync(process.execPath, ['scripts/fuzz-models.mjs', ...words], { encoding: 'utf8' })
  expect(told).toMatch(/^\d00 damaged files, seed 7/)
  expect(told).toContain('no failure')
})

it('damages the same files for the same seed, and others for another', () => {
  const text = JSON.stringify({ a: [1, 2, { b: 'text' }], c: null, d: { e: true } })
  const damaged = (seed: number) => {
    const random = randomFrom(seed)
    return Array.from({ length: 100 }, () => mutateJson(text, random).toString('latin1'))
  }
  expect(damaged(1)).toEqual(damaged(1))
  expect(damaged(2)).not.toEqual(damaged(1))
  expect(new Set(damaged(1)).size).toBeGreaterThan(80)
})
