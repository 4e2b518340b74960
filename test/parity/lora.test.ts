import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, describe, expect, it, vi } from 'vitest'
import { readSafetensorsHeader } from '../../lib/formats/safetensors.js'
import { addon, type NativeAdapter, type StorageFormat } from '../../lib/native/addon.js'
import { readStrategy } from '../../lib/strategies/index.js'
import { nf4, type Quantization } from '../../lib/weights/quantization.js'
import { drawnFactor } from './drawn.js'
import {
  backward,
  floats,
  goldenBatch,
  loadTiny,
  loraSpec,
  parity,
  readGolden,
  relativeError,
  trainPlan,
} from './engine.js'
import { measured } from './measured.js'
import { disposeModels, expectSteps, expectTensors, modelOf, type RunCase, train } from './runs.js'

interface Case extends RunCase {
  quantization: { type: 'nf4'; double_quant: boolean } | null
  /** Storage of embedding and head, if not as in the files. */
  tables?: StorageFormat
  /** As config files spell it. */
  peft: Record<string, unknown>
  scaling: Record<string, number>
}

const cases = JSON.parse(readFileSync(join(parity, 'lora/cases.json'), 'utf8')) as Case[]

/** The terms of a case, read from the shapes of its golden tensors. */
function specOf(c: Case, shapes: Map<string, number[]>) {
  const entries = Object.entries(c.scaling).map(([path, scale]) => {
    const [rank, inputs] = shapes.get(`grad.base_model.model.${path}.lora_A.weight`) as [number, number]
    const [outputs] = shapes.get(`grad.base_model.model.${path}.lora_B.weight`) as [number, number]
    return { path, rank, scale, inputs, outputs }
  })
  const spec = loraSpec(entries)
  const start = (adapter: NativeAdapter) => {
    for (const { name, rows, cols } of spec.parameters)
      adapter.write(name, 'value', drawnFactor(c.name, name, rows, cols))
  }
  return { spec, start }
}

/** On the engine alone: gradients, which a run does not tell. */
async function open(c: Case) {
  const golden = await readGolden(`lora/${c.name}.safetensors`)
  const header = await readSafetensorsHeader(join(parity, `lora/${c.name}.safetensors`))
  const shapes = new Map([...header.tensors].map(([name, t]) => [name, [...t.shape]]))
  // The goldens of double quantization rebuild absmax from bitsandbytes' nearest codes; ours are the same.
  const format = c.quantization === null ? undefined : c.quantization.double_quant ? 'nf4_double' : 'nf4'
  const { graph, model } = await loadTiny(c.model, format, c.tables)
  const { spec, start } = specOf(c, shapes)
  const adapter = addon().createAdapter(spec, { trainable: true })
  start(adapter)
  return { golden, graph, model, spec, adapter }
}

const tablesOf = (format: StorageFormat): Quantization =>
  format === 'int8' ? { type: 'int8' } : nf4({ doubleQuant: format === 'nf4_double' })

vi.mock('../../lib/train/rows/data.js', async (original) =>
  (await import('../tokenized-once.js')).tokenizedOnce(await original()),
)

afterAll(disposeModels)

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
        if (!c.quantization && !c.tables)
          measured({ model: c.model, source: 'folder', what: 'gradients', value: error })
        expect(error, name).toBeLessThan(1e-5)
      }
      await session.dispose()
      await adapter.dispose()
      await model.dispose()
    },
  )

  it('takes the same ten AdamW steps, clipped and normalized over two micro-batches', async () => {
    const golden = await readGolden(`lora/${c.name}.safetensors`)
    const { double_quant: doubleQuant } = c.quantization ?? {}
    const model = await modelOf(c.model, {
      quantization: c.quantization === null ? 'none' : nf4({ doubleQuant: doubleQuant as boolean }),
      ...(c.tables ? { embeddingQuantization: tablesOf(c.tables) } : {}),
    })
    const adapter = await model.attach(
      readStrategy({ name: 'lora', ...c.peft }, { name: c.name, spelling: 'snake' }),
    )
    const saved = adapter.state.description.factors.map(({ name, rows, cols, tensor }) => ({
      ...{ name, rows, cols },
      tensor: tensor?.name as string,
    }))
    for (const { name, tensor, rows, cols } of saved)
      adapter.state.native.write(name, 'value', drawnFactor(c.name, tensor, rows, cols))
    expectSteps(await train(adapter, c), c)
    expectTensors(adapter, saved, golden)
    await adapter.detach()
  })
})
