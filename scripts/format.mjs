/** The text of a TypeScript file as biome writes it. */
import { execFileSync } from 'node:child_process'
import { join, resolve } from 'node:path'

const root = resolve(import.meta.dirname, '..')

export function formatted(text) {
  const biome = join(root, 'node_modules/@biomejs/biome/bin/biome')
  return execFileSync(process.execPath, [biome, 'format', '--stdin-file-path=list.ts'], {
    ...{ input: text, encoding: 'utf8', cwd: root },
  })
}
