import { describe, expect, test } from 'vitest'
import { describeAdapter } from '../../../lib/strategies/describe.js'
import { readStrategy, rulesOf, strategyToFile } from '../../../lib/strategies/index.js'
import { linearsToKeep, loraDrop } from '../../../lib/strategies/lora-drop.js'
import { loraPlus } from '../../../lib/strategies/lora-plus.js'
import { qlora } from '../../../lib/strategies/qlora.js'
import { sampleRows } from '../../../lib/train/sources/sample.js'
import { flat } from './flat.js'
import { sites } from './sites.js'

const path = (layer: number, name: string) => `model.layers.${layer}.self_attn.${name}`
const norms = (name: string, values: number[]) =>
  values.map((value, layer) => ({ site: { path: path(layer, name), in: 4, out: 4 }, value }))

describe('the choice', () => {
  test('takes the smallest number of linears that have the share, and all at 1', () => {
    const halves = norms('q_proj', [3, 3, 0, 0])
    expect(linearsToKeep(halves, { threshold: 0.9, scope: 'type' })).toEqual([
      path(0, 'q_proj'),
      path(1, 'q_proj'),
    ])
    expect(linearsToKeep(halves, { threshold: 1, scope: 'type' })).toHaveLength(4)
    expect(linearsToKeep(halves, { threshold: 0.5, scope: 'type' })).toEqual([path(0, 'q_proj')])
    expect(linearsToKeep(halves, { threshold: 0, scope: 'type' })).toEqual([])
  })

  test('weighs linears of one name, or whole layers', () => {
    const both = [...norms('q_proj', [9, 1]), ...norms('v_proj', [100, 900])]
    expect(linearsToKeep(both, { threshold: 0.9, scope: 'type' })).toEqual([
      path(0, 'q_proj'),
      path(1, 'v_proj'),
    ])
    expect(linearsToKeep(both, { threshold: 0.85, scope: 'layer' })).toEqual([
      path(1, 'q_proj'),
      path(1, 'v_proj'),
    ])
  })

  test('is refused where nothing was added', () => {
    expect(() => linearsToKeep(norms('q_proj', [0, 0]), { threshold: 0.9, scope: 'type' })).toThrow(
      'lora-drop: the probe changed nothing at q_proj.4x4',
    )
  })
})

describe('loraDrop()', () => {
  const keep = sites.filter((site) => site.path.includes('layers.1.')).map((site) => site.path)

  test('is plain LoRA until it has chosen, and then shares one pair of each kind', () => {
    const open = describeAdapter(loraDrop({ r: 4 }), sites)
    expect(open.factors).toHaveLength(2 * sites.length)
    const three = [0, 1, 2].flatMap((layer) =>
      sites.slice(0, 7).map((site) => ({ ...site, path: site.path.replace('layers.0', `layers.${layer}`) })),
    )
    const { factors, repeats, spec } = describeAdapter(loraDrop({ r: 4, keep }), three)
    expect(factors).toHaveLength(2 * (7 + 7))
    expect(repeats).toHaveLength(2 * 7)
    expect(flat(spec)).toHaveLength(21)
    expect(flat(spec)[0]?.a).toBe(flat(spec)[14]?.a)
    expect(flat(spec)[0]?.a).not.toBe(flat(spec)[7]?.a)
    const names = [...factors, ...repeats].map(({ tensor }) => tensor?.name)
    expect(new Set(names)).toEqual(
      new Set(
        three.flatMap(({ path }) => ['A', 'B'].map((f) => `base_model.model.${path}.lora_${f}.weight`)),
      ),
    )
  })

  test('linears of one name and different shapes or ranks do not share', () => {
    const two = [
      { path: 'model.layers.0.mlp.up_proj', in: 4, out: 8 },
      { path: 'model.layers.1.mlp.up_proj', in: 4, out: 12 },
      { path: 'model.layers.2.mlp.up_proj', in: 4, out: 12 },
    ]
    const rankPattern = { 'layers.2.mlp.up_proj': 2 }
    expect(describeAdapter(loraDrop({ r: 4, rankPattern, keep: [] }), two).repeats).toEqual([])
  })

  test('asks for a probe until it has chosen, also when it is wrapped', () => {
    const value = (config: Parameters<typeof rulesOf>[0]) => rulesOf(config).probe?.(config)
    expect(value(loraDrop({ keep: [] }))).toBeUndefined()
    expect(value(loraDrop({ r: 3, sampleFraction: 0.5 }))).toMatchObject({
      adapter: { name: 'lora', r: 3 },
      sampleFraction: 0.5,
      steps: null,
    })
    const wrapped = qlora({ adapter: loraPlus({ adapter: loraDrop({ threshold: 0.5 }) }) })
    const chosen = value(wrapped)?.choose(norms('q_proj', [1, 5]))
    const importances = { [path(0, 'q_proj')]: 0.1667, [path(1, 'q_proj')]: 0.8333 }
    expect(chosen).toMatchObject({
      adapter: { adapter: { keep: [path(1, 'q_proj')], importances, threshold: 0.5 } },
    })
  })

  test('reads back from the keys of a file, and refuses what is out of range', () => {
    const importances = Object.fromEntries(keep.map((path) => [path, 0.25]))
    const config = loraDrop({ threshold: 0.8, probeSteps: 5, scope: 'layer', keep, importances })
    expect(readStrategy(strategyToFile(config), { name: 'config.yaml', spelling: 'snake' })).toEqual(config)
    expect(() => loraDrop({ threshold: 1.5 })).toThrow('threshold is 1.5, expected a number from 0 to 1')
    expect(() => loraDrop({ sampleFraction: 0 })).toThrow('sampleFraction is 0')
    expect(() => loraDrop({ importances: { 'a.b': 2 } })).toThrow('a number from 0 to 1')
    expect(() => describeAdapter(loraDrop({ keep: ['nowhere'] }), sites)).toThrow('"nowhere"')
  })
})

describe('a sample', () => {
  const all = Uint32Array.from({ length: 40 }, (_, i) => i)
  const answers = (of: (row: number) => number) => ({ labels: (row: number) => Int32Array.of(-100, of(row)) })

  test('has its share of every answer where they repeat, and is the same for the same seed', () => {
    const data = answers((row) => (row < 30 ? 7 : row < 38 ? 8 : 9))
    const rows = sampleRows(data, all, 0.1, 3)
    expect([
      rows.filter((r) => r < 30).length,
      rows.filter((r) => r >= 30 && r < 38).length,
      rows.filter((r) => r >= 38).length,
    ]).toEqual([3, 1, 1])
    expect(sampleRows(data, all, 0.1, 3)).toEqual(rows)
    expect(sampleRows(data, all, 0.1, 4)).not.toEqual(rows)
  })

  test('is drawn from all rows where every answer is another', () => {
    expect(
      sampleRows(
        answers((row) => row),
        all,
        0.25,
        3,
      ),
    ).toHaveLength(10)
    expect(
      sampleRows(
        answers((row) => row),
        all,
        1,
        3,
      ),
    ).toEqual(all)
  })
})
