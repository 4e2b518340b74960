import { describe, expect, test } from 'vitest'
import { graphOf } from '../../../lib/models/index.js'
import { fp4, int8, keep, nf4, type Quantization } from '../../../lib/weights/quantization.js'
import {
  chooseEmbeddingQuantization,
  chooseQuantization,
  type StorageChoice,
  storageFormats,
} from '../../../lib/weights/weights.js'
import { tinyConfig } from '../strategies/sites.js'

const untied = graphOf({ ...tinyConfig, tie_word_embeddings: false })
const plain: StorageChoice = { quantization: { type: 'none' }, precision: 'f32', exact: false }

function formats(dtype: string, choice: Partial<StorageChoice> = {}) {
  const all = storageFormats(untied, () => dtype, { ...plain, ...choice })
  return {
    linear: all['model.layers.0.mlp.up_proj.weight'],
    embedding: all['model.embed_tokens.weight'],
    head: all['lm_head.weight'],
    norm: all['model.norm.weight'],
  }
}

describe('weights are held', () => {
  test('as in their file where the precision can use it, vectors in f32', () => {
    expect(formats('F32')).toEqual({ linear: 'f32', embedding: 'f32', head: 'f32', norm: 'f32' })
    expect(formats('F16')).toEqual({ linear: 'f16', embedding: 'f16', head: 'f16', norm: 'f32' })
    expect(formats('BF16')).toEqual({ linear: 'bf16', embedding: 'bf16', head: 'bf16', norm: 'f32' })
    expect(formats('F32', { precision: 'bf16' }).linear).toBe('bf16')
  })

  test('as codes only in the blocks', () => {
    const expected = { linear: 'nf4_double', embedding: 'bf16', head: 'bf16', norm: 'f32' }
    expect(formats('BF16', { quantization: nf4() })).toEqual(expected)
    expect(formats('F32', { quantization: nf4({ doubleQuant: false }) })).toMatchObject({
      linear: 'nf4',
      head: 'f32',
    })
    expect(formats('BF16', { quantization: fp4() })).toMatchObject({ linear: 'fp4_double', head: 'bf16' })
    expect(formats('BF16', { quantization: int8() })).toMatchObject({ linear: 'int8', head: 'bf16' })
  })

  test('in bf16 when they come in GGML blocks, or in f32 when nothing may be lost', () => {
    expect(formats('Q4_1')).toMatchObject({ linear: 'bf16', embedding: 'bf16' })
    expect(formats('Q4_1', { exact: true })).toMatchObject({ linear: 'f32', embedding: 'f32' })
  })

  test('as they are in a GGUF file when blocks are kept, and what has no blocks as ever', () => {
    const kept = { linear: 'q6_k', embedding: 'q6_k', head: 'q6_k', norm: 'f32' }
    expect(formats('Q6_K', { quantization: keep() })).toEqual(kept)
    expect(formats('F16', { quantization: keep() })).toMatchObject({ linear: 'f16', embedding: 'f16' })
  })
})

describe('embedding and head are held', () => {
  test('in codes of their own, whatever the linears are', () => {
    const small = { embeddingQuantization: int8() }
    const tables = { embedding: 'int8', head: 'int8' }
    expect(formats('BF16', small)).toEqual({ linear: 'bf16', ...tables, norm: 'f32' })
    expect(formats('BF16', { ...small, quantization: nf4() })).toMatchObject({
      linear: 'nf4_double',
      ...tables,
    })
    expect(formats('Q6_K', { ...small, quantization: keep() })).toMatchObject({ linear: 'q6_k', ...tables })
    const kept = { quantization: nf4(), embeddingQuantization: keep() }
    expect(formats('Q6_K', kept)).toMatchObject({ linear: 'nf4_double', embedding: 'q6_k', head: 'q6_k' })
    const none: Partial<StorageChoice> = { quantization: keep(), embeddingQuantization: { type: 'none' } }
    expect(formats('Q6_K', none)).toMatchObject({ linear: 'q6_k', embedding: 'bf16', head: 'bf16' })
  })

  test('as asked for, or as is usual beside the linears, but in no codes other than those of the file', () => {
    const head = (name: string) => (name === 'lm_head.weight' ? 'INT8' : 'BF16')
    const choose = (
      asked?: Quantization,
      linears: Quantization = nf4(),
      dtypeOf: (name: string) => string = head,
    ) => chooseEmbeddingQuantization('some/model', untied, dtypeOf, asked, linears)
    expect(choose()).toEqual({ type: 'none' })
    expect(choose(undefined, keep())).toEqual(keep())
    expect(choose(int8())).toEqual(int8())
    expect(() => choose(nf4())).toThrow(
      'embedding_quantization is nf4, but some/model has the head in int8; set that, or none',
    )
    expect(() => choose(keep())).toThrow('has none: its embedding and head are BF16, INT8')
    expect(choose(keep(), nf4(), () => 'Q8_0')).toEqual(keep())
  })
})

test('keeping needs blocks to keep', () => {
  const choose = (dtype: string) => chooseQuantization('some/model', untied, () => dtype, keep())
  expect(choose('Q4_K')).toEqual({ type: 'keep' })
  expect(() => choose('BF16')).toThrow(
    'quantization is keep, which keeps the blocks of a GGUF file, but some/model has none: its matrices are BF16. Use a .gguf file with quantized tensors, or nf4.',
  )
  expect(() => choose('NF4')).toThrow('are already quantized as {type: nf4, double_quant: false}')
})
