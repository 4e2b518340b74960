/** Exported GGUF files in llama.cpp: it cuts texts into the same ids, and computes the same model. */
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import type { Adapter } from '../../lib/model/adapter.js'
import { loadModel } from '../../lib/model/load.js'
import type { Model } from '../../lib/model/model.js'
import { lora } from '../../lib/strategies/lora.js'
import { readTokenizerSource } from '../../lib/tokenizer/read-source.js'
import { loadTokenizer } from '../../lib/tokenizer/tokenizer.js'
import { scratchFolder } from '../lib/scratch.js'
import { swept } from '../sweep.js'
import { runLlamaCpp } from './llama-cpp.js'
import { awkwardTexts, wordedModel } from './worded-model.js'

const models: Model[] = []
afterEach(async () => {
  for (const model of models.splice(0)) await model.dispose()
})

async function load(path: string): Promise<Model> {
  const model = await loadModel(path, { precision: 'fp32' })
  models.push(model)
  return model
}

/** An adapter that does something. */
async function attach(model: Model, options: Parameters<typeof lora>[0] = {}): Promise<Adapter> {
  const adapter = await model.attach(lora({ r: 4, loraAlpha: 8, ...options }), { seed: 3 })
  for (const { name } of adapter.state.description.spec.parameters)
    if (name.includes('lora_B')) adapter.state.native.fill(name, { kind: 'normal', std: 0.05, seed: 3 })
  return adapter
}

const place = (name = 'model.gguf') => join(scratchFolder(), name)

/** Largest difference of log-probabilities among the tokens that have at least a thousandth. */
function largestGap(expected: Float32Array, found: Map<number, number>[]): number {
  const vocabulary = expected.length / found.length
  let most = 0
  found.forEach((row, position) => {
    const logits = expected.subarray(position * vocabulary, (position + 1) * vocabulary)
    const top = logits.reduce((a, b) => Math.max(a, b))
    const sum = top + Math.log(logits.reduce((total, logit) => total + Math.exp(logit - top), 0))
    logits.forEach((logit, id) => {
      if (logit - sum > Math.log(1e-3))
        most = Math.max(most, Math.abs(logit - sum - (row.get(id) ?? Number.POSITIVE_INFINITY)))
    })
  })
  return most
}

/** Ids below this are no control tokens, whatever the tokenizer. */
const WORDS = 890

/** The likeliest ids after a prompt, up to one that ends a text, at which llama.cpp stops. */
async function greedyIds(model: Model, prompt: number[], count: number): Promise<number[]> {
  const ids = [...prompt]
  while (ids.length < prompt.length + count) {
    const logits = await model.logits(Int32Array.from(ids))
    const last = logits.subarray(logits.length - logits.length / ids.length)
    const id = last.indexOf(last.reduce((a, b) => Math.max(a, b)))
    if (id === model.base.files.config.eos_token_id) break
    ids.push(id)
  }
  return ids.slice(prompt.length)
}

/** Expects the same greedy ids, up to one that is as likely as another within twice the error of log-probabilities. */
async function expectGreedy(found: number[], model: Model, count: number, error: number): Promise<void> {
  const own = await greedyIds(model, prompt, count)
  const length = Math.max(own.length, found.length)
  const at = Array.from({ length }, (_, i) => i).find((i) => own[i] !== found[i])
  if (at === undefined) return
  // llama.cpp also ends at control tokens that it knows by their text.
  if (at === found.length && (own[at] as number) >= WORDS) return
  const ids = [...prompt, ...own.slice(0, at)]
  const logits = await model.logits(Int32Array.from(ids))
  const last = logits.subarray(logits.length - logits.length / ids.length)
  const end = model.base.files.config.eos_token_id as number
  const [one, other] = [own[at] ?? end, found[at] ?? end].map((id) => last[id] as number)
  expect(Math.abs((one as number) - (other as number)), `${own} and ${found}`).toBeLessThan(2 * error)
}

const prompt = Array.from({ length: 24 }, (_, i) => (i * 131 + 17) % WORDS)

/**
 * Texts that llama.cpp cuts as Python does: it composes no accents, keeps white space beside some tokens, and knows the
 * case of ASCII letters alone.
 */
const comparable = (tokenizer: string) =>
  awkwardTexts.filter((text) => {
    if (['tekken', 'o200k'].includes(tokenizer)) return !/(?=\P{ASCII})[\p{L}\p{M}]/u.test(text)
    if (['qwen2', 'qwen35'].includes(tokenizer)) return text === text.normalize('NFC')
    return tokenizer !== 'gpt2' || !/<(left|right|both)>/.test(text)
  })

describe.each(
  swept(
    [
      ['smollm2', 'smollm', 'f16'],
      ['llama3', 'llama3', 'bf16'],
      ['qwen2', 'qwen2', 'f32'],
      ['qwen3', 'qwen2', 'f16'],
      ['qwen3_window', 'qwen2', 'f32'],
      ['smollm3', 'llama3', 'f16'],
      ['granite', 'smollm', 'f16'],
      ['granite4', 'llama3', 'f16'],
      ['olmo2', 'llama3', 'f16'],
      ['olmo3', 'llama3', 'f16'],
      ['gemma', 'llama2', 'f16'],
      ['gemma3', 'llama2', 'f16'],
      ['ministral3', 'tekken', 'f16'],
      ['phi3', 'o200k', 'f16'],
      ['lfm2', 'llama3', 'f16'],
      ['qwen3_5', 'qwen35', 'f16'],
      ['llama2', 'llama2', 'f16'],
      ['linear', 'gpt2', 'f16'],
    ] as const,
    3,
  ),
)('a model like %s with a tokenizer like %s, as a GGUF file in %s', (family, tokenizer, dtype) => {
  it('is the same model in llama.cpp, with an adapter merged in', async () => {
    // A GGUF file has no place for the windows of some layers, nor for a bias of Qwen3's o_proj.
    const plain = { use_sliding_window: false, layer_types: null, attention_bias: false }
    const path = await wordedModel(family, tokenizer, /^qwen[23](_window)?$/.test(family) ? plain : {})
    const model = await load(path)
    await attach(model)
    const { output, files, check, remarks } = await model.export(place(), { format: 'gguf', dtype })
    expect(files).toEqual(['model.gguf'])
    expect(remarks).toHaveLength(tokenizer === 'gpt2' ? 1 : 0)
    expect(check?.kl).toBeLessThan(dtype === 'bf16' ? 1e-3 : 2e-5)

    const own = loadTokenizer(await readTokenizerSource({ kind: 'folder', path }))
    const texts = comparable(tokenizer)
    expect(texts.length).toBeGreaterThan(30)
    // The written model is the reference: rounding to 16 bits is not tested here.
    const written = await load(output)
    const found = await runLlamaCpp(output, { texts, prompt, tokens: 12 })
    texts.forEach((text, i) => {
      const ids = own.encode(text, { addSpecialTokens: false })
      expect({ text, ids: found.ids[i] }).toEqual({ text, ids })
    })
    const gap = largestGap(await written.logits(Int32Array.from(prompt)), found.logProbabilities)
    // llama.cpp keeps keys and values in f16, and multiplies bf16 weights with activations in bf16.
    const error = dtype === 'bf16' ? 0.3 : 0.05
    expect(gap).toBeLessThan(error)
    await expectGreedy(found.greedy, written, 12, error)
    expect(found.trainContextSize).toBe(512)
  })
})

describe('a model like qwen3_window', () => {
  const unbiased = { attention_bias: false }
  const unwindowed = { use_sliding_window: false, layer_types: null }

  it.each([
    [
      'windows',
      unbiased,
      /cannot be written as a GGUF file, which has no key for this setting of config\.json: sliding_window is 10, expected it to be absent\. Write a safetensors folder/,
    ],
    [
      'biases',
      unwindowed,
      'which has no key for this setting of config.json: attention_bias is true, expected false. Write',
    ],
  ])('is not written with its %s', async (_what, more, problem) => {
    const model = await load(await wordedModel('qwen3_window', 'qwen2', more))
    await expect(model.export(place(), { format: 'gguf' })).rejects.toThrow(problem)
  })
})

describe.each(
  swept(
    [
      ['smollm2', 'smollm'],
      ['ministral3', 'tekken'],
      ['phi3', 'o200k'],
      ['lfm2', 'llama3'],
      ['qwen3_5', 'qwen35'],
    ] as const,
    1,
  ),
)('a model like %s', (family, tokenizer) => {
  it('is nearly the same in Q8_0, which rounds more in llama.cpp', async () => {
    const model = await load(await wordedModel(family, tokenizer))
    await attach(model)
    const { output, check } = await model.export(place(), { format: 'gguf', dtype: 'q8_0' })
    expect(check?.kl).toBeGreaterThan(0)
    expect(check?.kl).toBeLessThan(1e-2)
    const written = await load(output)
    const found = await runLlamaCpp(output, { prompt, tokens: 12 })
    // It rounds activations to 8 bits as well; a file that is wrong is off by whole units.
    const gap = largestGap(await written.logits(Int32Array.from(prompt)), found.logProbabilities)
    expect(gap).toBeLessThan(0.8)
    await expectGreedy(found.greedy, written, 12, 0.8)
  })
})

describe('a model like granite4', () => {
  it('takes the adapter alone, with the halves of its fused linear as two layers', async () => {
    const model = await load(await wordedModel('granite4', 'llama3'))
    await attach(model, { targetModules: 'all-linear' })
    const expected = await model.logits(Int32Array.from(prompt))
    const base = await model.export(place('base.gguf'), { format: 'gguf', adapters: [], check: false })
    const { output, check } = await model.export(place('adapter.gguf'), { format: 'gguf-lora' })
    expect(check?.maxAbsLogitError).toBeLessThan(1e-4)
    const found = await runLlamaCpp(base.output, { prompt, tokens: 12, lora: output })
    expect(largestGap(expected, found.logProbabilities)).toBeLessThan(0.05)
    expect(found.greedy).toEqual(await greedyIds(model, prompt, 12))
  })

  it('refuses an adapter of its GGUF file, which has two A for its one', async () => {
    const model = await load(await wordedModel('granite4', 'llama3'))
    const base = await model.export(place('base.gguf'), { format: 'gguf', check: false })
    const apart = await load(base.output)
    await attach(apart, { targetModules: 'all-linear' })
    const other = await apart.export(place('apart.gguf'), { format: 'gguf-lora', check: false })
    await expect(model.loadAdapter(other.output)).rejects.toThrow('has a different A for each half of')
  })
})

describe('a model like granite4 without rotary embedding', () => {
  it('is not written', async () => {
    const model = await load(await wordedModel('granite4', 'llama3', { position_embedding_type: 'nope' }))
    await expect(model.export(place(), { format: 'gguf' })).rejects.toThrow('has no rotary embedding')
  })
})

describe.each(
  swept(
    [
      ['smollm2', 'smollm', { q_proj: 2, 'layers.1.mlp.up_proj': 1 }],
      ['lfm2', 'llama3', { in_proj: 2, 'layers.1.feed_forward.w3': 1 }],
      ['qwen3_5', 'qwen35', { out_proj: 2, 'layers.1.mlp.up_proj': 1 }],
    ] as const,
    1,
  ),
)('a model like %s', (family, tokenizer, rankPattern) => {
  it('takes the adapter alone as a GGUF file, whatever its scales, on its own GGUF file', async () => {
    const source = await load(await wordedModel(family, tokenizer))
    const base = await source.export(place('base.gguf'), { format: 'gguf', check: false })
    const model = await load(base.output)
    await attach(model, {
      useRslora: true,
      rankPattern,
      alphaPattern: { k_proj: 3 },
    })
    const expected = await model.logits(Int32Array.from(prompt))
    const plain = await model.logits(Int32Array.from(prompt), { adapters: [] })
    const { output, check } = await model.export(place('adapter.gguf'), { format: 'gguf-lora' })
    expect(check).toMatchObject({ top1Agreement: 1 })
    expect(check?.maxAbsLogitError).toBeLessThan(1e-4)
    const found = await runLlamaCpp(base.output, { prompt, tokens: 12, lora: output })
    expect(largestGap(plain, found.logProbabilities)).toBeGreaterThan(0.1)
    expect(largestGap(expected, found.logProbabilities)).toBeLessThan(0.05)
    expect(found.greedy).toEqual(await greedyIds(model, prompt, 12))

    const loaded = await model.loadAdapter(output)
    const again = await model.logits(Int32Array.from(prompt), { adapters: [loaded] })
    expect(Math.max(...again.map((value, i) => Math.abs(value - (expected[i] ?? 0))))).toBeLessThan(1e-4)
  })
})
