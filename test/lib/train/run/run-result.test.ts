import { describe, expect, test } from 'vitest'
import { ConfigError } from '../../../../lib/core/errors.js'
import type { Adapter } from '../../../../lib/model/adapter.js'
import { lora } from '../../../../lib/strategies/lora.js'
import { tinyLoader } from '../tiny-models.js'

const load = tinyLoader()
const chats = Array.from({ length: 12 }, (_, i) => ({ prompt: `What is ${i}?`, completion: `It is ${i}.` }))
const options = { maxSteps: 3, maxSeqLength: 64, packing: false, learningRate: 1e-2 }

const attach = async (): Promise<Adapter> => (await load()).attach(lora({ r: 2 }), { seed: 1 })

describe('the result of a run', () => {
  test('awaiting a run trains it, and gives the best step and the metrics', async () => {
    const adapter = await attach()
    const before = [...adapter.state.native.read(firstOf(adapter), 'value')]
    const result = await adapter.train(chats, { ...options, evalFraction: 0.25 })
    expect(result).toMatchObject({ ended: 'completed', steps: 3, outputDir: null, checkpoints: [] })
    expect(result.trainLoss).toBeGreaterThan(0)
    expect(result.evaluations.map(({ step }) => step)).toEqual([0, 3])
    expect(result.best).toMatchObject({ metric: 'loss', lastStep: 3, keptStep: 3 })
    expect([...adapter.state.native.read(firstOf(adapter), 'value')]).not.toEqual(before)
  })

  test('finished waits for a run that is iterated, also if it is read before', async () => {
    const adapter = await attach()
    const run = adapter.train(chats, options)
    const { finished } = run
    const steps: number[] = []
    for await (const { step } of run) steps.push(step)
    expect(steps).toEqual([1, 2, 3])
    expect(await finished).toMatchObject({ ended: 'completed', steps: 3, best: null, evaluations: [] })
    expect(await run).toEqual(await finished)
  })

  test('a run that is left, or stopped, says so', async () => {
    const adapter = await attach()
    const left = adapter.train(chats, options)
    for await (const _ of left) break
    expect(await left).toMatchObject({ ended: 'stopped', steps: 1 })
    const stopped = adapter.train(chats, options)
    for await (const { step } of stopped) if (step === 2) stopped.stop()
    expect(await stopped.finished).toMatchObject({ ended: 'stopped', steps: 2 })
  })

  test('rejects with the error that ended the run', async () => {
    const adapter = await attach()
    await expect(adapter.train([{ prompt: 'A' }], options)).rejects.toThrow('row 1')
    const aborted = AbortSignal.abort(new Error('enough'))
    await expect(adapter.train(chats, { ...options, signal: aborted }).finished).rejects.toThrow('enough')
    const running = adapter.train(chats, options)
    const steps = running[Symbol.asyncIterator]()
    await steps.next()
    await expect(adapter.train(chats, options)).rejects.toThrow('being trained by another run')
    await steps.return?.()
  })

  test('an awaited run cannot be iterated as well', async () => {
    const adapter = await attach()
    const run = adapter.train(chats, options)
    await run.finished
    await expect(run.events().next()).rejects.toThrow(ConfigError)
  })
})

function firstOf({ state }: Adapter): string {
  const [first] = state.description.spec.parameters.filter(({ trained }) => trained)
  return first?.name ?? ''
}
