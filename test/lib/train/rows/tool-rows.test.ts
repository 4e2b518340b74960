/** Rows with tools are asked with them, and their answers are those of a prompt with the same tools. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { lora } from '../../../../lib/index.js'
import type { Adapter } from '../../../../lib/model/adapter.js'
import { loadModel } from '../../../../lib/model/load.js'
import type { Model } from '../../../../lib/model/model.js'
import { type ControlledRun, ownControls } from '../../../../lib/report/live/controls.js'
import type { Samples } from '../../../../lib/train/answers/samples.js'
import type { TrainEvent } from '../../../../lib/train/steps/events.js'
import { tinyToolModel } from '../../../e2e/tiny-model.js'

const tools = [{ type: 'function', function: { name: 'stock', parameters: { type: 'object' } } }]
const call = (item: string) => ({ function: { name: 'stock', arguments: { item } } })
const rows = ['hat', 'cup'].map((item) => ({
  tools,
  messages: [
    { role: 'system', content: 'Be brief.' },
    { role: 'user', content: `${item}s?` },
    { role: 'assistant', content: null, tool_calls: [call(item)] },
    { role: 'tool', content: '{"count": 3}' },
    { role: 'assistant', content: 'Three.' },
  ],
}))

let model: Model
let adapter: Adapter
let events: TrainEvent[]
let samples: Samples
let asked: string
beforeAll(async () => {
  model = await loadModel(tinyToolModel(), { precision: 'fp32' })
  adapter = await model.attach(lora({ r: 4 }), { seed: 1 })
  const run = adapter.train(rows, {
    ...{ maxSteps: 2, maxSeqLength: 512, perDeviceTrainBatchSize: 1, learningRate: 0.03, warmupSteps: 0 },
    evalDataset: rows,
    ...{ evalGenerate: 1, evalSteps: 2, sampleRows: 1 },
  })
  events = []
  for await (const event of run.events()) {
    events.push(event)
    if (event.event === 'answers') asked = await askedLive(run)
  }
  samples = await run.samples()
})
async function askedLive(run: ControlledRun): Promise<string> {
  let text = ''
  const onText = (part: string) => {
    text += part
  }
  await ownControls(() => run).ask('hats?', { signal: new AbortController().signal, onText })
  return text
}
afterAll(() => model.dispose())

const expected = '<tool_call>{"name": "stock", "arguments": {"item": "hat"}}</tool_call>'

test('the call is what is expected', () => {
  expect(samples.rows).toMatchObject([{ prompt: 'hats?', system: 'Be brief.', tools: ['stock'], expected }])
})

test('answers of the adapter and of the base are those of a prompt with the tools', async () => {
  const asked = { tools, system: 'Be brief.', chatTemplate: true, maxNewTokens: 64 }
  for (const { prompt, tuned, base } of samples.rows) {
    expect((await model.generate(prompt, asked)).text).toBe(tuned)
    model.use()
    expect((await model.generate(prompt, asked)).text).toBe(base)
    model.use(adapter)
  }
})

test('a question on a live page has the tools that all rows have', () => {
  const { tuned, cut } = samples.rows[0] as Samples['rows'][number]
  expect(cut ? asked.slice(0, tuned.length) : asked).toBe(tuned)
})

test('a template that rejects a chat up to its first call trains on the row, which is not asked', async () => {
  const folder = tinyToolModel()
  const path = join(folder, 'tokenizer_config.json')
  const settings = JSON.parse(readFileSync(path, 'utf8'))
  const rejects = "{% if messages[-1].tool_calls %}{{ raise_exception('a call needs a result') }}{% endif %}"
  const chat_template = rejects + settings.chat_template
  writeFileSync(path, JSON.stringify({ ...settings, chat_template }))
  const strict = await loadModel(folder, { precision: 'fp32' })
  const run = (await strict.attach(lora({ r: 4 }))).train(rows, {
    ...{ maxSteps: 1, maxSeqLength: 512, perDeviceTrainBatchSize: 1, trainOn: 'all', sampleRows: 1 },
  })
  for await (const { loss } of run) expect(loss).toBeGreaterThan(0)
  expect((await run.samples()).rows).toEqual([])
  await strict.dispose()
})

test('answers at the last evaluation are those after the run', () => {
  const last = events.findLast((event) => event.event === 'answers')
  expect(last?.rows).toEqual(
    samples.rows.map(({ base: _, tuned, cut: __, ...row }) => ({
      ...row,
      answer: tuned,
      cut: expect.any(Boolean),
    })),
  )
})
