/**
 * Every function, method and setter of the package is given what programs in plain JavaScript may give it. The exports
 * and their parameters are listed by the package itself, so that one without an entry here is a failure.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import * as lowrank from '../../lib/index.js'
import type { Adapter } from '../../lib/model/adapter.js'
import type { Chat } from '../../lib/model/chat.js'
import type { Model } from '../../lib/model/model.js'
import type { TrainingRun } from '../../lib/train/run/run.js'
import { chats, tinyModel } from '../e2e/tiny-model.js'
import { scratchFile } from './scratch.js'

const circular: Record<string, unknown> = {}
circular.nonsense = circular

/** One value of each kind. */
const VALUES = {
  nothing: undefined,
  null: null,
  nan: Number.NaN,
  negative: -1,
  fraction: 1.5,
  flag: true,
  bigint: 7n,
  symbol: Symbol('x'),
  date: new Date(0),
  text: 'nonsense',
  empty: '',
  list: [7],
  object: { nonsense: 7 },
  circular,
  function: () => 7,
}
type Kind = keyof typeof VALUES

/** A right value of an argument, and the kinds of values that are right too, or errors of another sort. */
type Argument = readonly [right: unknown, ...takes: Kind[]]

/** A function, by its parameters. */
interface Entry {
  parameters: Record<string, Argument>
  /** Its name in messages. */
  name: string
}

let folder: string
let data: string
let model: Model
let adapter: Adapter
let chat: Chat
let run: TrainingRun
beforeAll(async () => {
  folder = tinyModel()
  data = scratchFile('data.jsonl', chats(20))
  model = await lowrank.loadModel(folder, { precision: 'fp32' })
  adapter = await model.attach(lowrank.lora({ r: 2 }))
  chat = await model.chat()
  run = adapter.train(data, { maxSteps: 1 })
})
afterAll(() => model.dispose())

const path: Argument = ['/nowhere/at/all', 'text']
const optional: Argument = [undefined, 'nothing']
/** Rows may be anything to iterate over; what they are is seen when they are read. */
const rows: Argument = [[{ text: 'a' }], 'text', 'list', 'function']
const strategy: Argument = [{ name: 'lora' }]
const text: Argument = ['a', 'text', 'empty']
const entry = (name: string, parameters: Entry['parameters'] = {}): Entry => ({ name, parameters })
/** A function that takes options alone. */
const ofOptions = (name: string, options: Argument = optional) => entry(`${name}()`, { options })
const none = entry('')
const internal = 'internal'

const spending = { samplingRate: 0.1, delta: 1e-5 }
const FUNCTIONS: Record<string, Entry> = {
  loadModel: entry('loadModel()', { name: path, options: optional }),
  planModel: entry('planModel()', { name: path, options: [{ strategy: { name: 'lora' } }] }),
  loadConfig: entry('loadConfig()', { path, overrides: [[], 'nothing'], control: optional }),
  compare: entry('compare()', { config: [{ model: 'a', strategy: { name: 'lora' } }], options: optional }),
  verifyCompare: entry('verifyCompare()', { path, options: optional }),
  readResults: entry('readResults()', { path }),
  dataset: entry('dataset()', { source: rows, options: optional }),
  scoresByClass: entry('scoresByClass()', { matrix: [[[1]]] }),
  readLabels: entry('readLabels()', { data: rows }),
  strategyFrom: entry('strategyFrom()', { strategy }),
  formatBytes: entry('formatBytes()', { bytes: [1, 'fraction'] }),
  MemoryReport: entry('MemoryReport', { report: [{ rows: [] }] }),
  privacySpent: ofOptions('privacySpent', [{ ...spending, noiseMultiplier: 1, steps: 10 }]),
  noiseMultiplierFor: ofOptions('noiseMultiplierFor', [{ ...spending, targetEpsilon: 1, steps: 10 }]),
  stepsWithin: ofOptions('stepsWithin', [{ ...spending, targetEpsilon: 1, noiseMultiplier: 1 }]),
  warmupStableDecay: ofOptions('warmupStableDecay', [{ numDecaySteps: 1 }]),
  listStrategies: none,
  full: none,
  int8: none,
  keep: none,
  ...Object.fromEntries(
    [
      ...['lora', 'loraFa', 'loraPlus', 'dora', 'deltaLora', 'dylora', 'dpDylora', 'adalora', 'loraDrop'],
      ...['vera', 'loha', 'lokr', 'miss', 'oft', 'hira', 'qlora', 'nf4', 'fp4', 'cosine'],
      ...['adamW', 'adamW8bit', 'pagedAdamW', 'pagedAdamW8bit', 'lion', 'lion8bit', 'adafactor', 'sgd'],
    ].map((name) => [name, ofOptions(name)]),
  ),
}

const METHODS: Record<string, Record<string, Entry | typeof internal>> = {
  Model: {
    adapter: entry('adapter()', { name: ['lora', 'text', 'empty'] }),
    use: entry('use()', { choices: ['lora', 'text', 'empty'] }),
    attach: entry('attach()', { strategy, options: optional }),
    probe: entry('probe()', { strategy, data: rows, options: optional }),
    loadAdapter: entry('loadAdapter()', { from: path, options: optional }),
    evaluate: entry('evaluate()', { data: rows, options: optional }),
    exactMatch: entry('exactMatch()', { data: rows, options: optional }),
    answerF1: entry('answerF1()', { data: rows, options: optional }),
    generate: entry('generate()', { prompt: text, options: optional }),
    stream: entry('generate()', { prompt: text, options: optional }),
    sample: entry('sample()', { prompts: [[]], options: optional }),
    chat: entry('chat()', { options: optional }),
    encodeRows: entry('encodeRows()', { data: rows, options: optional }),
    classify: entry('classify()', { texts: [[]], options: optional }),
    logLikelihoods: entry('logLikelihoods()', { answers: [[]], options: optional }),
    logits: entry('logits()', { tokens: [Int32Array.of(1)], options: optional }),
    save: entry('save()', { folder: path, options: optional }),
    export: entry('export()', { path, options: [{ format: 'gguf' }] }),
    checkStart: internal,
    hasChatTemplate: none,
    dispose: none,
    chosen: internal,
    hold: internal,
  },
  Adapter: {
    weight: entry('adapter lora', { weight: [1, 'negative', 'fraction'] }),
    rank: entry('adapter lora', { rank: [null, 'null'] }),
    train: entry('train()', { data: rows, options: optional }),
    forwardBackward: entry('forwardBackward()', {
      batch: [[{ tokens: [1, 2] }]],
      loss: ['cross_entropy', 'text', 'function'],
      options: optional,
    }),
    optimStep: entry('optimStep()', { options: [{ learningRate: 1e-3 }] }),
    forward: entry('forward()', { batch: [[{ tokens: [1, 2] }]], options: optional }),
    save: entry('save()', { path, options: optional }),
    merge: entry('merge()', { folder: path, options: optional }),
    export: entry('export()', { path, options: [{ format: 'gguf-lora' }] }),
    detach: none,
    use: internal,
    trainOn: internal,
  },
  Chat: {
    system: entry('chat', { system: [...text, 'null'] }),
    send: entry('send()', { prompt: text, options: optional }),
    reset: none,
    dispose: none,
    releaseCache: internal,
  },
  TrainingRun: {
    samples: entry('samples()', { options: optional }),
    time: entry('time()', { options: optional }),
    ask: entry('ask()', { prompt: text, options: optional }),
    events: none,
    pause: none,
    resume: none,
    stop: none,
    // biome-ignore lint/suspicious/noThenProperty: the name of the method, which takes anything.
    then: internal,
  },
  MemoryReport: {
    bytes: entry('bytes()', { category: ['weights'] }),
    toString: none,
  },
}

const isError = (value: unknown): boolean =>
  value === lowrank.LowrankError ||
  (value as { prototype?: unknown }).prototype instanceof lowrank.LowrankError

async function checkEntry(title: string, { parameters, name }: Entry, call: Call): Promise<void> {
  const right = Object.values(parameters).map(([value]) => value)
  for (const [index, [parameter, [value, ...takes]]] of Object.entries(parameters).entries()) {
    const given = (wrong: unknown) => () => call(...right.with(index, wrong))
    for (const [kind, wrong] of Object.entries(VALUES) as [Kind, unknown][])
      if (!takes.includes(kind)) {
        const isOptions = ['options', 'control'].includes(parameter)
        const unknown = isOptions && (kind === 'object' || kind === 'circular')
        const names = unknown ? 'nonsense' : isOptions ? 'options' : parameter
        const missing = isOptions && kind === 'nothing' ? '' : names
        await expectRefused(`${title}: ${parameter} of the kind ${kind}`, name, missing, given(wrong))
      }
    if (!['options', 'control'].includes(parameter)) continue
    const { known } = await expectRefused(title, name, 'nonsense', given({ nonsense: 7 }))
    const own = value as object | undefined
    for (const key of known as string[]) {
      const kinds = COUNT.test(key) ? [...NEVER, 'negative', 'fraction', 'text'] : NEVER
      for (const kind of kinds as Kind[])
        await expectRefused(
          `${title}: ${key} of the kind ${kind}`,
          name,
          key,
          given({ ...own, [key]: VALUES[kind] }),
        )
      // A word between two options may mean either.
      if (key.length < 6 || (known as string[]).includes(key.slice(0, -2))) continue
      const typo = key.slice(0, -1)
      const label = `${title}: ${typo} for ${key}`
      const { nearest } = await expectRefused(label, name, typo, given({ ...own, [typo]: 1 }))
      expect(nearest, label).toBe(key)
    }
  }
}

/** A function of any arguments. */
type Call = (...given: unknown[]) => unknown

const exported = Object.entries(lowrank as Record<string, unknown>).filter(([, value]) => !isError(value))
const instanceOf = (owner: string): object =>
  [model, adapter, chat, run, model.memory].find((one) => one.constructor.name === owner) as object

function callOf(name: string): Call {
  if (name === 'MemoryReport') return (...given) => Reflect.construct(lowrank.MemoryReport, given)
  return Object.fromEntries(exported)[name] as Call
}

function methodOf(owner: string, name: string): Call {
  const instance = instanceOf(owner)
  const { set } = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(instance), name) ?? {}
  return (...given) => (set ?? Reflect.get(instance, name)).apply(instance, given)
}

/** Values of these kinds are wrong for every option, but for those that take them. */
const NEVER = ['nan', 'bigint', 'symbol', 'date', 'circular'] as const
/** Options that are counts. */
const COUNT = /(?:Tokens|Steps|Length|Size|Rows|Limit|Patience|TotalLimit|BatchSize|topK|seed|rounds)$/

/** Names of parameters, as the function says them. */
function parametersOf(call: object): string[] {
  const [, list = ''] = /\(([^)]*)\)/.exec(String(call)) ?? []
  return list
    .split(',')
    .map((one) => one.replace(/=.*/, '').replace('...', '').trim())
    .filter(Boolean)
}

/** Functions and setters of a class. */
function membersOf(instance: object): [string, object][] {
  const all = Object.getOwnPropertyDescriptors(Object.getPrototypeOf(instance))
  return Object.entries(all).flatMap(([name, { value, set }]) => {
    const call = set ?? value
    return typeof call === 'function' && name !== 'constructor' ? [[name, call]] : []
  })
}

/** The error of a call, which a function that returns a promise gives by rejecting. */
async function errorOf(call: () => unknown): Promise<unknown> {
  let result: unknown
  try {
    result = call()
  } catch (error) {
    return error
  }
  try {
    const isGenerator = typeof result === 'object' && result !== null && 'next' in result
    await (isGenerator ? (result as Generator).next() : result)
  } catch (error) {
    return error
  }
  return undefined
}

async function expectRefused(label: string, name: string, names: string, call: () => unknown) {
  const error = await errorOf(call)
  expect(error, label).toBeInstanceOf(lowrank.LowrankError)
  const { message, code, details } = error as lowrank.LowrankError
  expect(code, label).toBe('CONFIG')
  expect(message, label).toContain(name)
  expect(message, label).toContain(names)
  expect(() => JSON.stringify(details), label).not.toThrow()
  return details
}

describe('what programs without types give', () => {
  test('is listed here for everything that the package exports', () => {
    expect(Object.keys(FUNCTIONS).sort()).toEqual(exported.map(([name]) => name).sort())
    for (const [name, value] of exported) {
      expect(value, name).toBeTypeOf('function')
      if (name === 'MemoryReport') continue
      expect(Object.keys(FUNCTIONS[name]?.parameters ?? {}), name).toEqual(parametersOf(value as object))
    }
    for (const instance of [model, adapter, chat, run, model.memory]) {
      const own = METHODS[instance.constructor.name] ?? {}
      const members = membersOf(instance)
      expect(members.map(([name]) => name).sort()).toEqual(Object.keys(own).sort())
      for (const [name, call] of members) {
        const known = own[name]
        if (known !== internal) expect(Object.keys(known?.parameters ?? {}), name).toEqual(parametersOf(call))
      }
    }
  })

  test.each(Object.entries(FUNCTIONS))('is refused by %s', async (name, entry) => {
    await checkEntry(name, entry, callOf(name))
  })

  const methods = Object.entries(METHODS).flatMap(([owner, all]) =>
    Object.entries(all).flatMap(([name, entry]) =>
      entry === internal ? [] : [[owner, name, entry] as const],
    ),
  )
  test.each(methods)('is refused by %s.%s', async (owner, name, entry) => {
    await checkEntry(`${owner}.${name}`, entry, methodOf(owner, name))
  })

  test.each([
    ['threads is 2147483647', () => lowrank.loadModel(folder, { threads: 2 ** 31 - 1 })],
    [
      'tokens per micro-batch; the limit is',
      () => adapter.train(data, { perDeviceTrainBatchSize: 2 ** 31 - 1, maxSeqLength: 2 ** 31 - 1 }),
    ],
    ['columns is', () => lowrank.dataset(data, { columns: [] as never })],
    [
      'answers.1 is',
      () => model.logLikelihoods([{ prompt: 'a', completion: 'b' }, { prompt: 'a' } as never]),
    ],
    ['adapters.0 is 7', () => model.evaluate(data, { adapters: [7 as never] })],
    ['adapters is "lora"', () => model.evaluate(data, { adapters: 'lora' as never })],
    ['heldOut.fraction is 2', () => model.evaluate(data, { heldOut: { fraction: 2, seed: 1 } })],
    ['evalDataset is 7', () => adapter.train(data, { evalDataset: 7 as never })],
    ['checkDataset is 7', () => model.save('/nowhere/at/all', { checkDataset: 7 as never })],
    ['name is "dora", expected lora', () => lowrank.lora({ name: 'dora' } as never)],
    ['prompt is [{"role":"user"}]', () => model.generate([{ role: 'user', content: Symbol('x') }])],
    ['prompt is []', () => model.generate([])],
    ['messages is [{"role":"user"}]', () => model.chat({ messages: [{ role: 'user', f: () => 7 }] })],
    ['path is missing', () => adapter.save(undefined as never)],
    ['data is ["a",7]', () => adapter.train(['a', 7 as never])],
  ])('is refused within what is given: %s', async (message, call) => {
    await expectRefused(message, '', message, call)
  })

  test('rejects, rather than throws, where a promise is returned', async () => {
    const calls = [
      ...['loadModel', 'planModel', 'loadConfig'].map(callOf),
      ...['attach', 'probe', 'loadAdapter', 'evaluate', 'exactMatch', 'generate', 'logLikelihoods', 'logits']
        .concat('save', 'export')
        .map((name) => methodOf('Model', name)),
      ...['save', 'merge', 'export'].map((name) => methodOf('Adapter', name)),
    ]
    for (const call of calls) await expect(call(null, null)).rejects.toThrow(lowrank.ConfigError)
  })
})
