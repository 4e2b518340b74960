import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { hasBlownUp, searchRate, searchSizes, steepestFall } from '../../../lib/compare/rate-search.js'
import { loadModel } from '../../../lib/model/load.js'
import type { Model } from '../../../lib/model/model.js'
import { resolveConfig } from '../../../lib/train/config/config.js'
import { chats, tinyModel } from '../../e2e/tiny-model.js'
import { sweepTest } from '../../sweep.js'
import { scratchFolder } from '../scratch.js'

const loaded: Model[] = []
afterEach(async () => {
  for (const model of loaded.splice(0)) await model.dispose()
})

describe('the sizes of a search', () => {
  test('take at most 15 % of a run', () => {
    expect(searchSizes(799)).toBeUndefined()
    expect(searchSizes(800)).toEqual({ rising: 40, short: 20 })
    expect(searchSizes(2000)).toEqual({ rising: 100, short: 50 })
    expect(searchSizes(100_000)).toEqual({ rising: 100, short: 60 })
    for (let steps = 1; steps < 5000; steps += 7) {
      const { rising, short } = searchSizes(steps) ?? { rising: 0, short: 0 }
      expect(rising + 4 * short).toBeLessThanOrEqual(0.15 * steps)
    }
  })
})

describe('the losses at rising rates', () => {
  /** Flat, then falling around a step, then rising steeply. */
  const curve = (fall: number, rise: number) =>
    Array.from({ length: 60 }, (_, k) => 3 - 2 / (1 + Math.exp((fall - k) / 2)) + Math.exp((k - rise) / 3))

  test('fall fastest a little after the fall itself, since they are smoothed', () => {
    for (const fall of [15, 25, 35]) {
      const found = steepestFall(curve(fall, 200))
      expect(found).toBeGreaterThanOrEqual(fall)
      expect(found).toBeLessThanOrEqual(fall + 5)
    }
  })

  test('may never fall', () => {
    expect(steepestFall(Array.from({ length: 40 }, (_, k) => 2 + k / 100))).toBeUndefined()
    expect(steepestFall([5, 4, 3])).toBeUndefined()
  })

  test('end when they have risen to four times their lowest', () => {
    const losses = curve(15, 30)
    const end = losses.findIndex((_, k) => hasBlownUp(losses.slice(0, k + 1)))
    expect(end).toBeGreaterThan(30)
    expect(end).toBeLessThan(45)
    expect(hasBlownUp([3, 2, null])).toBe(true)
    expect(hasBlownUp([3])).toBe(false)
  })
})

describe('a search', () => {
  async function search(more: object) {
    const folder = scratchFolder()
    writeFileSync(join(folder, 'train.jsonl'), chats(60))
    const raw = {
      ...{ model: tinyModel(), strategy: { name: 'lora', r: 4 }, dataset: 'train.jsonl' },
      ...{ learning_rate: 'auto', max_seq_length: 64, per_device_train_batch_size: 1 },
      ...more,
    }
    const config = resolveConfig(raw, { name: 'config', spelling: 'snake' }, folder)
    const model = await loadModel(config.model, { precision: 'fp32' })
    loaded.push(model)
    const steps: number[] = []
    const found = await searchRate({
      ...{ model, config, strategy: config.strategy },
      onStep: (progress) => steps.push(progress.steps),
    })
    expect(model.adapters).toEqual([])
    expect(found.steps).toBe(steps.length)
    return found
  }

  sweepTest('finds a rate that learns, the same each time, within its share of the run', async () => {
    const { seconds, ...found } = await search({ max_steps: 800 })
    expect(seconds).toBeGreaterThan(0)
    expect(found.reason).toBeNull()
    expect(found.steps).toBeLessThanOrEqual(120)
    const { rates, learningRate } = found
    expect(rates.length).toBeGreaterThanOrEqual(3)
    const losses = rates.map(({ loss }) => loss ?? Number.POSITIVE_INFINITY)
    const chosen = losses[rates.findIndex(({ rate }) => rate === learningRate)] as number
    expect(chosen).toBeLessThan(1.02 * Math.min(...losses))
    const { seconds: _, ...again } = await search({ max_steps: 800 })
    expect(again).toEqual(found)
    const other = await search({ max_steps: 800, seed: 1, eval_fraction: 0.2 })
    expect(other.rates).not.toEqual(rates)
  })

  test('is not made for a short run or few rows', async () => {
    expect(await search({ max_steps: 799 })).toMatchObject({
      ...{ learningRate: 1e-3, rates: [], steps: 0 },
      reason: "a search takes at least 120 steps, more than 15 % of the run's 799",
    })
    const rows = Array.from({ length: 9 }, (_, i) => `{"text": "row ${i}"}\n`).join('')
    const few = join(scratchFolder(), 'few.jsonl')
    writeFileSync(few, rows)
    expect(await search({ max_steps: 800, dataset: few })).toMatchObject({
      ...{ learningRate: 1e-3, reason: 'a search needs at least 10 rows' },
    })
  })
})
