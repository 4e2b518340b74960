import { describe, expect, test } from 'vitest'
import type { Targeting } from '../../../lib/strategies/strategy.js'
import { resolveTargets, targetNames } from '../../../lib/strategies/targets.js'
import { allSites, sites } from './sites.js'

const rules = (some: Partial<Targeting>): Targeting => ({
  targetModules: 'all-linear',
  excludeModules: null,
  layersToTransform: null,
  ...some,
})
const paths = (some: Partial<Targeting>) => resolveTargets(rules(some), allSites).map((site) => site.path)

describe('target modules', () => {
  test('all-linear is every linear of the blocks', () => {
    expect(paths({})).toEqual(sites.map((site) => site.path))
  })

  test('a list names whole paths or their ends', () => {
    expect(paths({ targetModules: ['q_proj', 'model.layers.1.mlp.up_proj'] })).toEqual([
      'model.layers.0.self_attn.q_proj',
      'model.layers.1.self_attn.q_proj',
      'model.layers.1.mlp.up_proj',
    ])
  })

  test('a long list is not compared name by name with every module', () => {
    const [site] = sites
    const many = Array.from({ length: 4000 }, (_, i) => ({ ...site, path: `model.layers.${i}.q_proj` }))
    const targetModules = Array.from({ length: 50_000 }, (_, i) => `name${i}`)
    const started = performance.now()
    expect(() => resolveTargets(rules({ targetModules }), many as typeof sites)).toThrow(
      /^target_modules: .{0,300}$/,
    )
    expect(
      resolveTargets(rules({ targetModules: [...targetModules, 'q_proj'] }), many as typeof sites, false),
    ).toHaveLength(4000)
    expect(performance.now() - started).toBeLessThan(3000)
  })

  test('a name must start after a dot', () => {
    expect(() => paths({ targetModules: ['proj'] })).toThrow('no linear layer matches "proj"')
  })

  test('a string is a pattern for the whole path', () => {
    expect(paths({ targetModules: '.*\\.0\\..*(q|v)_proj' })).toEqual([
      'model.layers.0.self_attn.q_proj',
      'model.layers.0.self_attn.v_proj',
    ])
    expect(() => paths({ targetModules: 'q_proj' })).toThrow('no linear layer matches "q_proj"')
  })

  test.each([[['q_proj', 'lm_head']], [['lm_head']], ['lm_head|.*q_proj'], ['.*']])(
    'that name the head are refused, whatever else they name: %j',
    (targetModules) => {
      expect(() => paths({ targetModules })).toThrow(
        /names lm_head, but adapters of the head are not supported\. Train the whole head with modules_to_save: \[lm_head\]/,
      )
      expect(() => resolveTargets(rules({ targetModules }), allSites, false)).toThrow(/names lm_head/)
    },
  )

  test('may name the head where it trains whole or is left out', () => {
    const queries = paths({ targetModules: ['q_proj'] })
    const targetModules = '.*q_proj|lm_head'
    expect(paths({ targetModules, modulesToSave: ['lm_head'] })).toEqual(queries)
    expect(paths({ targetModules, excludeModules: ['lm_head'] })).toEqual(queries)
  })

  test('layers and exclusions narrow the choice', () => {
    expect(paths({ layersToTransform: [1], excludeModules: ['mlp.up_proj', 'o_proj'] })).toEqual([
      'model.layers.1.self_attn.q_proj',
      'model.layers.1.self_attn.k_proj',
      'model.layers.1.self_attn.v_proj',
      'model.layers.1.mlp.gate_proj',
      'model.layers.1.mlp.down_proj',
    ])
    expect(() => paths({ targetModules: '.*q_proj', layersToTransform: 1 })).toThrow(
      'select the layers in the pattern',
    )
  })

  test('what matches nothing is an error that lists what exists', () => {
    expect(() => paths({ targetModules: ['q_proj', 'qproj'] })).toThrow(
      'target_modules: no linear layer matches "qproj". Linear layers of this model end in: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj; its embedding is embed_tokens.',
    )
    expect(() => paths({ layersToTransform: 7 })).toThrow('matches "all-linear" in layers 7')
    expect(() => paths({ targetModules: ['q_proj'], excludeModules: '.*q_proj' })).toThrow(
      'excludes every module',
    )
  })

  test('written for PEFT are last names when these say it exactly, else whole paths', () => {
    const all = sites.map((site) => site.path)
    expect(targetNames(paths({ targetModules: ['v_proj', 'q_proj'] }), all)).toEqual(['q_proj', 'v_proj'])
    expect(targetNames(['model.layers.1.mlp.up_proj'], all)).toEqual(['model.layers.1.mlp.up_proj'])
  })
})
