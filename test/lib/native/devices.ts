/** Training on the GPU of the stand-in driver, held to the CPU. */
import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect } from 'vitest'
import { listStrategies } from '../../../lib/strategies/index.js'
import { tinyModel } from '../../e2e/tiny-model.js'

/** A line of a script beside this file. */
interface Comparison {
  name: string
  cpu: number[]
  cuda: number[]
  apart: Record<string, number>
}

async function linesOf<Line>(
  script: string,
  args: readonly string[],
  env: Record<string, string>,
): Promise<Line[]> {
  const path = fileURLToPath(new URL(`./${script}`, import.meta.url))
  const child = [path, tinyModel('llama3'), ...args]
  const { stdout } = await promisify(execFile)(process.execPath, child, { env: { ...process.env, ...env } })
  return stdout
    .trim()
    .split('\n')
    .map((line): Line => JSON.parse(line))
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
/**
 * A loss of pairs is of sums over tokens, and one of classes is of few rows, in which less rounding evens out: of a loop with
 * a loss of its own 6.0e-3, where the CPU has AVX-512's products in bf16 and no AMX.
 */
const taskLimits = { ...limits, bf16: { losses: { 2: 9e-3, 20: 2e-2 }, changes: 4e-2 } }

type Limits = (typeof limits)[Run['precision']]

function expectClose({ name, cpu, cuda, apart }: Comparison, steps: Run['steps'], allowed: Limits) {
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

/** @param env the driver */
export async function expectLikeTheCpu(run: Run, env: Record<string, string>) {
  const found = await linesOf<Comparison>('devices.mjs', [String(run.steps), run.precision], env)
  const names = [...listStrategies().map(({ name }) => name), 'full']
  expect(found.map(({ name }) => name).sort()).toEqual(names.sort())
  for (const each of found) expectClose(each, run.steps, limits[run.precision])
}

/** The same of tasks (tasks.mjs), or of custom loops with each loss (loops.mjs). */
export async function expectScriptLikeTheCpu(
  script: 'tasks.mjs' | 'loops.mjs',
  precision: Run['precision'],
  env: Record<string, string>,
) {
  const found = await linesOf<Comparison>(script, [precision], env)
  expect(found.length).toBeGreaterThan(5)
  for (const each of found) expectClose(each, 2, taskLimits[precision])
}

/** Runs of tasks that go on on the other device, by moved-tasks.mjs. */
export async function expectTasksToMove(env: Record<string, string>) {
  interface Moved {
    name: string
    whole: number[]
    losses: number[]
    /** In device and in pinned memory, allocated and then planned. */
    memory: [number, number, number, number][]
  }
  const found = await linesOf<Moved>('moved-tasks.mjs', [], env)
  expect(found.length).toBeGreaterThan(0)
  for (const { name, whole, losses, memory } of found) {
    expect(losses, name).toHaveLength(whole.length)
    for (const [i, loss] of losses.entries())
      expect(Math.abs(loss - (whole[i] as number)), name).toBeLessThanOrEqual(1e-5)
    expect(memory.length, name).toBeGreaterThan(0)
    for (const [device, pinned, ...planned] of memory) expect([device, pinned], name).toEqual(planned)
  }
}
