/**
 * Long sweeps: `npm run test:sweeps` runs them whole, `npm test` a few of their cases. vitest.config.ts finds the files
 * that import this one.
 */

import { test } from 'vitest'

/** True if every case is run. */
export const WHOLE = process.env.LOWRANK_SWEEPS === 'whole'

/** All cases of a sweep where it runs whole, else so many of them, spread evenly. */
export function swept<Case>(cases: readonly Case[], few: number): Case[] {
  if (WHOLE || few >= cases.length) return [...cases]
  return Array.from({ length: few }, (_, i) => cases[Math.floor((i * cases.length) / few)] as Case)
}

/** A test that only sweeps run; `npm test` does not know it, so that it is none that was skipped. */
export const sweepTest = (WHOLE ? test : () => {}) as typeof test
