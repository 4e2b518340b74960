import { spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { scratchFolder } from './lib/scratch.js'

function floors(...args: string[]) {
  return spawnSync(process.execPath, ['scripts/floors.mjs', ...args], { encoding: 'utf8' })
}

/** The faults of a tree of these files. */
function faultsOf(files: Record<string, string>): string[] {
  const root = scratchFolder()
  for (const folder of ['lib', 'native']) mkdirSync(join(root, folder))
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, name)), { recursive: true })
    writeFileSync(join(root, name), text)
  }
  const run = floors('--root', root)
  const faults = run.stderr.trim().split('\n').filter(Boolean)
  expect(run.status).toBe(faults.length === 0 ? 0 : 1)
  return faults
}

describe('scripts/floors.mjs', () => {
  it('finds every import of this repository in its table', () => {
    const run = floors()
    expect(run.stderr).toBe('')
    expect(run.status).toBe(0)
    expect(run.stdout).toMatch(/^lib\/\n[\s\S]*^native\/\n/m)
  })

  it.each([
    ["import { main } from '../cli/main.js'"],
    ["import type { Main } from '../cli/main.js'"],
    ["export * from '../cli/main.js'"],
    ["export const main = () => import('../cli/main.js')"],
    ["export type Main = import('../cli/main.js').Main"],
  ])('refuses %s in a folder below', (line) => {
    expect(faultsOf({ 'lib/graph/graph.ts': line, 'lib/cli/main.ts': '' })).toEqual([
      'lib/graph/graph.ts imports lib/cli/main.ts: graph may not import cli',
    ])
  })

  it('refuses an #include of a folder above', () => {
    expect(
      faultsOf({ 'native/graph/graph.h': '#include "runtime/session.h"', 'native/runtime/session.h': '' }),
    ).toEqual(['native/graph/graph.h imports native/runtime/session.h: graph may not import runtime'])
  })

  it('passes what the table lets a folder import, and neighbors', () => {
    const files = {
      'lib/cli/main.ts': "import './help.js'\nimport '../graph/graph.js'",
      'lib/cli/help.ts': '',
      'lib/graph/graph.ts': '',
      'native/plan/plan.h': '#include "step.h"\n#include "core/error.h"\n#include <vector>',
      'native/plan/step.h': '',
      'native/core/error.h': '',
    }
    expect(faultsOf(files)).toEqual([])
  })

  it('refuses headers that include each other', () => {
    expect(
      faultsOf({ 'native/core/a.h': '#include "core/b.h"', 'native/core/b.h': '#include "core/a.h"' }),
    ).toEqual(['native/: files import each other: core/a.h, core/b.h'])
  })
})
