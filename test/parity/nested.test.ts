import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { readSafetensorsHeader } from '../../lib/formats/safetensors.js'
import { type Adapter, loadModel, type Model } from '../../lib/index.js'
import { graphOf, openModelFiles } from '../../lib/models/index.js'
import { scratchFolder } from '../lib/scratch.js'
import { floats, goldenBatch, parity, readGolden, relativeError } from './engine.js'

const folder = join(parity, 'nested/model')
const flat = join(parity, 'models/ministral3')
const adapter = join(parity, 'nested/adapter')

const models: Model[] = []
afterEach(async () => {
  for (const model of models.splice(0)) await model.dispose()
})

async function load(path: string): Promise<Model> {
  const model = await loadModel(path, { precision: 'fp32' })
  models.push(model)
  return model
}

/** The largest relative error over the packed sequences, each on its own. */
async function errorOf(model: Model, expected: string, adapters: Adapter[] = []): Promise<number> {
  const golden = await readGolden('nested/logits.safetensors')
  const { tokens, cuSeqlens } = goldenBatch(golden)
  const logits = floats(golden, expected)
  const vocabulary = logits.length / tokens.length
  let most = 0
  for (let s = 0; s + 1 < cuSeqlens.length; s++) {
    const [begin, end] = [cuSeqlens[s] as number, cuSeqlens[s + 1] as number]
    const found = await model.logits(tokens.slice(begin, end), { adapters })
    most = Math.max(most, relativeError(found, logits.subarray(begin * vocabulary, end * vocabulary)))
  }
  return most
}

describe('a Ministral 3 that takes images as well', () => {
  it('is its text model, whose tensors have the names of a folder of text alone', async () => {
    const [whole, text] = await Promise.all([openModelFiles(folder), openModelFiles(flat)])
    expect([...whole.tensors.keys()].sort()).toEqual([...text.tensors.keys()].sort())
    expect(graphOf(whole.config)).toEqual(graphOf(text.config))
    expect(whole.config.architectures).toEqual(['Ministral3ForCausalLM'])
    expect([whole.whole?.tied, text.whole]).toEqual([true, undefined])
  })

  it('gives the logits of transformers', async () => {
    expect(await errorOf(await load(folder), 'plain')).toBeLessThan(1e-5)
  })

  it.each([
    ['it', folder],
    ['its text model alone', flat],
  ])('lets an adapter by PEFT act on %s', async (_, path) => {
    const model = await load(path)
    const loaded = await model.loadAdapter(adapter)
    expect(await errorOf(model, 'adapted', [loaded])).toBeLessThan(1e-5)
  })

  it('has adapters with the names that PEFT gives them', async () => {
    const loaded = await (await load(folder)).loadAdapter(adapter)
    const out = join(scratchFolder(), 'adapter')
    await loaded.save(out)
    const names = async (path: string) =>
      [...(await readSafetensorsHeader(join(path, 'adapter_model.safetensors'))).tensors.keys()].sort()
    expect(await names(out)).toEqual(await names(adapter))
    const { target_modules: targets } = JSON.parse(readFileSync(join(out, 'adapter_config.json'), 'utf8'))
    expect(targets).toContain('model.language_model.layers.0.self_attn.q_proj')
    expect(targets).toHaveLength(6)
  })
})
