import { describe, expect, test } from 'vitest'
import { ConfigError, DivergedError } from '../../../../lib/core/errors.js'
import type { Row } from '../../../../lib/losses/token-rows.js'
import type { Adapter } from '../../../../lib/model/adapter.js'
import type { Model } from '../../../../lib/model/model.js'
import { adalora } from '../../../../lib/strategies/adalora.js'
import { lora } from '../../../../lib/strategies/lora.js'
import type { FunctionLoss, LossRow } from '../../../../lib/train/run/forward-backward-options.js'
import { tinyLoader } from '../tiny-models.js'

const load = tinyLoader()

async function attach(dropout = 0): Promise<{ model: Model; adapter: Adapter }> {
  const model = await load()
  const strategy = lora({ r: 4, loraAlpha: 8, initLoraWeights: false, loraDropout: dropout })
  return { model, adapter: await model.attach(strategy, { seed: 3 }) }
}

/** A row of a length, whose first tokens are the prompt. */
function row(seed: number, length: number, prompt = 3): Row & { weights: number[] } {
  const tokens = Array.from({ length }, (_, i) => 3 + ((i * 37 + seed * 11 + ((i * seed) % 7)) % 200))
  return { tokens, weights: tokens.map((_, i) => (i < prompt ? 0 : 1)) }
}
const rows = [row(1, 9), row(2, 14), row(3, 6), row(4, 11)]

/** All gradients that have added up, one after the other. */
function gradients({ state }: Adapter): number[] {
  const trained = state.description.spec.parameters.filter((parameter) => parameter.trained)
  return trained.flatMap(({ name }) => [...state.native.read(name, 'gradient')])
}

function difference(a: readonly number[], b: readonly number[]): number {
  const norm = (values: readonly number[]) => Math.hypot(...values)
  return norm(a.map((value, i) => value - (b[i] as number))) / norm(b)
}

/** The gradient of a call, which is then used up. */
async function gradientOf(adapter: Adapter, call: () => Promise<unknown>): Promise<number[]> {
  await call()
  const found = gradients(adapter)
  await adapter.state.native.zeroGradients().promise
  await adapter.optimStep({ learningRate: 1e-30 })
  return found
}

/** -sum of weighted log-probabilities: cross-entropy as a function. */
const asFunction = (scored: readonly LossRow[]): FunctionLoss => ({
  loss: -scored.reduce(
    (sum, of) => sum + of.weights.reduce((s, w, t) => s + w * (of.logprobs[t] as number), 0),
    0,
  ),
  gradient: scored.map(({ weights }) => weights.map((weight) => -weight)),
})

describe('forwardBackward', () => {
  test('cross_entropy is that of evaluate, and its gradient is that of the log-probabilities', async () => {
    const { adapter } = await attach()
    const normalizer = 10
    const found = await adapter.forwardBackward(rows, 'cross_entropy', { normalizer })
    const { logprobs } = await adapter.forward(rows)
    const sum = rows.reduce(
      (all, { weights }, i) =>
        all - weights.reduce((s, weight, t) => s + weight * ((logprobs[i] as Float64Array)[t] as number), 0),
      0,
    )
    expect(found.loss).toBeCloseTo(sum / normalizer, 5)
    expect(gradients(adapter).some((value) => value !== 0)).toBe(true)
  })

  test('a custom function gives the gradient of the loss that it computes, in one micro-batch or several', async () => {
    const { adapter } = await attach(0.3)
    const options = { normalizer: 7, temperature: 1.7 }
    const named = await gradientOf(adapter, () => adapter.forwardBackward(rows, 'cross_entropy', options))
    const same = { learningRate: 1e-30 }
    expect(same.learningRate).toBeGreaterThan(0)
    for (const microBatchTokens of [1000, 14]) {
      const fresh = (await attach(0.3)).adapter
      const byName = await gradientOf(fresh, () =>
        fresh.forwardBackward(rows, 'cross_entropy', { ...options, microBatchTokens }),
      )
      const other = (await attach(0.3)).adapter
      const own = await gradientOf(other, () =>
        other.forwardBackward(rows, asFunction, { ...options, microBatchTokens }),
      )
      expect(difference(own, byName)).toBeLessThan(1e-6)
    }
    expect(named.length).toBeGreaterThan(0)
  })

  test('the gradient is the slope of the loss', async () => {
    const { adapter } = await attach()
    // A function that couples all rows.
    const loss = (scored: readonly LossRow[]): FunctionLoss => {
      const means = scored.map(({ logprobs }) => logprobs.reduce((s, l) => s + l, 0) / (logprobs.length - 1))
      const [a, b, c, d] = means as [number, number, number, number]
      const by = [b + 2 * a, a, -d, -c]
      return {
        loss: a * b + a * a - c * d,
        gradient: scored.map(({ tokens }, i) =>
          Float64Array.from(tokens, (_, t) => (t === 0 ? 0 : (by[i] as number) / (tokens.length - 1))),
        ),
      }
    }
    await adapter.forwardBackward(rows, loss, { microBatchTokens: 16 })
    const { native, description } = adapter.state
    const value = async () => {
      const { logprobs } = await adapter.forward(rows)
      return loss(
        rows.map(({ tokens, weights }, i) => ({
          tokens: Int32Array.from(tokens),
          weights: Float64Array.from(weights),
          logprobs: logprobs[i] as Float64Array,
        })),
      ).loss
    }
    for (const { name } of description.spec.parameters.filter(({ trained }) => trained).slice(0, 4)) {
      const at = native.read(name, 'value')
      const slope = native.read(name, 'gradient')
      const length = Math.hypot(...slope)
      const moved = (by: number) => at.map((v, i) => v + (by * (slope[i] as number)) / length)
      const step = 2e-3 / Math.max(1, length)
      native.write(name, 'value', moved(step))
      const above = await value()
      native.write(name, 'value', moved(-step))
      const below = await value()
      native.write(name, 'value', at)
      expect((above - below) / (2 * step) / length).toBeCloseTo(1, 1)
    }
  })

  test('dpo at its reference is ln 2 exactly, and swapping the sides turns the margins round', async () => {
    const { adapter } = await attach()
    const pairs = [
      { chosen: row(1, 9), rejected: row(5, 12) },
      { chosen: row(2, 14), rejected: row(6, 8) },
      { chosen: row(3, 7), rejected: row(7, 10) },
    ]
    const { logprobs } = await adapter.forward(pairs.flatMap(({ chosen, rejected }) => [chosen, rejected]))
    const referenced = pairs.map(({ chosen, rejected }, i) => ({
      chosen: { ...chosen, reference: logprobs[2 * i] as Float64Array },
      rejected: { ...rejected, reference: logprobs[2 * i + 1] as Float64Array },
    }))
    for (const microBatchTokens of [1000, 24]) {
      const found = await adapter.forwardBackward(referenced, 'dpo', { microBatchTokens })
      expect(found.loss).toBeCloseTo(Math.LN2, 14)
      expect(found.metrics['rewards/accuracies']).toBe(0)
    }
    const ipo = await adapter
      .forwardBackward(referenced, { name: 'dpo', lossType: 'ipo', beta: 0.5 }, { normalizer: 3 })
      .catch((error: Error) => error)
    expect(ipo).toBeInstanceOf(ConfigError) // one gradient is not divided in two ways
    await expect(adapter.optimStep({ learningRate: 1e-3 })).rejects.toThrow('no gradient')
    await adapter.forwardBackward(referenced, 'dpo')
    await adapter.optimStep({ learningRate: 1e-2 })
    const after = await adapter.forwardBackward(referenced, 'dpo')
    expect(after.loss).toBeLessThan(Math.LN2)
    expect(after.metrics['rewards/margins']).toBeGreaterThan(0)
    const swapped = referenced.map(({ chosen, rejected }) => ({ chosen: rejected, rejected: chosen }))
    const other = await adapter.forwardBackward(swapped, 'dpo')
    expect(other.metrics['rewards/margins']).toBeCloseTo(-(after.metrics['rewards/margins'] as number), 10)
  })

  test('a window in parts is the window as a whole, and steps are deterministic', async () => {
    const run = async (parts: Row[][]) => {
      const { adapter } = await attach()
      for (let step = 0; step < 3; step++) {
        for (const part of parts) void adapter.forwardBackward(part, 'cross_entropy')
        await adapter.optimStep({ learningRate: 1e-2, maxGradNorm: 1, weightDecay: 0.1 })
      }
      const trained = adapter.state.description.spec.parameters
      return trained.flatMap(({ name }) => [...adapter.state.native.read(name, 'value')])
    }
    const whole = await run([rows])
    expect(await run([rows])).toEqual(whole)
    expect(difference(await run([rows.slice(0, 1), rows.slice(1)]), whole)).toBeLessThan(1e-5)
  })

  test('rows whose weights are all 0 are skipped and counted', async () => {
    const warnings: string[] = []
    const model = await load({ onWarning: (message) => warnings.push(message) })
    const strategy = lora({ r: 4, loraAlpha: 8, initLoraWeights: false })
    const gradient = async (batch: Parameters<Adapter['forwardBackward']>[0]) => {
      const adapter = await model.attach(strategy, { seed: 3 })
      const { skipped, loss, tokens } = await adapter.forwardBackward(batch, 'cross_entropy')
      return { skipped, loss, tokens, gradient: gradients(adapter) }
    }
    const none = { ...row(5, 8), weights: new Array(8).fill(0) }
    const expected = await gradient(rows)
    const mixed = [none, ...rows.slice(0, 2), none, ...rows.slice(2)]
    expect(await gradient(mixed)).toEqual({ ...expected, skipped: 2 })
    const windows = await gradient([rows.slice(0, 2), rows.slice(2)])
    expect(await gradient([[none], [...rows.slice(0, 2), none], rows.slice(2)])).toEqual({
      ...windows,
      skipped: 2,
    })
    expect(warnings).toHaveLength(1)
    expect(warnings[0]).toContain('weights are all 0')
    const adapter = await model.attach(strategy, { seed: 3 })
    const nothing = await adapter.forwardBackward([none], 'cross_entropy')
    expect(nothing).toEqual({ loss: 0, lossSum: 0, denominator: 0, metrics: {}, tokens: 0, skipped: 1 })
    expect(await adapter.optimStep({ learningRate: 1 })).toEqual({ gradNorm: 0, step: 0 })
    await expect(adapter.optimStep({ learningRate: 1 })).rejects.toThrow('no gradient')
  })

  test('importance_sampling on the policy itself pulls toward rewarded rows', async () => {
    const { adapter } = await attach()
    const rewarded = rows.map((of, i) => ({ ...of, advantages: i === 0 ? 1 : 0 }))
    const { logprobs } = await adapter.forward(rows)
    const sum = (of: Float64Array) => of.reduce((s, l, t) => s + l * (rows[0]?.weights[t] ?? 0), 0)
    for (let step = 0; step < 3; step++) {
      await adapter.forwardBackward(rewarded, 'importance_sampling')
      await adapter.optimStep({ learningRate: 1e-2 })
    }
    const after = await adapter.forward(rows)
    expect(sum(after.logprobs[0] as Float64Array)).toBeGreaterThan(sum(logprobs[0] as Float64Array))
  })

  test('kto measures the divergence by mismatched rows', async () => {
    const { adapter } = await attach()
    const { logprobs } = await adapter.forward(rows)
    const labeled = rows.map((of, i) => ({
      ...of,
      label: i % 2 === 0,
      reference: logprobs[i] as Float64Array,
      kl: { ...of, reference: (logprobs[i] as Float64Array).map((l) => l - 0.25) },
    }))
    const found = await adapter.forwardBackward(labeled, 'kto')
    const scored = rows.reduce((n, { weights }) => n + weights.reduce((s, w) => s + w, 0), 0)
    expect(found.metrics.kl).toBeCloseTo((0.25 * scored) / rows.length, 8)
    expect(found.denominator).toBe(4)
  })

  test('a failure clears the gradient', async () => {
    const { adapter } = await attach()
    await adapter.forwardBackward(rows, 'cross_entropy', { normalizer: 1 })
    const failing = () => {
      throw new Error('mine')
    }
    const broken = adapter.forwardBackward(rows, failing, { normalizer: 1 })
    await expect(broken).rejects.toThrow('mine')
    expect(gradients(adapter).every((value) => value === 0)).toBe(true)
    await expect(adapter.optimStep({ learningRate: 1 })).rejects.toThrow('no gradient has been accumulated')
    const stop = new AbortController()
    const aborted = adapter.forwardBackward(rows, 'cross_entropy', { signal: stop.signal })
    stop.abort(new Error('enough'))
    await expect(aborted).rejects.toThrow('enough')
    const notFinite = adapter.forwardBackward(rows, () => ({ loss: Number.NaN, gradient: [] }))
    await expect(notFinite).rejects.toThrow(DivergedError)
  })

  test('wrong use is one error that names row and field', async () => {
    const { model, adapter } = await attach()
    const good = row(1, 5)
    const cases: [() => Promise<unknown>, string][] = [
      [
        () => adapter.forwardBackward([], 'cross_entropy'),
        'batch is [], expected a list of at least one row',
      ],
      [() => adapter.forwardBackward([{ tokens: [1] }], 'cross_entropy'), 'batch.0.tokens'],
      [() => adapter.forwardBackward([good, { tokens: [1, -4] }], 'cross_entropy'), 'batch.1.tokens.1'],
      [
        () => adapter.forwardBackward([{ tokens: [1, 2], weights: [1, 1] }], 'cross_entropy'),
        'batch.0.weights.0',
      ],
      [() => adapter.forwardBackward([{ tokens: [1, 2], weights: [0] }], 'cross_entropy'), 'batch.0.weights'],
      [() => adapter.forwardBackward([{ chosen: good } as never], 'dpo'), 'batch.0.rejected'],
      [() => adapter.forwardBackward([{ chosen: good, rejected: good }], 'dpo'), 'another answer'],
      [
        () => adapter.forwardBackward([{ chosen: good, rejected: row(2, 5) }], 'dpo'),
        'batch.0.chosen.reference',
      ],
      [() => adapter.forwardBackward([good], 'sft' as never), 'one of cross_entropy, dpo'],
      [() => adapter.forwardBackward([good], { name: 'kto', beta: 0 }), 'loss.beta'],
      [() => adapter.forwardBackward([good], 'kto'), 'batch.0.reference'],
      [() => adapter.forwardBackward([good], 'importance_sampling'), 'batch.0.advantages'],
      [() => adapter.forwardBackward([good], () => ({ loss: 1, gradient: [[1]] })), 'gradient.0'],
      [() => adapter.optimStep({} as never), 'learningRate'],
    ]
    for (const [call, message] of cases) await expect(call(), message).rejects.toThrow(message)
    const other = await model.attach(adalora({ initR: 4, targetR: 2 }))
    await expect(other.forwardBackward([good], 'cross_entropy')).rejects.toThrow(
      'cannot train strategy adalora',
    )
  })
})
