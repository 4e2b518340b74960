import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { addon } from '../../lib/native/addon.js'
import { describeAdapter, initialise, linearSites, weightSites } from '../../lib/strategies/describe.js'
import { full } from '../../lib/strategies/full.js'
import {
  backward,
  floats,
  goldenBatch,
  loadTiny,
  parity,
  readGolden,
  relativeError,
  type TrainingCase,
  takeSteps,
  trainPlan,
} from './engine.js'

const cases = JSON.parse(readFileSync(join(parity, 'full/cases.json'), 'utf8')) as TrainingCase[]

async function open(c: TrainingCase) {
  const { graph, model, base } = await loadTiny(c.model)
  const description = describeAdapter(full(), linearSites(graph), { weights: weightSites(graph) })
  const { spec } = description
  const adapter = addon().createAdapter(spec, { trainable: true })
  await initialise(adapter, description, base, 0)
  return { golden: await readGolden(`full/${c.name}.safetensors`), model, spec, adapter }
}

describe.each(cases)('full fine-tuning, $name head, in fp32 against transformers', (c) => {
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
    const { golden, model, spec, adapter } = await open(c)
    const session = await addon().createSession(model, [adapter], { train: trainPlan }).promise
    for (const [s, { loss, norm }] of (await takeSteps(session, adapter, c)).entries()) {
      expect(Math.abs(loss / (c.losses[s] as number) - 1), `loss of step ${s}`).toBeLessThan(1e-5)
      expect(Math.abs(norm / (c.grad_norms[s] as number) - 1), `norm of step ${s}`).toBeLessThan(1e-5)
    }
    for (const { name } of spec.parameters) {
      const error = relativeError(adapter.read(name, 'value'), floats(golden, `final.${name}`))
      expect(error, name).toBeLessThan(1e-5)
    }
    await session.dispose()
    await adapter.dispose()
    await model.dispose()
  })
})
