import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'

it.each([
  ['the lists of both languages are those of native/lists.json', 'lists.mjs'],
  ['the lists of records name every one', 'records.mjs'],
  ['the types of options are those of their schemas', 'options.mjs'],
])('%s (node scripts/%s)', (_, name) => {
  const script = fileURLToPath(new URL(`../scripts/${name}`, import.meta.url))
  expect(() =>
    execFileSync(process.execPath, [script, '--check'], { encoding: 'utf8', stdio: 'pipe' }),
  ).not.toThrow()
})
