import { afterAll, describe, expect, it } from 'vitest'
import { addon } from '../../lib/native/addon.js'
import { floats, goldenBatch, type Loaded, loadTiny, readGolden, relativeError, scalar } from './engine.js'
import { measured } from './measured.js'

const models = [
  'llama2',
  'llama3',
  'smollm2',
  'tinyllama',
  'mistral',
  'odd',
  'sharded',
  'half',
  'linear',
  'squared',
  'mistral_window',
  'qwen2',
  'qwen2_window',
  'qwen3',
  'qwen3_window',
  'smollm3',
  'smollm3_window',
  'granite',
  'granite_odd',
  'granite4',
  'granite4_nope',
  'olmo2',
  'olmo2_odd',
  'olmo3',
  'olmo3_window',
  'gemma',
  'gemma_odd',
  'gemma3',
  'gemma3_window',
  'ministral3',
  'ministral3_window',
  'phi3',
  'phi3_window',
  'lfm2',
  'lfm2_odd',
  'qwen3_5',
  'qwen3_5_odd',
]

describe.each(models)('%s in fp32 against transformers', (name) => {
  let loaded: Loaded | undefined
  afterAll(() => loaded?.model.dispose())

  it('gives the same logits, sequence by sequence and token by token', async () => {
    loaded ??= await loadTiny(name)
    const golden = await readGolden(`golden/${name}.safetensors`)
    const { tokens, cuSeqlens } = goldenBatch(golden)
    const { vocabSize } = loaded.graph
    const logits = floats(golden, 'logits')
    const session = await addon().createSession(loaded.model, [], {
      forward: { mode: 'forward', tokens: 64, sequences: 1, headRows: 64, kvCapacity: 256, precision: 'f32' },
    }).promise
    for (let s = 0; s + 1 < cuSeqlens.length; s++) {
      const begin = cuSeqlens[s] as number
      const end = cuSeqlens[s + 1] as number
      // All but the last three in chunks, as a prompt; the last three one by one, as generation does.
      const pieces: [number, number][] = []
      const prompt = Math.max(end - 3, begin + 1)
      for (let at = begin; at < prompt; at += 50) pieces.push([at, Math.min(at + 50, prompt)])
      for (let at = prompt; at < end; at++) pieces.push([at, at + 1])
      for (const [from, to] of pieces) {
        const rows = Int32Array.from({ length: to - from }, (_, i) => i)
        const result = await session.forward('forward', {
          tokens: tokens.slice(from, to),
          past: from - begin,
          reach: end - begin,
          rows,
          wantLogits: true,
        }).promise
        const expected = logits.subarray(from * vocabSize, to * vocabSize)
        const value = relativeError(result.logits as Float32Array, expected)
        measured({ model: name, source: 'folder', what: from < prompt ? 'logits' : 'generation', value })
        expect(value).toBeLessThan(1e-4)
      }
    }
    await session.dispose()
  })

  it('gives the same loss over the packed batch', async () => {
    loaded ??= await loadTiny(name)
    const golden = await readGolden(`golden/${name}.safetensors`)
    const batch = goldenBatch(golden)
    const session = await addon().createSession(loaded.model, [], {
      evaluate: {
        mode: 'evaluate',
        tokens: batch.tokens.length,
        sequences: batch.cuSeqlens.length - 1,
        headRows: batch.tokens.length,
        precision: 'f32',
      },
    }).promise
    const { lossSum, count } = await session.evaluate('evaluate', batch).promise
    expect(count).toBe(scalar(golden, 'loss_count'))
    expect(Math.abs(lossSum / count / scalar(golden, 'loss') - 1)).toBeLessThan(1e-5)
    await session.dispose()
  })
})
