import { expect, test } from 'vitest'
import * as z from 'zod'
import { jsonLines, lowrank } from './lowrank.js'

const part = z.object({ available: z.boolean(), reason: z.string().min(1) })
const reportSchema = z.object({
  addon: z.object({ from: z.enum(['env', 'build', 'prebuild']), path: z.string(), version: z.string() }),
  cpu: z.object({
    model: z.string(),
    isa: z.string(),
    levels: z.array(z.string()).min(1),
    threads: z.int().positive(),
    cores: z.int().positive(),
    bf16: z.boolean(),
  }),
  cuda: part,
  mpi: part,
  node: z.object({ version: z.string() }),
  memory: z.object({ total_bytes: z.int().positive(), available_bytes: z.int().positive() }),
  environment: z.record(z.string(), z.string()),
})

test('doctor describes addon, processor and machine as JSON', async () => {
  const { code, stdout, stderr } = await lowrank(['doctor', '--json'], { env: { LOWRANK_THREADS: '1' } })
  expect(stderr).toBe('')
  expect(code).toBe(0)
  const [report, ...more] = jsonLines(stdout)
  expect(more).toEqual([])
  const { cpu, cuda, mpi, node, memory, environment } = reportSchema.parse(report)
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
