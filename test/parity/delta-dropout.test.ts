/** Dropout of the rows of a change, and of whole changes, in LoHa and LoKr: drawn by counter, and with its gradients. */
import { expect, test } from 'vitest'
import { addon, type MicroBatch, type NativeAdapter } from '../../lib/native/addon.js'
import { describeAdapter, linearSites } from '../../lib/strategies/describe.js'
import { loha } from '../../lib/strategies/loha.js'
import { lokr } from '../../lib/strategies/lokr.js'
import type { AdapterDescription, StrategyConfig } from '../../lib/strategies/strategy.js'
import { loadTiny, trainPlan } from './engine.js'

const batch: MicroBatch = {
  tokens: Int32Array.from({ length: 16 }, (_, i) => (i * 37) % 200),
  cuSeqlens: Int32Array.of(0, 9, 16),
  labels: Int32Array.from({ length: 16 }, (_, i) => (i % 5 === 0 ? -100 : (i * 53) % 200)),
}

interface Opened {
  adapter: NativeAdapter
  factors: AdapterDescription['factors']
  /** The loss of a micro-step; its gradients are those of the adapter afterwards. */
  loss(microStep: number): Promise<number>
  close(): Promise<void>
}

async function open(strategy: StrategyConfig): Promise<Opened> {
  const { graph, model } = await loadTiny('odd')
  const { spec, factors } = describeAdapter(strategy, linearSites(graph))
  const adapter = addon().createAdapter(spec, { trainable: true })
  for (const { name } of factors) adapter.fill(name, { kind: 'normal', std: 0.2, seed: 3 })
  const session = await addon().createSession(model, [adapter], { train: { ...trainPlan, precision: 'f32' } })
    .promise
  return {
    adapter,
    factors,
    async loss(microStep) {
      await adapter.zeroGradients().promise
      const input = { ...batch, lossScale: 1, seed: 4, step: 1, microStep }
      return (await session.trainStep('train', input).promise).lossSum
    },
    async close() {
      for (const made of [session, adapter, model]) await made.dispose()
    },
  }
}

const strategies: [string, StrategyConfig][] = [
  ['rows of LoHa', loha({ r: 3, rankDropout: 0.5 })],
  ['modules of LoHa', loha({ r: 3, moduleDropout: 0.5 })],
  ['rows of LoKr', lokr({ r: 3, rankDropout: 0.5 })],
  ['rows of LoKr, rescaled', lokr({ r: 3, rankDropout: 0.5, rankDropoutScale: true })],
  ['modules of LoKr', lokr({ r: 3, moduleDropout: 0.5 })],
  [
    'modules and rows of LoKr with both sides factored',
    lokr({ r: 2, decomposeBoth: true, rankDropout: 0.3, moduleDropout: 0.3 }),
  ],
]

test.each(strategies)(
  'dropout of %s comes again for the same micro-step, and differs for another',
  async (_, strategy) => {
    const { adapter, factors, loss, close } = await open(strategy)
    const all = () => factors.flatMap(({ name }) => [...adapter.read(name, 'gradient')])
    const first = await loss(0)
    const gradients = all()
    const other = await loss(1)
    expect(await loss(0)).toBe(first)
    expect(all()).toEqual(gradients)
    expect(other).not.toBe(first)
    await close()
  },
)

test.each(strategies)(
  'gradients with dropout of %s are those of the loss with the same draw',
  async (_, strategy) => {
    const { adapter, factors, loss, close } = await open(strategy)
    await loss(2)
    const start = new Map(factors.map(({ name }) => [name, adapter.read(name, 'value')]))
    const directions = new Map(factors.map(({ name }) => [name, adapter.read(name, 'gradient')]))
    const square = [...directions.values()].reduce(
      (sum, values) => sum + values.reduce((s, g) => s + g * g, 0),
      0,
    )
    expect(square).toBeGreaterThan(0)
    // Along the gradient the loss changes by its square; centered differences of a step that fp32 can see.
    const size = 2e-2 / Math.sqrt(square)
    const moved = async (by: number) => {
      for (const [name, values] of start) {
        const direction = directions.get(name) as Float32Array
        adapter.write(
          name,
          'value',
          values.map((value, i) => value + by * (direction[i] as number)),
        )
      }
      return loss(2)
    }
    const slope = ((await moved(size)) - (await moved(-size))) / (2 * size)
    expect(Math.abs(slope / square - 1)).toBeLessThan(1e-2)
    await close()
  },
)
