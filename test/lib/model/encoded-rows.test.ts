import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { ConfigError } from '../../../lib/core/errors.js'
import type { Adapter } from '../../../lib/model/adapter.js'
import { lora } from '../../../lib/strategies/lora.js'
import { scratchFolder } from '../scratch.js'
import { tinyLoader } from '../train/tiny-models.js'

const load = tinyLoader()

const chats = Array.from({ length: 23 }, (_, i) => ({
  messages: [
    { role: 'user', content: `What is ${i}?` },
    { role: 'assistant', content: `${'very '.repeat(i % 4)}much ${i}` },
  ],
}))

const strategy = lora({ r: 4, loraAlpha: 8, loraDropout: 0.1 })

/** All trained values of an adapter. */
function values({ state }: Adapter): number[] {
  const trained = state.description.spec.parameters.filter((parameter) => parameter.trained)
  return trained.flatMap(({ name }) => [...state.native.read(name, 'value')])
}

describe('encodeRows', () => {
  test.each([
    { packing: false, perDeviceTrainBatchSize: 3, gradientAccumulationSteps: 2 },
    { packing: true, perDeviceTrainBatchSize: 2, gradientAccumulationSteps: 3 },
    { packing: false, perDeviceTrainBatchSize: 5, gradientAccumulationSteps: 1 },
  ])('a loop over its windows gives the bits of train: %j', async (shape) => {
    const model = await load()
    const maxSeqLength = 64
    const learningRate = 1e-2
    const trained = await model.attach(strategy, { seed: 3 })
    const constant = { lrSchedulerType: 'constant', warmupRatio: 0, learningRate } as const
    await trained.train(chats, { ...shape, maxSeqLength, numTrainEpochs: 2, ...constant })
    const own = await model.attach(strategy, { seed: 3 })
    const data = await model.encodeRows(chats, { maxSeqLength })
    for (const epoch of [0, 1])
      for (const window of data.windows({ ...shape, epoch })) {
        await own.forwardBackward(window, 'cross_entropy')
        await own.optimStep({ learningRate, maxGradNorm: 1 })
      }
    expect(values(own)).toEqual(values(trained))
    expect(own.state.format).toEqual(trained.state.format)
  })

  test('an adapter of a custom loop is asked in the format of its rows, also once it is saved', async () => {
    const model = await load()
    const rows = [{ prompt: 'Hello', completion: 'there' }]
    const formats = async (encoded: Parameters<Adapter['forwardBackward']>[0]) => {
      const own = await model.attach(strategy, { seed: 3 })
      await own.forwardBackward(encoded, 'cross_entropy')
      const { promptFormat } = model
      const folder = join(scratchFolder(), 'own')
      await own.save(folder)
      await own.detach()
      const again = await model.loadAdapter(folder)
      expect(model.promptFormat).toEqual(promptFormat)
      await again.detach()
      return promptFormat
    }
    expect(await formats([...(await model.encodeRows(rows))])).toMatchObject({ form: 'chat', system: null })
    const raw = await model.encodeRows(rows, { chatTemplate: false })
    expect(await formats([...raw])).toMatchObject({ form: 'raw' })
    const chat = async (system: string) => {
      const messages = [
        { role: 'system', content: system },
        { role: 'user', content: 'What is 1?' },
        { role: 'assistant', content: 'One' },
      ] as const
      const { tokens, assistantMask } = await model.tokenizer.encodeChat(messages)
      return { tokens, weights: assistantMask }
    }
    const [brief, kind] = [await chat('Be brief.'), await chat('Be kind.')]
    expect(await formats([brief, { ...brief }])).toMatchObject({ form: 'chat', system: 'Be brief.' })
    expect(await formats([[brief], [kind]])).toMatchObject({ form: 'chat', system: null })
    expect(await formats([...raw, brief])).toMatchObject({ form: 'raw' })
    expect(await formats([{ tokens: [1, 2, 3] }])).toBeNull()
  })

  test('has the rows in the order of the data, and counts those that were dropped', async () => {
    const model = await load()
    const data = await model.encodeRows(
      [
        { prompt: 'Hello', completion: ' there' },
        { prompt: 'A', completion: 'B' },
      ],
      {
        chatTemplate: false,
      },
    )
    expect(data.length).toBe(2)
    expect(data.stats).toMatchObject({ rows: 2, dropped: 0 })
    const [row] = [...data]
    const learned = [...(row?.tokens ?? [])].filter((_, t) => row?.weights?.[t] === 1)
    expect(await model.tokenizer.decode(learned)).toBe(' there<|im_end|>')
    expect(() => data.at(2)).toThrow('at(): index is 2, expected an integer from 0 to 1')
    expect(() => data.windows({ epoch: -1 }).next()).toThrow('windows(): epoch is -1')
  })

  test('has pairs for preferences, and labels for single judgments', async () => {
    const model = await load()
    const adapter = await model.attach(strategy)
    const pairs = await model.encodeRows([{ prompt: 'Hi', chosen: 'Good day', rejected: 'Yo' }], {
      task: 'orpo',
    })
    const { chosen, rejected } = pairs.at(0)
    expect(chosen.tokens.length).not.toBe(rejected.tokens.length)
    expect((await adapter.forwardBackward([...pairs], 'orpo')).loss).toBeGreaterThan(0)
    const judged = await model.encodeRows(
      [
        { prompt: 'Hi', completion: 'Good day', label: true },
        { prompt: 'Hi', completion: 'Yo', label: false },
      ],
      { task: 'kto' },
    )
    expect([...judged].map(({ label }) => label)).toEqual([true, false])
  })

  test('refuses wrong data by name', async () => {
    const model = await load()
    await expect(model.encodeRows([{ prompt: 'A' }])).rejects.toThrow('row 1')
    await expect(model.encodeRows(chats, { task: 'classification' } as never)).rejects.toThrow(ConfigError)
  })
})
