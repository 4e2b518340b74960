import { setImmediate } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import {
  type AdapterSpec,
  addon,
  type Category,
  type NativeAdapter,
  type NativeSession,
  type PlanOptions,
  type Precision,
} from '../../../lib/native/addon.js'
import {
  goldenBatch,
  type Loaded,
  loadTiny,
  loraSpec,
  readGolden,
  relativeError,
} from '../../parity/engine.js'
import { turnsDuring } from '../turns.js'

/** One with heads by which nothing is normalized, and one with such norms, of an odd width. */
const MODELS = ['llama3', 'qwen3_window'] as const
let name: (typeof MODELS)[number] | undefined
let loaded: Loaded
let batch: ReturnType<typeof goldenBatch>
const cpu = addon().cpu()

async function use(wanted: (typeof MODELS)[number]): Promise<void> {
  if (name === wanted) return
  if (name !== undefined) await loaded.model.dispose()
  loaded = await loadTiny(wanted, 'nf4_double')
  batch = goldenBatch(await readGolden(`golden/${wanted}.safetensors`))
  name = wanted
}
afterAll(() => loaded.model.dispose())
afterEach(() => addon().configure({ threads: cpu.threads, isa: cpu.isa }))

function allLinears(dropout = 0): AdapterSpec {
  const weights = new Map(loaded.graph.weights.map((w) => [w.name, w]))
  const entries = loaded.graph.nodes.flatMap((node) => {
    const weight = node.op === 'linear' ? weights.get(node.weight) : undefined
    return weight ? [{ path: node.path, rank: 4, scale: 2, inputs: weight.cols, outputs: weight.rows }] : []
  })
  return loraSpec(entries, dropout)
}

function newAdapter(spec: AdapterSpec): NativeAdapter {
  const adapter = addon().createAdapter(spec, { trainable: true })
  for (const { name, cols } of spec.parameters)
    adapter.fill(
      name,
      name.includes('lora_A')
        ? { kind: 'uniform', bound: cols ** -0.5, seed: 3 }
        : { kind: 'normal', std: 0.1, seed: 3 },
    )
  return adapter
}

const train = (precision: Precision, rest: Partial<PlanOptions> = {}): Record<string, PlanOptions> => ({
  train: { mode: 'train', tokens: 128, sequences: 4, headRows: 128, precision, ...rest },
})

/** Gradients (of three micro-steps) and parameters after two optimizer steps, as one flat list. */
async function trainAWhile(spec: AdapterSpec, plans: Record<string, PlanOptions>): Promise<number[]> {
  const adapter = newAdapter(spec)
  const session = await addon().createSession(loaded.model, [adapter], plans).promise
  for (let step = 1; step <= 2; step++) {
    for (let microStep = 0; microStep < 3; microStep++)
      await session.trainStep('train', { ...batch, lossScale: 0.01, seed: 9, step, microStep }).promise
    const rest = { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, maxGradNorm: 1, step }
    const groups = [{ learningRate: 1e-2, weightDecay: 0.01 }]
    await adapter.optimizerStep({ kind: 'adamw', groups, ...rest }).promise
  }
  await session.trainStep('train', { ...batch, lossScale: 0.01, seed: 9, step: 3, microStep: 0 }).promise
  const values = spec.parameters.flatMap((p) => [
    ...adapter.read(p.name, 'value'),
    ...adapter.read(p.name, 'gradient'),
  ])
  await session.dispose()
  await adapter.dispose()
  return values
}

describe.each(MODELS.flatMap((model) => cpu.levels.map((isa) => [model, isa] as const)))(
  '%s at instruction-set level %s',
  (model, isa) => {
    beforeAll(() => use(model))

    it.each(['f32', 'bf16'] as const)(
      'gives the same bits with one, two and three threads (%s)',
      async (precision) => {
        const runs: number[][] = []
        for (const threads of [1, 2, 3]) {
          addon().configure({ threads, isa })
          runs.push(await trainAWhile(allLinears(0.1), train(precision)))
        }
        expect(runs[1]).toEqual(runs[0])
        expect(runs[2]).toEqual(runs[0])
      },
    )

    it.each(['f32', 'bf16'] as const)(
      'gives the same bits with and without recompute, dropout included (%s)',
      async (precision) => {
        addon().configure({ isa })
        const kept = await trainAWhile(allLinears(0.1), train(precision))
        const recomputed = await trainAWhile(allLinears(0.1), train(precision, { recompute: true }))
        expect(recomputed).toEqual(kept)
      },
    )

    it.each(['f32', 'bf16'] as const)('agrees with the reference kernels (%s)', async (precision) => {
      addon().configure({ isa })
      const fast = await trainAWhile(allLinears(), train(precision))
      addon().configure({ isa: 'reference' })
      const reference = await trainAWhile(allLinears(), train('f32'))
      expect(relativeError(fast, reference)).toBeLessThan(precision === 'f32' ? 1e-4 : 3e-2)
    })
  },
)

describe('a session', () => {
  beforeAll(() => use('llama3'))

  it('allocates exactly what was planned, from shapes alone, and gives it all back', async () => {
    const before = addon().allocated()
    const spec = allLinears()
    const plans = {
      ...train('bf16', { recompute: true }),
      evaluate: { mode: 'evaluate', tokens: 200, sequences: 4, headRows: 50, precision: 'bf16' },
      forward: { mode: 'forward', tokens: 16, sequences: 1, headRows: 1, kvCapacity: 64, precision: 'bf16' },
    } satisfies Record<string, PlanOptions>
    const formats = Object.fromEntries(
      loaded.graph.weights.map((w) => {
        const decoder = w.kind === 'matrix' && w.name.startsWith('model.layers.')
        return [w.name, decoder ? 'nf4_double' : 'f32'] as const
      }),
    )
    const planned = addon().plan(loaded.graph, formats, [{ spec, trainable: true }], plans)
    const adapter = newAdapter(spec)
    await adapter.restart().promise
    const session = await addon().createSession(loaded.model, [adapter], plans).promise
    expect(session.total()).toEqual(planned)
    const after = addon().allocated()
    const grown = (category: Category) => after[category] - before[category]
    expect(grown('activations')).toBe(planned.arenaBytes)
    const rowSum = planned.rows.reduce((sum, row) => sum + row.bytes, 0)
    expect(rowSum).toBe(planned.peakBytes)
    const fixed = Object.values(after).reduce((a, b) => a + b, 0) - planned.arenaBytes
    expect(fixed + planned.arenaBytes).toBe(planned.peakBytes)
    expect(loaded.model.plan([{ adapter }], plans)).toEqual(planned)
    await Promise.all([session.dispose(), adapter.dispose()])
    expect(addon().allocated()).toEqual(before)
  })

  it('keeps the event loop free while a long step runs', async () => {
    addon().configure({ threads: 1, isa: 'reference' })
    const adapter = newAdapter(allLinears())
    const session = await addon().createSession(loaded.model, [adapter], train('f32')).promise
    const input = { ...batch, lossScale: 1, seed: 0, step: 1, microStep: 0 }
    // Once if it is blocked; under wine a turn takes as long as a third of the step.
    expect(await turnsDuring(session.trainStep('train', input).promise)).toBeGreaterThan(2)
    await session.dispose()
    await adapter.dispose()
  })

  it('updates in the backward pass what it was planned for, and nothing else', async () => {
    const spec = allLinears()
    const adapter = newAdapter(spec)
    const input = { ...batch, lossScale: 0.01, seed: 0, step: 1, microStep: 0 }
    const groups = [{ learningRate: 1e-2, weightDecay: 0 }]
    const rest = { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, maxGradNorm: 0, step: 1 }
    const update = { kind: 'adamw' as const, groups, ...rest }
    const open = () => addon().createSession(loaded.model, [adapter], train('f32')).promise
    const after = await open()
    const step = (session: NativeSession, more: object) =>
      session.trainStep('train', { ...input, ...more }).promise
    await expect(step(after, { update })).rejects.toThrow(
      'updated after the backward pass, but the step has an',
    )
    await adapter.restart({ kind: 'adamw', inBackward: true }).promise
    await expect(step(after, { update })).rejects.toThrow(
      'have moved since the session was opened; open another',
    )
    const within = await open()
    await expect(step(within, {})).rejects.toThrow('updated in the backward pass, but the step has no update')
    await expect(step(within, { update: { ...update, maxGradNorm: 1 } })).rejects.toThrow(
      'cannot be clipped by the norm, which is known only after it',
    )
    expect((await step(within, { update })).gradNorm).toBeGreaterThan(0)
    await expect(adapter.optimizerStep(update).promise).rejects.toThrow('keeps no gradients')
    await Promise.all([after.dispose(), within.dispose(), adapter.dispose()])
  })

  it('leaves everything as it was when a gradient is not finite', async () => {
    const spec = allLinears()
    const adapter = newAdapter(spec)
    const last = spec.parameters.at(-1)?.name as string
    const before = spec.parameters.map(({ name }) => adapter.read(name, 'value'))
    const size = adapter.read(last, 'value').length
    adapter.write(last, 'gradient', new Float32Array(size).fill(Number.NaN, size - 1))
    const step = {
      kind: 'adamw' as const,
      beta1: 0.9,
      beta2: 0.999,
      epsilon: 1e-8,
      groups: [{ learningRate: 1, weightDecay: 0 }],
    }
    await expect(adapter.optimizerStep({ ...step, maxGradNorm: 1, step: 3 }).promise).rejects.toMatchObject({
      code: 'DIVERGED',
      message: expect.stringContaining('the gradient of step 3 is not finite'),
    })
    expect(spec.parameters.map(({ name }) => adapter.read(name, 'value'))).toEqual(before)
    await adapter.dispose()
  })

  it('stops a canceled step and can be used again', async () => {
    addon().configure({ threads: 1, isa: 'reference' })
    const adapter = newAdapter(allLinears())
    const session = await addon().createSession(loaded.model, [adapter], train('f32')).promise
    const input = { ...batch, lossScale: 1, seed: 0, step: 1, microStep: 0 }
    // On a busy machine a step may be done before it is canceled, but not every time.
    let ended = 'done'
    for (let attempt = 0; attempt < 50 && ended === 'done'; attempt++) {
      const running = session.trainStep('train', input)
      const queued = session.trainStep('train', input)
      queued.cancel()
      await setImmediate()
      running.cancel()
      ended = await running.promise.then(
        () => 'done',
        ({ code }: { code: string }) => code,
      )
      await expect(queued.promise).rejects.toMatchObject({ code: 'ABORTED' })
    }
    expect(ended).toBe('ABORTED')
    await adapter.zeroGradients().promise
    expect((await session.trainStep('train', input).promise).count).toBeGreaterThan(0)
    await session.dispose()
    await adapter.dispose()
  })

  it('runs a job to its end though its handles are disposed meanwhile', async () => {
    const adapter = newAdapter(allLinears())
    const session = await addon().createSession(loaded.model, [adapter], train('f32')).promise
    const job = session.trainStep('train', { ...batch, lossScale: 1, seed: 0, step: 1, microStep: 0 })
    await session.dispose()
    await adapter.dispose()
    expect((await job.promise).count).toBeGreaterThan(0)
    expect(() => session.total()).toThrow(/disposed/)
    expect(() => adapter.read('x', 'value')).toThrow(/disposed/)
  })

  it('gives the gradient of the whole batch however it is split', async () => {
    const spec = allLinears()
    const whole = newAdapter(spec)
    const split = newAdapter(spec)
    const one = await addon().createSession(loaded.model, [whole], train('f32')).promise
    const two = await addon().createSession(loaded.model, [split], train('f32')).promise
    const counters = { seed: 0, step: 1, microStep: 0, lossScale: 0.02 }
    await one.trainStep('train', { ...batch, ...counters }).promise
    for (let s = 0; s + 1 < batch.cuSeqlens.length; s++) {
      const [from, to] = [batch.cuSeqlens[s] as number, batch.cuSeqlens[s + 1] as number]
      const piece = {
        tokens: batch.tokens.slice(from, to),
        labels: batch.labels.slice(from, to),
        cuSeqlens: Int32Array.of(0, to - from),
      }
      await two.trainStep('train', { ...piece, ...counters }).promise
    }
    for (const { name } of spec.parameters)
      expect(relativeError(split.read(name, 'gradient'), whole.read(name, 'gradient')), name).toBeLessThan(
        1e-5,
      )
    for (const handle of [one, two, whole, split]) await handle.dispose()
  })

  it('adds up the deltas of several adapters at inference', async () => {
    const spec = allLinears()
    const adapters = [newAdapter(spec), newAdapter(spec)]
    // The same adapter twice is the adapter with twice the scale.
    const twice = newAdapter({
      ...spec,
      terms: spec.terms.map((term) => ({
        ...term,
        numbers: { ...term.numbers, scale: (term.numbers.scale as number) * 2 },
      })),
    })
    const plans = {
      forward: { mode: 'forward', tokens: 32, sequences: 1, headRows: 32, kvCapacity: 32, precision: 'f32' },
    } satisfies Record<string, PlanOptions>
    const tokens = batch.tokens.slice(0, 20)
    const rows = Int32Array.from({ length: 20 }, (_, i) => i)
    const logits = async (list: NativeAdapter[], weights?: number[]) => {
      const session = await addon().createSession(loaded.model, list, plans, weights).promise
      const result = await session.forward('forward', { tokens, past: 0, rows, wantLogits: true }).promise
      await session.dispose()
      return result.logits as Float32Array
    }
    const base = await logits([])
    const both = await logits(adapters)
    expect(relativeError(both, await logits([twice]))).toBeLessThan(1e-5)
    expect(relativeError(both, base)).toBeGreaterThan(1e-3)
    expect(await logits(adapters, [1, 1])).toEqual(both)
    expect(relativeError(await logits(adapters, [0.5, 1.5]), both)).toBeLessThan(1e-5)
    expect(relativeError(await logits(adapters, [0.5, 0.5]), await logits(adapters.slice(1)))).toBeLessThan(
      1e-5,
    )
    expect(await logits([twice], [0])).toEqual(base)
    const opened = (weights: number[], chosen: Record<string, PlanOptions>) =>
      addon().createSession(loaded.model, adapters, chosen, weights).promise
    await expect(opened([1], plans)).rejects.toThrow('there are 1 weights for 2 adapters')
    await expect(opened([1, Number.NaN], plans)).rejects.toThrow('expected a finite number')
    await expect(
      addon().createSession(loaded.model, adapters.slice(1), train('f32'), [2]).promise,
    ).rejects.toThrow("plan 'train': the weight of the trained adapter must be 1, not 2")
    for (const adapter of [...adapters, twice]) await adapter.dispose()
  })

  it('takes a prompt in pieces, of which only the last need give logits', async () => {
    const session = await addon().createSession(loaded.model, [], {
      forward: { mode: 'forward', tokens: 32, sequences: 1, headRows: 1, kvCapacity: 32, precision: 'f32' },
    }).promise
    const forward = async (from: number, to: number, past: number, rows: Int32Array) => {
      const tokens = batch.tokens.slice(from, to)
      return (await session.forward('forward', { tokens, past, rows, wantLogits: true }).promise).logits
    }
    const whole = await forward(0, 20, 0, Int32Array.of(19))
    expect(await forward(0, 12, 0, new Int32Array(0))).toEqual(new Float32Array(0))
    const pieces = await forward(12, 20, 12, Int32Array.of(7))
    expect(relativeError(pieces as Float32Array, whole as Float32Array)).toBeLessThan(1e-5)
    const sampling = { temperature: 0, topK: 0, topP: 1, seed: 0, position: 0 }
    const input = { tokens: batch.tokens.slice(0, 2), past: 0, rows: new Int32Array(0), sampling }
    expect(() => session.forward('forward', input)).toThrow('no row is wanted')
    await session.dispose()
  })

  it('refuses to run with more threads than it was planned for', async () => {
    addon().configure({ threads: 1 })
    const adapter = newAdapter(allLinears())
    const session = await addon().createSession(loaded.model, [adapter], train('f32')).promise
    addon().configure({ threads: 2 })
    const step = session.trainStep('train', { ...batch, lossScale: 1, seed: 0, step: 1, microStep: 0 })
    await expect(step.promise).rejects.toThrow(/planned for 1 threads and the engine now has 2/)
    await session.dispose()
    await adapter.dispose()
  })

  it('refuses bad input with a code and a message that names it', async () => {
    const adapter = newAdapter(allLinears())
    const session = await addon().createSession(loaded.model, [adapter], train('f32')).promise
    const input = { ...batch, lossScale: 1, seed: 0, step: 1, microStep: 0 }
    const rejects = async (change: object, message: RegExp) =>
      expect(session.trainStep('train', { ...input, ...change }).promise).rejects.toThrow(message)
    await rejects({ tokens: batch.tokens.map(() => 100000) }, /token id 100000 is outside/)
    await rejects({ labels: batch.labels.map(() => -7) }, /label -7 is not among the 256/)
    await rejects({ tokens: new Int32Array(500) }, /500 tokens; this plan takes 1 to 128/)
    await rejects({ cuSeqlens: Int32Array.of(0, 5) }, /cuSeqlens must increase/)
    await rejects({ labels: new Int32Array(3) }, /labels has 3 entries/)
    expect(() => session.trainStep('train', { ...input, tokens: [1] as unknown as Int32Array })).toThrow(
      /Int32Array/,
    )
    expect(() => session.report('other')).toThrow(/no plan 'other'/)
    expect(() => addon().createSession(adapter as never, [], train('f32'))).toThrow(/expected a model/)
    expect(() => addon().configure({ isa: 'sse9' })).toThrow(/isa is 'sse9'; expected one of reference/)
    await session.dispose()
    await adapter.dispose()
  })
})

describe('LOWRANK_CHECK', () => {
  it.each(MODELS)('runs a step of %s node by node against the reference kernels', async (model) => {
    const { execFile } = await import('node:child_process')
    const { promisify } = await import('node:util')
    const script = fileURLToPath(new URL('./checked-step.mjs', import.meta.url))
    const run = promisify(execFile)(process.execPath, [script, model], {
      env: { ...process.env, LOWRANK_CHECK: '1' },
    })
    await expect(run).resolves.toMatchObject({ stdout: expect.stringMatching(/^loss \d/) })
  })
})
