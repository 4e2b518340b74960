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

  it('refuses imports and includes of a folder above, and circles of files', () => {
    const upward = [
      "import { main } from '../cli/main.js'",
      "import type { Main } from '../cli/main.js'",
      "export * from '../cli/main.js'",
      "export const main = () => import('../cli/main.js')",
      "export type Main = import('../cli/main.js').Main",
    ]
    const files = {
      ...Object.fromEntries(upward.map((line, i) => [`lib/graph/${i}.ts`, line])),
      'lib/cli/main.ts': '',
      'lib/io/a.ts': "import { b } from './b.js'",
      'lib/io/b.ts': "import type { A } from './a.js'",
      'native/graph/graph.h': '#include "runtime/session.h"',
      'native/runtime/session.h': '',
      'native/core/a.h': '#include "core/b.h"',
      'native/core/b.h': '#include "a.h"',
    }
    expect(faultsOf(files)).toEqual([
      ...upward.map((_, i) => `lib/graph/${i}.ts imports lib/cli/main.ts: graph may not import cli`),
      'lib/: files import each other: io/a.ts, io/b.ts',
      'native/graph/graph.h imports native/runtime/session.h: graph may not import runtime',
      'native/: files import each other: core/a.h, core/b.h',
    ])
  })

  it('refuses the CPU to all but the files that make its device', () => {
    const files = {
      'native/backends/cpu/device.h': '',
      'native/runtime/engine.cpp': '#include "backends/cpu/device.h"',
      'native/runtime/batch.cpp': '#include "backends/cpu/device.h"',
    }
    expect(faultsOf(files)).toEqual([
      'native/runtime/batch.cpp imports native/backends/cpu/device.h: of runtime only some files may import backends',
    ])
  })

  it('refuses files that are private to a folder, and rooms of training that are above', () => {
    const files = {
      'lib/train/run/run.ts': "import '../steps/step.js'",
      'lib/train/run/run-loop.ts': "import '../records/metrics-file.js'",
      'lib/train/records/metrics-file.ts': '',
      'lib/train/steps/step.ts': "import type { TrainingRun } from '../run/run.js'",
      'lib/cli/train.ts': "import '../train/run/run.js'\nimport '../train/run/run-loop.js'",
      'lib/index.ts': "export type { RunLoop } from './train/run/run-loop.js'",
      'lib/planning/cards.ts': "import '../models/qwen3.js'",
      'lib/models/qwen3.ts': '',
    }
    expect(faultsOf(files)).toEqual([
      'lib/planning/cards.ts imports lib/models/qwen3.ts, which is private to lib/models',
      'lib/cli/train.ts imports lib/train/run/run-loop.ts, which is private to lib/train/run',
      'lib/: files import each other: train/run/run.ts, train/steps/step.ts',
      'lib/train/steps/step.ts imports lib/train/run/run.ts: steps may not import run',
      'lib/train/: folders import each other: run, steps',
      'lib/train/: files import each other: run/run.ts, steps/step.ts',
    ])
  })

  it('passes what the table lets a folder import, neighbors, and benchmarks on demand', () => {
    const files = {
      'lib/cli/main.ts': "import './help.js'\nimport '../core/errors.js'",
      'lib/cli/help.ts': `import type { Speed } from '../bench/speed.js'
        export const load = () => import('../bench/speed.js')`,
      'lib/core/errors.ts': '',
      'lib/bench/speed.ts': '',
      'native/plan/plan.h': '#include "step.h"\n#include "core/error.h"\n#include <vector>',
      'native/plan/step.h': '',
      'native/core/error.h': '',
    }
    expect(faultsOf(files)).toEqual([])
  })

  it('refuses to load benchmarks before they are asked for', () => {
    const files = {
      'lib/cli/program.ts': "import './bench.js'",
      'lib/cli/bench.ts': "import { speed } from '../bench/speed.js'",
      'lib/bench/speed.ts': '',
    }
    expect(faultsOf(files)).toEqual([
      'lib/: bench is loaded at once, not on demand: cli/program.ts -> cli/bench.ts -> bench/speed.ts',
    ])
  })
})
