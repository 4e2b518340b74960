/** Adapter folders that PEFT wrote give PEFT's logits here. */
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { addon } from '../../lib/native/addon.js'
import { openAdapterFolder } from '../../lib/peft/adapter-folder.js'
import { linearSites } from '../../lib/strategies/describe.js'
import type { AdapterDescription } from '../../lib/strategies/strategy.js'
import { floats, goldenBatch, type Loaded, loadTiny, parity, readGolden, relativeError } from './engine.js'

/** Logits of the golden batch with an adapter, sequence by sequence: [T, vocab]. */
async function logitsWith(
  { graph, model }: Loaded,
  name: string,
  description: AdapterDescription,
  values: ReadonlyMap<string, Float32Array>,
): Promise<Float32Array> {
  const { tokens, cuSeqlens } = goldenBatch(await readGolden(`golden/${name}.safetensors`))
  const adapter = addon().createAdapter(description.spec, { trainable: false })
  for (const [parameter, array] of values) adapter.write(parameter, 'value', array)
  const size = { tokens: tokens.length, sequences: 1, headRows: tokens.length, kvCapacity: tokens.length }
  const session = await addon().createSession(model, [adapter], {
    forward: { mode: 'forward', ...size, precision: 'f32' },
  }).promise
  const logits = new Float32Array(tokens.length * graph.vocabSize)
  for (let s = 0; s + 1 < cuSeqlens.length; s++) {
    const [start, end] = [cuSeqlens[s] as number, cuSeqlens[s + 1] as number]
    const rows = Int32Array.from({ length: end - start }, (_, i) => i)
    const input = { tokens: tokens.slice(start, end), past: 0, rows, wantLogits: true }
    const result = await session.forward('forward', input).promise
    logits.set(result.logits as Float32Array, start * graph.vocabSize)
  }
  await session.dispose()
  await adapter.dispose()
  return logits
}

describe('folders that PEFT wrote', () => {
  it.each([
    ['all_linear', 'llama3'],
    ['patterns', 'llama2'],
    ['qv_half', 'mistral'],
    ['second', 'llama3'],
    ['mlp_bf16', 'tinyllama'],
  ])('%s gives the logits that it has in PEFT', async (name, base) => {
    const loaded = await loadTiny(base)
    const folder = await openAdapterFolder(join(parity, 'peft', name), linearSites(loaded.graph))
    const values = new Map<string, Float32Array>()
    for await (const parameter of folder.parameters()) values.set(parameter.name, parameter.values)
    const golden = floats(await readGolden(`peft/${name}.logits.safetensors`), 'logits')
    const logits = await logitsWith(loaded, base, folder.description, values)
    expect(relativeError(logits, golden)).toBeLessThan(1e-4)
    await loaded.model.dispose()
  })
})
