/** Jobs that start from fine-tuned models. */
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import type OpenAI from 'openai'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { scratchFolder } from '../scratch.js'
import { type Asked, begun, ended, rowsOf, SMALL, supervised, upload, withConfig } from './service.js'

const data = join(scratchFolder(), 'data')
let asked: Asked
let client: OpenAI
let training_file: string
let first: OpenAI.FineTuning.FineTuningJob
let model: string

beforeAll(async () => {
  asked = await begun(data)
  client = asked.client
  training_file = await upload(client, rowsOf(24))
  const method = supervised({ n_epochs: 2, batch_size: 4, learning_rate_multiplier: 20 })
  const request = withConfig({
    model: 'base',
    training_file,
    validation_file: training_file,
    method,
    seed: 1,
  })
  const { id } = await client.fineTuning.jobs.create(request)
  first = await ended(client, id)
  model = first.fine_tuned_model as string
})
afterAll(() => asked.service.close())

/** Lines of the result file of a job, as numbers. */
async function stepsOf({ result_files }: OpenAI.FineTuning.FineTuningJob): Promise<number[][]> {
  const csv = await (await client.files.content(result_files[0] as string)).text()
  return csv
    .trimEnd()
    .split('\n')
    .slice(1)
    .map((line) => line.split(',').map(Number))
}

const lossOfEnd = async (job: OpenAI.FineTuning.FineTuningJob) => (await stepsOf(job)).at(-1)?.[3] as number

/** A job that changes next to nothing, so that its end has the loss of its start. */
const still = (from: string) => ({
  ...{ model: from, training_file, validation_file: training_file, suffix: 'next', seed: 2 },
  method: supervised({ n_epochs: 1, batch_size: 24, learning_rate_multiplier: 1e-9 }),
})

test('a job goes on from the weights of a fine-tuned model, with its strategy', async () => {
  const created = await client.fineTuning.jobs.create(withConfig(still(model), { max_seq_length: 64 }))
  expect(created.model).toBe(model)
  const job = await ended(client, created.id)
  expect(job).toMatchObject({ status: 'succeeded', error: null, model })
  expect(job.fine_tuned_model).toMatch(/^ft:base:local:next:[A-Za-z0-9]{8}$/)
  expect(await lossOfEnd(job)).toBeCloseTo(await lossOfEnd(first), 5)
  const messages = [{ role: 'user' as const, content: 'Say the number 7' }]
  const answerOf = async (name: string) =>
    (await client.chat.completions.create({ model: name, messages, temperature: 0, max_tokens: 12 }))
      .choices[0]?.message.content
  expect(await answerOf(job.fine_tuned_model as string)).toBe(await answerOf(model))
})

test('a job starts from a checkpoint, too', async () => {
  const [last, middle] = (await client.fineTuning.jobs.checkpoints.list(first.id)).data
  const from = middle?.fine_tuned_model_checkpoint as string
  const { id } = await client.fineTuning.jobs.create(withConfig(still(from), { max_seq_length: 64 }))
  const job = await ended(client, id)
  expect(await lossOfEnd(job)).toBeCloseTo(middle?.metrics.full_valid_loss as number, 5)
  expect(middle?.metrics.full_valid_loss).not.toBeCloseTo(last?.metrics.full_valid_loss as number, 2)
})

test('the reference of preferences is the fine-tuned model that a job starts from', async () => {
  const row = (i: number) => ({
    input: { messages: [{ role: 'user', content: `Say the number ${i}` }] },
    preferred_output: [{ role: 'assistant', content: `Number ${i}.` }],
    non_preferred_output: [{ role: 'assistant', content: 'No.' }],
  })
  const pairs = await upload(
    client,
    Array.from({ length: 12 }, (_, i) => `${JSON.stringify(row(i))}\n`).join(''),
  )
  const method = {
    type: 'dpo' as const,
    dpo: { hyperparameters: { n_epochs: 2, batch_size: 4, learning_rate_multiplier: 1 } },
  }
  const request = withConfig({ model, training_file: pairs, method, seed: 3 }, { max_seq_length: 64 })
  const { id } = await client.fineTuning.jobs.create(request)
  const job = await ended(client, id)
  expect(job).toMatchObject({ status: 'succeeded', error: null })
  const losses = (await stepsOf(job)).map(([, loss]) => loss as number)
  // By the base as reference, the rows that the model has learned would be preferred from the start.
  expect(losses[0]).toBeCloseTo(Math.LN2, 5)
  expect(losses.at(-1)).toBeLessThan(0.6)
})

test('a model that is deleted while a job waits is still the start of the job', async () => {
  const before = await client.fineTuning.jobs.create(withConfig(still(model), { max_seq_length: 64 }))
  const parent = (await ended(client, before.id)).fine_tuned_model as string
  const ahead = await client.fineTuning.jobs.create(
    withConfig({ model: 'base', training_file, method: supervised({ n_epochs: 50, batch_size: 1 }) }),
  )
  const { id } = await client.fineTuning.jobs.create(withConfig(still(parent), { max_seq_length: 64 }))
  await client.models.delete(parent)
  rmSync(join(data, 'jobs', before.id, 'run'), { recursive: true })
  await client.fineTuning.jobs.cancel(ahead.id)
  const job = await ended(client, id)
  expect(job).toMatchObject({ status: 'succeeded', error: null })
  expect(await lossOfEnd(job)).toBeCloseTo(await lossOfEnd(first), 5)
  await expect(client.fineTuning.jobs.create(still(parent))).rejects.toMatchObject({
    ...{ status: 404, code: 'model_not_found' },
  })
})

test('a strategy of another form is refused while the client listens, without paths', async () => {
  const create = (config: object) => client.fineTuning.jobs.create(withConfig(still(model), config))
  const error = await create({ ...SMALL, strategy: { name: 'lora', r: 8 } }).then(
    () => expect.unreachable('the job was created'),
    (refused) => refused,
  )
  expect(error).toMatchObject({ status: 400, param: 'lowrank.strategy' })
  expect(error.message).toContain(`the adapter ${model} cannot be the start of strategy lora: its rank at`)
  expect(error.message).not.toContain(data)
  await expect(create({ init_adapter: '/etc' })).rejects.toMatchObject({
    ...{ status: 400, param: 'lowrank.init_adapter' },
  })
  const other = await create({ strategy: { name: 'lora', r: 4, lora_dropout: 0.1 }, max_seq_length: 64 })
  expect(await ended(client, other.id)).toMatchObject({ status: 'succeeded' })
  expect(asked.reports).toEqual([])
})

test('a whole model, which could not answer beside the base, is not trained', async () => {
  const request = withConfig({ model: 'base', training_file }, { strategy: 'full' })
  await expect(client.fineTuning.jobs.create(request)).rejects.toMatchObject({
    ...{ status: 400, param: 'lowrank.strategy' },
    message: expect.stringContaining('Jobs train adapters'),
  })
})
