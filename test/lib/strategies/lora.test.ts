import { describe, expect, test } from 'vitest'
import { describeAdapter } from '../../../lib/strategies/describe.js'
import { strategyFrom } from '../../../lib/strategies/index.js'
import { lora, loraRules } from '../../../lib/strategies/lora.js'
import { flat } from './flat.js'
import { sites } from './sites.js'

const q0 = 'model.layers.0.self_attn.q_proj'

describe('lora()', () => {
  test('returns frozen data that prints as JSON and reads back', () => {
    const config = lora({ r: 4, rankPattern: { k_proj: 2 }, targetModules: ['q_proj', 'k_proj'] })
    expect(Object.isFrozen(config) && Object.isFrozen(config.rankPattern)).toBe(true)
    expect(strategyFrom(JSON.parse(JSON.stringify(config)))).toEqual(config)
  })

  test('refuses a list of modules that is longer than any model needs, and cuts what it shows', () => {
    expect(() => lora({ modulesToSave: Array(1001).fill('norm') })).toThrow(
      /^lora\(\): modulesToSave is \["norm".{60,80}\.\.\., expected at most 1000 names\.$/,
    )
  })

  test.each([
    [{ r: 0 }, 'lora(): r is 0, expected a positive integer.'],
    [{ r: 1.5 }, 'lora(): r is 1.5, expected a positive integer.'],
    [{ r: 1e9 }, 'lora(): r is 1000000000, expected an integer from 1 to 65536.'],
    [
      { rankPattern: { q_proj: 1e9 } },
      'lora(): rankPattern.q_proj is 1000000000, expected an integer from 1 to 65536.',
    ],
    [{ loraAlpha: -1 }, 'lora(): loraAlpha is -1, expected a number above 0.'],
    [{ loraDropout: 1 }, 'lora(): loraDropout is 1, expected a number in [0, 1).'],
    [{ targetModules: [] }, 'lora(): targetModules is [], expected at least one name.'],
    [
      { initLoraWeights: 'corda' },
      'lora(): initLoraWeights is "corda", expected true, false, gaussian, pissa, pissa_niter_N with a number N, olora or loftq.',
    ],
    [{ bias: 'some' }, 'lora(): bias is "some", expected one of none, all, lora_only.'],
    [{ modulesToSave: [] }, 'lora(): modulesToSave is [], expected at least one name.'],
    [{ loraAlhpa: 1 }, 'lora(): unknown key loraAlhpa; did you mean loraAlpha?'],
  ])('refuses %j', (options, message) => {
    expect(() => lora(options as never)).toThrow(expect.objectContaining({ code: 'CONFIG', message }))
  })

  test('gives every linear A [r, in] uniform within 1 / sqrt(in) and B [out, r] zero', () => {
    const { spec, factors } = describeAdapter(lora({ r: 4, loraAlpha: 8 }), sites)
    expect(spec.terms).toHaveLength(sites.length)
    expect(spec.terms[0]).toEqual({
      kind: 'low_rank',
      target: q0,
      parameters: { a: `${q0}.lora_A.weight`, b: `${q0}.lora_B.weight` },
      numbers: { rank: 4, scale: 2, dropout: 0 },
    })
    expect(factors[0]).toMatchObject({
      rows: 4,
      cols: 64,
      trained: true,
      initializer: { kind: 'uniform', bound: 1 / 8 },
    })
    expect(factors[1]).toMatchObject({ rows: 64, cols: 4, trained: true, initializer: { kind: 'zeros' } })
    expect(factors[1]?.tensor).toEqual({ name: `base_model.model.${q0}.lora_B.weight`, shape: [64, 4] })
  })

  test('starts A from a normal of deviation 1 / r, or both factors uniform, when asked', () => {
    const initializers = (initLoraWeights: 'gaussian' | false) =>
      describeAdapter(lora({ r: 4, initLoraWeights }), sites)
        .factors.slice(0, 2)
        .map((f) => f.initializer)
    expect(initializers('gaussian')).toEqual([{ kind: 'normal', std: 0.25 }, { kind: 'zeros' }])
    expect(initializers(false)).toEqual([
      { kind: 'uniform', bound: 1 / 8 },
      { kind: 'uniform', bound: 1 / 2 },
    ])
  })

  test('scales by alpha / sqrt(r) with useRslora', () => {
    const { spec } = describeAdapter(lora({ r: 4, loraAlpha: 8, useRslora: true }), sites)
    expect(flat(spec)[0]?.scale).toBe(4)
  })

  test('takes rank and alpha of a module from the first pattern that matches it', () => {
    const config = lora({
      r: 4,
      loraAlpha: 8,
      rankPattern: { 'layers\\.0\\..*q_proj': 2, q_proj: 16 },
      alphaPattern: { '^q_proj': 99, o_proj: 3 },
    })
    // As PEFT anchors it, ^q_proj hits nothing; a folder that was made so is read all the same.
    const { spec } = describeAdapter(config, sites, { strict: false })
    const terms = new Map(flat(spec).map((term) => [term.target, term]))
    expect(terms.get(q0)).toMatchObject({ rank: 2, scale: 4 })
    expect(terms.get('model.layers.1.self_attn.q_proj')).toMatchObject({ rank: 16, scale: 0.5 })
    expect(terms.get('model.layers.1.self_attn.o_proj')).toMatchObject({ rank: 4, scale: 0.75 })
  })

  test('tells PEFT nothing that would change the base on load', () => {
    expect(loraRules.toPeft(lora({ initLoraWeights: 'gaussian' }))).toMatchObject({ init_lora_weights: true })
  })
})
