/** What the native side says of objects that are not as native/boundary.json states them. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { addon, type NativeAdapter, type NativeSession } from '../../../lib/native/addon.js'
import { type Loaded, loadTiny, loraSpec } from '../../parity/engine.js'

const ids = (...values: number[]) => Int32Array.from(values)
const tokens = { bytes: Uint8Array.of(97), ends: ids(1), special: Uint8Array.of(0) }
const tables = {
  start: 0,
  ...{ edgeBegin: ids(0, 1, 1), edgeLow: ids(97), edgeHigh: ids(97), edgeTo: ids(1) },
  ...{ callBegin: ids(0, 0, 0), callStart: ids(), callTo: ids(), accepts: ids(0, 1) },
}
const update = {
  ...{ kind: 'adamw', beta1: 0.9, beta2: 0.999, epsilon: 1e-8, maxGradNorm: 0, step: 1 },
  groups: [{ learningRate: 1e-3, weightDecay: 0 }],
}
const plan = { mode: 'train', tokens: 8, sequences: 1, headRows: 8, precision: 'f32' }
const batch = { tokens: ids(1, 2), cuSeqlens: ids(0, 2), labels: ids(2, -100) }
const input = { ...batch, lossScale: 1, seed: 0, step: 1, microStep: 0 }
const sampling = { temperature: 0, topK: 0, topP: 1, seed: 0, position: 0 }
const text = { tokens: ids(1), past: 0, begin: 0, adapters: ids() }

let loaded: Loaded
let adapter: NativeAdapter
let session: NativeSession
beforeAll(async () => {
  loaded = await loadTiny('llama3', 'f32')
  const { node, weight } = linearOf(loaded)
  const spec = loraSpec([{ path: node, rank: 2, scale: 2, inputs: weight.cols, outputs: weight.rows }])
  adapter = addon().createAdapter(spec, { trainable: true })
  const plans = { train: plan, forward: { ...plan, mode: 'forward', kvCapacity: 8 } }
  session = await addon().createSession(loaded.model, [adapter], plans as never).promise
})
afterAll(async () => {
  await session.dispose()
  await adapter.dispose()
  await loaded.model.dispose()
})

function linearOf({ graph }: Loaded) {
  const node = graph.nodes.find(({ op }) => op === 'linear') as { path: string; weight: string }
  return {
    node: node.path,
    weight: graph.weights.find(({ name }) => name === node.weight) as { rows: number; cols: number },
  }
}

const vocabulary = () => addon().createVocabulary(tokens)
const CALLS: Record<string, (given: never) => unknown> = {
  createVocabulary: (given) => addon().createVocabulary(given),
  createGrammar: (given) => addon().createGrammar(vocabulary(), given),
  createSession: (given) => addon().createSession(loaded.model, [adapter], given),
  restart: (given) => adapter.restart(given),
  optimizerStep: (given) => adapter.optimizerStep(given),
  release: (given) => adapter.release(given),
  trainStep: (given) => session.trainStep('train', given),
  evaluate: (given) => session.evaluate('train', given),
  forward: (given) => session.forward('forward', given),
  decode: (given) => session.decode('forward', given),
}

test.each([
  ['createVocabulary', 7, 'tokens must be an object, not 7'],
  ['createVocabulary', { ...tokens, ends: undefined }, 'tokens.ends must be an Int32Array, not undefined'],
  ['createVocabulary', { ...tokens, ends: [1] }, 'tokens.ends must be an Int32Array, not an array'],
  ['createVocabulary', { ...tokens, bytes: 'a' }, "tokens.bytes must be a Uint8Array, not 'a'"],
  ['createGrammar', { ...tables, start: '0' }, "tables.start must be a number, not '0'"],
  ['createGrammar', { ...tables, start: 0.5 }, 'tables.start must be an integer below 2^53, not 0.5'],
  [
    'createGrammar',
    { ...tables, start: 2 ** 31 },
    'tables.start must be an integer of 32 bits, not 2147483648',
  ],
  ['createGrammar', { ...tables, start: null }, 'tables.start must be a number, not null'],
  ['createGrammar', { ...tables, accepts: {} }, 'tables.accepts must be an Int32Array, not an object'],
  ['createSession', 7, 'plans must be an object, not 7'],
  [
    'createSession',
    { a: { ...plan, mode: 'x' } },
    "plans.a.mode must be one of train, evaluate, forward, not 'x'",
  ],
  ['createSession', { a: { ...plan, recompute: 1 } }, 'plans.a.recompute must be true or false, not 1'],
  ['restart', { kind: 'adam' }, "state.kind must be one of adamw, sgd, lion, adafactor, not 'adam'"],
  ['restart', { kind: 'adamw', folder: 1 }, 'state.folder must be a string, not 1'],
  ['optimizerStep', { ...update, groups: {} }, 'optimizer.groups must be an array, not an object'],
  [
    'optimizerStep',
    { ...update, groups: [update.groups[0], { weightDecay: 0 }] },
    'optimizer.groups[1].learningRate must be a number, not undefined',
  ],
  ['optimizerStep', { ...update, gradNorm: '1' }, "optimizer.gradNorm must be a number, not '1'"],
  [
    'optimizerStep',
    { ...update, ranks: { active: 1.5 } },
    'optimizer.ranks.active must be an integer below 2^53, not 1.5',
  ],
  [
    'optimizerStep',
    { ...update, ranks: { draws: [1, 'a'] } },
    "optimizer.ranks.draws[1] must be a number, not 'a'",
  ],
  [
    'release',
    { key: Uint8Array.of(1), round: 1, deviation: 0, cohort: 1 },
    'release.key must be a Uint8Array of 32 bytes',
  ],
  ['trainStep', { ...input, labels: undefined }, 'input.labels must be an Int32Array, not undefined'],
  ['trainStep', { ...input, temperature: 0 }, 'input.temperature must be a positive number'],
  [
    'trainStep',
    { ...input, update: { ...update, step: 'a' } },
    "input.update.step must be a number, not 'a'",
  ],
  ['evaluate', { ...batch, wantLogits: 'yes' }, "input.wantLogits must be true or false, not 'yes'"],
  ['forward', { tokens: ids(1), past: 0, rows: [0] }, 'input.rows must be an Int32Array, not an array'],
  ['decode', {}, 'texts must be an array, not an object'],
  [
    'decode',
    [text, { ...text, sampling: {} }],
    'texts[1].sampling.temperature must be a number, not undefined',
  ],
  [
    'decode',
    [{ ...text, sampling: { ...sampling, logitBias: { ids: ids(1), values: new Float32Array(2) } } }],
    'texts[0].sampling.logitBias.values must be as long as its ids',
  ],
  ['decode', [{ ...text, sampling: { ...sampling, rules: {} } }], 'expected a matcher of a grammar'],
])('%s names what is wrong: %#', (name, given, message) => {
  expect(() => CALLS[name]?.(given as never)).toThrow(TypeError)
  expect(() => CALLS[name]?.(given as never)).toThrow(`lowrank: ${message}`)
})

describe('what is right', () => {
  test('is taken, with defaults for what is absent', async () => {
    vocabulary()
    CALLS.createGrammar?.(tables as never)
    const { lossSum, count, ...rest } = await session.trainStep('train', input).promise
    expect({ count, finite: Number.isFinite(lossSum), rest }).toEqual({ count: 1, finite: true, rest: {} })
    expect(await adapter.optimizerStep(update as never).promise).toEqual({ gradNorm: expect.any(Number) })
    const drawn = session.decode('forward', [
      { ...text, sampling, topLogProbs: 2 },
      { ...text, begin: 4 },
    ])
    expect(await drawn.promise).toEqual([
      {
        token: expect.any(Number),
        own: {
          logProb: expect.any(Number),
          top: expect.any(Int32Array),
          topLogProbs: expect.any(Float64Array),
        },
      },
    ])
  })
})
