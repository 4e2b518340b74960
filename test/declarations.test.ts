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
  expect(declared.map((name) => `${name}`.replaceAll('\\', '/')).sort()).toEqual([
    'ai/index.d.ts',
    'index.d.ts',
  ])
  expect(readFileSync('dist/esm/index.d.ts', 'utf8')).toBe("export * from '../cjs/index.js'\n")
  expect(readFileSync('dist/esm/ai/index.d.ts', 'utf8')).toBe("export * from '../../cjs/ai/index.js'\n")
})

test('ask for no types of Node.js', () => {
  const files = [...reachable('dist/esm/ai/index.d.ts', reachable('dist/esm/index.d.ts'))]
  expect(files.length).toBeGreaterThan(50)
  expect(files.filter((file) => /from ['"]node:|\bNodeJS\./.test(readFileSync(file, 'utf8')))).toEqual([])
})

test('name the AI SDK beside the entry for it alone, and no code imports it', () => {
  const files = readdirSync('dist', { recursive: true }).map((name) => join('dist', `${name}`))
  const sdk = files.filter(
    (file) =>
      /\.(js|cjs|d\.ts)$/.test(file) &&
      /(from|import\(|require\() ?['"](ai|@ai-sdk\/)/.test(readFileSync(file, 'utf8')),
  )
  expect(sdk).toEqual([join('dist', 'cjs', 'ai', 'sdk.d.ts')])
})
