/** Whole runs of private training: what they add up, what they spend, what they keep, and what they give away. */

import { cpSync, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { afterEach, beforeAll, describe, expect, test } from 'vitest'
import { privacySpent } from '../../../lib/federated/accountant.js'
import { drawCohort } from '../../../lib/federated/sampling.js'
import { writeSums } from '../../../lib/io/sums.js'
import type { Adapter, TrainControl } from '../../../lib/model/adapter.js'
import { loadModel } from '../../../lib/model/load.js'
import type { Model } from '../../../lib/model/model.js'
import { addon } from '../../../lib/native/addon.js'
import { sgd } from '../../../lib/options/optimizers.js'
import type { TrainOptions } from '../../../lib/options/types.js'
import type { DpDyloraOptions } from '../../../lib/strategies/configs.js'
import { dpDylora } from '../../../lib/strategies/dp-dylora.js'
import { dylora } from '../../../lib/strategies/dylora.js'
import { lora } from '../../../lib/strategies/lora.js'
import { loraFa } from '../../../lib/strategies/lora-fa.js'
import type { StrategyConfig } from '../../../lib/strategies/strategy.js'
import type { TrainEvent } from '../../../lib/train/steps/events.js'
import { chats, tinyModel } from '../../e2e/tiny-model.js'
import { sweepTest } from '../../sweep.js'
import { scratchFile, scratchFolder } from '../scratch.js'

const USERS = 8
let folder: string
let data: string
beforeAll(() => {
  folder = tinyModel()
  const rows = chats(5 * USERS)
    .trim()
    .split('\n')
  const owned = rows.map((row, i) =>
    JSON.stringify({ ...JSON.parse(row), user: `u${i % USERS}`, topic: i % 5, nobody: '' }),
  )
  data = scratchFile('clients.jsonl', `${owned.join('\n')}\n`)
})

const loaded: Model[] = []
afterEach(async () => {
  for (const model of loaded.splice(0)) await model.dispose()
})

async function attach(strategy: StrategyConfig): Promise<Adapter> {
  const model = await loadModel(folder, { precision: 'fp32' })
  loaded.push(model)
  return model.attach(strategy, { seed: 1 })
}

const options: Partial<TrainOptions> = {
  maxSeqLength: 64,
  perDeviceTrainBatchSize: 2,
  learningRate: 0.01,
  lrSchedulerType: 'constant',
  seed: 7,
}
const private_: DpDyloraOptions = {
  adapter: dylora({ r: 4, loraAlpha: 8, trainedRanks: 'active' }),
  clients: { column: 'user' },
  cohort: 3,
  rounds: 4,
  noiseMultiplier: 0.5,
  delta: 1e-2,
}

async function run(
  strategy: StrategyConfig,
  control: Partial<TrainOptions> & TrainControl = {},
): Promise<{ events: TrainEvent[]; adapter: Adapter }> {
  const adapter = await attach(strategy)
  const events: TrainEvent[] = []
  for await (const event of adapter.train(data, { ...options, ...control }).events()) events.push(event)
  return { events, adapter }
}

const steps = (events: TrainEvent[]) =>
  events.flatMap((event) =>
    event.event === 'step' && event.privacy ? [{ step: event.step, loss: event.loss, ...event.privacy }] : [],
  )
/** An output folder that is not there yet, in a folder of its own. */
const newOutput = () => join(scratchFolder(), 'out')
const secretOf = (outputDir: string) => `${outputDir}-secret`
const copyCheckpoint = (step: number, from: string, to: string) =>
  cpSync(join(secretOf(from), `checkpoint-${step}`), join(secretOf(to), `checkpoint-${step}`), {
    recursive: true,
  })
const weights = (path: string) => readFileSync(join(path, 'adapter_model.safetensors'))
const values = ({ state: { description, native } }: Adapter) =>
  description.factors.flatMap(({ name }) => [...native.read(name, 'value')])

describe('rounds of clients', () => {
  test('say what they spend, and spend what the accountant says', async () => {
    const { events } = await run(dpDylora(private_))
    const made = steps(events)
    expect(made.map(({ step }) => step)).toEqual([1, 2, 3, 4])
    for (const { step, epsilon, rank } of made) {
      const settings = { samplingRate: 3 / USERS, noiseMultiplier: 0.5, delta: 1e-2, steps: step }
      expect(epsilon).toBeCloseTo(privacySpent(settings).epsilon, 9)
      expect(rank).toBeGreaterThanOrEqual(1)
      expect(rank).toBeLessThanOrEqual(4)
    }
    const plan = events.find((event) => event.event === 'plan')
    expect(plan).toMatchObject({
      event: 'plan',
      privacy: {
        epsilon: 0,
        population: USERS,
        cohort: 3,
        sampling_rate: 3 / USERS,
        rounds: 0,
        private: true,
      },
    })
    const final = privacySpent({ samplingRate: 3 / USERS, noiseMultiplier: 0.5, delta: 1e-2, steps: 4 })
    expect(plan?.privacy?.promise).toContain(
      `Each client, with all its rows, will be protected with epsilon ${final.epsilon.toPrecision(3)} and delta`,
    )
    const done = events.at(-1)
    expect(done).toMatchObject({
      event: 'done',
      steps: 4,
      privacy: { epsilon: made[3]?.epsilon, final_epsilon: made[3]?.epsilon, rounds: 4 },
    })
    expect(done?.event === 'done' && done.privacy?.promise).toMatch(
      /^Each client, with all its rows, is protected/,
    )
  })

  describe('of which the parts are known', () => {
    const adapter = lora({ r: 4, loraAlpha: 8 })
    const optimizer = sgd({ momentum: 0.5 })
    /** Change of each client on its own, and its start. */
    let start: number[]
    let changes: number[][]
    const norm = (values: readonly number[]) => Math.hypot(...values)
    beforeAll(async () => {
      const rows = readFileSync(data, 'utf8').trim().split('\n')
      start = values(await attach(adapter))
      changes = []
      for (let user = 0; user < USERS; user++) {
        const own = scratchFile('own.jsonl', rows.filter((_, i) => i % USERS === user).join('\n'))
        const alone = await attach(adapter)
        for await (const _ of alone.train(own, { ...options, optimizer, numTrainEpochs: 1 }));
        changes.push(values(alone).map((value, i) => value - (start[i] as number)))
      }
    })
    /** Distance of one round with negligible noise from a sum of contributions, relative to its length. */
    async function distance(settings: DpDyloraOptions, contributions: number[][], scale: number) {
      const quiet = { adapter, rounds: 1, noiseMultiplier: 1e-12, ...settings }
      const { adapter: trained, events } = await run(dpDylora({ ...private_, ...quiet }), { optimizer })
      const expected = start.map(
        (_, i) => scale * contributions.reduce((sum, one) => sum + (one[i] as number), 0),
      )
      expect(norm(expected)).toBeGreaterThan(1e-4)
      const found = values(trained).map((value, i) => value - (start[i] as number) - (expected[i] as number))
      return { apart: norm(found) / norm(expected), round: steps(events)[0] }
    }

    test('are plain federated averaging where nothing is clipped and the noise is too small to see', async () => {
      const { apart, round } = await distance({ cohort: USERS, clippingNorm: 1e3 }, changes, 1 / USERS)
      expect(round).toMatchObject({ cohort: USERS, clipped_share: 0, rank: null })
      expect(apart).toBeLessThan(1e-4)
    })

    test('contribute no more than the clipping norm each, and are divided by how many were expected', async () => {
      const cohort = 3
      const drawn = (key: string) => drawCohort(Buffer.from(key, 'hex'), 1, USERS, cohort / USERS)
      const keys = Array.from({ length: 64 }, (_, i) => i.toString(16).padStart(64, '0'))
      const noiseKey = keys.find((key) => drawn(key).length === 5) as string
      const came = drawn(noiseKey).map((user) => changes[user] as number[])
      // Two are within it, three are not.
      const clippingNorm = came.map(norm).toSorted((a, b) => a - b)[1] as number
      const clipped = came.map((one) => {
        const factor = Math.min(1, clippingNorm / norm(one))
        return one.map((value) => value * factor)
      })
      const given = { cohort, noiseKey, clippingNorm: clippingNorm * (1 + 1e-5) }
      const { apart, round } = await distance(given, clipped, 1 / cohort)
      expect(round).toMatchObject({ cohort: 5, clipped_share: 3 / 5 })
      expect(apart).toBeLessThan(1e-4)
    })
  })

  test('draw as many as they say, by their key', async () => {
    const noiseKey = '7'.repeat(64)
    const { events } = await run(dpDylora({ ...private_, noiseKey }))
    const drawn = [1, 2, 3, 4].map((round) =>
      drawCohort(Buffer.from(noiseKey, 'hex'), round, USERS, 3 / USERS),
    )
    expect(steps(events).map(({ cohort }) => cohort)).toEqual(drawn.map(({ length }) => length))
    expect(new Set(drawn.map(String)).size).toBeGreaterThan(1)
  })

  test('have noise of their own', async () => {
    const loud = { adapter: lora({ r: 4 }), clippingNorm: 1e-3, noiseMultiplier: 100, rounds: 2 }
    const adapter = await attach(dpDylora({ ...private_, ...loud }))
    const states = [values(adapter)]
    for await (const _ of adapter.train(data, options)) states.push(values(adapter))
    const [first, second] = [1, 2].map((round) =>
      (states[round] as number[]).map((value, i) => value - (states[round - 1]?.[i] as number)),
    ) as [number[], number[]]
    const product = first.reduce((sum, value, i) => sum + value * (second[i] as number), 0)
    expect(Math.hypot(...first)).toBeGreaterThan(0.1)
    expect(Math.abs(product) / Math.hypot(...first) / Math.hypot(...second)).toBeLessThan(0.2)
  })

  sweepTest('resumed from any checkpoint, or from none but the first, release the same numbers', async () => {
    const outputDir = newOutput()
    await run(dpDylora({ ...private_, serverOptimizer: 'adam', serverLearningRate: 0.01 }), {
      outputDir,
      saveSteps: 2,
    })
    const whole = weights(outputDir)
    for (const step of [0, 2]) {
      const copy = newOutput()
      copyCheckpoint(step, outputDir, copy)
      await run(dpDylora({ ...private_, serverOptimizer: 'adam', serverLearningRate: 0.01 }), {
        outputDir: copy,
        resume: true,
      })
      expect(weights(copy)).toEqual(whole)
    }
  })

  sweepTest('stopped within a round leave the adapter as it was before that round', async () => {
    const outputDir = newOutput()
    const strategy = dpDylora({ ...private_, rounds: 3, cohort: USERS })
    const adapter = await attach(strategy)
    const control = new AbortController()
    const training = adapter.train(data, { ...options, outputDir, signal: control.signal })
    let afterFirst: number[] = []
    const stopped = (async () => {
      for await (const { step: index } of training)
        if (index === 1) {
          afterFirst = values(adapter)
          // In the second round, which has eight clients.
          setTimeout(() => control.abort(new Error('enough')), 15)
        }
    })()
    await expect(stopped).rejects.toThrow('enough')
    const [checkpoint] = training.checkpoints
    expect(checkpoint).toMatch(/checkpoint-[12]$/)
    if (checkpoint?.endsWith('-1')) expect(values(adapter)).toEqual(afterFirst)
    await run(strategy, { outputDir, resume: true })
    const whole = newOutput()
    copyCheckpoint(0, outputDir, whole)
    await run(strategy, { outputDir: whole, resume: true })
    expect(weights(outputDir)).toEqual(weights(whole))
  })

  test('keep their key in checkpoints alone, and what they spent wherever the adapter goes', async () => {
    const outputDir = newOutput()
    const { adapter } = await run(dpDylora(private_), { outputDir })
    const state = JSON.parse(
      readFileSync(join(secretOf(outputDir), 'checkpoint-0', 'training_state.json'), 'utf8'),
    )
    const key: string = state.rules.key
    expect(key).toMatch(/^[0-9a-f]{64}$/)
    const elsewhere = scratchFolder()
    await adapter.save(join(elsewhere, 'saved'))
    await adapter.save(join(elsewhere, 'cut'), { rank: 2 })
    const files = [outputDir, join(elsewhere, 'saved'), join(elsewhere, 'cut')].flatMap((path) =>
      readdirSync(path, { withFileTypes: true }).flatMap((file) =>
        file.isFile() ? [join(path, file.name)] : [],
      ),
    )
    expect(files.length).toBeGreaterThan(6)
    for (const file of files) {
      const bytes = readFileSync(file)
      expect(bytes.includes(key)).toBe(false)
      expect(bytes.includes(Buffer.from(key, 'hex'))).toBe(false)
    }
    for (const path of [outputDir, join(elsewhere, 'cut')])
      expect(JSON.parse(readFileSync(join(path, 'lowrank.json'), 'utf8')).privacy).toMatchObject([
        { rounds: 4, noise_multiplier: 0.5, sampling: 'poisson', accountant: 'rdp', private: true },
      ])
    const again = await loaded[0]?.loadAdapter(join(elsewhere, 'cut'))
    expect(again?.state.privacy).toHaveLength(1)
  })

  test('cannot be resumed with a promise that is not the one they began with', async () => {
    const outputDir = newOutput()
    await run(dpDylora({ ...private_, noiseMultiplier: null, targetEpsilon: 8 }), { outputDir })
    const other = dpDylora({ ...private_, noiseMultiplier: null, targetEpsilon: 80 })
    await expect(run(other, { outputDir, resume: true })).rejects.toThrow(
      'strategy.target_epsilon is 8 there and 80 here',
    )
  })

  describe('that were half made', () => {
    /** The rows of `data`, each with the client that is named for it. */
    const owned = (owner: (row: number) => string) =>
      readFileSync(data, 'utf8')
        .trim()
        .split('\n')
        .map((row, i) => JSON.stringify({ ...JSON.parse(row), user: owner(i) }))
        .join('\n')
    /** Two of four rounds, of which the checkpoint is left. */
    async function halfMade(): Promise<{ outputDir: string; path: string; state: string }> {
      const outputDir = newOutput()
      const path = scratchFile(
        'owned.jsonl',
        owned((i) => `u${i % USERS}`),
      )
      const adapter = await attach(dpDylora(private_))
      for await (const { step } of adapter.train(path, { ...options, outputDir, saveSteps: 2 }))
        if (step === 2) break
      return { outputDir, path, state: join(secretOf(outputDir), 'checkpoint-2', 'training_state.json') }
    }
    /** As whoever changes a checkpoint on purpose would write it. */
    async function rewrite({ state: file }: { state: string }, state: unknown): Promise<void> {
      writeFileSync(file, JSON.stringify(state))
      await writeSums(dirname(file))
    }
    async function resume({ outputDir, path }: { outputDir: string; path: string }): Promise<void> {
      const adapter = await attach(dpDylora(private_))
      for await (const _ of adapter.train(path, { ...options, outputDir, resume: true }));
    }

    test('go on for the same clients, whatever they are called', async () => {
      const half = await halfMade()
      writeFileSync(
        half.path,
        owned((i) => `client ${i % USERS}`),
      )
      await resume(half)
    })

    test('tell nothing of who is whose to whoever reads the hashes alone', async () => {
      const owners = async () =>
        JSON.parse(readFileSync((await halfMade()).state, 'utf8')).rules.pledge.owners as string
      const [one, other] = [await owners(), await owners()]
      expect(Buffer.from(one, 'base64')).toHaveLength(4 * 5 * USERS)
      expect(one).not.toBe(other)
    })

    test('do not go on when every row is a client of its own', async () => {
      const half = await halfMade()
      writeFileSync(
        half.path,
        owned((i) => `u${i}`),
      )
      await expect(resume(half)).rejects.toThrow(
        /population is 8 there and 40 here; .*sampling_rate is 0.375 there and 0.075 here; .*32 rows belong to another client/,
      )
    })

    test('do not go on when one row has changed hands', async () => {
      const half = await halfMade()
      writeFileSync(
        half.path,
        owned((i) => `u${i === 9 ? 5 : i % USERS}`),
      )
      await expect(resume(half)).rejects.toThrow('cannot be resumed: 1 row belongs to another client.')
    })

    test('do not go on where what they spent is not what the accountant counts', async () => {
      const half = await halfMade()
      const state = JSON.parse(readFileSync(half.state, 'utf8'))
      const { epsilon } = state.rules.spent
      state.rules.spent.epsilon = epsilon / 2
      await rewrite(half, state)
      await expect(resume(half)).rejects.toThrow(
        `2 rounds spent an epsilon of ${epsilon / 2}, and the accountant counts ${epsilon}`,
      )
    })

    test('do not go on from a checkpoint without their key', async () => {
      const half = await halfMade()
      const state = JSON.parse(readFileSync(half.state, 'utf8'))
      delete state.rules
      await rewrite(half, state)
      await expect(resume(half)).rejects.toThrow('has no key for the noise of its rounds')
    })

    test('do not go on from a checkpoint that does not say whom they promised what', async () => {
      const half = await halfMade()
      const state = JSON.parse(readFileSync(half.state, 'utf8'))
      delete state.rules.pledge
      await rewrite(half, state)
      await expect(resume(half)).rejects.toThrow('does not record the privacy terms of its run')
    })
  })

  sweepTest(
    'count what was spent once, however often they are resumed, and what was spent before',
    async () => {
      const strategy = dpDylora({ ...private_, rounds: 2 })
      const { adapter } = await run(strategy)
      const first = join(scratchFolder(), 'first')
      await adapter.save(first)
      const model = loaded[0] as Model
      const outputDir = newOutput()
      const again = await model.loadAdapter(first, { trainable: true })
      for await (const _ of again.train(data, { ...options, outputDir, saveSteps: 1 })) break
      const spent = () => JSON.parse(readFileSync(join(outputDir, 'lowrank.json'), 'utf8')).privacy
      for await (const _ of again.train(data, { ...options, outputDir, resume: true }));
      expect(spent()).toMatchObject([{ rounds: 2 }, { rounds: 2 }])
      const resume = join(secretOf(outputDir), 'checkpoint-1')
      await run(strategy, { outputDir, resume })
      expect(spent()).toMatchObject([{ rounds: 2 }, { rounds: 2 }])
    },
  )

  test('remark on a delta that leaves room to give clients away, and on noise that drowns them', async () => {
    const remarks = async (delta: number, clippingNorm = 0.1) => {
      const adapter = await attach(dpDylora({ ...private_, delta, clippingNorm }))
      const training = adapter.train(data, options)
      const ofOptions = training.remarks.length
      for await (const _ of training) break
      return training.remarks.slice(ofOptions)
    }
    expect(await remarks(1 / (10 * USERS))).toEqual([])
    expect(await remarks(0.1)).toEqual([expect.stringContaining(`a tenth of one over the ${USERS} clients`)])
    expect(await remarks(1 / (10 * USERS), 1)).toEqual([
      expect.stringContaining('the noise will drown what is learned'),
    ])
  })

  test('hold out clients as a whole', async () => {
    const { events } = await run(dpDylora(private_), { evalFraction: 0.25 })
    const plan = events.find((event) => event.event === 'plan')
    expect(plan).toMatchObject({ privacy: { population: 6, sampling_rate: 0.5 } })
  })

  test('of clients that were dealt out protect nobody, and say so', async () => {
    const clients = { partition: 'iid', count: 8 } as const
    const { events } = await run(dpDylora({ ...private_, clients, rounds: 1 }))
    const done = events.at(-1)
    expect(done).toMatchObject({ privacy: { private: false } })
    expect(done?.event === 'done' && done.privacy?.promise).toMatch(/^No client is protected/)
  })

  sweepTest('hold as much memory for a large cohort as for a small one', async () => {
    const held: object[] = []
    for (const cohort of [1, USERS]) {
      const adapter = await attach(dpDylora({ ...private_, cohort, rounds: 3 }))
      const before = addon().allocated()
      let most = 0
      for await (const { privacy } of adapter.train(data, options)) {
        most = Math.max(most, privacy?.cohort ?? 0)
        held.push(addon().allocated())
        expect(addon().allocated().gradients).toBe(before.gradients)
      }
      if (cohort === USERS) expect(most).toBe(USERS)
      await loaded.pop()?.dispose()
    }
    for (const now of held) expect(now).toEqual(held[0])
  })

  test('end before they would spend more than they may', async () => {
    const settings = { noiseMultiplier: 1, targetEpsilon: 4, rounds: null }
    const { events } = await run(dpDylora({ ...private_, ...settings }))
    const made = steps(events)
    expect(made.at(-1)?.epsilon).toBeLessThanOrEqual(4)
    const next = { samplingRate: 3 / USERS, noiseMultiplier: 1, delta: 1e-2, steps: made.length + 1 }
    expect(privacySpent(next).epsilon).toBeGreaterThan(4)
  })

  sweepTest('learn, where the noise allows', async () => {
    const settings = { cohort: USERS, rounds: 12, noiseMultiplier: 0.01, localEpochs: 2 }
    for (const adapter of [private_.adapter, lora({ r: 4 }), loraFa({ r: 4, projectGradient: false })]) {
      const made = steps(
        (await run(dpDylora({ ...private_, ...settings, adapter: adapter as StrategyConfig }))).events,
      )
      expect(made.at(-1)?.loss as number).toBeLessThan(0.9 * (made[0]?.loss as number))
    }
  })

  test('partition rows as they are asked to, and simulate large populations', async () => {
    const clients = { partition: 'dirichlet', count: 20, alpha: 0.3, column: 'topic' } as const
    const simulation = { population: 1e6, cohort: 5000 }
    const settings = { clients, simulation, delta: 1e-7, noiseMultiplier: 0.6, cohort: 10, rounds: 2 }
    const { events } = await run(dpDylora({ ...private_, ...settings }))
    const plan = events.find((event) => event.event === 'plan')
    expect(plan).toMatchObject({
      privacy: { population: 1e6, cohort: 5000, sampling_rate: 0.005, private: false, total_rounds: 2 },
    })
    const done = events.at(-1)
    expect(done?.event === 'done' && done.privacy?.promise).toMatch(/^Not private: this simulates on 20 /)
  })
})

describe('examples', () => {
  const byExample: DpDyloraOptions = {
    ...private_,
    privacyUnit: 'example',
    clients: null,
    cohort: 10,
    delta: 1e-3,
  }

  test('are drawn, clipped and accounted for one by one', async () => {
    const outputDir = newOutput()
    const { events } = await run(dpDylora({ ...byExample, clippingNorm: 1e-3 }), { outputDir })
    const made = steps(events)
    const plan = events.find((event) => event.event === 'plan')
    expect(plan).toMatchObject({ privacy: { unit: 'example', population: 40, sampling_rate: 0.25 } })
    for (const { clipped_share } of made) expect(clipped_share).toBe(1)
    const again = newOutput()
    copyCheckpoint(0, outputDir, again)
    await run(dpDylora({ ...byExample, clippingNorm: 1e-3 }), { outputDir: again, resume: true })
    expect(weights(again)).toEqual(weights(outputDir))
  })

  test('contribute no more than the clipping norm each', async () => {
    const settings = { cohort: 40, rounds: 1, noiseMultiplier: 1e-12, clippingNorm: 1e-3 }
    const strategy = dpDylora({ ...byExample, ...settings, adapter: lora({ r: 4 }) })
    const adapter = await attach(strategy)
    const start = values(adapter)
    const plain = { ...options, optimizer: sgd({ momentum: 0 }), learningRate: 1, weightDecay: 0 }
    for await (const { privacy } of adapter.train(data, plain)) expect(privacy?.clipped_share).toBe(1)
    const moved = Math.hypot(...values(adapter).map((value, i) => value - (start[i] as number)))
    // The mean of forty, which point in similar directions.
    expect(moved).toBeLessThan(1e-3 * (1 + 1e-4))
    expect(moved).toBeGreaterThan(1e-3 / 4)
  })

  sweepTest('learn, where the noise allows', async () => {
    const settings = { cohort: 40, rounds: 15, noiseMultiplier: 0.01 }
    const made = steps((await run(dpDylora({ ...byExample, ...settings }))).events)
    expect(made.at(-1)?.loss as number).toBeLessThan(0.9 * (made[0]?.loss as number))
  })
})

describe('settings that do not go together', () => {
  test.each([
    [{ targetEpsilon: 0 }, 'dpDylora(): targetEpsilon is 0, expected a number above 0.'],
    [{ delta: 0 }, 'dpDylora(): delta is 0, expected a number in (0, 1).'],
    [{ delta: 1 }, 'dpDylora(): delta is 1, expected a number in (0, 1).'],
    [{ cohort: 0 }, 'dpDylora(): cohort is 0, expected a positive integer.'],
    [{ adapter: { name: 'adalora' } }, 'expected one of dylora, lora, lora-fa'],
    [{ adapter: loraFa() }, 'lora-fa with project_gradient: false'],
    [{ privacyUnit: 'example' }, 'null if privacy_unit is example'],
    [{ noiseKey: 'abc' }, '64 hexadecimal digits'],
    [{ clients: { partition: 'iid' } }, 'clients'],
  ] as const)('%j is refused before anything is loaded', (wrong, message) => {
    expect(() => dpDylora({ ...private_, ...(wrong as object) })).toThrow(message)
  })

  test.each([
    [{ cohort: 9 }, 'dp-dylora: cohort is 9, expected at most the 8 clients of the data.'],
    [{ delta: 0.2 }, 'dp-dylora: delta is 0.2, expected a number below 1 / 8'],
    [{ noiseMultiplier: null }, 'dp-dylora: target_epsilon is null, expected a number'],
    [{ rounds: null }, 'dp-dylora: rounds is null, expected a number of rounds'],
    [{ noiseMultiplier: 0.5, targetEpsilon: 0.1 }, 'dp-dylora: noise_multiplier is 0.5, expected more noise'],
    [{ clients: { column: 'owner' } }, 'owner, which identifies the client of a row, is missing'],
    [{ clients: { column: 'nobody' } }, 'nobody, which identifies the client of a row, is empty'],
    [{ clients: null }, 'dp-dylora: clients is null, expected {column: user}'],
  ])('%j is refused by the data', async (wrong, message) => {
    const outputDir = join(scratchFolder(), 'out')
    await expect(run(dpDylora({ ...private_, ...(wrong as object) }), { outputDir })).rejects.toThrow(message)
    expect(existsSync(outputDir)).toBe(false)
  })

  test('max_steps is refused, since rounds say how many there are', async () => {
    await expect(run(dpDylora(private_), { maxSteps: 3 })).rejects.toThrow('max_steps is 3')
  })
})

test('a private adapter that is trained in the open keeps no promise', async () => {
  const { adapter } = await run(dpDylora(private_))
  const folder_ = join(scratchFolder(), 'private')
  await adapter.save(folder_)
  expect(existsSync(join(folder_, 'lowrank.json'))).toBe(true)
  expect(adapter.state.privacy).toHaveLength(1)
  await adapter.save(join(folder_, '..', 'lora'), { form: 'lora' })
  const model = loaded[0] as Model
  const open = await model.loadAdapter(join(folder_, '..', 'lora'), { trainable: true })
  expect(open.state.privacy).toHaveLength(1)
  for await (const _ of open.train(data, { ...options, maxSteps: 1 }));
  expect(open.state.privacy).toHaveLength(0)
})
