import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { readSafetensorsHeader } from '../../lib/files/safetensors.js'
import { addon, type NativeAdapter, type StorageFormat } from '../../lib/native/addon.js'
import {
  backward,
  floats,
  goldenBatch,
  loadTiny,
  loraSpec,
  parity,
  readGolden,
  relativeError,
  type Tensors,
  type TrainingCase,
  takeSteps,
  trainPlan,
} from './engine.js'

interface Case extends TrainingCase {
  quantization: { type: 'nf4'; double_quant: boolean } | null
  /** How embedding and head are held, where not as stored. */
  tables?: StorageFormat
  scaling: Record<string, number>
}

const cases = JSON.parse(readFileSync(join(parity, 'lora/cases.json'), 'utf8')) as Case[]

/** The slots of a case, read from the shapes of its golden tensors. */
function specOf(c: Case, golden: Tensors, shapes: Map<string, number[]>) {
  const entries = Object.entries(c.scaling).map(([path, scale]) => {
    const [rank, inputs] = shapes.get(`init.base_model.model.${path}.lora_A.weight`) as [number, number]
    const [outputs] = shapes.get(`init.base_model.model.${path}.lora_B.weight`) as [number, number]
    return { path, rank, scale, inputs, outputs }
  })
  const spec = loraSpec(entries)
  const start = (adapter: NativeAdapter) => {
    for (const { name } of spec.parameters) adapter.write(name, 'value', floats(golden, `init.${name}`))
  }
  return { spec, start }
}

async function open(c: Case) {
  const golden = await readGolden(`lora/${c.name}.safetensors`)
  const header = await readSafetensorsHeader(join(parity, `lora/${c.name}.safetensors`))
  const shapes = new Map([...header.tensors].map(([name, t]) => [name, [...t.shape]]))
  // The goldens of double quantisation rebuild absmax from bitsandbytes' nearest codes; ours are the same.
  const format = c.quantization === null ? undefined : c.quantization.double_quant ? 'nf4_double' : 'nf4'
  const { graph, model } = await loadTiny(c.model, format, c.tables)
  const { spec, start } = specOf(c, golden, shapes)
  const adapter = addon().createAdapter(spec, { trainable: true })
  start(adapter)
  return { golden, graph, model, spec, adapter }
}

describe.each(cases)('$name in fp32 against PEFT', (c) => {
  it.each([false, true])(
    'gives the loss and the gradient of every LoRA tensor (recompute: %s)',
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

  it('takes the same ten AdamW steps, clipped and normalised over two micro-batches', async () => {
    const { golden, model, spec, adapter } = await open(c)
    const session = await addon().createSession(model, [adapter], {
      train: { ...trainPlan, recompute: true },
    }).promise
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
