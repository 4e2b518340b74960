/** Label smoothing and NEFTune against transformers', through PEFT, in float64. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { addon, type MicroBatch, type NativeAdapter, type NativeSession } from '../../lib/native/addon.js'
import { type AdapterFolder, openAdapterFolder } from '../../lib/peft/adapter-folder.js'
import { linearSites, weightSites } from '../../lib/strategies/describe.js'
import {
  backward,
  floats,
  goldenBatch,
  type Loaded,
  loadTiny,
  parity,
  readGolden,
  relativeError,
  trainPlan,
} from './engine.js'

interface Golden {
  smoothing: number
  alpha: number
  counters: { seed: number; step: number; microStep: number }
  losses: { label_smoothing: number; neftune: number }
}

const golden: Golden = JSON.parse(readFileSync(join(parity, 'regularizers', 'losses.json'), 'utf8'))
let loaded: Loaded
let folder: AdapterFolder
let adapter: NativeAdapter
let batch: MicroBatch
let session: NativeSession
beforeAll(async () => {
  loaded = await loadTiny('llama3')
  const { graph, model } = loaded
  folder = await openAdapterFolder(join(parity, 'peft', 'all_linear'), linearSites(graph), weightSites(graph))
  adapter = addon().createAdapter(folder.description.spec, { trainable: true })
  for await (const { name, values } of folder.parameters()) adapter.write(name, 'value', values)
  batch = goldenBatch(await readGolden('golden/llama3.safetensors'))
  const plans = {
    train: { ...trainPlan, recompute: true },
    evaluate: { ...trainPlan, mode: 'evaluate' as const },
  }
  session = await addon().createSession(model, [adapter], plans).promise
})
afterAll(async () => {
  await session.dispose()
  await adapter.dispose()
  await loaded.model.dispose()
})

test.each(['label_smoothing', 'neftune'] as const)('%s: loss and gradients', async (name) => {
  const gradients = await readGolden('regularizers/gradients.safetensors')
  const inputs = {
    label_smoothing: { labelSmoothing: golden.smoothing },
    neftune: { embeddingNoise: golden.alpha, ...golden.counters },
  }
  await adapter.zeroGradients().promise
  const loss = await backward(session, batch, inputs[name])
  expect(Math.abs(loss / golden.losses[name] - 1)).toBeLessThan(1e-5)
  for (const { name: factor, tensor } of folder.description.factors) {
    const expected = floats(gradients, `${name}.${tensor?.name}`)
    expect(relativeError(adapter.read(factor, 'gradient'), expected), factor).toBeLessThan(1e-5)
  }
  // Evaluations have neither.
  const plain = await session.evaluate('evaluate', batch).promise
  expect(Math.abs(plain.lossSum / plain.count - golden.losses[name])).toBeGreaterThan(1e-3)
})
