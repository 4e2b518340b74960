/** Declaration files of the API: each once, and as TypeScript reads them in a program without Node's types. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
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

test('are there once, for ES modules and CommonJS', () => {
  const declared = readdirSync('dist/esm', { recursive: true }).filter((name) =>
    /\.d\.[cm]?ts$/.test(`${name}`),
  )
  expect(declared).toEqual(['index.d.ts'])
  expect(readFileSync('dist/esm/index.d.ts', 'utf8')).toBe("export * from '../cjs/index.js'\n")
})

test('ask for no types of Node.js', () => {
  const files = [...reachable('dist/esm/index.d.ts')]
  expect(files.length).toBeGreaterThan(50)
  expect(files.filter((file) => /from ['"]node:|\bNodeJS\./.test(readFileSync(file, 'utf8')))).toEqual([])
})
