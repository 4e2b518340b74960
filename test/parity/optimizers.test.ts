/** Steps of optimisers against transformers, torch and bitsandbytes. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { addon } from '../../lib/native/addon.js'
import { camelKey } from '../../lib/schema.js'
import { lora } from '../../lib/strategies/lora.js'
import { nativeOptimizer, type Optimizer, optimizerOf, optimizerState } from '../../lib/train/optimizers.js'
import { floats, parity, readGolden, relativeError } from './engine.js'

interface Case {
  name: string
  optimizer: Record<string, unknown> & {
    type: Optimizer['type']
    learning_rate: number
    weight_decay: number
  }
}

const golden = JSON.parse(readFileSync(join(parity, 'optimizers/cases.json'), 'utf8')) as {
  shapes: Record<string, [number, number]>
  steps: number
  cases: Case[]
}
const shapes = Object.entries(golden.shapes)

/** The formulas of make_optimizers.py. */
function spread(count: number, salt: number): number[] {
  return Array.from({ length: count }, (_, i) => {
    const x = (((i * 7919 + salt * 104729) % 2001) - 1000) / 1000
    return Math.fround(x * x * x)
  })
}

const gradient = (index: number, [rows, cols]: [number, number], step: number) =>
  Float32Array.from(spread(rows * cols, 10 * step + index), (x, i) => x / (Math.floor(i / cols) + 1))

/** Values after the steps, by parameter. */
async function stepped({ optimizer }: Case): Promise<Record<string, Float32Array>> {
  const { learning_rate: learningRate, weight_decay: weightDecay, ...rest } = optimizer
  const given = Object.fromEntries(Object.entries(rest).map(([key, value]) => [camelKey(key), value]))
  const settings = { ...optimizerOf(optimizer.type), ...given } as Optimizer
  const parameters = shapes.map(([name, [rows, cols]]) => ({ name, rows, cols, trained: true }))
  const state = optimizerState({ optimizer: settings, optimizerInBackward: false }, lora())
  const adapter = addon().createAdapter({ parameters, slots: [] }, { trainable: true, state })
  for (const [i, [name, [rows, cols]]] of shapes.entries())
    adapter.write(name, 'value', Float32Array.from(spread(rows * cols, 100 + i)))
  for (let step = 1; step <= golden.steps; step++) {
    for (const [i, [name, shape]] of shapes.entries())
      adapter.write(name, 'gradient', gradient(i, shape, step))
    const groups = [{ learningRate, weightDecay }]
    await adapter.optimizerStep({ ...nativeOptimizer(settings), groups, maxGradNorm: 0, step }).promise
  }
  const values = Object.fromEntries(shapes.map(([name]) => [name, adapter.read(name, 'value')]))
  await adapter.dispose()
  return values
}

const change = (values: Float32Array, index: number) => {
  const start = spread(values.length, 100 + index)
  return values.map((value, i) => value - (start[i] as number))
}

const coded = ({ name }: Case) => name.endsWith('8bit')

describe('an optimiser takes the steps of its peer', () => {
  it.each(golden.cases.filter((c) => !coded(c)))('$name', async (c) => {
    const results = await readGolden('optimizers/results.safetensors')
    const values = await stepped(c)
    for (const [i, [name]] of shapes.entries()) {
      const theirs = floats(results, `${c.name}.${name}`)
      expect(relativeError(change(values[name] as Float32Array, i), change(theirs, i)), name).toBeLessThan(
        2e-5,
      )
    }
  })
})

describe('an optimiser with 8-bit state is as near to fp32 as its peer', () => {
  it.each(golden.cases.filter(coded))('$name', async (c) => {
    const results = await readGolden('optimizers/results.safetensors')
    const values = await stepped(c)
    const whole = c.name.replace('_8bit', '')
    const exact = change(floats(results, `${whole}.large`), 0)
    const ours = relativeError(change(values.large as Float32Array, 0), exact)
    const theirs = relativeError(change(floats(results, `${c.name}.large`), 0), exact)
    expect(ours).toBeLessThanOrEqual(theirs)
    expect(ours).toBeGreaterThan(0)
    // What is small has fp32 state.
    for (const [i, name] of [
      [1, 'small'],
      [2, 'vector'],
    ] as const)
      expect(
        relativeError(
          change(values[name] as Float32Array, i),
          change(floats(results, `${whole}.${name}`), i),
        ),
      ).toBeLessThan(2e-5)
  })
})
