/** The whole of `lowrank demo`, as a user runs it: what it promises has to come true. */
import { expect, it } from 'vitest'
import { jsonLines, lowrank } from '../lib/cli/lowrank.js'
import { scratchFolder } from '../lib/scratch.js'

it('teaches the base a task that it cannot do', async () => {
  const begin = performance.now()
  const { code, stdout, stderr } = await lowrank(['demo', '--json'], { cwd: scratchFolder() })
  console.log(stderr)
  console.log(`demo: ${((performance.now() - begin) / 1000).toFixed(1)} s`)
  expect(code).toBe(0)
  const demo = jsonLines(stdout).at(-2) as {
    event: string
    before: { exact_match: number }
    after: { exact_match: number }
  }
  expect(demo.event).toBe('demo')
  expect(demo.before.exact_match).toBeLessThan(0.05)
  expect(demo.after.exact_match).toBeGreaterThanOrEqual(0.8)
})
