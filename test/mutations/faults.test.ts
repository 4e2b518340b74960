import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { expect, it } from 'vitest'

it('every fault finds its text once in its file, and names tests that are there', () => {
  // Ends with an error that names the fault otherwise.
  const listed = execFileSync(process.execPath, ['scripts/mutations.mjs', '--list'], { encoding: 'utf8' })
  const faults = listed.trim().split('\n')
  expect(faults.length).toBeGreaterThan(100)
  const rows = readFileSync('test/mutations/README.md', 'utf8').match(/^\| \d+ \|/gm)
  expect(rows, 'node scripts/mutations.mjs --table').toHaveLength(faults.length)
})
