/**
 * Steps of optimizers against transformers, torch and bitsandbytes, on the engine alone: their gradients are given, and
 * a run has those of a model.
 */

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { camelKey, snakeKey } from '../../lib/core/schema.js'
import { addon } from '../../lib/native/addon.js'
import { nativeOptimizer, optimizerOf, optimizerState } from '../../lib/options/optimizers.js'
import type { Optimizer } from '../../lib/options/types.js'
import { lora } from '../../lib/strategies/lora.js'
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
  const adapter = addon().createAdapter({ parameters, terms: [] }, { trainable: true, state })
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

/** Of what the steps change; Lion's peer computes in 32 bits. */
const TOLERANCE = 2e-5

const coded = ({ name }: Case) => name.endsWith('8bit')

describe('an optimizer takes the steps of its peer', () => {
  it.each(golden.cases.filter((c) => !coded(c)))('$name', async (c) => {
    const results = await readGolden('optimizers/results.safetensors')
    const values = await stepped(c)
    for (const [i, [name]] of shapes.entries()) {
      const theirs = floats(results, `${c.name}.${name}`)
      expect(relativeError(change(values[name] as Float32Array, i), change(theirs, i)), name).toBeLessThan(
        TOLERANCE,
      )
    }
  })
})

describe('an optimizer with 8-bit state is as near to fp32 as its peer', () => {
  it.each(golden.cases.filter(coded))('$name', async (c) => {
    const results = await readGolden('optimizers/results.safetensors')
    const values = await stepped(c)
    const whole = c.name.replace('_8bit', '')
    const exact = change(floats(results, `${whole}.large`), 0)
    const ours = relativeError(change(values.large as Float32Array, 0), exact)
    const theirs = relativeError(change(floats(results, `${c.name}.large`), 0), exact)
    expect(ours).toBeLessThanOrEqual(theirs)
    expect(ours).toBeGreaterThan(0)
    // Small tensors have fp32 state.
    for (const [i, name] of [
      [1, 'small'],
      [2, 'vector'],
    ] as const)
      expect(
        relativeError(
          change(values[name] as Float32Array, i),
          change(floats(results, `${whole}.${name}`), i),
        ),
      ).toBeLessThan(TOLERANCE)
  })
})

/** A rule with another value, and a case that must tell. */
const rules: [string, Record<string, unknown>][] = [
  ['adamw', { betas: [0.8, 0.95] }],
  ['adamw', { betas: [0.9, 0.99] }],
  ['adamw', { weight_decay: 0 }],
  ['adamw_eps', { eps: 1e-8 }],
  ['lion_betas', { betas: [0.9, 0.8] }],
  ['lion_betas', { betas: [0.5, 0.99] }],
  ['lion', { weight_decay: 0 }],
  ['sgd', { weight_decay: 0 }],
  ['sgd_momentum', { momentum: 0 }],
  ['sgd_momentum', { weight_decay: 0 }],
  ['adafactor_eps', { eps: [1e-30, 0.5] }],
  ['adafactor_eps', { eps: [1e-2, 1e-3] }],
  ['adafactor_scaled', { clip_threshold: 1 }],
  ['adafactor_scaled', { decay_rate: -0.8 }],
  ['adafactor_scaled', { scale_parameter: false }],
  ['adafactor', { weight_decay: 0 }],
  ['adamw_eps_8bit', { eps: 1e-8 }],
  ['adamw_8bit', { betas: [0.8, 0.95] }],
  ['adamw_8bit', { betas: [0.9, 0.99] }],
  ['adamw_8bit', { weight_decay: 0 }],
  ['lion_betas_8bit', { betas: [0.9, 0.8] }],
  ['lion_betas_8bit', { betas: [0.5, 0.99] }],
  ['lion_8bit', { weight_decay: 0 }],
]

describe('every setting of an optimizer moves all parameters by a hundred tolerances', () => {
  it.each(rules)('%s with %o', async (name, changed) => {
    const c = golden.cases.find((one) => one.name === name) as Case
    const results = await readGolden('optimizers/results.safetensors')
    const values = await stepped({ ...c, optimizer: { ...c.optimizer, ...changed } })
    for (const [i, [parameter]] of shapes.entries()) {
      const theirs = change(floats(results, `${name.replace('_8bit', '')}.${parameter}`), i)
      const moved = relativeError(change(values[parameter] as Float32Array, i), theirs)
      expect(moved, parameter).toBeGreaterThan(100 * TOLERANCE)
    }
  })

  it('leaves none out', () => {
    const tested = new Set(
      rules.flatMap(([name, changed]) => {
        const { type } = (golden.cases.find((one) => one.name === name) as Case).optimizer
        return Object.keys(changed).map((key) => `${type} ${key}`)
      }),
    )
    const known = ['adamw', 'adamw_8bit', 'lion', 'lion_8bit', 'adafactor', 'sgd'] as const
    const settings = known.flatMap((type) =>
      Object.keys(optimizerOf(type)).flatMap((key) => (key === 'type' ? [] : [`${type} ${snakeKey(key)}`])),
    )
    expect(settings.filter((setting) => !tested.has(setting))).toEqual([])
  })
})
