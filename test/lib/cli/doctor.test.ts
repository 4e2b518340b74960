import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import type { Printed } from '../../../lib/cli/schemas.js'
import { PLATFORMS } from '../../../lib/native/platforms.js'
import { targetName } from '../../../lib/native/prebuilt.js'
import { sweepTest } from '../../sweep.js'
import { jsonLines, lowrank, printed } from './lowrank.js'

test('doctor describes addon, processor and machine as JSON', async () => {
  const ended = await lowrank(['doctor', '--json'], { env: { LOWRANK_THREADS: '1' } })
  expect(ended).toMatchObject({ code: 0, stderr: '' })
  const [report, ...more] = printed<'doctor'>(ended) as [Printed<'doctor'>]
  expect(more).toEqual([])
  const { addon, cpu, cuda, mpi, nccl, node, memory, environment, platform } = report
  expect(platform.target).toBe(targetName())
  expect(platform.known).toBe(PLATFORMS[targetName()])
  expect(addon).toMatchObject({ path: expect.stringMatching(/\.node$/) })
  // It ran from a checkout, which was built here, though not on Windows.
  if (process.platform !== 'win32') expect(report.install.missing_for_build).toEqual([])
  expect(cpu.cores).toBeGreaterThan(0)
  expect(cpu.levels).toContain(cpu.isa)
  expect(cpu.threads).toBe(1)
  if (!cuda.available) expect(cuda.reason).not.toBe('')
  expect(mpi.reason).toMatch(mpi.available ? /Open MPI|MPICH/ : /install Open MPI/)
  expect(nccl.reason).toMatch(nccl.available ? /libnccl/ : /cluster\.md#gpus/)
  expect(node.version).toBe(process.versions.node)
  expect(memory.available_bytes).toBeLessThanOrEqual(memory.total_bytes)
  expect(environment.LOWRANK_THREADS).toBe('1')
})

sweepTest('doctor tells people the same in lines', async () => {
  const { code, stdout } = await lowrank(['doctor'])
  expect(code).toBe(0)
  expect(stdout).toContain('(docs/install.md#your-platform)')
  for (const label of [
    'platform',
    'known',
    'addon',
    'prebuilt',
    'build',
    'instructions',
    'threads',
    'cuda',
    'mpi',
    'nccl',
    'node',
    'memory',
  ])
    expect(stdout).toMatch(new RegExp(`^${label} +\\S`, 'm'))
})

sweepTest(
  'an addon that does not load is reported, with the rest of the machine, and exit code 1',
  async () => {
    const path = resolve('/nowhere/lowrank.node')
    const env = { LOWRANK_NATIVE_PATH: path }
    const { code, stdout } = await lowrank(['doctor', '--json'], { env })
    expect(code).toBe(1)
    const [report] = jsonLines(stdout) as [{ addon: { error: string }; node: object }]
    expect(report.addon.error).toContain(`${path}: no such file`)
    expect(report.node).toMatchObject({ version: process.versions.node })
  },
)

sweepTest(
  'a variable with a value that makes no sense is the fault of who set it, in every verb',
  async () => {
    for (const [name, value] of [
      ['LOWRANK_ISA', 'sse'],
      ['LOWRANK_THREADS', 'many'],
    ] as const) {
      const ended = await lowrank(['doctor'], { env: { [name]: value } })
      expect(ended.code).toBe(2)
      expect(ended.stderr).toMatch(new RegExp(`^error: ${name} is '${value}'.*; expected .*\\ncode CONFIG, `))
    }
  },
)

test('without a compiler in reach, doctor says what a build would lack', async () => {
  const empty = mkdtempSync(join(tmpdir(), 'lowrank-doctor-'))
  onTestFinished(() => rmSync(empty, { recursive: true }))
  const ended = await lowrank(['doctor', '--json'], { env: { PATH: empty, CXX: '' } })
  const [{ install }] = printed<'doctor'>(ended) as [Printed<'doctor'>]
  expect(install.missing_for_build).toEqual([
    'CMake 3.22 or newer (no "cmake" on PATH)',
    'make or ninja',
    expect.stringContaining('a C++20 compiler'),
  ])
})

test('the portable kernels are slow, which doctor says without a fault', async () => {
  const { code, stdout } = await lowrank(['doctor'], { env: { LOWRANK_ISA: 'reference' } })
  expect(code).toBe(0)
  expect(stdout).toContain(
    'the portable kernels are in use, many times slower than others: LOWRANK_ISA=reference',
  )
})

test.runIf(process.platform === 'linux')(
  'an MPI library that crashes is reported, and ends nothing',
  async () => {
    const folder = mkdtempSync(join(tmpdir(), 'lowrank-doctor-'))
    onTestFinished(() => rmSync(folder, { recursive: true }))
    const crashing = '__attribute__((constructor)) static void crash(void) { __builtin_trap(); }'
    const library = join(folder, 'libmpi.so.40')
    execFileSync('cc', ['-shared', '-fPIC', '-x', 'c', '-', '-o', library], { input: crashing })
    const ended = await lowrank(['doctor', '--json'], { env: { LD_LIBRARY_PATH: folder } })
    expect(ended).toMatchObject({ code: 0, stderr: '' })
    const [{ mpi }] = printed<'doctor'>(ended) as [Printed<'doctor'>]
    expect(mpi).toEqual({
      available: false,
      reason: expect.stringMatching(/ended early: signal SIG(ILL|TRAP); to train/),
    })
  },
)
