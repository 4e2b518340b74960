/** Classifiers against transformers' through PEFT, in float64, by the public training loop. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { adamW, type DatasetConfig, dataset, lora, sgd, type TrainOptions } from '../../lib/index.js'
import type { Adapter } from '../../lib/model/adapter.js'
import { scratchFolder } from '../lib/scratch.js'
import { floats, parity, readGolden, relativeError, type Tensors } from './engine.js'
import { disposeModels, letter, modelOf } from './runs.js'

interface Case {
  model: string
  rows: number[][]
  classes: number[]
  losses: Record<'plain' | 'weighted', number>
  norms: Record<'plain' | 'weighted', number>
  steps: [loss: number, norm: number][]
}
interface Golden {
  class_weights: number[]
  optimizer: { lr: number; betas: [number, number]; eps: number; weight_decay: number; max_grad_norm: number }
  cases: Case[]
}

const folder = join(parity, 'classification')
const golden: Golden = JSON.parse(readFileSync(join(folder, 'cases.json'), 'utf8'))
const labels = ['0', '1', '2']
const classWeights = Object.fromEntries(
  labels.map((label, id) => [label, golden.class_weights[id] as number]),
)
const TOLERANCE = 1e-5

const textOf = (ids: readonly number[]) => ids.map(letter).join('')
const rowsOf = ({ rows, classes }: Case): DatasetConfig =>
  dataset(rows.map((ids, i) => ({ text: textOf(ids), label: classes[i] as number })))

async function attached(c: Case, tensors: Tensors): Promise<Adapter> {
  const model = await modelOf(c.model, { labels })
  const adapter = await model.attach(lora({ r: 4, loraAlpha: 8 }))
  write(adapter, tensors)
  return adapter
}

function write(adapter: Adapter, tensors: Tensors): void {
  for (const { name, tensor } of adapter.state.description.factors)
    adapter.state.native.write(name, 'value', floats(tensors, `init.${tensor?.name}`))
}

async function steps(adapter: Adapter, c: Case, options: Partial<TrainOptions>): Promise<[number, number][]> {
  const found: [number, number][] = []
  const shape = {
    task: 'classification',
    perDeviceTrainBatchSize: 2,
    gradientAccumulationSteps: 3,
    maxSeqLength: 32,
  }
  const rate = { lrSchedulerType: 'constant', warmupRatio: 0 }
  const run = adapter.train(rowsOf(c), { ...shape, ...rate, ...options } as Partial<TrainOptions>)
  for await (const { loss, gradNorm } of run) found.push([loss, gradNorm])
  return found
}

afterAll(disposeModels)

describe.each(golden.cases)('a classifier on $model', (c) => {
  it('has the scores and the loss of transformers', async () => {
    const tensors = await readGolden(join(folder, `${c.model}.safetensors`))
    const model = await modelOf(c.model, { labels })
    const adapter = await attached(c, tensors)
    const { loss } = await model.evaluate(rowsOf(c), { maxSeqLength: 32, perDeviceTrainBatchSize: 4 })
    expect(Math.abs(loss / c.losses.plain - 1)).toBeLessThan(TOLERANCE)
    const found = await model.classify(c.rows.map(textOf), { perDeviceTrainBatchSize: 4 })
    const scores = floats(tensors, 'scores')
    for (const [row, { probabilities }] of found.entries()) {
      const own = [...scores.subarray(3 * row, 3 * row + 3)].map(Math.exp)
      const sum = own.reduce((total, value) => total + value, 0)
      const expected = own.map((value) => value / sum)
      expect(relativeError(Object.values(probabilities), expected)).toBeLessThan(TOLERANCE)
    }
    await adapter.detach()
  })

  it.each(['plain', 'weighted'] as const)(
    'has the gradient of every tensor and of the head (%s)',
    async (name) => {
      const tensors = await readGolden(join(folder, `${c.model}.safetensors`))
      const adapter = await attached(c, tensors)
      // One step of descent at the rate 1 moves every number by its gradient.
      const [[loss, norm] = []] = await steps(adapter, c, {
        ...(name === 'weighted' ? { classWeights } : {}),
        ...{ optimizer: sgd({ momentum: 0 }), learningRate: 1, maxGradNorm: 0, maxSteps: 1 },
      })
      expect(Math.abs((loss as number) / c.losses[name] - 1)).toBeLessThan(TOLERANCE)
      expect(Math.abs((norm as number) / c.norms[name] - 1)).toBeLessThan(TOLERANCE)
      for (const { name: factor, tensor } of adapter.state.description.factors) {
        const before = floats(tensors, `init.${tensor?.name}`)
        const moved = adapter.state.native
          .read(factor, 'value')
          .map((value, i) => (before[i] as number) - value)
        const gradient = floats(tensors, `grad.${name}.${tensor?.name}`)
        expect(relativeError(moved, gradient), factor).toBeLessThan(2e-5)
      }
      await adapter.detach()
    },
  )

  it('takes the same steps of AdamW, clipped', async () => {
    const tensors = await readGolden(join(folder, `${c.model}.safetensors`))
    const adapter = await attached(c, tensors)
    const { lr, betas, eps, weight_decay: weightDecay, max_grad_norm: maxGradNorm } = golden.optimizer
    const optimizer = adamW({ betas, eps })
    const found = await steps(adapter, c, {
      ...{ classWeights, optimizer, learningRate: lr, weightDecay, maxGradNorm, maxSteps: c.steps.length },
    })
    for (const [step, expected] of c.steps.entries())
      expect(relativeError(found[step] ?? [], expected)).toBeLessThan(TOLERANCE)
    for (const { name, tensor } of adapter.state.description.factors)
      expect(
        relativeError(adapter.state.native.read(name, 'value'), floats(tensors, `final.${tensor?.name}`)),
        name,
      ).toBeLessThan(TOLERANCE)
    await adapter.detach()
  })

  it("reads PEFT's folder, and writes one with the same tensors and the same scores", async () => {
    const model = await modelOf(c.model, { labels })
    const texts = c.rows.map(textOf)
    const theirs = await model.loadAdapter(join(folder, `peft_${c.model}`))
    const expected = await model.classify(texts)
    const tensors = await readGolden(join(folder, `${c.model}.safetensors`))
    for (const { name, tensor } of theirs.state.description.factors)
      expect(theirs.state.native.read(name, 'value')).toEqual(floats(tensors, `init.${tensor?.name}`))
    const saved = join(scratchFolder(), 'saved')
    await theirs.save(saved)
    await theirs.detach()
    const read = (at: string) => JSON.parse(readFileSync(join(at, 'adapter_config.json'), 'utf8'))
    const config = read(saved)
    expect(config).toMatchObject({ task_type: 'SEQ_CLS', modules_to_save: ['classifier', 'score'] })
    expect(config.modules_to_save).toEqual(read(join(folder, `peft_${c.model}`)).modules_to_save)
    const again = await model.loadAdapter(saved)
    expect(await model.classify(texts)).toEqual(expected)
    await again.detach()
  })
})
