import { expect, test } from 'vitest'
import type { Printed } from '../../../lib/cli/schemas.js'
import { jsonLines, lowrank, printed } from './lowrank.js'

test('doctor describes addon, processor and machine as JSON', async () => {
  const ended = await lowrank(['doctor', '--json'], { env: { LOWRANK_THREADS: '1' } })
  expect(ended).toMatchObject({ code: 0, stderr: '' })
  const [report, ...more] = printed<'doctor'>(ended) as [Printed<'doctor'>]
  expect(more).toEqual([])
  const { addon, cpu, cuda, mpi, node, memory, environment } = report
  expect(addon).toMatchObject({ path: expect.stringMatching(/\.node$/) })
  expect(cpu.cores).toBeGreaterThan(0)
  expect(cpu.levels).toContain(cpu.isa)
  expect(cpu.threads).toBe(1)
  expect(cuda).toEqual({ available: false, reason: 'this build has no CUDA backend' })
  expect(mpi.available).toBe(false)
  expect(node.version).toBe(process.versions.node)
  expect(memory.available_bytes).toBeLessThanOrEqual(memory.total_bytes)
  expect(environment.LOWRANK_THREADS).toBe('1')
})

test('doctor tells people the same in lines', async () => {
  const { code, stdout } = await lowrank(['doctor'])
  expect(code).toBe(0)
  for (const label of ['addon', 'instructions', 'threads', 'cuda', 'mpi', 'node', 'memory'])
    expect(stdout).toMatch(new RegExp(`^${label} +\\S`, 'm'))
})

test('an addon that does not load is reported, with the rest of the machine, and exit code 1', async () => {
  const env = { LOWRANK_NATIVE_PATH: '/nowhere/lowrank.node' }
  const { code, stdout } = await lowrank(['doctor', '--json'], { env })
  expect(code).toBe(1)
  const [report] = jsonLines(stdout) as [{ addon: { error: string }; node: object }]
  expect(report.addon.error).toContain('/nowhere/lowrank.node: no such file')
  expect(report.node).toMatchObject({ version: process.versions.node })
})
