import { setMaxListeners } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { packageVersion } from '../../../lib/core/root.js'
import { Counts, exposition, Histogram } from '../../../lib/serve/exposition.js'
import { scratchFolder } from '../scratch.js'
import { parsedMetrics } from './parsed-metrics.js'
import { type Asked, begun, ended, rowsOf, supervised, upload, withConfig } from './service.js'

let asked: Asked | undefined
afterEach(() => asked?.service.close())

/** The metrics now, and the value of a sample. */
async function scraped({ service: { url, token } }: Asked) {
  const response = await fetch(new URL('/metrics', url), { headers: { authorization: `Bearer ${token}` } })
  expect(response.status).toBe(200)
  expect(response.headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8')
  const text = await response.text()
  const families = parsedMetrics(text)
  const value = (name: string, labels: Record<string, string> = {}) => {
    const family = families.get(name.replace(/_(bucket|sum|count)$/, '')) ?? families.get(name)
    return family?.samples.find(
      (sample) =>
        sample.name === name && Object.entries(labels).every(([key, one]) => sample.labels[key] === one),
    )?.value
  }
  return { text, families, value }
}

const chatOf = (content: string, more: object = {}) => ({
  ...{ model: 'base', messages: [{ role: 'user' as const, content }], max_tokens: 8, seed: 1 },
  ...more,
})

test('the metrics count what clients were told, by patterns of routes and nothing that they choose', async () => {
  asked = await begun(join(scratchFolder(), 'data'))
  const { client } = asked
  const { url, token } = asked.service
  expect((await fetch(new URL('/metrics', url))).status).toBe(401)
  const before = await scraped(asked)
  expect(before.value('lowrank_completion_tokens_total')).toBe(0)

  const prompt = 'a secret text, '.repeat(20)
  const usages = [
    (await client.chat.completions.create(chatOf(prompt))).usage,
    (await client.chat.completions.create(chatOf(prompt, { n: 2 }))).usage,
  ]
  const stream = await client.chat.completions.create(
    chatOf('another', { stream: true, stream_options: { include_usage: true } }) as never,
  )
  for await (const { usage } of stream as unknown as AsyncIterable<{ usage?: (typeof usages)[0] }>)
    if (usage) usages.push(usage)
  for (const path of ['/v1/no%22%0Asuch', '/v1/files/file-unknown', '/v1/files/file-other'])
    await fetch(new URL(path, url), { headers: { authorization: `Bearer ${token}` } })

  const sumOf = (of: (usage: NonNullable<(typeof usages)[0]>) => number | undefined) =>
    usages.reduce((sum, usage) => sum + ((usage && of(usage)) ?? 0), 0)
  const { text, value, families } = await scraped(asked)
  expect(value('lowrank_prompt_tokens_total')).toBe(sumOf((usage) => usage.prompt_tokens))
  expect(value('lowrank_completion_tokens_total')).toBe(sumOf((usage) => usage.completion_tokens))
  const cached = sumOf((usage) => usage.prompt_tokens_details?.cached_tokens)
  expect(cached).toBeGreaterThan(0)
  expect(value('lowrank_cached_prompt_tokens_total')).toBe(cached)

  const requests = families
    .get('lowrank_http_requests_total')
    ?.samples.map(({ labels, value }) => [...[labels.method, labels.route, labels.status, value]])
  expect(requests).toContainEqual(['POST', '/v1/chat/completions', '200', 3])
  expect(requests).toContainEqual(['GET', '/v1/files/:id', '404', 2])
  expect(requests).toContainEqual(['GET', 'none', '404', 1])
  expect(requests).toContainEqual(['GET', '/metrics', '401', 1])
  const chats = { method: 'POST', route: '/v1/chat/completions' }
  const name = 'lowrank_http_request_duration_seconds'
  expect(value(`${name}_count`, chats)).toBe(3)
  expect(value(`${name}_sum`, chats)).toBeGreaterThan(0)
  expect(value(`${name}_sum`, chats)).toBeLessThan(60)
  for (const secret of ['secret', 'such', 'file-unknown', token]) expect(text).not.toContain(secret)
})

test('the metrics have the state of answers, jobs, memory, and the process', async () => {
  asked = await begun(join(scratchFolder(), 'data'))
  const { client } = asked
  const idle = await scraped(asked)
  expect(idle.value('lowrank_answers_running')).toBe(0)
  expect(idle.value('lowrank_memory_planned_bytes', { for: 'jobs' })).toBe(0)
  const models = idle.value('lowrank_memory_planned_bytes', { for: 'models' }) as number
  expect(models).toBeGreaterThan(1e5)
  expect(idle.value('lowrank_memory_allocated_bytes', { place: 'host' })).toBeGreaterThan(1e5)
  expect(idle.value('lowrank_memory_allocated_bytes', { place: 'device' })).toBe(0)
  expect(idle.value('lowrank_build_info', { version: packageVersion(), node: process.version })).toBe(1)
  expect(idle.value('process_resident_memory_bytes')).toBeGreaterThan(1e7)
  const start = idle.value('process_start_time_seconds') as number
  expect(Math.abs(Date.now() / 1000 - process.uptime() - start)).toBeLessThan(1)

  // Of seventeen answers that do not end soon, sixteen run and one waits.
  const gone = new AbortController()
  setMaxListeners(32, gone.signal)
  const long = Array.from({ length: 17 }, (_, i) =>
    client.chat.completions
      .create(chatOf(`${i}`, { max_tokens: 900, logit_bias: { 40: 100 } }), { signal: gone.signal })
      .catch(() => undefined),
  )
  const deadline = Date.now() + 10_000
  let busy = idle
  while (busy.value('lowrank_answers_waiting') !== 1 && Date.now() < deadline) busy = await scraped(asked)
  expect(busy.value('lowrank_answers_running')).toBe(16)
  gone.abort()
  await Promise.all(long)

  const training_file = await upload(client, rowsOf(12))
  const job = await client.fineTuning.jobs.create(
    withConfig({ model: 'base', training_file, method: supervised({ n_epochs: 8, batch_size: 4 }) }),
  )
  let atWork = await scraped(asked)
  while (atWork.value('lowrank_jobs', { status: 'running' }) !== 1 && Date.now() < deadline + 20_000)
    atWork = await scraped(asked)
  const planned = (job as unknown as { lowrank: { planned_bytes: number } }).lowrank.planned_bytes
  expect(atWork.value('lowrank_memory_planned_bytes', { for: 'jobs' })).toBe(planned - models)
  expect(await ended(client, job.id)).toMatchObject({ status: 'succeeded' })
  const done = await scraped(asked)
  expect(done.value('lowrank_jobs', { status: 'succeeded' })).toBe(1)
  expect(done.value('lowrank_jobs', { status: 'failed' })).toBe(0)
  expect(done.value('lowrank_training_steps_total')).toBe(24)
  expect(done.value('lowrank_training_tokens_total')).toBeGreaterThan(100)
  expect(done.value('lowrank_answers_waiting')).toBe(0)
  // Answers whose clients left count as far as they came, with a status of their own.
  expect(done.value('lowrank_completion_tokens_total')).toBeGreaterThan(0)
  expect(done.value('lowrank_http_requests_total', { status: '499' })).toBe(17)
})

test('docs/serve.md has every metric', async () => {
  asked = await begun(join(scratchFolder(), 'data'))
  const { families } = await scraped(asked)
  const [, told = ''] = readFileSync('docs/serve.md', 'utf8').split('### Metrics')
  const [table = ''] = told.split('\n#')
  const named = [...table.matchAll(/`((?:lowrank|process)_\w+)`/g)].map(([, name]) => name)
  expect(named.sort()).toEqual([...families.keys()].sort())
})

test('the format escapes labels and helps, and buckets are cumulative', () => {
  const counts = new Counts()
  const odd = 'a "b"\\c\nd'
  counts.add({ odd })
  counts.add({ odd })
  const durations = new Histogram([1, 2])
  for (const value of [1, 1.5, 3]) durations.observe({ odd }, value)
  const text = exposition([
    { name: 'a_total', help: 'back\\slash\nand line', type: 'counter', samples: counts.samples },
    { name: 'b_seconds', help: 'b', type: 'histogram', samples: durations.samples },
    { name: 'c', help: 'c', type: 'gauge', samples: [{ value: Number.POSITIVE_INFINITY }] },
  ])
  expect(text).toBe(
    String.raw`# HELP a_total back\\slash\nand line
# TYPE a_total counter
a_total{odd="a \"b\"\\c\nd"} 2
# HELP b_seconds b
# TYPE b_seconds histogram
b_seconds_bucket{odd="a \"b\"\\c\nd",le="1"} 1
b_seconds_bucket{odd="a \"b\"\\c\nd",le="2"} 2
b_seconds_bucket{odd="a \"b\"\\c\nd",le="+Inf"} 3
b_seconds_sum{odd="a \"b\"\\c\nd"} 5.5
b_seconds_count{odd="a \"b\"\\c\nd"} 3
# HELP c c
# TYPE c gauge
c +Inf
`,
  )
  expect(parsedMetrics(text).get('a_total')?.samples[0]?.labels).toEqual({ odd })
})
