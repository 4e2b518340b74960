import { describe, expect, test } from 'vitest'
import { describeAdapter } from '../../../lib/strategies/describe.js'
import { readStrategy, rulesOf, strategyToFile } from '../../../lib/strategies/index.js'
import { lokr, splitDimension } from '../../../lib/strategies/lokr.js'
import { loraPlus } from '../../../lib/strategies/lora-plus.js'
import { qlora } from '../../../lib/strategies/qlora.js'
import { flat } from './flat.js'
import { sites } from './sites.js'

/** Shapes by the part of the name after the linear's path. */
const shapes = (config: Parameters<typeof lokr>[0], end: string) =>
  Object.fromEntries(
    describeAdapter(lokr(config), sites)
      .factors.filter(({ name }) => name.includes(`layers.0.`) && name.includes(`${end}.`))
      .map(({ name, rows, cols }) => [name.slice(name.indexOf('lokr_')), [rows, cols]]),
  )

describe('splitDimension()', () => {
  test.each([
    [576, 24, 24],
    [768, 24, 32],
    [1024, 32, 32],
    [1536, 32, 48],
    [2048, 32, 64],
    [4096, 64, 64],
    [8960, 80, 112],
    [11008, 86, 128],
    [14336, 112, 128],
    [32000, 160, 200],
    [128256, 334, 384],
    [50257, 29, 1733],
    [1, 1, 1],
    [2, 1, 2],
    [127, 1, 127],
    [7919, 1, 7919],
    [151936, 128, 1187],
  ])('splits %i near its square root into %i and %i', (dimension, small, large) => {
    expect(splitDimension(dimension, -1)).toEqual([small, large])
  })

  test.each([
    [4096, 4, [4, 1024]],
    [97, 4, [1, 97]],
    [360, 7, [6, 60]],
    [12, 100, [3, 4]],
    [6, 6, [6, 1]],
    [64, 16, [16, 4]], // a factor that divides stands first even where it is the larger
  ])('splits %i by the factor %i', (dimension, factor, expected) => {
    expect(splitDimension(dimension, factor)).toEqual(expected)
  })
})

describe('lokr()', () => {
  // q_proj is [64, 64] = 8·8 x 8·8; down_proj [64, 128] = 8·8 x 8·16.
  test('factors the second side where the rank is below half of its larger dimension', () => {
    expect(shapes({ r: 3 }, 'q_proj')).toEqual({ lokr_w1: [8, 8], lokr_w2_a: [8, 3], lokr_w2_b: [3, 8] })
    expect(shapes({ r: 4 }, 'q_proj')).toEqual({ lokr_w1: [8, 8], lokr_w2: [8, 8] })
    expect(shapes({ r: 4 }, 'down_proj')).toEqual({ lokr_w1: [8, 8], lokr_w2_a: [8, 4], lokr_w2_b: [4, 16] })
  })

  test('factors the first side on request only, and splits as it is told', () => {
    expect(shapes({ r: 3, decomposeBoth: true }, 'q_proj')).toEqual({
      lokr_w1_a: [8, 3],
      lokr_w1_b: [3, 8],
      lokr_w2_a: [8, 3],
      lokr_w2_b: [3, 8],
    })
    expect(shapes({ r: 3, decomposeFactor: 4 }, 'q_proj')).toEqual({
      lokr_w1: [4, 4],
      lokr_w2_a: [16, 3],
      lokr_w2_b: [3, 16],
    })
  })

  test('names the parts of the product and where it attaches', () => {
    const { spec } = describeAdapter(lokr({ r: 2, alpha: 6, decomposeBoth: true }), sites)
    const path = sites[0]?.path
    expect(flat(spec)[0]).toMatchObject({
      kind: 'kronecker',
      target: path,
      scale: 3,
      c: `${path}.lokr_w1_a`,
      c2: `${path}.lokr_w1_b`,
      d: `${path}.lokr_w2_a`,
      d2: `${path}.lokr_w2_b`,
    })
    expect(spec.terms).toHaveLength(sites.length)
  })

  test('starts with one zero: in the first side as PEFT, or in the second as LyCORIS', () => {
    const zeros = (options: Parameters<typeof lokr>[0]) =>
      describeAdapter(lokr({ r: 2, ...options }), sites.slice(0, 1))
        .factors.filter(({ initializer }) => initializer.kind === 'zeros')
        .map(({ name }) => name.slice(name.indexOf('lokr_')))
    expect(zeros({})).toEqual(['lokr_w1'])
    expect(zeros({ decomposeBoth: true })).toEqual(['lokr_w1_a'])
    expect(zeros({ initWeights: 'lycoris' })).toEqual(['lokr_w2_b'])
    expect(zeros({ initWeights: 'lycoris', r: 8 })).toEqual(['lokr_w2'])
    expect(zeros({ initWeights: false })).toEqual([])
  })

  test('is wrapped by others, which then save files of its type', () => {
    for (const config of [loraPlus({ adapter: lokr() }), qlora({ adapter: lokr() })]) {
      expect(rulesOf(config).toPeft(config)).toMatchObject({ peft_type: 'LOKR', decompose_factor: -1 })
      expect(describeAdapter(config, sites).spec.terms).toHaveLength(sites.length)
    }
    const { groups } = describeAdapter(loraPlus({ adapter: lokr({ r: 3 }) }), sites)
    expect(groups.map(({ parameters }) => parameters.length)).toEqual([2 * sites.length, sites.length])
  })

  test('reads back from the keys of a file, and refuses what is out of range', () => {
    const config = lokr({ r: 3, decomposeFactor: 8, rankDropoutScale: true, targetModules: ['v_proj'] })
    expect(readStrategy(strategyToFile(config), { name: 'config.yaml', spelling: 'snake' })).toEqual(config)
    expect(() => lokr({ r: 0 })).toThrow('lokr(): r is 0, expected a positive integer.')
    expect(() => lokr({ decomposeFactor: 0 })).toThrow(
      'decomposeFactor is 0, expected -1 or a positive integer',
    )
    expect(() => lokr({ decomposeFactor: -2 })).toThrow('expected -1 or a positive integer')
    expect(() => lokr({ rankDropout: 1 })).toThrow('rankDropout is 1')
  })
})
