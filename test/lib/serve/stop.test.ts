import { join } from 'node:path'
import { APIError } from 'openai'
import { afterEach, expect, test } from 'vitest'
import { listCheckpoints } from '../../../lib/train/checkpoints/checkpoint-folder.js'
import { scratchFolder } from '../scratch.js'
import { type Asked, begun, rowsOf, supervised, upload, withConfig } from './service.js'

let asked: Asked | undefined
afterEach(() => asked?.service.close())

/** A chat that does not end before its limit. */
const endless = (more: object = {}) => ({
  ...{ model: 'base', messages: [{ role: 'user' as const, content: 'Count' }] },
  ...{ max_tokens: 900, logit_bias: { 40: 100 }, ...more },
})

/** A stream of such a chat that has begun, and its reason to finish. */
async function streamed({ client }: Asked, more: object = {}) {
  const stream = await client.chat.completions.create({ ...endless(more), stream: true })
  const chunks = stream[Symbol.asyncIterator]()
  for (let i = 0; i < 3; i++) await chunks.next()
  const rest = async () => {
    let reason: string | null | undefined
    for (let next = await chunks.next(); !next.done; next = await chunks.next())
      reason = next.value.choices[0]?.finish_reason ?? reason
    return reason
  }
  return rest()
}

const failed = (call: Promise<unknown>) =>
  call.then(
    () => undefined,
    (error: unknown) => error as APIError,
  )

test('a server that stops is not ready, refuses requests, and lets answers in progress end', async () => {
  asked = await begun(join(scratchFolder(), 'data'))
  const { client, service } = asked
  const at = (path: string) => fetch(new URL(path, service.url))
  expect((await at('/ready')).status).toBe(200)
  let isOver = false
  const running = streamed(asked).finally(() => {
    isOver = true
  })
  await client.chat.completions.create(endless({ max_tokens: 1 }))
  const closing = service.close()
  const [ready, health, refused] = await Promise.all([
    at('/ready'),
    at('/health'),
    failed(client.chat.completions.create(endless())),
  ])
  expect(isOver).toBe(false)
  expect([ready.status, ready.headers.get('connection'), health.status]).toEqual([503, 'close', 200])
  expect(refused).toBeInstanceOf(APIError)
  expect(refused).toMatchObject({ status: 503, code: 'overloaded' })
  expect((refused as APIError).headers?.get('retry-after')).toBe('5')
  expect(await running).toBe('length')
  await closing
  await expect(at('/health')).rejects.toThrow('fetch failed')
  expect(asked.reports).toEqual([])
})

test('answers that take too long after a stop end with an error that says so', async () => {
  asked = await begun(join(scratchFolder(), 'data'), { stopTimeout: 100 })
  const { client, service } = asked
  // Some of them wait for their turn.
  const long = { n: 16 }
  const streams = [streamed(asked, long), streamed(asked, long)]
  const whole = Array.from({ length: 16 }, () => client.chat.completions.create(endless(long)))
  const answers = [...streams, ...whole].map(failed)
  await new Promise((resolve) => setTimeout(resolve, 500))
  const begin = performance.now()
  await service.close()
  expect(performance.now() - begin).toBeLessThan(2500)
  for (const error of await Promise.all(answers)) {
    expect(error).toBeInstanceOf(APIError)
    expect(error).toMatchObject({ code: 'overloaded', type: 'server_error' })
    expect(error?.message).toContain('The server stopped before the answer was whole.')
  }
  expect(asked.reports).toEqual([])
  const stopped = asked.entries.filter((entry) => entry.event === 'request' && entry.code === 'overloaded')
  expect(stopped).toHaveLength(18)
})

test('a job saves its last step before the server ends', async () => {
  const data = join(scratchFolder(), 'data')
  asked = await begun(data)
  const { client, service } = asked
  const training_file = await upload(client, rowsOf(24))
  const { id } = await client.fineTuning.jobs.create(
    withConfig({ model: 'base', training_file, method: supervised({ n_epochs: 50, batch_size: 1 }) }),
  )
  const events = await client.get<AsyncIterable<{ message: string }>>(`/fine_tuning/jobs/${id}/events`, {
    ...{ query: { stream: true }, stream: true },
  })
  let closing: Promise<void> | undefined
  const steps: number[] = []
  for await (const { message } of events) {
    const step = Number(/^Step (\d+)\//.exec(message)?.[1] ?? 0)
    if (step > 0) steps.push(step)
    if (step === 3) closing = service.close()
  }
  await closing
  const last = steps.at(-1) as number
  const run = join(data, 'jobs', id, 'run')
  expect((await listCheckpoints(run))[0]).toBe(join(run, `checkpoint-${last}`))
  expect(asked.reports).toEqual([])
})
