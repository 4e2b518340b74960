import { join } from 'node:path'
import type OpenAI from 'openai'
import { NotFoundError } from 'openai'
import { Stream } from 'openai/streaming'
import { afterEach, expect, test } from 'vitest'
import { EventLog } from '../../../lib/serve/event-log.js'
import { scratchFolder } from '../scratch.js'
import { type Asked, begun, ended, rowsOf, supervised, upload, withConfig } from './service.js'

type Event = OpenAI.FineTuning.FineTuningJobEvent

let asked: Asked
afterEach(() => asked?.service.close())

const created = async (n_epochs: number) => {
  const training_file = await upload(asked.client, rowsOf(12))
  const method = supervised({ n_epochs, batch_size: 4 })
  return asked.client.fineTuning.jobs.create(withConfig({ model: 'base', training_file, method }))
}

const follow = (id: string, query: object = {}, signal?: AbortSignal) =>
  asked.client.get<Stream<Event>>(`/fine_tuning/jobs/${id}/events`, {
    ...{ query: { stream: true, ...query }, stream: true },
    ...(signal ? { signal } : {}),
  })

test('the events of a job come as a stream that ends with it', async () => {
  asked = await begun(join(scratchFolder(), 'data'))
  const { id } = await created(2)
  const stream = await follow(id)
  expect(stream).toBeInstanceOf(Stream)
  const events: Event[] = []
  for await (const event of stream) events.push(event)
  expect((await ended(asked.client, id)).status).toBe('succeeded')
  const listed: Event[] = []
  for await (const event of asked.client.fineTuning.jobs.listEvents(id)) listed.push(event)
  expect(events).toEqual(listed.reverse())
  expect(events[0]?.message).toBe(`Created fine-tuning job: ${id}`)
  expect(events.at(-1)?.message).toBe('The job has successfully completed')

  // It goes on after the last event that was seen, and of a job that is over it ends at once.
  const rest: Event[] = []
  for await (const event of await follow(id, { after: events.at(-3)?.id })) rest.push(event)
  expect(rest).toEqual(events.slice(-2))
  await expect(follow(id, { after: 'ftevent-x' })).rejects.toThrow(NotFoundError)
  await expect(asked.client.get(`/fine_tuning/jobs/${id}/events?stream=yes`)).rejects.toMatchObject({
    ...{ status: 400, param: 'stream' },
  })
})

test('a stream of events ends with a cancelled job, its reader, and the server', async () => {
  asked = await begun(join(scratchFolder(), 'data'))
  const { id } = await created(50)
  const gone = new AbortController()
  const left = await follow(id, {}, gone.signal)
  for await (const _ of left) break
  gone.abort()
  const messages: string[] = []
  for await (const { message } of await follow(id)) {
    messages.push(message)
    if (message.startsWith('Step 2/')) await asked.client.fineTuning.jobs.cancel(id)
  }
  expect(messages).toContain('Fine-tuning job cancelled')

  const { id: paused } = await created(50)
  await asked.client.fineTuning.jobs.pause(paused)
  const open = await follow(paused)
  const whole = (async () => {
    for await (const _ of open);
  })()
  const begin = performance.now()
  await asked.service.close()
  await whole
  expect(performance.now() - begin).toBeLessThan(5000)
  expect(asked.reports).toEqual([])
})

test('who waits for events is woken by one, and by an abort', async () => {
  const log = await EventLog.open(join(scratchFolder(), 'events.jsonl'))
  const gone = new AbortController()
  const waits = log.changed(gone.signal)
  await log.message('first')
  await waits
  const left = log.changed(gone.signal)
  gone.abort()
  await left
  await log.changed(gone.signal)
  expect(log.inOrder.map(({ message }) => message)).toEqual(['first'])
})
