import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeAll, describe, expect, test } from 'vitest'
import type { ChatMessage } from '../../../../lib/index.js'
import { loadModel } from '../../../../lib/model/load.js'
import type { Model } from '../../../../lib/model/model.js'
import { dylora } from '../../../../lib/strategies/dylora.js'
import { lora } from '../../../../lib/strategies/lora.js'
import type { StrategyConfig } from '../../../../lib/strategies/strategy.js'
import type { TrainingRun } from '../../../../lib/train/run/run.js'
import type { TrainEvent } from '../../../../lib/train/steps/events.js'
import { chats, tinyModel } from '../../../e2e/tiny-model.js'
import { sweepTest, swept } from '../../../sweep.js'
import { scratchFile, scratchFolder } from '../../scratch.js'

const QUESTION: ChatMessage[] = [{ role: 'user', content: 'Hello' }]
const options = {
  maxSteps: 6,
  maxSeqLength: 64,
  perDeviceTrainBatchSize: 2,
  gradientAccumulationSteps: 2,
  evalFraction: 0.2,
  evalSteps: 2,
  learningRate: 0.01,
}

let folder: string
let data: string
beforeAll(() => {
  folder = tinyModel()
  data = scratchFile('train.jsonl', chats(40))
})

const loaded: Model[] = []
afterEach(async () => {
  for (const model of loaded.splice(0)) await model.dispose()
})

async function start(strategy: StrategyConfig = dropping(), more: object = {}) {
  const model = await loadModel(folder, { precision: 'fp32' })
  loaded.push(model)
  const adapter = await model.attach(strategy, { seed: 1 })
  return { model, adapter, run: adapter.train(data, { ...options, outputDir: scratchFolder(), ...more }) }
}

const dropping = () => lora({ r: 4, loraAlpha: 8, loraDropout: 0.1 })

/** The events of a run; `at` is called with each of them before the next. */
async function follow(run: TrainingRun, at?: (event: TrainEvent) => unknown): Promise<TrainEvent[]> {
  const events: TrainEvent[] = []
  for await (const event of run.events()) {
    events.push(event)
    await at?.(event)
  }
  return events
}

/** All numbers of steps and evaluations, in their order. */
const numbers = (events: readonly TrainEvent[]) =>
  events.flatMap((event) => {
    if (event.event === 'step') return [[event.step, event.loss, event.gradNorm, event.learningRate]]
    return event.event === 'eval' ? [[event.step, event.loss]] : []
  })

const adapterIn = (events: readonly TrainEvent[]) => {
  const done = events.at(-1)
  if (done?.event !== 'done') throw new Error('the run is not done')
  return readFileSync(join(done.outputDir as string, 'adapter_model.safetensors'))
}

const names = (events: readonly TrainEvent[]) => events.map(({ event }) => event)

describe('a pause', () => {
  test('begins before the next step, lasts until resume, and is told', async () => {
    const { run } = await start()
    const events: TrainEvent[] = []
    const over = follow(run, (event) => {
      events.push(event)
      if (event.event === 'step' && event.step === 3) run.pause()
    })
    while (events.at(-1)?.event !== 'paused') await sleep(5)
    expect(run.paused).toBe(true)
    await sleep(50)
    expect(events.at(-1)).toEqual({ event: 'paused', step: 3 })
    run.resume()
    await over
    expect(run.paused).toBe(false)
    const at = names(events).indexOf('paused')
    expect(events[at + 1]).toEqual({ event: 'resumed', step: 3 })
    expect(names(events.slice(at + 2)).filter((name) => name === 'step')).toHaveLength(3)
    const lines = readFileSync(
      join((events.at(-1) as { outputDir: string }).outputDir, 'metrics.jsonl'),
      'utf8',
    )
    expect(lines).toMatch(
      /\{"event":"paused","step":3,"time":[\d.]+\}\n\{"event":"resumed","step":3,"time":[\d.]+\}\n/,
    )
  })

  test('that is taken back before the step ends is none', async () => {
    const { run } = await start()
    const events = await follow(run, ({ event }) => {
      if (event !== 'step') return
      run.pause()
      run.resume()
    })
    expect(names(events)).not.toContain('paused')
  })

  test('comes before an evaluation that is due', async () => {
    const { run } = await start()
    const events = await follow(run, (event) => {
      if (event.event === 'step' && event.step === 2) run.pause()
      if (event.event === 'paused') run.resume()
    })
    const at = names(events).indexOf('paused')
    expect(names(events.slice(at - 1, at + 3))).toEqual(['step', 'paused', 'resumed', 'eval'])
  })

  test('ends when the run is aborted, with a checkpoint', async () => {
    const controller = new AbortController()
    const { run } = await start(dropping(), { signal: controller.signal })
    const events: TrainEvent[] = []
    const over = follow(run, (event) => {
      events.push(event)
      if (event.event === 'step') run.pause()
      if (event.event === 'paused') setTimeout(() => controller.abort(new Error('enough')), 10)
    })
    await expect(over).rejects.toThrow('enough')
    expect(names(events.slice(-3))).toEqual(['paused', 'checkpoint', 'stopped'])
  })
})

describe('stop', () => {
  sweepTest(
    'ends the run without an error after the running step, and a resumed run goes on with the same bits',
    async () => {
      const outputDir = scratchFolder()
      const whole = await follow((await start()).run)
      const { run } = await start(dropping(), { outputDir })
      const events = await follow(run, (event) => event.event === 'step' && event.step === 3 && run.stop())
      const path = join(outputDir, 'checkpoint-3')
      expect(events.slice(-2)).toEqual([
        { event: 'checkpoint', step: 3, path },
        { event: 'stopped', step: 3, path },
      ])
      const resumed = await follow((await start(dropping(), { outputDir, resume: true })).run)
      expect([...numbers(events), ...numbers(resumed)]).toEqual(numbers(whole))
      expect(adapterIn(resumed)).toEqual(adapterIn(whole))
    },
  )

  test('during a pause saves and ends', async () => {
    const { run } = await start()
    const events = await follow(run, (event) => {
      if (event.event === 'step') run.pause()
      if (event.event === 'paused') setTimeout(() => run.stop(), 10)
    })
    expect(names(events.slice(-3))).toEqual(['paused', 'checkpoint', 'stopped'])
  })

  test('before the first step leaves nothing to resume', async () => {
    const { run } = await start()
    const events = await follow(run, () => run.stop())
    expect(names(events)).toEqual(['start', 'plan', 'memory', 'stopped'])
    expect(events.at(-1)).toEqual({ event: 'stopped', step: 0, path: null })
    const unstarted = (await start()).run
    unstarted.stop()
    expect(await follow(unstarted)).toEqual([])
  })
})

describe('ask', () => {
  const kinds = [
    ['LoRA with dropout', dropping, {}],
    ['DyLoRA, which draws ranks', () => dylora({ r: 4, loraAlpha: 8 }), {}],
    [
      'an optimizer in the backward pass',
      dropping,
      { optimizerInBackward: true, maxGradNorm: 0, gradientAccumulationSteps: 1 },
    ],
  ] as const
  test.each(swept(kinds, 1))('and pause move no bit of a run with %s', async (_, strategy, more) => {
    const quiet = await follow((await start(strategy(), more)).run)
    const { run } = await start(strategy(), more)
    const answers: Promise<{ step: number }>[] = []
    const asked = await follow(run, (event) => {
      // One in the middle of the next step, and one that is waited for here, between two steps.
      if (event.event === 'step') setTimeout(() => answers.push(run.ask(QUESTION, { maxNewTokens: 4 })), 1)
      if (event.event === 'step' && event.step === 2) run.pause()
      if (event.event === 'paused') run.resume()
      if (event.event === 'step') return run.ask(QUESTION, { maxNewTokens: 4 })
      return undefined
    })
    expect(
      (await Promise.allSettled(answers)).filter(({ status }) => status === 'fulfilled').length,
    ).toBeGreaterThan(3)
    expect(numbers(asked)).toEqual(numbers(quiet))
    expect(adapterIn(asked)).toEqual(adapterIn(quiet))
  })

  sweepTest('answers as the adapter of that step does', async () => {
    const { model, adapter, run } = await start()
    const compared: boolean[] = []
    await follow(run, async (event) => {
      if (event.event !== 'step') return
      const given = { maxNewTokens: 8 }
      const answer = await run.ask(QUESTION, given)
      const { text } = await model.generate(QUESTION, { ...given, adapters: [adapter] })
      compared.push(answer.step === event.step && answer.text === text)
    })
    expect(compared).toEqual(Array(6).fill(true))
  })

  sweepTest('within a step waits until it is made', async () => {
    const { run } = await start(dropping(), { evalFraction: 0, evalSteps: null })
    const answers: Promise<number>[] = []
    const made: number[] = []
    await follow(run, (event) => {
      if (event.event !== 'step' || event.step > 4) return
      const { step } = event
      setImmediate(async () => {
        made.push(step + 1)
        answers.push(run.ask(QUESTION, { maxNewTokens: 1 }).then((answer) => answer.step))
      })
    })
    expect(await Promise.all(answers)).toEqual(made)
  })

  test('is answered during a pause, in pieces', async () => {
    const { run } = await start()
    let pieces = ''
    let text: string | undefined
    await follow(run, (event) => {
      if (event.event === 'step' && event.step === 1) run.pause()
      if (event.event !== 'paused') return
      const onText = (piece: string) => {
        pieces += piece
      }
      run.ask(QUESTION, { maxNewTokens: 8, onText }).then((answer) => {
        text = answer.text
        run.resume()
      })
    })
    expect(text).toBe(pieces)
    expect(pieces).not.toBe('')
  })

  test('before, after and beyond a run, and with a wrong argument, is refused in one sentence', async () => {
    const { run } = await start()
    await expect(run.ask(QUESTION)).rejects.toThrow('the run has not begun')
    let late: Promise<unknown> | undefined
    await follow(run, async ({ event }) => {
      if (event !== 'plan') return
      await expect(run.ask(7 as never)).rejects.toThrow('ask(): prompt is 7')
      await expect(run.ask('Hello', { maxNewTokens: 0 })).rejects.toThrow('maxNewTokens')
      const signal = AbortSignal.abort(new Error('no longer'))
      await expect(run.ask('Hello', { signal })).rejects.toThrow('no longer')
      run.stop()
      late = run.ask('Hello').catch((error: Error) => error.message)
    })
    expect(await late).toContain('the run was stopped')
    await expect(run.ask(QUESTION)).rejects.toThrow('the run is over')
  })
})
