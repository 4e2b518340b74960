import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { readSafetensorsHeader, readTensor, writeSafetensors } from '../../../lib/formats/safetensors.js'
import { textModelOf, type Whole } from '../../../lib/formats/text-model.js'
import { graphOf, openModelFiles, WHOLES } from '../../../lib/models/index.js'
import { matchWeights } from '../../../lib/weights/weights.js'
import { parity } from '../../parity/engine.js'
import { scratchFolder } from '../scratch.js'

const flat = join(parity, 'models/gemma3')

/** The tiny Gemma 3 as the text model of a folder with a vision tower, with the names that published files have. */
async function nestedFolder(named: (name: string) => string): Promise<string> {
  const folder = join(scratchFolder(), 'nested')
  mkdirSync(folder)
  const text = JSON.parse(readFileSync(join(flat, 'config.json'), 'utf8'))
  const config = { model_type: 'gemma3', text_config: text, vision_config: {} }
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config))
  const header = await readSafetensorsHeader(join(flat, 'model.safetensors'))
  const tensors = [...header.tensors.values()].map(({ name, shape }) => ({
    name: named(name),
    dtype: 'BF16' as const,
    shape,
    data: () => readTensor(header, name),
  }))
  const vision = {
    name: 'vision_tower.weight',
    dtype: 'BF16' as const,
    shape: [1],
    data: async () => new Uint8Array(2),
  }
  await writeSafetensors(join(folder, 'model.safetensors'), [...tensors, vision])
  return folder
}

describe('the text model of a Qwen3.5 folder', () => {
  const text = { model_type: 'qwen3_5_text', hidden_size: 64, tie_word_embeddings: null }
  const whole = WHOLES.get('qwen3_5') as Whole
  const open = (more: object = {}) =>
    textModelOf({ model_type: 'qwen3_5', text_config: text, ...more }, whole)

  it('has its own names in PEFT, and a head that is tied only if the config says so', () => {
    expect(whole.loadsText).toBe(true)
    expect(open().config).toMatchObject({
      tie_word_embeddings: false,
      architectures: ['Qwen3_5ForCausalLM'],
    })
    expect(open({ tie_word_embeddings: true }).config.tie_word_embeddings).toBe(true)
  })

  it.each([
    [
      { text_config: undefined },
      'config.json: text_config is missing; model_type "qwen3_5" requires an object',
    ],
    [{ text_config: null }, 'config.json: text_config is null; model_type "qwen3_5" requires an object'],
    [
      { text_config: {} },
      'model_type of text_config is missing; models of type "qwen3_5" require qwen3_5_text',
    ],
    [{ text_config: { model_type: 'bert' } }, 'model_type of text_config is "bert"; models of type'],
  ])('is described by an object with its type: %j', (more, message) => {
    expect(() => open(more)).toThrow(message)
  })

  it('is without vision and the prediction of further tokens', () => {
    const names = [
      'model.visual.blocks.0.norm1.weight',
      'mtp.layers.0.input_layernorm.weight',
      'lm_head.weight',
    ]
    expect(names.map((name) => open().nameOf(name))).toEqual([undefined, undefined, 'lm_head.weight'])
    expect(open().nameOf('model.language_model.layers.0.linear_attn.A_log')).toBe(
      'model.layers.0.linear_attn.A_log',
    )
  })
})

describe('the text model of a Gemma 3 folder', () => {
  it.each([
    ['published', (name: string) => `language_model.${name}`],
    ['saved by transformers', (name: string) => name.replace(/^model\./, 'model.language_model.')],
  ])(
    'is the graph and the tensors of a folder of text alone, with names as they are %s',
    async (_what, named) => {
      const own = await openModelFiles(flat)
      const nested = await openModelFiles(await nestedFolder(named))
      const graph = graphOf(nested.config)
      expect(graph).toEqual(graphOf(own.config))
      expect(nested.config.architectures).toEqual(['Gemma3ForCausalLM'])
      expect(
        matchWeights(graph, nested.tensors)
          .map(({ name }) => name)
          .sort(),
      ).toEqual(
        matchWeights(graph, own.tensors)
          .map(({ name }) => name)
          .sort(),
      )
      expect(nested.tensors.size).toBe(own.tensors.size)
    },
  )
})
