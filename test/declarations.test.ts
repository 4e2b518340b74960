/** Declaration files of the API, as TypeScript reads them in a program without Node's types. */
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'

/** The declaration files that one imports, and so on. */
function reachable(file: string, seen = new Set<string>()): Set<string> {
  if (seen.has(file) || !existsSync(file)) return seen
  seen.add(file)
  for (const [, path = ''] of readFileSync(file, 'utf8').matchAll(/(?:from|import\()\s*['"](\.[^'"]+)['"]/g))
    reachable(join(dirname(file), path.replace(/\.js$/, '.d.ts')), seen)
  return seen
}

test('ask for no types of Node.js', () => {
  const files = [...reachable('dist/esm/index.d.ts')]
  expect(files.length).toBeGreaterThan(50)
  expect(files.filter((file) => /from ['"]node:|\bNodeJS\./.test(readFileSync(file, 'utf8')))).toEqual([])
})
