import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { writeModelFolder } from '../../../lib/base/model-folder.js'
import { UnsupportedError } from '../../../lib/core/errors.js'
import { llama3Factors } from '../../../lib/formats/rope-factors.js'
import type { SafetensorsInput } from '../../../lib/formats/safetensors.js'
import { openModelFiles } from '../../../lib/models/index.js'
import { tokenizerSourceFromFolder } from '../../../lib/tokenizer/folder.js'
import { loadTokenizer } from '../../../lib/tokenizer/tokenizer.js'
import { ggufBytes, type Value, value } from '../formats/gguf-bytes.js'
import { folderOf, llamaGguf, llamaTensors, vectors } from '../formats/model-fixtures.js'
import { scratchFile, scratchFolder } from '../scratch.js'

const json = (...path: string[]) => JSON.parse(readFileSync(join(...path), 'utf8'))

const CONFIG = {
  model_type: 'llama',
  hidden_size: 64,
  torch_dtype: 'float32',
  tie_word_embeddings: true,
  quantization_config: { load_in_4bit: true, bnb_4bit_quant_type: 'nf4' },
}

function sourceFolder(more: Record<string, string> = {}, config: object = CONFIG): string {
  return folderOf({
    'config.json': JSON.stringify(config),
    'model.safetensors': vectors(['a']),
    'generation_config.json': '{"temperature":0.7}',
    'tokenizer.json': '{"model":1}',
    'chat_template.jinja': 'template',
    'additional_chat_templates/tool_use.jinja': 'tools',
    LICENSE: 'free',
    'README.md': 'about the base',
    'train.py': 'not ours',
    ...more,
  })
}

function tensor(name: string, values: number, fill = 1): SafetensorsInput {
  return { name, dtype: 'BF16', shape: [values], data: () => new Uint8Array(2 * values).fill(fill) }
}

async function written(tensors: SafetensorsInput[], options = {}, source = sourceFolder()) {
  const path = join(scratchFolder(), 'out')
  const files = await writeModelFolder(path, await openModelFiles(source), tensors, options)
  return { path, files }
}

describe('a model folder from a folder', () => {
  it('holds the weights with what belongs to them, and nothing else of the source', async () => {
    const { path, files } = await written([tensor('w', 8), tensor('x', 4, 2)])
    expect(files).toEqual([
      'LICENSE',
      'additional_chat_templates/tool_use.jinja',
      'chat_template.jinja',
      'config.json',
      'generation_config.json',
      'model.safetensors',
      'tokenizer.json',
    ])
    expect(readFileSync(join(path, 'additional_chat_templates/tool_use.jinja'), 'utf8')).toBe('tools')
    const { tensors } = await openModelFiles(path)
    expect([...tensors.values()].map(({ name, dtype, shape }) => [name, dtype, shape])).toEqual([
      ['w', 'BF16', [8]],
      ['x', 'BF16', [4]],
    ])
    expect(readFileSync(join(path, 'generation_config.json'), 'utf8')).toBe('{"temperature":0.7}')
  })

  it('says the dtype that the weights have now, and nothing of how the source was quantized', async () => {
    const { path } = await written([tensor('w', 8)])
    expect(json(path, 'config.json')).toEqual({
      model_type: 'llama',
      hidden_size: 64,
      torch_dtype: 'bfloat16',
      tie_word_embeddings: true,
    })
    const newer = sourceFolder({}, { model_type: 'llama', dtype: 'float32' })
    const f16 = await written([{ ...tensor('w', 8), dtype: 'F16' }], {}, newer)
    expect(json(f16.path, 'config.json')).toEqual({ model_type: 'llama', dtype: 'float16' })
  })

  it('keeps the spelling of numbers, which Python tells apart', async () => {
    const text =
      '{"model_type":"llama","dropout":0.0,"eps":1e-05,"limit":[0.0,1.50],"big":12345678901234567890,"dtype":"float32"}'
    const { path } = await written([tensor('w', 8)], {}, sourceFolder({ 'config.json': text }))
    expect(readFileSync(join(path, 'config.json'), 'utf8')).toBe(`{
  "model_type": "llama",
  "dropout": 0.0,
  "eps": 1e-05,
  "limit": [
    0.0,
    1.50
  ],
  "big": 12345678901234567890,
  "dtype": "bfloat16"
}
`)
  })

  it('keeps it in the text model of a multimodal one', async () => {
    const text =
      '{"model_type":"gemma3","bos_token_id":2,"text_config":{"model_type":"gemma3_text","dropout":0.0},"vision_config":{}}'
    const { path } = await written([tensor('w', 8)], {}, sourceFolder({ 'config.json': text }))
    expect(readFileSync(join(path, 'config.json'), 'utf8')).toContain('"dropout": 0.0')
    expect(json(path, 'config.json')).toMatchObject({ model_type: 'gemma3_text', bos_token_id: 2 })
  })

  it('unties the head when one is given', async () => {
    const { path } = await written([tensor('model.embed_tokens.weight', 8), tensor('lm_head.weight', 8)])
    expect(json(path, 'config.json').tie_word_embeddings).toBe(false)
  })

  it('cuts the weights into files of a size, in order, with an index', async () => {
    const progress: string[] = []
    const { path, files } = await written(
      [tensor('c', 10), tensor('b', 30), tensor('a', 4), tensor('d', 4)],
      {
        maxShardBytes: 20,
        onProgress: (at: { tensor: string; writtenBytes: number; totalBytes: number }) =>
          progress.push(`${at.tensor} ${at.writtenBytes}/${at.totalBytes}`),
      },
    )
    const shard = (index: number) => `model-0000${index}-of-00003.safetensors`
    expect(files.filter((name) => name.startsWith('model'))).toEqual([
      shard(1),
      shard(2),
      shard(3),
      'model.safetensors.index.json',
    ])
    expect(json(path, 'model.safetensors.index.json')).toEqual({
      metadata: { total_size: 96 },
      weight_map: { a: shard(3), b: shard(2), c: shard(1), d: shard(3) },
    })
    expect((await openModelFiles(path)).tensors.size).toBe(4)
    expect(progress).toEqual(['c 20/96', 'b 80/96', 'a 88/96', 'd 96/96'])
  })

  it('replaces an earlier model in its place, and leaves what else is there', async () => {
    const { path } = await written([tensor('w', 8), tensor('x', 8)], { maxShardBytes: 16 })
    writeFileSync(join(path, 'notes.txt'), 'mine')
    await writeModelFolder(path, await openModelFiles(sourceFolder()), [tensor('y', 4)])
    expect(readdirSync(path).filter((name) => /^(model|notes)/.test(name))).toEqual([
      'model.safetensors',
      'notes.txt',
    ])
    expect([...(await openModelFiles(path)).tensors.keys()]).toEqual(['y'])
  })

  it('takes data by pieces', async () => {
    async function* pieces() {
      yield Uint8Array.of(1, 2)
      yield Uint8Array.of(3, 4)
    }
    const { path } = await written([{ name: 'w', dtype: 'F32', shape: [1], data: pieces }])
    expect([...readFileSync(join(path, 'model.safetensors')).subarray(-4)]).toEqual([1, 2, 3, 4])
    const wrong = written([{ name: 'w', dtype: 'F32', shape: [2], data: pieces }])
    await expect(wrong).rejects.toThrow('tensor "w" was given 4 bytes, but F32 [2] needs 8')
  })

  it('leaves nothing when it is stopped', async () => {
    const stop = new AbortController()
    const parent = scratchFolder()
    const late = {
      ...tensor('b', 8),
      data: () => {
        stop.abort(new Error('enough'))
        return new Uint8Array(16)
      },
    }
    const source = await openModelFiles(sourceFolder())
    const tensors = [tensor('a', 8), late, tensor('c', 8)]
    const attempt = writeModelFolder(join(parent, 'out'), source, tensors, { signal: stop.signal })
    await expect(attempt).rejects.toThrow('enough')
    expect(readdirSync(parent)).toEqual([])
  })
})

describe('a model folder from a GGUF file', () => {
  const small = JSON.parse(readFileSync('test/parity/tokenizer_small.json', 'utf8')).tokenizers.smollm
  const tokenizerKeys = Object.fromEntries(
    Object.entries(small.gguf as Record<string, unknown>).map(([key, of]): [string, Value] => {
      if (typeof of === 'string') return [key, value.string(of)]
      if (typeof of === 'boolean') return [key, value.bool(of)]
      if (typeof of === 'number') return [key, value.number('u32', of)]
      const list = of as (string | number)[]
      return [
        key,
        typeof list[0] === 'string'
          ? value.strings(list as string[])
          : value.numbers('i32', list as number[]),
      ]
    }),
  )
  const vocabulary = (small.gguf['tokenizer.ggml.tokens'] as string[]).length
  const tensors = [
    { name: 'token_embd.weight', dims: [64, vocabulary], type: 8 },
    ...llamaTensors().filter(({ name }) => name !== 'token_embd.weight'),
  ]

  function gguf(keys: Record<string, Value> = {}, more = [] as typeof tensors) {
    return scratchFile('m.gguf', ggufBytes(llamaGguf({ ...tokenizerKeys, ...keys }, [...tensors, ...more])))
  }

  it('has the config and the tokenizer that the file stands for', async () => {
    const source = gguf({
      'tokenizer.chat_template': value.string('chat'),
      'tokenizer.ggml.eot_token_id': value.number('u32', 0),
      'tokenizer.ggml.padding_token_id': value.number('u32', 1),
    })
    const { path, files } = await written([tensor('w', 8)], {}, source)
    expect(files).toEqual([
      'config.json',
      'generation_config.json',
      'model.safetensors',
      'tokenizer.json',
      'tokenizer_config.json',
    ])
    expect(json(path, 'config.json')).toMatchObject({
      architectures: ['LlamaForCausalLM'],
      num_key_value_heads: 2,
      torch_dtype: 'bfloat16',
      vocab_size: vocabulary,
      pad_token_id: 1,
    })
    expect(json(path, 'generation_config.json')).toMatchObject({ pad_token_id: 1 })
    const tokenizer = await tokenizerSourceFromFolder(path)
    expect(tokenizer.chatTemplate).toBe('chat')
    const eos = small.gguf['tokenizer.ggml.eos_token_id']
    expect(tokenizer.eosTokenIds).toEqual([eos, 0])
    const text = 'Twelve 12 cats, 345 dogs'
    const ids = loadTokenizer(tokenizer).encode(text, { addSpecialTokens: false })
    expect(loadTokenizer(tokenizer).decode(ids, { skipSpecialTokens: false })).toBe(text)
  })

  it('needs no tokenizer in the file', async () => {
    const { files } = await written([tensor('w', 8)], {}, scratchFile('m.gguf', ggufBytes(llamaGguf())))
    expect(files).toEqual(['config.json', 'model.safetensors'])
  })

  it("puts Llama 3's rotary divisors into words, and refuses others", async () => {
    const scaling = {
      factor: 8,
      low_freq_factor: 1,
      high_freq_factor: 4,
      original_max_position_embeddings: 8192,
    }
    const frequencies = Array.from({ length: 8 }, (_, i) => 100_000 ** (-i / 8))
    const factors = Float32Array.from(llama3Factors(frequencies, scaling))
    const source = gguf({}, [{ name: 'rope_freqs.weight', dims: [8], type: 0 }])
    const place = (await openModelFiles(source)).ropeFactors?.offset as number
    const bytes = readFileSync(source)
    bytes.set(new Uint8Array(factors.buffer), place)
    writeFileSync(source, bytes)
    const { path } = await written([tensor('w', 8)], {}, source)
    expect(json(path, 'config.json').rope_scaling).toEqual({ rope_type: 'llama3', ...scaling })

    bytes.writeFloatLE(1.5, place)
    writeFileSync(source, bytes)
    const attempt = written([tensor('w', 8)], {}, source)
    await expect(attempt).rejects.toThrow(UnsupportedError)
    expect(existsSync(join(source, '..', 'out'))).toBe(false)
  })
})
