import { describe, expect, test } from 'vitest'
import { graphOf } from '../../../lib/models/index.js'
import { adalora } from '../../../lib/strategies/adalora.js'
import type { DyloraOptions, LoraOptions } from '../../../lib/strategies/configs.js'
import { deltaLora } from '../../../lib/strategies/delta-lora.js'
import { describeAdapter, linearSites, weightSites } from '../../../lib/strategies/describe.js'
import { dora } from '../../../lib/strategies/dora.js'
import { dylora } from '../../../lib/strategies/dylora.js'
import { loha } from '../../../lib/strategies/loha.js'
import { lora } from '../../../lib/strategies/lora.js'
import { loraFa } from '../../../lib/strategies/lora-fa.js'
import { loraPlus } from '../../../lib/strategies/lora-plus.js'
import { qlora } from '../../../lib/strategies/qlora.js'
import type { StrategyConfig } from '../../../lib/strategies/strategy.js'
import { vera } from '../../../lib/strategies/vera.js'
import { tinyConfig } from './sites.js'

const graphs = {
  tied: graphOf(tinyConfig),
  untied: graphOf({ ...tinyConfig, tie_word_embeddings: false }),
  biased: graphOf({ ...tinyConfig, model_type: 'qwen2' }),
}

function describeOn(graph: keyof typeof graphs, strategy: StrategyConfig) {
  const weights = weightSites(graphs[graph])
  return describeAdapter(strategy, linearSites(graphs[graph]), { weights })
}

const copied = (graph: keyof typeof graphs, options: LoraOptions) =>
  describeOn(graph, lora(options)).spec.copies?.map(({ weight }) => weight)

describe('modules that train whole', () => {
  test('are those whose path, or that of a module they are in, ends in a name', () => {
    expect(copied('untied', { modulesToSave: ['lm_head', 'model.norm'] })).toEqual([
      'model.norm.weight',
      'lm_head.weight',
    ])
    // As in PEFT, the end of a path need not be a whole name.
    expect(copied('untied', { modulesToSave: ['norm'] })).toHaveLength(5)
    expect(copied('biased', { modulesToSave: ['0.self_attn'] })).toEqual(
      ['q', 'k', 'v']
        .flatMap((one) => [`${one}_proj.weight`, `${one}_proj.bias`])
        .concat('o_proj.weight')
        .map((name) => `model.layers.0.self_attn.${name}`),
    )
  })

  test('are not adapted', () => {
    const { targets, spec } = describeOn('tied', lora({ modulesToSave: ['mlp', 'q_proj'] }))
    expect(targets).toHaveLength(2 * 3)
    expect(spec.copies).toHaveLength(2 * 4)
    expect(() =>
      describeOn('tied', lora({ targetModules: ['q_proj'], modulesToSave: ['self_attn'] })),
    ).toThrow('modules_to_save ["self_attn"] excludes every module that target_modules ["q_proj"] matches.')
  })

  test('stay tied where the head is the embedding, and are saved under both names', () => {
    for (const name of ['lm_head', 'embed_tokens']) {
      const { spec, factors, repeats } = describeOn('tied', lora({ modulesToSave: [name] }))
      expect(spec.copies).toEqual([
        { parameter: 'model.embed_tokens.weight', weight: 'model.embed_tokens.weight' },
      ])
      expect(factors.at(-1)?.tensor?.name).toBe('base_model.model.model.embed_tokens.weight')
      expect(repeats.map(({ tensor }) => tensor.name)).toEqual(['base_model.model.lm_head.weight'])
    }
  })

  test('have their vectors in a group without decay, which LoRA+ trains faster', () => {
    const inner = lora({ modulesToSave: ['lm_head', 'model.norm'] })
    expect(describeOn('untied', inner).groups.at(-1)).toEqual({
      name: 'undecayed',
      learningRateFactor: 1,
      decays: false,
      parameters: ['model.norm.weight'],
    })
    expect(
      describeOn('untied', loraPlus({ adapter: inner, loraplusLrRatio: 4 })).groups.at(-1),
    ).toMatchObject({
      learningRateFactor: 4,
      decays: false,
      parameters: ['model.norm.weight'],
    })
    expect(describeOn('untied', qlora({ adapter: inner })).spec.copies).toHaveLength(2)
  })

  test('that match nothing are refused, and so are they by strategies that cannot', () => {
    expect(() => copied('tied', { modulesToSave: ['lm_head', 'score'] })).toThrow(
      'modules_to_save: no module matches "score". Modules of this model end in: embed_tokens, model, lm_head, input_layernorm, ',
    )
    expect(() => vera({ modulesToSave: ['lm_head'] } as never)).toThrow('unknown key modulesToSave')
  })
})

describe('biases', () => {
  test('train all, or those of adapted linears under the name that PEFT gives them', () => {
    const all = describeOn('biased', lora({ targetModules: ['q_proj'], bias: 'all' }))
    const tensors = all.factors.slice(4).map(({ tensor }) => tensor)
    expect(tensors).toHaveLength(6)
    expect(tensors[0]).toEqual({
      name: 'base_model.model.model.layers.0.self_attn.q_proj.base_layer.bias',
      shape: [64],
    })
    expect(tensors[1]?.name).toBe('base_model.model.model.layers.0.self_attn.k_proj.bias')
    expect(copied('biased', { targetModules: ['q_proj', 'up_proj'], bias: 'lora_only' })).toEqual([
      'model.layers.0.self_attn.q_proj.bias',
      'model.layers.1.self_attn.q_proj.bias',
    ])
  })

  test('are refused where there are none', () => {
    expect(() => copied('tied', { bias: 'all' })).toThrow(
      'bias is all, but no linear of this model has a bias; leave it out.',
    )
    expect(() => copied('biased', { targetModules: ['up_proj'], bias: 'lora_only' })).toThrow(
      'bias is lora_only, but no adapted linear has a bias; leave it out.',
    )
    expect(() => dora({ bias: 'all' } as never)).toThrow('bias is "all", expected one of none')
  })
})

describe('an embedding as a target', () => {
  test('has a term of A [r, vocabulary], which starts at zero, and B [dimension, r] without dropout', () => {
    const { spec, factors, targets } = describeOn(
      'tied',
      lora({
        r: 4,
        loraDropout: 0.1,
        targetModules: ['embed_tokens', 'q_proj'],
        rankPattern: { embed_tokens: 2 },
      }),
    )
    expect(targets).toHaveLength(3)
    expect(spec.terms[0]).toEqual({
      kind: 'embedding',
      target: 'model.embed_tokens',
      parameters: { a: 'model.embed_tokens.lora_embedding_A', b: 'model.embed_tokens.lora_embedding_B' },
      numbers: { rank: 2, scale: 4 },
    })
    expect(factors.slice(0, 2)).toMatchObject([
      { rows: 2, cols: 96, initializer: { kind: 'zeros' } },
      { rows: 64, cols: 2, initializer: { kind: 'normal', std: 1 } },
    ])
  })

  test('is none of all-linear', () => {
    expect(describeOn('tied', lora()).targets).not.toContain('model.embed_tokens')
  })

  test('trains at a rate of its own under LoRA+', () => {
    const adapter = lora({ targetModules: ['embed_tokens', 'q_proj'] })
    const { groups } = describeOn('tied', loraPlus({ adapter, loraplusLrEmbedding: 1e-5 }))
    expect(
      groups.map(({ name, learningRate, parameters }) => [name, learningRate, parameters.length]),
    ).toEqual([
      ['lora', undefined, 2],
      ['lora_b', undefined, 2],
      ['lora_embedding', 1e-5, 2],
    ])
  })

  const frozen = (options: DyloraOptions) => dylora({ ...options, freezeA: true })
  test.each([dora, loraFa, deltaLora, frozen, adalora, vera, loha])('is refused by %o', (strategy) => {
    const config = strategy({ targetModules: ['q_proj', 'embed_tokens'] })
    expect(() => describeOn('tied', config)).toThrow(
      `target_modules: strategy ${config.name} adapts only linears, but model.embed_tokens is an embedding; leave it out, or adapt it with lora.`,
    )
  })
})
