import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'

it('the lists of both languages are those of native/lists.json (node scripts/lists.mjs)', () => {
  const script = fileURLToPath(new URL('../scripts/lists.mjs', import.meta.url))
  expect(() =>
    execFileSync(process.execPath, [script, '--check'], { encoding: 'utf8', stdio: 'pipe' }),
  ).not.toThrow()
})
