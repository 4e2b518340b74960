import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, describe, expect, it, vi } from 'vitest'
import { addon } from '../../lib/native/addon.js'
import { describeAdapter, initialize, linearSites, weightSites } from '../../lib/strategies/describe.js'
import { full } from '../../lib/strategies/full.js'
import {
  backward,
  floats,
  goldenBatch,
  loadTiny,
  parity,
  readGolden,
  relativeError,
  trainPlan,
} from './engine.js'
import { disposeModels, expectSteps, expectTensors, modelOf, type RunCase, train } from './runs.js'

const cases = JSON.parse(readFileSync(join(parity, 'full/cases.json'), 'utf8')) as RunCase[]

/** On the engine alone: gradients, which a run does not tell. */
async function open(c: RunCase) {
  const { graph, model, base } = await loadTiny(c.model)
  const description = describeAdapter(full(), linearSites(graph), { weights: weightSites(graph) })
  const { spec } = description
  const adapter = addon().createAdapter(spec, { trainable: true })
  await initialize(adapter, description, base, 0)
  return { golden: await readGolden(`full/${c.name}.safetensors`), model, spec, adapter }
}

vi.mock('../../lib/train/rows/data.js', async (original) =>
  (await import('../tokenized-once.js')).tokenizedOnce(await original()),
)

afterAll(disposeModels)

describe.each(cases)('full fine-tuning, $name, in fp32 against transformers', (c) => {
  it.each([false, true])(
    'gives the loss and the gradient of every weight (recompute: %s)',
    async (recompute) => {
      const { golden, model, spec, adapter } = await open(c)
      const session = await addon().createSession(model, [adapter], { train: { ...trainPlan, recompute } })
        .promise
      const loss = await backward(session, goldenBatch(await readGolden(`golden/${c.model}.safetensors`)))
      expect(Math.abs(loss / c.loss - 1)).toBeLessThan(1e-5)
      for (const { name } of spec.parameters) {
        const error = relativeError(adapter.read(name, 'gradient'), floats(golden, `grad.${name}`))
        expect(error, name).toBeLessThan(1e-5)
      }
      await session.dispose()
      await adapter.dispose()
      await model.dispose()
    },
  )

  it('takes the same ten AdamW steps', async () => {
    const adapter = await (await modelOf(c.model)).attach(full())
    const { parameters } = adapter.state.description.spec
    const saved = parameters.map(({ name }) => ({ name, tensor: name }))
    expectSteps(await train(adapter, c), c)
    expectTensors(adapter, saved, await readGolden(`full/${c.name}.safetensors`))
    await adapter.detach()
  })
})
