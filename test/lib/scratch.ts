/** A folder of its own for every test that asks, removed when the test file is done. */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll } from 'vitest'

const folders: string[] = []

afterAll(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true })
})

export function scratchFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'lowrank-test-'))
  folders.push(folder)
  return folder
}

/** Writes a file into a new folder and returns its path. */
export function scratchFile(name: string, contents: string | Uint8Array): string {
  const path = join(scratchFolder(), name)
  writeFileSync(path, contents)
  return path
}
