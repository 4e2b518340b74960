import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { readSafetensorsHeader } from '../../lib/files/safetensors.js'
import { addon, type MicroBatch, type NativeAdapter } from '../../lib/native/addon.js'
import {
  floats,
  goldenBatch,
  loadTiny,
  loraSpec,
  parity,
  readGolden,
  relativeError,
  type Tensors,
} from './engine.js'

interface Case {
  name: string
  model: string
  quantization: { type: 'nf4'; double_quant: boolean } | null
  scaling: Record<string, number>
  loss: number
  optimizer: { lr: number; betas: [number, number]; eps: number; weight_decay: number; max_grad_norm: number }
  losses: number[]
  grad_norms: number[]
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
  const { graph, model } = await loadTiny(c.model, format)
  const { spec, start } = specOf(c, golden, shapes)
  const adapter = addon().createAdapter(spec, { trainable: true })
  start(adapter)
  return { golden, graph, model, spec, adapter }
}

const plan = { mode: 'train', tokens: 256, sequences: 8, headRows: 256, precision: 'f32' } as const

describe.each(cases)('$name in fp32 against PEFT', (c) => {
  it.each([false, true])(
    'gives the loss and the gradient of every LoRA tensor (recompute: %s)',
    async (recompute) => {
      const { golden, model, spec, adapter } = await open(c)
      const batch = goldenBatch(await readGolden(`golden/${c.model}.safetensors`))
      const session = addon().createSession(model, [adapter], { train: { ...plan, recompute } })
      const labelled = batch.labels.filter((label) => label !== -100).length
      const result = await session.trainStep('train', {
        ...batch,
        lossScale: 1 / labelled,
        seed: 0,
        step: 1,
        microStep: 0,
      }).promise
      expect(result.count).toBe(labelled)
      expect(Math.abs(result.lossSum / labelled / c.loss - 1)).toBeLessThan(1e-5)
      for (const { name } of spec.parameters) {
        const error = relativeError(adapter.read(name, 'gradient'), floats(golden, `grad.${name}`))
        expect(error, name).toBeLessThan(1e-4)
      }
      session.dispose()
      adapter.dispose()
      model.dispose()
    },
  )

  it('takes the same ten AdamW steps, clipped and normalised over two micro-batches', async () => {
    const { golden, model, spec, adapter } = await open(c)
    const batches = await readGolden('lora/train_batches.safetensors')
    const session = addon().createSession(model, [adapter], { train: { ...plan, recompute: true } })
    for (let s = 0; s < 10; s++) {
      const micro: MicroBatch[] = [0, 1].map((m) => goldenBatch(batches, `step.${s}.micro.${m}.`))
      const labelled = micro.reduce((sum, b) => sum + b.labels.filter((label) => label !== -100).length, 0)
      let lossSum = 0
      for (const [microStep, batch] of micro.entries()) {
        const input = { ...batch, lossScale: 1 / labelled, seed: 0, step: s + 1, microStep }
        lossSum += (await session.trainStep('train', input).promise).lossSum
      }
      const { lr, betas, eps, weight_decay, max_grad_norm } = c.optimizer
      const { gradNorm } = await adapter.optimizerStep({
        kind: 'adamw',
        learningRate: lr,
        beta1: betas[0],
        beta2: betas[1],
        epsilon: eps,
        weightDecay: weight_decay,
        maxGradNorm: max_grad_norm,
        step: s + 1,
      }).promise
      expect(Math.abs(lossSum / labelled / (c.losses[s] as number) - 1), `loss of step ${s}`).toBeLessThan(
        1e-4,
      )
      expect(Math.abs(gradNorm / (c.grad_norms[s] as number) - 1), `norm of step ${s}`).toBeLessThan(1e-3)
    }
    for (const { name } of spec.parameters) {
      const error = relativeError(adapter.read(name, 'value'), floats(golden, `final.${name}`))
      expect(error, name).toBeLessThan(1e-3)
    }
    session.dispose()
    adapter.dispose()
    model.dispose()
  })
})
