import { execFileSync } from 'node:child_process'
import { expect, it } from 'vitest'

it('every fault finds its text once in its file, and names tests that are there', () => {
  // Ends with an error that names the fault otherwise.
  const listed = execFileSync(process.execPath, ['scripts/mutations.mjs', '--list'], { encoding: 'utf8' })
  expect(listed.trim().split('\n').length).toBeGreaterThan(100)
})
