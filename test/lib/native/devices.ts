/** Every strategy and full fine-tuning on the GPU of the stand-in driver, held to the CPU (devices.mjs). */
import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect } from 'vitest'
import { listStrategies } from '../../../lib/strategies/index.js'
import { tinyModel } from '../../e2e/tiny-model.js'

const script = fileURLToPath(new URL('./devices.mjs', import.meta.url))

/** What devices.mjs prints of a strategy. */
interface Comparison {
  name: string
  cpu: number[]
  cuda: number[]
  apart: Record<string, number>
}

/** A run of each strategy. */
export interface Run {
  precision: 'fp32' | 'bf16'
  steps: 2 | 20
}

/**
 * Largest differences: of the losses, relative where they are above 1, and of what a step changes of a parameter, by norm.
 * In bf16 they depend on the CPU: 1.5e-2 where it has AVX-512's products, 2.1e-2 with AMX.
 */
const limits = {
  fp32: { losses: { 2: 1e-6, 20: 1e-4 }, changes: 1e-4 },
  bf16: { losses: { 2: 2e-3, 20: 2e-2 }, changes: 2.5e-2 },
}

/** @param env the driver */
export async function expectLikeTheCpu({ precision, steps }: Run, env: Record<string, string>) {
  const { stdout } = await promisify(execFile)(
    process.execPath,
    [script, tinyModel('llama3'), String(steps), precision],
    { env: { ...process.env, ...env } },
  )
  const compared = stdout
    .trim()
    .split('\n')
    .map((line): Comparison => JSON.parse(line))
  const names = [...listStrategies().map(({ name }) => name), 'full']
  expect(compared.map(({ name }) => name).sort()).toEqual(names.sort())
  const allowed = limits[precision]
  for (const { name, cpu, cuda, apart } of compared) {
    expect(cpu, name).toHaveLength(steps)
    for (const [i, loss] of cuda.entries()) {
      const expected = cpu[i] as number
      const difference = Math.abs(loss - expected) / Math.max(1, expected)
      expect(difference, `${name}, loss of step ${i + 1}`).toBeLessThanOrEqual(allowed.losses[steps])
    }
    const distances = Object.entries(apart)
    if (steps === 2)
      for (const [parameter, distance] of distances)
        expect(distance, `${name}, ${parameter}`).toBeLessThanOrEqual(allowed.changes)
    expect(
      distances.some(([, distance]) => distance > 0),
      `${name} ran on the GPU`,
    ).toBe(true)
  }
}
