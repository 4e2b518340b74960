/** Output norms of adapters at linears, and shared pairs of factors, against literal computations. */
import { expect, test } from 'vitest'
import { addon } from '../../lib/native/addon.js'
import { describeAdapter, initialize, linearSites } from '../../lib/strategies/describe.js'
import { lora } from '../../lib/strategies/lora.js'
import { loraDrop } from '../../lib/strategies/lora-drop.js'
import { flat } from '../lib/strategies/flat.js'
import { backward, goldenBatch, loadTiny, readGolden, relativeError, trainPlan } from './engine.js'

const batchOf = async (model: string) => goldenBatch(await readGolden(`golden/${model}.safetensors`))

test('the sum of squared outputs from moments is the sum over tokens', async () => {
  const { graph, model, base } = await loadTiny('llama3')
  const description = describeAdapter(lora({ r: 4, loraAlpha: 6 }), linearSites(graph))
  const { spec } = description
  const adapter = addon().createAdapter(spec, { trainable: false })
  await initialize(adapter, description, base, 0)
  for (const { name } of description.factors) adapter.fill(name, { kind: 'normal', std: 0.3, seed: 5 })
  const plan = { ...trainPlan, mode: 'evaluate' as const, outputNorms: true }
  const session = await addon().createSession(model, [adapter], { evaluate: plan }).promise
  const batch = await batchOf('llama3')
  await session.evaluate('evaluate', batch).promise
  const once = await session.outputNorms().promise
  await session.evaluate('evaluate', batch).promise
  const twice = await session.outputNorms().promise
  expect(
    relativeError(
      twice,
      once.map((value) => 2 * value),
    ),
  ).toBeLessThan(1e-12)

  // The first layer reads the normalized embedding: x is known without the engine.
  const weights = graph.weights
  const read = async (name: string) => {
    const { rows = 0 } = weights.find((weight) => weight.name === name) ?? {}
    const bytes = await model.readWeight(name, { type: 'f32', begin: 0, count: rows, adapters: [] }).promise
    return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4)
  }
  const table = await read('model.embed_tokens.weight')
  const gain = await readVector(read)
  const width = gain.length
  const eps = 1e-5
  for (const [i, term] of flat(spec).entries()) {
    if (!/layers\.0\.self_attn\.[qkv]_proj$/.test(term.target)) continue
    const [a, b] = [adapter.read(term.a, 'value'), adapter.read(term.b, 'value')]
    let sum = 0
    for (const token of batch.tokens) {
      const row = table.subarray(token * width, (token + 1) * width)
      const scale = 1 / Math.sqrt(row.reduce((total, value) => total + value * value, 0) / width + eps)
      const h = Array.from({ length: 4 }, (_, k) =>
        row.reduce(
          (total, value, j) => total + value * scale * (gain[j] as number) * (a[k * width + j] as number),
          0,
        ),
      )
      for (let o = 0; o < b.length / 4; o++) {
        const y = term.scale * h.reduce((total, value, k) => total + value * (b[o * 4 + k] as number), 0)
        sum += y * y
      }
    }
    expect(Math.abs((once[i] as number) / sum - 1), term.target).toBeLessThan(1e-4)
  }
  await session.dispose()
  await adapter.dispose()
  await model.dispose()

  async function readVector(reader: typeof read) {
    const { cols = 0 } = weights.find(({ name }) => name === 'model.layers.0.input_layernorm.weight') ?? {}
    const values = await reader('model.layers.0.input_layernorm.weight')
    expect(values).toHaveLength(cols)
    return values
  }
})

test('the gradient of a shared pair is the sum over its linears', async () => {
  const { graph, model } = await loadTiny('llama3')
  const sites = linearSites(graph)
  const batch = await batchOf('llama3')
  const open = async (strategy: Parameters<typeof describeAdapter>[0]) => {
    const description = describeAdapter(strategy, sites)
    const adapter = addon().createAdapter(description.spec, { trainable: true })
    return { ...description, adapter }
  }
  const shared = await open(loraDrop({ r: 4, keep: [] }))
  const apart = await open(lora({ r: 4 }))
  for (const { name, rows, cols } of shared.factors)
    shared.adapter.write(
      name,
      'value',
      Float32Array.from({ length: rows * cols }, (_, i) => 0.1 * Math.sin(i + rows)),
    )
  for (const [i, { a, b }] of flat(apart.spec).entries()) {
    const term = flat(shared.spec)[i]
    apart.adapter.write(a, 'value', shared.adapter.read(term?.a as string, 'value'))
    apart.adapter.write(b, 'value', shared.adapter.read(term?.b as string, 'value'))
  }
  for (const { adapter } of [shared, apart]) {
    const session = await addon().createSession(model, [adapter], { train: trainPlan }).promise
    await backward(session, batch)
    await session.dispose()
  }
  for (const { name, rows, cols } of shared.factors) {
    const sum = new Float64Array(rows * cols)
    let count = 0
    for (const [i, term] of flat(shared.spec).entries()) {
      const own = flat(apart.spec)[i]
      const factor = term.a === name ? own?.a : term.b === name ? own?.b : undefined
      if (factor === undefined) continue
      count++
      apart.adapter.read(factor, 'gradient').forEach((value, j) => {
        sum[j] = (sum[j] as number) + value
      })
    }
    expect(count).toBeGreaterThan(1)
    expect(relativeError(shared.adapter.read(name, 'gradient'), sum), name).toBeLessThan(1e-5)
  }
  for (const { adapter } of [shared, apart]) await adapter.dispose()
  await model.dispose()
})
