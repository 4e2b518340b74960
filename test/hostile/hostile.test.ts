/** `npm run hostile`: every file that means harm is refused, in time and memory. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'

it('refuses files that mean harm, each in time and memory', async () => {
  const run = promisify(execFile)(process.execPath, ['scripts/hostile.mjs'])
  const { stdout } = await run.catch((error: { stdout: string }) => error)
  const wrong = stdout.split('\n').filter((line) => line.endsWith('<- wrong'))
  expect(wrong, stdout).toEqual([])
  expect(stdout).toMatch(/\nall \d{2} refused\n$/)
}, 600_000)
