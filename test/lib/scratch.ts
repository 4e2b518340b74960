/** A folder of its own for every test that asks, removed when the test file is done. */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll } from 'vitest'

const folders: string[] = []

afterAll(() => {
  for (const folder of folders.splice(0)) remove(folder)
})

/** Windows keeps files that are open, or mapped by a model that was not disposed of. */
function remove(folder: string): void {
  try {
    rmSync(folder, { recursive: true, force: true, maxRetries: 3 })
  } catch (error) {
    if (process.platform !== 'win32') throw error
  }
}

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
