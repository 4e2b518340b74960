import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { loadModel } from '../../../lib/model/load.js'
import type { Model } from '../../../lib/model/model.js'
import { adalora } from '../../../lib/strategies/adalora.js'
import { dora } from '../../../lib/strategies/dora.js'
import { lora } from '../../../lib/strategies/lora.js'
import { loraPlus } from '../../../lib/strategies/lora-plus.js'
import type { StrategyConfig } from '../../../lib/strategies/strategy.js'
import { vera } from '../../../lib/strategies/vera.js'
import { chats, tinyModel } from '../../e2e/tiny-model.js'
import { scratchFile, scratchFolder } from '../scratch.js'

let model: Model
let data: string
beforeAll(async () => {
  data = scratchFile('data.jsonl', chats(20))
  model = await loadModel(tinyModel(), { precision: 'fp32' })
})
afterAll(() => model.dispose())

/** Trains an adapter, saves it, and tells its loss. */
async function trainedAs(strategy: StrategyConfig): Promise<{ path: string; loss: number }> {
  const path = join(scratchFolder(), 'adapter')
  const adapter = await model.attach(strategy)
  for await (const _ of adapter.train(data, { maxSteps: 3, learningRate: 0.02, warmupRatio: 0 }));
  const { loss } = await model.evaluate(data)
  await adapter.save(path)
  await adapter.detach()
  return { path, loss }
}

test('an adapter that starts from another has its loss, and goes on from there', async () => {
  for (const [strategy, next] of [
    [lora({ r: 4 }), lora({ r: 4, loraDropout: 0.1 })],
    [lora({ r: 4 }), loraPlus({ adapter: lora({ r: 4 }) })],
    [dora({ r: 2 }), dora({ r: 2 })],
    [vera({ r: 8 }), vera({ r: 8 })],
    [lora({ r: 2, initLoraWeights: 'pissa' }), null],
    [adalora({ targetR: 2, initR: 4, tinit: 0, tfinal: 1, deltaT: 1 }), null],
  ] as const) {
    const { path, loss } = await trainedAs(strategy)
    const saved = await model.loadAdapter(path)
    const adapter = await model.attach(next ?? saved.strategy, { from: path })
    await saved.detach()
    expect((await model.evaluate(data)).loss, strategy.name).toBe(loss)
    for await (const _ of adapter.train(data, { maxSteps: 3, learningRate: 0.002, warmupRatio: 0 }));
    expect((await model.evaluate(data)).loss, strategy.name).toBeLessThan(loss)
    await adapter.detach()
  }
})

test('the reference of preferences is the adapter that a run starts from', async () => {
  const { path } = await trainedAs(lora({ r: 4 }))
  const adapter = await model.attach(lora({ r: 4 }), { from: path })
  const row = { prompt: 'Colour of sky?', chosen: ' blue', rejected: ' green' }
  const rows = scratchFile('pairs.jsonl', `${JSON.stringify(row)}\n`.repeat(4))
  const options = { task: 'dpo', evalDataset: rows, evalSteps: 1, maxSteps: 2, learningRate: 0.01 } as const
  const seen = []
  for await (const event of adapter.train(rows, options).events())
    if (event.event === 'eval') seen.push(event)
  // With the base as reference, the tuned model would have rewards before its first step.
  expect(seen[0]).toMatchObject({ step: 0, rewardsChosen: 0, rewardsRejected: 0 })
  expect(seen[0]?.loss).toBeCloseTo(Math.LN2, 12)
  expect(seen.at(-1)?.rewardsMargins).toBeGreaterThan(0)
  await adapter.detach()
})

test('an adapter of another form is refused with what differs', async () => {
  const { path } = await trainedAs(lora({ r: 4, loraAlpha: 8, targetModules: ['q_proj', 'v_proj'] }))
  const refused = (strategy: StrategyConfig, message: string | RegExp) =>
    expect(model.attach(strategy, { from: path })).rejects.toThrow(message)
  const targetModules = ['q_proj', 'v_proj']
  await refused(
    lora({ r: 8, targetModules }),
    'its rank at model.layers.0.self_attn.q_proj is 4, and that of the strategy 8',
  )
  await refused(
    lora({ r: 4, loraAlpha: 4, targetModules }),
    'its scale at model.layers.0.self_attn.q_proj is 2, and that of the strategy 1',
  )
  await refused(
    lora({ r: 4, loraAlpha: 8 }),
    'the strategy adapts model.layers.0.self_attn.k_proj, which it leaves out',
  )
  await refused(
    lora({ r: 4, loraAlpha: 8, targetModules: ['q_proj'] }),
    'it adapts model.layers.0.self_attn.v_proj, which the strategy leaves out',
  )
  await refused(
    dora({ r: 4, loraAlpha: 8, targetModules }),
    /it was made by lora, whose factors are others\. Set strategy to that of the adapter: \{"name":"lora","r":4/,
  )
  await refused(
    lora({ r: 4, loraAlpha: 8, targetModules, modulesToSave: ['embed_tokens'] }),
    'the modules that it trains in full',
  )
  await expect(model.attach(lora(), { from: '/nowhere' })).rejects.toThrow('/nowhere')
  expect(model.adapters).toEqual([])
})
