import { join } from 'node:path'
import { afterEach, expect, test, vi } from 'vitest'
import { DataError } from '../../../lib/core/errors.js'
import { jsonOf, textOf } from '../../../lib/serve/index.js'
import { scratchFolder } from '../scratch.js'
import { type Asked, begun, ended, rowsOf, supervised, upload, withConfig } from './service.js'

let asked: Asked | undefined
afterEach(() => asked?.service.close())

const SECRET = 'unrepeatable'

test('every request is a line of JSON once it is over, without keys and texts of clients', async () => {
  asked = await begun(join(scratchFolder(), 'data'))
  const { client, service, entries } = asked
  const ask = {
    ...{ model: 'base', max_tokens: 4, user: SECRET },
    messages: [{ role: 'user' as const, content: SECRET }],
  }
  const { data, response } = await client.chat.completions.create(ask).withResponse()
  for await (const _ of await client.chat.completions.create({ ...ask, stream: true }));
  await expect(client.chat.completions.create({ ...ask, model: SECRET })).rejects.toThrow('does not exist')
  await expect(client.get(`/${SECRET}?${SECRET}`)).rejects.toThrow('Unknown')
  await fetch(`${service.url}/models`, { headers: { authorization: `Bearer ${SECRET}` } })
  const training_file = await upload(client, rowsOf(12), `${SECRET}.jsonl`)
  const method = supervised({ n_epochs: 1, batch_size: 4 })
  const { id } = await client.fineTuning.jobs.create(
    withConfig({ model: 'base', training_file, method, suffix: SECRET }),
  )
  await ended(client, id)
  await vi.waitFor(() => expect(entries.at(-1)).toMatchObject({ route: '/v1/fine_tuning/jobs/:id' }))

  const text = entries.map(jsonOf).join('\n')
  for (const hidden of [SECRET, service.token, data.choices[0]?.message.content || SECRET])
    expect(text).not.toContain(hidden)
  const lines = text.split('\n').map((line) => JSON.parse(line) as Record<string, unknown>)
  for (const { time, level, event } of lines) {
    expect(new Date(time as string).toISOString()).toBe(time)
    expect([level, event]).toEqual(['info', expect.stringMatching(/^(request|job)$/)])
  }
  const requests = lines.filter(({ event }) => event === 'request')
  expect(requests[0]).toEqual({
    ...{ time: expect.any(String), level: 'info', event: 'request', ms: expect.any(Number), code: null },
    ...{ method: 'POST', route: '/v1/chat/completions', status: 200 },
    id: response.headers.get('x-request-id'),
  })
  expect(requests.slice(1, 6).map(({ route, status, code }) => [route, status, code])).toEqual([
    ['/v1/chat/completions', 200, null],
    ['/v1/chat/completions', 404, 'model_not_found'],
    ['none', 404, 'unknown_url'],
    ['/v1/models', 401, 'invalid_api_key'],
    ['/v1/files', 200, null],
  ])
  const jobs = lines.filter(({ event }) => event === 'job')
  expect(jobs.map(({ id, status }) => [id, status])).toEqual(
    ['validating_files', 'queued', 'running', 'succeeded'].map((status) => [id, status]),
  )
})

test('a failure has its place in the code, and its message for people alone', () => {
  const error = new DataError(`the row says ${SECRET}\n    at a second line of ${SECRET}`)
  const entry = { event: 'failure', id: 'req_1', error } as const
  const line = JSON.parse(jsonOf(entry)) as { at: string[] }
  expect(line).toMatchObject({
    level: 'error',
    event: 'failure',
    id: 'req_1',
    error: 'DataError',
    code: 'DATA',
  })
  expect(line.at[0]).toContain('log.test')
  expect(JSON.stringify(line)).not.toContain(SECRET)
  expect(JSON.parse(jsonOf({ ...entry, error: SECRET }))).toMatchObject({ error: 'string' })
  expect(textOf(entry)).toContain(SECRET)
  const seen = { method: 'GET', route: '/', milliseconds: 1.4 }
  const request = { event: 'request', id: 'req_2', code: null, status: 503, ...seen } as const
  expect(JSON.parse(jsonOf(request))).toMatchObject({ level: 'error', ms: 1 })
  expect(textOf(request)).toBeUndefined()
})
