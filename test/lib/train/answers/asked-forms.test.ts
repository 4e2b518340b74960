/** Rows are asked in the form that they were trained in, also where that is raw text or differs between rows. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { lora } from '../../../../lib/index.js'
import { loadModel } from '../../../../lib/model/load.js'
import type { Model } from '../../../../lib/model/model.js'
import type { TextOptions } from '../../../../lib/model/options.js'
import type { StepAnswer } from '../../../../lib/train/steps/events.js'
import { tinyModel } from '../../../e2e/tiny-model.js'
import { sweepTest } from '../../../sweep.js'

const warnings: string[] = []
let model: Model
beforeAll(async () => {
  const onWarning = (message: string) => void warnings.push(message)
  model = await loadModel(tinyModel(), { precision: 'fp32', onWarning })
})
afterAll(() => model.dispose())

/** Trains without the chat template, and checks that answers are those to the same prompt outside the run. */
async function asked(rows: readonly object[], optionsOf: (row: StepAnswer) => TextOptions) {
  const adapter = await model.attach(lora({ r: 4 }), { seed: 1 })
  const run = adapter.train(rows, {
    ...{ maxSteps: 1, perDeviceTrainBatchSize: 1, learningRate: 0.03, warmupSteps: 0 },
    ...{ chatTemplate: false, maxSeqLength: 512 },
    evalDataset: rows,
    ...{ evalGenerate: 2, sampleRows: 2 },
  })
  const answered: (readonly StepAnswer[])[] = []
  for await (const event of run.events()) if (event.event === 'answers') answered.push(event.rows)
  const samples = await run.samples()
  expect(warnings).toEqual([])
  for (const { base: _, tuned: answer, ...row } of samples.rows) {
    const options = { maxNewTokens: 64, ...optionsOf({ ...row, answer }) }
    expect((await model.generate(row.prompt, options)).text).toBe(answer)
  }
  expect(answered.at(-1)).toEqual(
    samples.rows.map(({ base: _, tuned: answer, ...row }) => ({ ...row, answer })),
  )
  warnings.length = 0
  await adapter.detach()
  return samples.rows.map(({ base: _, tuned: __, expected: ___, cut: ____, ...row }) => row)
}

const alpaca = (...systems: string[]) =>
  systems.map((system) => ({ system, instruction: `${system}?`, output: 'Three.' }))

test('instructions after the system prompt that all rows have', async () => {
  expect(await asked(alpaca('Brief.'), () => ({}))).toEqual([{ prompt: 'Brief.?', system: null }])
})

sweepTest('instructions after a system prompt of their own', async () => {
  const rows = await asked(alpaca('Brief.', 'Long.'), () => ({ chatTemplate: false }))
  expect(rows).toEqual(
    ['Brief.', 'Long.'].map((system) => ({
      prompt: `${system}\n\n### Instruction:\n${system}?\n\n### Response:\n`,
      ...{ system: null, form: 'raw' },
    })),
  )
})

sweepTest('chats beside texts', async () => {
  const chat = [
    { role: 'system', content: 'Brief.' },
    { role: 'user', content: 'Hats?' },
  ]
  const rows = [
    { prompt: chat, completion: [{ role: 'assistant', content: 'Three.' }] },
    { prompt: 'Hats:', completion: ' three' },
  ]
  const found = await asked(rows, ({ form, system }) =>
    form === 'chat' ? { chatTemplate: true, system } : {},
  )
  expect(found).toEqual([
    { prompt: 'Hats?', system: 'Brief.', form: 'chat' },
    { prompt: 'Hats:', system: null },
  ])
})

sweepTest(
  'answers to texts end as those to the chats that were trained on, during and after the run',
  async () => {
    const folder = tinyModel()
    const path = join(folder, 'tokenizer_config.json')
    const about = JSON.parse(readFileSync(path, 'utf8'))
    writeFileSync(path, JSON.stringify({ ...about, eos_token: '<|endoftext|>', pad_token: '<|endoftext|>' }))
    const chatting = await loadModel(folder, { precision: 'fp32' })
    const adapter = await chatting.attach(lora({ r: 4 }), { seed: 1 })
    const messages = [
      { role: 'user', content: 'Hats?' },
      { role: 'assistant', content: 'No.' },
    ]
    const run = adapter.train([{ messages }], {
      ...{ maxSteps: 40, perDeviceTrainBatchSize: 1, learningRate: 0.03, warmupSteps: 0, maxSeqLength: 128 },
      ...{ evalDataset: [{ text: 'Hats? Yes, of course, many of them.' }], evalGenerate: 1, sampleRows: 1 },
    })
    const answered: string[] = []
    for await (const event of run.events())
      if (event.event === 'answers') answered.push(event.rows[0]?.answer ?? '')
    const { rows } = await run.samples()
    expect(rows[0]?.tuned).toBe('.')
    expect(answered.at(-1)).toBe('.')
    await chatting.dispose()
  },
)
