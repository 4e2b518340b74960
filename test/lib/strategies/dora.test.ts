import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, test } from 'vitest'
import { type Adapter, loadModel, type Model, nf4, UnsupportedError } from '../../../lib/index.js'
import { addon } from '../../../lib/native/addon.js'
import { describeAdapter, linearSites } from '../../../lib/strategies/describe.js'
import { dora } from '../../../lib/strategies/dora.js'
import { readStrategy, strategyToFile } from '../../../lib/strategies/index.js'
import { lokr } from '../../../lib/strategies/lokr.js'
import { lora } from '../../../lib/strategies/lora.js'
import { loraPlus } from '../../../lib/strategies/lora-plus.js'
import type { StrategyConfig } from '../../../lib/strategies/strategy.js'
import { goldenBatch, loadTiny, readGolden, relativeError, trainPlan } from '../../parity/engine.js'
import { flat } from './flat.js'
import { sites } from './sites.js'
import { leaveZero } from './start.js'

const models = fileURLToPath(new URL('../../parity/models/', import.meta.url))
const work = mkdtempSync(join(tmpdir(), 'lowrank-dora-'))
afterAll(() => rmSync(work, { recursive: true, force: true }))

const tokens = Int32Array.from({ length: 24 }, (_, i) => (i * 37 + 5) % 250)

/** Moves what starts at zero, and the magnitudes by up to a third. */
function move(adapter: Adapter): void {
  leaveZero(adapter, 3)
  const { native, description } = adapter.state
  for (const [i, { name, initializer }] of description.factors.entries()) {
    if (initializer.kind === 'row_norms')
      native.write(
        name,
        'value',
        native.read(name, 'value').map((value, j) => value * (1 + Math.sin(i + j) / 3)),
      )
  }
}

describe('dora()', () => {
  test('is LoRA with a magnitude of every row, which starts as its norm', () => {
    const options = { r: 4, loraAlpha: 8, rankPattern: { q_proj: 2 }, useRslora: true } as const
    const [own, plain] = [describeAdapter(dora(options), sites), describeAdapter(lora(options), sites)]
    expect(flat(own.spec)).toEqual(
      flat(plain.spec).map((term) => ({ ...term, magnitude: `${term.target}.lora_magnitude_vector` })),
    )
    const magnitudes = own.factors.filter(({ initializer }) => initializer.kind === 'row_norms')
    expect(
      magnitudes.map(({ name, rows, cols, trained, tensor }) => ({ name, rows, cols, trained, tensor })),
    ).toEqual(
      sites.map(({ path, out }) => ({
        name: `${path}.lora_magnitude_vector`,
        rows: 1,
        cols: out,
        trained: true,
        tensor: { name: `base_model.model.${path}.lora_magnitude_vector`, shape: [out] },
      })),
    )
    expect(own.factors.filter((factor) => !magnitudes.includes(factor))).toEqual(plain.factors)
  })

  test('keeps the magnitudes from decaying, also in LoRA+, where they train faster', () => {
    const groups = (strategy: Parameters<typeof describeAdapter>[0]) =>
      describeAdapter(strategy, sites).groups.filter(({ parameters }) =>
        parameters.some((name) => name.endsWith('magnitude_vector')),
      )
    expect(groups(dora())).toMatchObject([{ learningRateFactor: 1, decays: false }])
    expect(groups(loraPlus({ adapter: dora(), loraplusLrRatio: 8 }))).toMatchObject([
      { learningRateFactor: 8, decays: false },
    ])
  })

  test('reads back from the keys of a file', () => {
    const config = dora({ r: 3, useRslora: true })
    const file = strategyToFile(config)
    expect(file).toMatchObject({ name: 'dora', r: 3, use_rslora: true })
    expect(readStrategy(file, { name: 'config.yaml', spelling: 'snake' })).toEqual(config)
    expect(() => dora({ r: 0 })).toThrow('dora(): r is 0, expected a positive integer.')
  })

  test('a magnitude that is not as long as its linear is refused', () => {
    const { spec } = describeAdapter(dora({ targetModules: ['q_proj'], layersToTransform: 0 }), sites)
    const cut = spec.parameters.map((p) => (p.name.endsWith('vector') ? { ...p, cols: 3 } : p))
    expect(() => addon().createAdapter({ ...spec, parameters: cut }, { trainable: false })).toThrow(
      'magnitude (model.layers.0.self_attn.q_proj.lora_magnitude_vector) is [1, 3]',
    )
  })

  test.each([false, true])(
    'a plan counts what it keeps and a session allocates (recompute %s)',
    async (recompute) => {
      const { graph, model } = await loadTiny('smollm2')
      const { spec } = describeAdapter(dora({ r: 4 }), linearSites(graph))
      const formats = Object.fromEntries(graph.weights.map(({ name }) => [name, 'f32' as const]))
      const plans = {
        train: { mode: 'train', tokens: 64, sequences: 4, headRows: 64, precision: 'f32', recompute },
      } as const
      const report = (of: typeof spec) => addon().plan(graph, formats, [{ spec: of, trainable: true }], plans)
      const bytes = (category: string) =>
        report(spec).rows.find((row) => row.category === category)?.bytes ?? 0
      const before = addon().allocated()
      const adapter = addon().createAdapter(spec, { trainable: true })
      await adapter.restart().promise
      expect(addon().allocated().adapters - before.adapters).toBe(bytes('adapters'))
      expect(addon().allocated().optimizer - before.optimizer).toBe(bytes('optimizer'))
      const session = await addon().createSession(model, [adapter], plans).promise
      expect(session.total().arenaBytes).toBe(report(spec).arenaBytes)
      expect(addon().allocated().activations - before.activations).toBe(report(spec).arenaBytes)
      await session.dispose()
      await adapter.dispose()
      await model.dispose()
    },
  )
})

describe.each([
  ['qwen2', undefined],
  ['qwen2', nf4()],
  ['smollm2', nf4({ doubleQuant: true })],
])('DoRA over %s, %o', (base, quantization) => {
  const open = (): Promise<Model> =>
    loadModel(join(models, base), { precision: 'fp32', ...(quantization ? { quantization } : {}) })

  test('starts as the base, and merges into what it computes', async () => {
    const model = await open()
    try {
      const plain = await model.logits(tokens)
      const adapter = await model.attach(dora({ r: 4, loraAlpha: 8 }))
      expect(relativeError(await model.logits(tokens, { adapters: [adapter] }), plain)).toBeLessThan(1e-6)
      move(adapter)
      const moved = await model.logits(tokens, { adapters: [adapter] })
      expect(relativeError(moved, plain)).toBeGreaterThan(0.05)
      const folder = join(work, `merged-${base}-${quantization ? 'nf4' : 'f32'}`)
      await adapter.merge(folder, { dtype: 'f32', force: true, check: false }) // no tokenizer, so no text to check on
      const merged = await loadModel(folder, { precision: 'fp32' })
      expect(relativeError(await merged.logits(tokens), moved)).toBeLessThan(1e-5)
      await merged.dispose()
    } finally {
      await model.dispose()
    }
  })
})

describe('with dropout', () => {
  /** DoRA or LoRA of one start on a tiny model, and the loss of a batch with the masks of one step. */
  async function open(strategy: StrategyConfig, recompute = false) {
    const { graph, model } = await loadTiny('qwen2')
    const { spec, factors } = describeAdapter(strategy, linearSites(graph))
    const native = addon().createAdapter(spec, { trainable: true })
    for (const { name, initializer } of factors)
      if (initializer.kind !== 'row_norms') native.fill(name, { kind: 'normal', std: 0.1, seed: 2 })
    const magnitudes = factors.flatMap(({ name, initializer }) =>
      initializer.kind === 'row_norms' ? [name] : [],
    )
    /** Row norms of the adapted weights as A and B are. */
    const norms = async () => {
      for (const name of magnitudes) await native.fillRowNorms(name, model).promise
      return new Map(magnitudes.map((name) => [name, native.read(name, 'value')]))
    }
    const session = await addon().createSession(model, [native], { train: { ...trainPlan, recompute } })
      .promise
    const batch = goldenBatch(await readGolden('golden/qwen2.safetensors'))
    const input = { ...batch, lossScale: 1, seed: 4, step: 3, microStep: 1 }
    const loss = async () => {
      await native.zeroGradients().promise
      return (await session.trainStep('train', input).promise).lossSum
    }
    const dispose = async () => {
      for (const handle of [session, native, model]) await handle.dispose()
    }
    return { native, factors, magnitudes, norms, loss, dispose }
  }
  const options = { r: 3, loraAlpha: 6, loraDropout: 0.3 }

  test('magnitudes that are the norms leave LoRA with the same masks', async () => {
    const [own, plain] = [await open(dora(options)), await open(lora(options))]
    await own.norms()
    expect((await own.loss()) / (await plain.loss())).toBeCloseTo(1, 6)
    for (const one of [own, plain]) await one.dispose()
  })

  test.each([false, true])('gradients are those of finite differences (recompute %s)', async (recompute) => {
    const { native, factors, magnitudes, norms, loss, dispose } = await open(dora(options), recompute)
    const start = await norms()
    const gains = new Map(
      [...start].map(([name, values]) => [name, values.map((_, i) => 1 + Math.sin(i) / 3)]),
    )
    const begin = new Map(factors.map(({ name }) => [name, native.read(name, 'value')]))
    /** The loss with one kind of factor moved; norms count as constants, so magnitudes follow them. */
    const moved = async (kind: RegExp, by: number) => {
      const shift = (name: string, values: Float32Array) =>
        kind.test(name) ? values.map((value, i) => value + by * Math.cos(i * 1.7)) : values
      for (const [name, values] of begin)
        if (!start.has(name)) native.write(name, 'value', shift(name, values))
      const now = await norms()
      for (const name of magnitudes) {
        const [from, to, gain] = [start.get(name), now.get(name), gains.get(name)] as Float32Array[]
        const lengths = shift(
          name,
          (from as Float32Array).map((c, i) => c * (gain?.[i] as number)),
        )
        native.write(
          name,
          'value',
          lengths.map((m, i) => (m / (from?.[i] as number)) * (to?.[i] as number)),
        )
      }
      return loss()
    }
    for (const [kind, by] of [
      [/lora_A/, 3e-3],
      [/lora_B/, 3e-3],
      [/magnitude/, 3e-3],
    ] as const) {
      await moved(kind, 0)
      let slope = 0
      for (const { name } of factors)
        if (kind.test(name))
          native.read(name, 'gradient').forEach((g, i) => {
            slope += g * Math.cos(i * 1.7)
          })
      const central = async (h: number) => ((await moved(kind, h)) - (await moved(kind, -h))) / (2 * h)
      const difference = (4 * (await central(by / 2)) - (await central(by))) / 3
      expect(Math.abs(slope), String(kind)).toBeGreaterThan(0.1)
      expect(difference / slope, String(kind)).toBeCloseTo(1, 2)
    }
    dispose()
  })
})

test('beside other adapters and at a weight it adds what it changes, as merging does', async () => {
  const model = await loadModel(join(models, 'llama3'), { precision: 'fp32' })
  try {
    const one = await model.attach(dora({ r: 4 }), { name: 'one' })
    const two = await model.attach(dora({ r: 2, targetModules: ['q_proj', 'down_proj'] }), { name: 'two' })
    const three = await model.attach(lora({ r: 3, targetModules: ['q_proj', 'o_proj'] }), { name: 'three' })
    const four = await model.attach(lokr({ r: 2, targetModules: ['q_proj', 'up_proj'] }), { name: 'four' })
    for (const adapter of [one, two, three, four]) move(adapter)
    const choices = [
      { adapter: one, weight: 0.5 },
      { adapter: two, weight: 1.5 },
      { adapter: three, weight: 2 },
      { adapter: four, weight: 0.7 },
    ]
    const together = await model.logits(tokens, { adapters: choices })
    await model.save(join(work, 'together'), { dtype: 'f32', check: false, adapters: choices })
    const merged = await loadModel(join(work, 'together'), { precision: 'fp32' })
    expect(relativeError(await merged.logits(tokens), together)).toBeLessThan(1e-5)
    await merged.dispose()
  } finally {
    await model.dispose()
  }
})

test('is saved as PEFT saves it and reads back; an adapter of llama.cpp it cannot be', async () => {
  const model = await loadModel(join(models, 'qwen2'), { precision: 'fp32' })
  try {
    const adapter = await model.attach(dora({ r: 2, loraAlpha: 6, useRslora: true }))
    move(adapter)
    const expected = await model.logits(tokens, { adapters: [adapter] })
    await adapter.save(join(work, 'saved'))
    const read = await model.loadAdapter(join(work, 'saved'), { name: 'read' })
    expect(read.strategy).toEqual(adapter.strategy)
    expect(await model.logits(tokens, { adapters: [read] })).toEqual(expected)
    const written = adapter.export(join(work, 'a.gguf'), { format: 'gguf-lora', check: false })
    await expect(written).rejects.toThrow(UnsupportedError)
    const refusal = 'dora scales the rows of the weights, so it cannot be converted to LoRA'
    await expect(written).rejects.toThrow(refusal)
    await expect(adapter.save(join(work, 'lora'), { form: 'lora' })).rejects.toThrow(refusal)
  } finally {
    await model.dispose()
  }
})
