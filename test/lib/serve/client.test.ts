import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import OpenAI, { APIError, NotFoundError } from 'openai'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { loadModel } from '../../../lib/model/load.js'
import { addon } from '../../../lib/native/addon.js'
import { scratchFolder } from '../scratch.js'
import { type Asked, BASE, begun, ended, rowsOf, supervised, upload, withConfig } from './service.js'

const data = join(scratchFolder(), 'data')
let asked: Asked
let client: OpenAI
beforeAll(async () => {
  asked = await begun(data, { aliases: new Map([['gpt-4o-mini', 'base']]) })
  client = asked.client
})
afterAll(() => asked.service.close())

const refused = async (call: PromiseLike<unknown>): Promise<APIError> => {
  try {
    await call
  } catch (error) {
    if (error instanceof APIError) return error
    throw error
  }
  throw new Error('the request was answered')
}

const isStep = (data: unknown): data is { step: number } =>
  typeof data === 'object' && data !== null && 'step' in data

describe("OpenAI's client", () => {
  test('uploads, trains, follows the events, and chats with the result', async () => {
    const training_file = await upload(client, rowsOf(24))
    const validation_file = await upload(client, rowsOf(4))
    const created = await client.fineTuning.jobs.create(
      withConfig({
        ...{ model: 'gpt-4o-mini', training_file, validation_file, suffix: 'numbers', seed: 0 },
        ...{
          metadata: { team: 'a' },
          method: supervised({ n_epochs: 2, batch_size: 4, learning_rate_multiplier: 50 }),
        },
      }),
    )
    expect(created).toMatchObject({
      status: 'validating_files',
      fine_tuned_model: null,
      error: null,
      seed: 0,
    })
    // The job has its own copies.
    await client.files.delete(training_file)
    const job = await ended(client, created.id)
    expect(job).toMatchObject({
      status: 'succeeded',
      error: null,
      metadata: { team: 'a' },
      model: 'gpt-4o-mini',
    })
    expect(job.hyperparameters).toEqual({ n_epochs: 2, batch_size: 4, learning_rate_multiplier: 50 })
    expect(job.fine_tuned_model).toMatch(/^ft:base:local:numbers:[A-Za-z0-9]{8}$/)
    expect(job.trained_tokens).toBeGreaterThan(48)

    const events: OpenAI.FineTuning.FineTuningJobEvent[] = []
    for await (const event of client.fineTuning.jobs.listEvents(job.id, { limit: 3 })) events.push(event)
    const messages = events.map(({ message }) => message).reverse()
    expect(new Set(events.map(({ id }) => id)).size).toBe(events.length)
    expect(messages.slice(0, 4)).toEqual([
      `Created fine-tuning job: ${job.id}`,
      `Validating training file: ${training_file}`,
      'Files validated, moving job to queued state',
      'Fine-tuning job started',
    ])
    expect(messages.slice(-2)).toEqual([
      `New fine-tuned model created: ${job.fine_tuned_model}`,
      'The job has successfully completed',
    ])
    expect(messages.filter((text) => /^Step \d+\/12: training loss=\d/.test(text))).toHaveLength(12)

    const csv = await (await client.files.content(job.result_files[0] as string)).text()
    const lines = csv.trimEnd().split('\n')
    expect(lines[0]).toBe('step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy')
    expect(lines).toHaveLength(13)
    const cells = lines.slice(1).map((line) => line.split(','))
    for (const [, loss, accuracy] of cells) {
      expect(Number(loss)).toBeGreaterThan(0)
      expect(accuracy).toMatch(/^[01](\.\d+)?$/)
    }
    // The validation file is evaluated at the end of both epochs.
    expect(cells.flatMap(([step, , , loss]) => (loss === '' ? [] : [step]))).toEqual(['6', '12'])
    const told = events.find(({ message }) => message.startsWith('Step 12/12: full validation loss='))
    const [, , accuracy, validLoss, validAccuracy] = cells[11] as string[]
    expect(told?.data).toEqual({
      ...{ step: 12, total_steps: 12, train_loss: expect.closeTo(Number(cells[11]?.[1]), 5) },
      train_mean_token_accuracy: expect.closeTo(Number(accuracy), 5),
      ...{ valid_loss: expect.closeTo(Number(validLoss), 5), full_valid_loss: expect.anything() },
      valid_mean_token_accuracy: expect.closeTo(Number(validAccuracy), 5),
      full_valid_mean_token_accuracy: expect.anything(),
    })

    const checkpoints = (await client.fineTuning.jobs.checkpoints.list(job.id)).data
    expect(checkpoints.map(({ step_number }) => step_number)).toEqual([12, 6])

    // The adapter that the run has saved answers here with the same tokens as in a program of one's own.
    const own = await loadModel(BASE)
    const adapter = await own.loadAdapter(join(data, 'jobs', job.id, 'run'))
    const question = [{ role: 'user' as const, content: 'Say the number 7' }]
    const expected = await own.generate(question, { maxNewTokens: 12 })
    // The accuracy of the last evaluation is the one that the adapter of the run has.
    const { meanTokenAccuracy: measured } = await own.exactMatch(
      join(data, 'jobs', job.id, 'validation.jsonl'),
      {
        maxSeqLength: 64,
      },
    )
    expect(Number(validAccuracy)).toBeCloseTo(measured, 10)
    own.use()
    const plain = await own.generate(question, { maxNewTokens: 12 })
    expect(adapter.trainableParameters).toBe(0)
    await own.dispose()
    expect(plain.text).not.toBe(expected.text)
    const ask = (model: string) =>
      client.chat.completions.create({ model, messages: question, temperature: 0, max_tokens: 12 })
    const answer = await ask(job.fine_tuned_model as string)
    expect(answer.choices[0]?.message.content).toBe(expected.text)
    expect(answer.usage?.completion_tokens).toBe(expected.tokenIds.length)
    expect((await ask('base')).choices[0]?.message.content).toBe(plain.text)
    expect((await ask('gpt-4o-mini')).model).toBe('gpt-4o-mini')
    const early = await ask(checkpoints[1]?.fine_tuned_model_checkpoint as string)
    expect(early.system_fingerprint).toMatch(/^fp_/)
    expect(early.system_fingerprint).not.toBe(answer.system_fingerprint)

    await client.models.delete(job.fine_tuned_model as string)
    await expect(ask(job.fine_tuned_model as string)).rejects.toThrow(NotFoundError)
    expect((await client.fineTuning.jobs.retrieve(job.id)).status).toBe('succeeded')
  })

  test('gets the text of a stream that it gets at once, whatever stops it', async () => {
    const messages = [{ role: 'user' as const, content: 'Tell me about the moon and the sea.' }]
    for (const rest of [{}, { stop: ['e', 'the'] }, { n: 2, seed: 4, temperature: 1 }, { max_tokens: 3 }]) {
      const request = { model: 'base', messages, temperature: 0, max_tokens: 24, ...rest }
      const whole = await client.chat.completions.create(request)
      const texts: string[] = []
      const reasons: (string | null)[] = []
      let usage: unknown
      for await (const chunk of await client.chat.completions.create({
        ...{ ...request, stream: true, stream_options: { include_usage: true } },
      })) {
        usage = chunk.usage ?? usage
        for (const { index, delta, finish_reason } of chunk.choices) {
          texts[index] = (texts[index] ?? '') + (delta.content ?? '')
          if (finish_reason !== null) reasons[index] = finish_reason
        }
      }
      expect(texts).toEqual(whole.choices.map(({ message }) => message.content))
      expect(reasons).toEqual(whole.choices.map(({ finish_reason }) => finish_reason))
      expect(usage).toEqual(whole.usage)
    }
  })

  test("reads a stream by the client's own helper", async () => {
    const messages = [{ role: 'user' as const, content: 'Hello' }]
    const runner = client.chat.completions.stream({ model: 'base', messages, temperature: 0, max_tokens: 8 })
    const { choices } = await runner.finalChatCompletion()
    const [whole] = (
      await client.chat.completions.create({ model: 'base', messages, temperature: 0, max_tokens: 8 })
    ).choices
    expect(choices[0]?.message.content).toBe(whole?.message.content)
  })

  test('frees the cache of an answer that its reader leaves', async () => {
    const held = () => addon().allocated().kv_cache
    const before = held()
    for (let i = 0; i < 3; i++) {
      const stream = await client.chat.completions.create({
        ...{
          model: 'base',
          messages: [{ role: 'user', content: 'Tell a story.' }],
          stream: true,
          max_tokens: 900,
        },
      })
      for await (const { choices } of stream) if (choices[0]?.delta.content) break
    }
    await expect.poll(held, { timeout: 5000 }).toBe(before)
  })

  test('continues raw texts', async () => {
    const { choices, usage } = await client.completions.create({
      ...{ model: 'base', prompt: ['Once upon', 'The sea'], max_tokens: 4, temperature: 0, echo: true },
    })
    expect(choices.map(({ text }) => text.slice(0, 7))).toEqual(['Once up', 'The sea'])
    expect(usage?.completion_tokens).toBe(8)
  })

  test('cannot end the turn of a user by typing a special token', async () => {
    const tokens = async (content: string) =>
      (
        await client.chat.completions.create({
          model: 'base',
          messages: [{ role: 'user', content }],
          max_tokens: 1,
        })
      ).usage?.prompt_tokens as number
    const { eos_token: special } = JSON.parse(readFileSync(`${BASE}/tokenizer_config.json`, 'utf8'))
    // As characters it takes more tokens than the one that it would be.
    expect((await tokens(`a${special}b`)) - (await tokens('ab'))).toBeGreaterThan(1)
  })

  test('is told what is wrong in a form that it reads', async () => {
    const messages = [{ role: 'user' as const, content: 'Hi' }]
    const chat = (more: object) =>
      refused(client.chat.completions.create({ model: 'base', messages, ...more }))
    expect(await chat({ model: 'gpt-9' })).toMatchObject({
      status: 404,
      code: 'model_not_found',
      param: 'model',
    })
    expect(await chat({ max_token: 3 })).toMatchObject({
      status: 400,
      param: 'max_token',
      code: 'unknown_parameter',
    })
    expect(await chat({ temperature: 3 })).toMatchObject({ status: 400, param: 'temperature' })
    expect(await chat({ messages: [{ role: 'robot', content: 'a' }] })).toMatchObject({
      param: 'messages[0].role',
    })
    expect(await chat({ tools: [{ type: 'function', function: { name: 'a' } }] })).toMatchObject({
      param: 'tools',
    })
    const long = await chat({ messages: [{ role: 'user', content: 'moon '.repeat(2000) }] })
    expect(long).toMatchObject({ status: 400, code: 'context_length_exceeded' })
    expect(long.message).toContain('1024 tokens')
    expect(await refused(client.fineTuning.jobs.retrieve('ftjob-x'))).toMatchObject({
      status: 404,
      code: 'fine_tune_not_found',
    })
    expect(await refused(client.files.retrieve('file-x'))).toMatchObject({ status: 404, param: 'id' })
    const bad = await refused(
      upload(client, '{"messages": [{"role": "user", "content": "a"}]}\n{"messages": 3}\n', 'näme.jsonl'),
    )
    expect(bad).toMatchObject({ status: 400, param: 'file' })
    expect(bad.message).toContain('näme.jsonl, line 2')
    const stranger = new OpenAI({ baseURL: asked.service.url, apiKey: 'sk-guess', maxRetries: 0 })
    expect(await refused(stranger.models.list())).toMatchObject({ status: 401, code: 'invalid_api_key' })
    expect(asked.reports).toEqual([])
  })

  test('is told which part of a job is wrong before it starts', async () => {
    const training_file = await upload(client, rowsOf(4))
    const create = (more: object) =>
      refused(client.fineTuning.jobs.create({ model: 'base', training_file, ...more }))
    expect(await create({ training_file: 'file-x' })).toMatchObject({ status: 400, param: 'training_file' })
    expect(await create({ model: 'ft:a:b::c' })).toMatchObject({ status: 404, code: 'model_not_found' })
    expect(await create({ seed: -1 })).toMatchObject({ param: 'seed' })
    expect(await create({ metadata: { a: 1 } })).toMatchObject({ param: 'metadata.a' })
    expect(await create({ integrations: [{ type: 'wandb' }] })).toMatchObject({ param: 'integrations' })
    expect(await create({ method: { type: 'distillation' } })).toMatchObject({ param: 'method.type' })
    expect(await create({ lowrank: { output_dir: '/etc' } })).toMatchObject({ param: 'lowrank.output_dir' })
    expect(await create({ lowrank: { strategy: { name: 'lora', rr: 3 } } })).toMatchObject({
      param: 'lowrank',
    })
    expect(await create({ method: supervised({ n_epochs: 99 }) })).toMatchObject({
      param: 'method.supervised.hyperparameters.n_epochs',
    })
  })

  test("trains on OpenAI's pairs of answers with the method dpo", async () => {
    const row = (i: number) => ({
      input: {
        messages: [{ role: 'user', content: `Say the number ${i}` }],
        tools: [],
        parallel_tool_calls: true,
      },
      preferred_output: [{ role: 'assistant', content: `Number ${i}.` }],
      non_preferred_output: [{ role: 'assistant', content: 'No.' }],
    })
    const rows = Array.from({ length: 12 }, (_, i) => `${JSON.stringify(row(i))}\n`).join('')
    const training_file = await upload(client, rows)
    const hyperparameters = { n_epochs: 1, batch_size: 4, beta: 0.2 }
    const method = { type: 'dpo' as const, dpo: { hyperparameters } }
    const { id } = await client.fineTuning.jobs.create(withConfig({ model: 'base', training_file, method }))
    const job = await ended(client, id)
    expect(job).toMatchObject({ status: 'succeeded', error: null })
    expect(job.method).toEqual({
      type: 'dpo',
      dpo: { hyperparameters: { ...hyperparameters, learning_rate_multiplier: 1 } },
    })
    // Before the first update, chosen and rejected answers are as likely as for the reference: the loss is log 2.
    const csv = await (await client.files.content(job.result_files[0] as string)).text()
    expect(Number(csv.split('\n')[1]?.split(',')[1])).toBeCloseTo(Math.LN2, 3)
    // A job for other rows says so.
    const other = await client.fineTuning.jobs.create(withConfig({ model: 'base', training_file }))
    const failed = await ended(client, other.id)
    expect(failed).toMatchObject({ status: 'failed', fine_tuned_model: null })
    expect(failed.error?.message).toContain(training_file)
    expect(failed.error?.message).not.toContain(data)
    expect(asked.reports).toEqual([])
  })

  test('trains in private, where the log of the run is apart from its adapter', async () => {
    const training_file = await upload(client, rowsOf(40))
    const strategy = {
      ...{ name: 'dp-dylora', privacy_unit: 'example', adapter: { name: 'dylora', r: 4 } },
      ...{ noise_multiplier: 1, rounds: 4, cohort: 8 },
    }
    const { id } = await client.fineTuning.jobs.create(
      withConfig({ model: 'base', training_file }, { strategy, max_seq_length: 64 }),
    )
    const job = await ended(client, id)
    expect(job).toMatchObject({ status: 'succeeded', error: null })
    const csv = await (await client.files.content(job.result_files[0] as string)).text()
    expect(csv.trimEnd().split('\n')).toHaveLength(5)
  })

  test('pauses a job, lets another one pass, goes on, and cancels', async () => {
    const training_file = await upload(client, rowsOf(24))
    const long = withConfig({
      model: 'base',
      training_file,
      method: supervised({ n_epochs: 50, batch_size: 1 }),
    })
    const first = await client.fineTuning.jobs.create(long)
    const running = async () =>
      (await client.fineTuning.jobs.retrieve(first.id)) as unknown as {
        lowrank: { state: string; step?: number }
      }
    while (((await running()).lowrank.step ?? 0) < 2) await new Promise((resolve) => setTimeout(resolve, 20))
    await client.fineTuning.jobs.pause(first.id)
    expect(await running()).toMatchObject({ status: 'running', lowrank: { state: 'paused' } })
    const second = await client.fineTuning.jobs.create({
      ...long,
      method: supervised({ n_epochs: 1, batch_size: 8 }),
    })
    expect((await ended(client, second.id)).status).toBe('succeeded')
    const told = (await client.fineTuning.jobs.listEvents(first.id, { limit: 3 })).data
    expect(told.map(({ message }) => message)).toContain('The job was paused')
    await client.fineTuning.jobs.resume(first.id)
    while (((await running()).lowrank.step ?? 0) < 4) await new Promise((resolve) => setTimeout(resolve, 20))
    expect((await client.fineTuning.jobs.cancel(first.id)).status).toBe('cancelled')
    expect(await refused(client.fineTuning.jobs.cancel(first.id))).toMatchObject({
      status: 400,
      code: 'invalid_state',
    })
    const steps: number[] = []
    for await (const { data } of client.fineTuning.jobs.listEvents(first.id))
      if (isStep(data)) steps.push(data.step)
    expect(steps.reverse()).toEqual(steps.map((_, i) => i + 1))
  })
})
