import { join } from 'node:path'
import { APIError } from 'openai'
import { afterEach, expect, test } from 'vitest'
import { addon } from '../../../lib/native/addon.js'
import { planModel } from '../../../lib/planning/plan.js'
import { scratchFolder } from '../scratch.js'
import { type Asked, BASE, begun, ended, rowsOf, SMALL, supervised, upload, withConfig } from './service.js'

const METHOD = supervised({ n_epochs: 1, batch_size: 4 })
/** The plan of such a job, as `lowrank plan` makes it. */
const PLAN = {
  strategy: { name: 'lora', r: 4 },
  ...{ maxSeqLength: 64, perDeviceTrainBatchSize: 4, packing: false, tokenAccuracy: true },
} as const

let asked: Asked
afterEach(() => asked.service.close())

const messagesOf = async (id: string) => {
  const messages: string[] = []
  for await (const { message } of asked.client.fineTuning.jobs.listEvents(id)) messages.push(message)
  return messages.reverse()
}

test('a job that can never fit is refused with what it needs and what there is', async () => {
  const memory = await planModel(BASE, PLAN)
  const needed = memory.peakBytes - memory.bytes('weights')
  const data = join(scratchFolder(), 'data')
  asked = await begun(data, { memory: memory.peakBytes - 1 })
  const { client } = asked
  const training_file = await upload(client, rowsOf(12))
  const request = { model: 'base', training_file, method: METHOD }
  const error = await client.fineTuning.jobs.create(withConfig(request)).then(
    () => undefined,
    (error: unknown) => error as APIError,
  )
  expect(error).toBeInstanceOf(APIError)
  expect(error).toMatchObject({ status: 400, code: 'insufficient_memory' })
  expect(error?.message).toContain(`(${needed} bytes) of memory beside the models`)
  expect(error?.message).toContain(`(${needed - 1} bytes) are available`)
  expect(error?.message).toContain('max_seq_length below 64')
  // Less length takes less memory; the plan is told from the start.
  const { id } = await client.fineTuning.jobs.create(withConfig(request, { ...SMALL, max_seq_length: 32 }))
  const job = (await ended(client, id)) as object as { lowrank: { planned_bytes: number } }
  expect(job).toMatchObject({ status: 'succeeded', error: null })
  expect(job.lowrank.planned_bytes).toBe((await planModel(BASE, { ...PLAN, maxSeqLength: 32 })).peakBytes)

  // A later server with less memory ends the job that the earlier one took.
  const { id: later } = await client.fineTuning.jobs.create(
    withConfig({ ...request, method: supervised({ n_epochs: 50, batch_size: 1 }) }, { max_seq_length: 32 }),
  )
  await asked.service.close()
  asked = await begun(data, { memory: memory.bytes('weights') + 1000 })
  const failed = await ended(asked.client, later)
  expect(failed).toMatchObject({ status: 'failed', error: { code: 'insufficient_memory' } })
  expect(failed.error?.message).toContain('(1000 bytes) are available')
  expect((await messagesOf(later)).at(-1)).toBe(failed.error?.message)
  expect(asked.reports).toEqual([])
})

test('a job waits, and says so, for memory of answers and for the job before it', async () => {
  const memory = await planModel(BASE, PLAN)
  asked = await begun(join(scratchFolder(), 'data'), { memory: memory.peakBytes })
  const { client } = asked
  const training_file = await upload(client, rowsOf(12))
  const request = withConfig({ model: 'base', training_file, method: METHOD })
  const leaves = new AbortController()
  const prompt = Array.from({ length: 100 }, () => 'Once upon a time')
  const answers = Array.from({ length: 4 }, () =>
    client.completions
      .create({ model: 'base', prompt, max_tokens: 400 }, { signal: leaves.signal })
      .catch(() => undefined),
  )
  await expect.poll(() => addon().allocated().kv_cache, { timeout: 10_000, interval: 5 }).toBeGreaterThan(0)
  const { id: first } = await client.fineTuning.jobs.create(request)
  const told = async () => (await messagesOf(first)).some((text) => text.startsWith('Waiting for memory'))
  await expect.poll(told, { timeout: 10_000 }).toBe(true)
  expect((await client.fineTuning.jobs.retrieve(first)).status).toBe('queued')
  leaves.abort()
  await Promise.all(answers)
  const { id: second } = await client.fineTuning.jobs.create(request)
  expect((await ended(client, first)).status).toBe('succeeded')
  expect((await ended(client, second)).status).toBe('succeeded')
  expect(await messagesOf(second)).toContain(`Waiting for ${first} to end`)
  expect((await messagesOf(first)).filter((text) => text.startsWith('Waiting'))).toHaveLength(1)
})
