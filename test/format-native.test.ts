/** scripts/format-native.mjs, which takes clang-format from PyPI. */
import { spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { scratchFolder } from './lib/scratch.js'

const formatted = (...args: string[]) =>
  spawnSync(process.execPath, ['scripts/format-native.mjs', ...args], { encoding: 'utf8' })

test('a check names what is not formatted and leaves it as it is', ({ skip }) => {
  const file = join(scratchFolder(), 'main.cpp')
  const text = 'int  main( ) { return 0; }\n'
  writeFileSync(file, text)
  const checked = formatted('--check', file)
  if (checked.status === 3) skip(checked.stderr)
  expect(checked.stderr).toContain(`${file}: `)
  expect(checked.stderr).toContain('not formatted: 1 of 1')
  expect(checked.status).toBe(1)
  expect(readFileSync(file, 'utf8')).toBe(text)
  expect(formatted(file).status).toBe(0)
  expect(readFileSync(file, 'utf8')).toBe('int main() { return 0; }\n')
  expect(formatted('--check', file).status).toBe(0)
})
