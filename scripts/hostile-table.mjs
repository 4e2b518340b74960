/** The table of docs/serve.md: hostile requests and what each got in test/lib/serve/hostile.test.ts. */
import { readFileSync } from 'node:fs'
import { table, withMarked } from './markdown.mjs'

const seen = new URL('../test/lib/serve/hostile.json', import.meta.url)

export function withHostileTable(page) {
  const rows = JSON.parse(readFileSync(seen, 'utf8')).map(({ request, status, code }) => [
    ...[request, status],
    code === null ? '' : `\`${code}\``,
  ])
  return withMarked(page, 'docs/serve.md', { hostile: table(['a request …', 'status', '`code`'], rows) })
}
