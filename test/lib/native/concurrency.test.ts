/** Calls from JavaScript while the engine thread works, and with several environments in one process. */

import { execFile } from 'node:child_process'
import { setImmediate } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import {
  addon,
  type Fill,
  type MicroBatch,
  type NativeAdapter,
  type NativeSession,
} from '../../../lib/native/addon.js'
import { goldenBatch, type Loaded, loadTiny, loraSpec, readGolden } from '../../parity/engine.js'
import { sweepTest } from '../../sweep.js'

let loaded: Loaded
let batch: MicroBatch
let adapter: NativeAdapter
let session: NativeSession
const path = 'model.layers.0.self_attn.q_proj'
let a: string
let aSize: number
const plans = {
  train: { mode: 'train', tokens: 128, sequences: 4, headRows: 128, precision: 'f32' },
} as const
const adamw = {
  kind: 'adamw' as const,
  beta1: 0.9,
  beta2: 0.999,
  epsilon: 1e-8,
  groups: [{ learningRate: 1e-3, weightDecay: 0 }],
  maxGradNorm: 1,
  step: 1,
}

beforeAll(async () => {
  loaded = await loadTiny('llama3')
  batch = goldenBatch(await readGolden('golden/llama3.safetensors'))
})
afterAll(() => loaded.model.dispose())
beforeEach(async () => {
  const weight = loaded.graph.weights.find(({ name }) => name === `${path}.weight`)
  if (!weight) throw new Error('the model has no such projection')
  const spec = loraSpec([{ path, rank: 4, scale: 1, inputs: weight.cols, outputs: weight.rows }])
  adapter = addon().createAdapter(spec, { trainable: true })
  a = spec.parameters[0]?.name as string
  aSize = 4 * weight.cols
  session = await addon().createSession(loaded.model, [adapter], plans).promise
})
afterEach(async () => {
  await session.dispose()
  await adapter.dispose()
})
const trainStep = () =>
  session.trainStep('train', { ...batch, lossScale: 1, seed: 0, step: 1, microStep: 0 }).promise

describe('an adapter in use by a job', () => {
  const busy = (touch: string) =>
    expect.objectContaining({ code: 'CONFIG', message: expect.stringMatching(`in use.*before ${touch}`) })

  it('gives its values but not its gradients during a training step, and takes nothing', async () => {
    const step = trainStep()
    expect(adapter.read(a, 'value')).toHaveLength(aSize)
    expect(() => adapter.read(a, 'gradient')).toThrow(busy('reading'))
    expect(() => adapter.zeroGradients()).toThrow(busy('changing'))
    expect(() => adapter.fill(a, { kind: 'zeros' })).toThrow(busy('changing'))
    expect(() => adapter.write(a, 'value', new Float32Array(aSize))).toThrow(busy('changing'))
    await step
    adapter.fill(a, { kind: 'constant', value: 2 })
    expect(adapter.read(a, 'value')[0]).toBe(2)
    await adapter.zeroGradients().promise
  })

  it('gives nothing during an update, failed jobs included, and everything after', async () => {
    const update = adapter.optimizerStep(adamw).promise
    for (const array of ['value', 'gradient'] as const)
      expect(() => adapter.read(a, array)).toThrow(busy('reading'))
    expect(() => adapter.readState(a, 'm')).toThrow(busy('reading'))
    expect(() => adapter.restart()).toThrow(busy('changing'))
    await update
    await expect(adapter.optimizerStep({ ...adamw, step: 0 }).promise).rejects.toThrow(/steps count from 1/)
    adapter.writeState(a, 'm', adapter.readState(a, 'v'))
  })
})

it('an adapter is restarted on the engine thread', async () => {
  for (const name of [a, a.replace('lora_A', 'lora_B')])
    adapter.fill(name, { kind: 'uniform', bound: 0.1, seed: 1 })
  await trainStep()
  expect(adapter.read(a, 'gradient').some((value) => value !== 0)).toBe(true)
  const restarting = adapter.restart().promise
  expect(() => adapter.read(a, 'gradient')).toThrow(/in use by a running job/)
  await restarting
  expect(adapter.read(a, 'gradient').every((value) => value === 0)).toBe(true)
})

it('arrays are read by pieces, and no further than they go', () => {
  adapter.write(
    a,
    'value',
    Float32Array.from({ length: aSize }, (_, i) => i),
  )
  adapter.writeState(
    a,
    'm',
    Uint8Array.from({ length: 4 * aSize }, (_, i) => i),
  )
  for (const [whole, piece] of [
    [
      adapter.read(a, 'value'),
      (begin: number, count: number) => adapter.read(a, 'value', new Float32Array(count), begin),
    ],
    [
      adapter.readState(a, 'm'),
      (begin: number, count: number) => adapter.readState(a, 'm', new Uint8Array(count), begin),
    ],
  ] as const) {
    expect(whole.some((value) => value !== 0)).toBe(true)
    expect([...piece(0, 5), ...piece(5, whole.length - 5)]).toEqual([...whole])
    expect(() => piece(6, whole.length - 5)).toThrow(/are out of range; the array has/)
    expect(() => piece(-1, 1)).toThrow(/-1 to 0 are out of range/)
  }
  expect(() => adapter.read(a, 'value', new Uint8Array(4) as never)).toThrow(/of the element type/)
})

it('arguments whose getters dispose the object they are for are an error', () => {
  const fill = {
    kind: 'constant',
    get value() {
      adapter.dispose()
      return 1
    },
  } as Fill
  expect(() => adapter.fill(a, fill)).toThrow(/an adapter was disposed/)
  const name = {
    toString() {
      adapter.dispose()
      return a
    },
  } as unknown as string
  adapter = addon().createAdapter(loraSpec([]), { trainable: true })
  expect(() => adapter.read(name, 'value')).toThrow(/an adapter was disposed/)
  adapter = addon().createAdapter(loraSpec([]), { trainable: true })
  expect(() => adapter.readState(name, 'm')).toThrow(/an adapter was disposed/)
})

it('a weight is loaded once', async () => {
  const source = { name: 'w', file: '/nowhere', offset: 0, bytes: 4, dtype: 'F32', shape: [1] } as const
  const { name } = loaded.graph.weights[0] ?? { name: '' }
  expect(() => loaded.model.loadWeight(name, { ...source, shape: [1] }, 'f32')).toThrow(/is already loaded/)
})

it('forward plans of one session agree on their cache', async () => {
  const forward = {
    mode: 'forward',
    tokens: 8,
    sequences: 1,
    headRows: 1,
    kvCapacity: 16,
    precision: 'f32',
  } as const
  const create = (second: object) =>
    addon().createSession(loaded.model, [], {
      prefill: forward,
      decode: { ...forward, tokens: 1, ...second },
    }).promise
  await (await create({})).dispose()
  await expect(create({ kvCapacity: 32 })).rejects.toThrow(/'decode' and 'prefill' share one KV cache/)
  await expect(create({ precision: 'bf16' })).rejects.toThrow(/must be the same/)
})

describe('opening and closing', () => {
  const held = () => addon().allocated()
  /** Work that the engine is busy with for a while. */
  const busy = () => Promise.all(Array.from({ length: 100 }, trainStep))

  it('happen on the engine thread, after what is queued there', async () => {
    const before = held()
    const ended: string[] = []
    const noted = <T>(what: string, promise: Promise<T>) => promise.finally(() => ended.push(what))
    const work = noted('work', busy())
    const opening = noted('open', addon().createSession(loaded.model, [adapter], plans).promise)
    // Nothing was done in this thread.
    expect(held()).toEqual(before)
    const opened = await opening
    // Promises that settled earlier may be reported some turns later, because they pass through more promises.
    for (let turn = 0; turn < 20 && !ended.includes('work'); turn++) await setImmediate()
    expect(ended).toContain('work')
    expect(held().activations).toBe(2 * before.activations)
    // An engine without work could close it at once.
    const more = busy()
    const closing = noted('close', opened.dispose())
    expect(held().activations).toBe(2 * before.activations)
    await closing
    await Promise.all([work, more])
    expect(ended.at(-1)).toBe('close')
    expect(held()).toEqual(before)
  })

  it('what is closed is of no use from then on, though it is still there', async () => {
    const work = busy()
    const closing = session.dispose()
    expect(trainStep).toThrow(/a session was disposed/)
    await Promise.all([closing, session.dispose(), work])
  })

  it('the model and the adapter may be closed while a session over them opens', async () => {
    const own = await loadTiny('llama3')
    const lora = addon().createAdapter(loraSpec([]), { trainable: false })
    const work = busy()
    const opening = addon().createSession(own.model, [lora], {
      evaluate: { ...plans.train, mode: 'evaluate' },
    })
    const closed = [own.model.dispose(), lora.dispose()]
    const opened = await opening.promise
    await Promise.all(closed)
    expect((await opened.evaluate('evaluate', batch).promise).count).toBeGreaterThan(0)
    await Promise.all([opened.dispose(), work])
  })

  it('one that does not begin before it is canceled takes no memory', async () => {
    const before = held()
    const work = busy()
    const opening = addon().createSession(loaded.model, [adapter], plans)
    opening.cancel()
    await expect(opening.promise).rejects.toMatchObject({ code: 'ABORTED' })
    await work
    expect(held()).toEqual(before)
  })

  it('a model whose weights are not all there is refused at once', () => {
    const model = addon().createModel(loaded.graph)
    expect(() => addon().createSession(model, [], plans)).toThrow(/the model is not loaded: \d+ weights/)
    expect(() => model.plan([], plans)).toThrow(/the model is not loaded/)
  })

  it('sessions come from nowhere else', () => {
    const Session = session.constructor as new (...given: unknown[]) => unknown
    expect(() => new Session(loaded.model, [adapter], plans)).toThrow(/use createSession to open/)
  })
})

describe('worker threads', () => {
  const script = fileURLToPath(new URL('./worker-exit.mjs', import.meta.url))
  const run = (mode: string) => promisify(execFile)(process.execPath, [script, mode], { timeout: 60_000 })

  sweepTest(
    'leave the jobs of other environments alone when they end',
    async () => {
      expect((await run('exit')).stdout).toBe('worker first, 8 settled\n')
    },
    70_000,
  )

  it('can be ended in the middle of a job', async () => {
    expect((await run('terminate')).stdout).toBe('alive\n')
  }, 70_000)

  sweepTest(
    'can be ended while jobs of theirs settle',
    async () => {
      expect((await run('settle')).stdout).toBe('alive\n')
    },
    70_000,
  )

  it('leave the code of the addon where it is when they end', async () => {
    expect((await run('keep')).stdout).toBe('kept\n')
  }, 70_000)

  it('a process ends with sessions that are open, opening and closing', async () => {
    expect((await run('leave')).stdout).toBe('left\n')
  }, 70_000)
})
