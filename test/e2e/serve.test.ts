/** `lowrank serve` as its users have it: killed at any moment, stopped, and started again. */
import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import OpenAI from 'openai'
import { afterEach, describe, expect, test } from 'vitest'
import { lowrank, send } from '../lib/cli/lowrank.js'
import { scratchFolder } from '../lib/scratch.js'
import {
  BASE,
  ended,
  promptsOf,
  reinforcement,
  rowsOf,
  SMALL,
  supervised,
  upload,
  withConfig,
} from '../lib/serve/service.js'

const main = fileURLToPath(new URL('../../dist/esm/cli/main.js', import.meta.url))
const KILLS = Number(process.env.LOWRANK_SERVE_KILLS ?? 4)

interface Running {
  child: ChildProcessByStdio<null, Readable, Readable>
  client: OpenAI
  token: string
  stderr: () => string
}

const children = new Set<Running['child']>()
afterEach(() => {
  for (const child of children) child.kill('SIGKILL')
  children.clear()
})

async function started(data: string, flags: readonly string[] = []): Promise<Running> {
  const args = [main, 'serve', '--model', BASE, '--data', data, '--json', ...flags]
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  children.add(child)
  let stderr = ''
  child.stderr.on('data', (bytes) => {
    stderr += bytes
  })
  const line = await new Promise<string>((resolve, reject) => {
    child.stdout.once('data', (bytes) => resolve(String(bytes)))
    child.once('exit', (code) => reject(new Error(`the server ended with ${code}: ${stderr}`)))
  })
  const { url, token } = JSON.parse(line) as { url: string; token: string }
  return {
    child,
    token,
    client: new OpenAI({ baseURL: url, apiKey: token, maxRetries: 0 }),
    stderr: () => stderr,
  }
}

function gone({ child }: Running, signal: NodeJS.Signals): Promise<number | null> {
  children.delete(child)
  const exit = new Promise<number | null>((resolve) => child.once('exit', resolve))
  child.kill(signal)
  return exit
}

const REQUEST = withConfig({ model: 'base', seed: 7, method: supervised({ n_epochs: 4, batch_size: 2 }) })
/** An answer that does not end before its limit. */
const LONG = {
  ...{ model: 'base', messages: [{ role: 'user' as const, content: 'Count' }] },
  ...{ max_tokens: 900, logit_bias: { 40: 100 } },
}
const bitsOf = (data: string, id: string) =>
  createHash('sha256')
    .update(readFileSync(join(data, 'jobs', id, 'run', 'adapter_model.safetensors')))
    .digest('hex')

/** Numbers in (0, 1), the same in every run of the test. */
function* draws(seed: number): Generator<number> {
  for (let i = 0; ; i++) yield createHash('sha256').update(`${seed} ${i}`).digest().readUInt32LE() / 2 ** 32
}

describe('lowrank serve', () => {
  test('goes on with a job that starts from a fine-tuned model, with the same bits, when it is killed', async () => {
    const data = join(scratchFolder(), 'data')
    let server = await started(data)
    const training_file = await upload(server.client, rowsOf(40))
    const method = supervised({ n_epochs: 1, batch_size: 8, learning_rate_multiplier: 20 })
    const { jobs } = server.client.fineTuning
    const first = await jobs.create({ ...REQUEST, method, training_file })
    const { fine_tuned_model: model } = await ended(server.client, first.id)
    const request = { ...REQUEST, model: model as string, training_file }
    const whole = await jobs.create(request)
    expect(await ended(server.client, whole.id)).toMatchObject({ status: 'succeeded', error: null })
    const { id } = await jobs.create(request)
    await server.client.models.delete(model as string)
    await new Promise((resolve) => setTimeout(resolve, 600))
    await gone(server, 'SIGKILL')
    rmSync(join(data, 'jobs', first.id, 'run'), { recursive: true })
    server = await started(data)
    expect(await ended(server.client, id)).toMatchObject({ status: 'succeeded', error: null })
    expect(bitsOf(data, id)).toBe(bitsOf(data, whole.id))
  })

  test(`loses nothing when it is killed at ${KILLS} random moments of a job`, {
    timeout: 60_000 + KILLS * 20_000,
  }, async () => {
    const alone = join(scratchFolder(), 'alone')
    const first = await started(alone)
    const whole = await first.client.fineTuning.jobs.create({
      ...{ ...REQUEST, training_file: await upload(first.client, rowsOf(40)) },
    })
    const expected = await ended(first.client, whole.id)
    expect(expected.status).toBe('succeeded')
    expect(await gone(first, 'SIGTERM')).toBe(0)

    const data = join(scratchFolder(), 'killed')
    const random = draws(1)
    let server = await started(data)
    const { token } = server
    const training_file = await upload(server.client, rowsOf(40))
    const { id } = await server.client.fineTuning.jobs.create({ ...REQUEST, training_file })
    for (let kill = 0; kill < KILLS; kill++) {
      const chats = [0, 1].map(() =>
        server.client.chat.completions
          .create({ model: 'base', messages: [{ role: 'user', content: 'Hello' }], max_tokens: 64 })
          .catch(() => undefined),
      )
      await new Promise((resolve) => setTimeout(resolve, (random.next().value as number) * 2500))
      await gone(server, 'SIGKILL')
      await Promise.all(chats)
      server = await started(data)
      expect(server.token).toBe(token)
      expect((await server.client.files.retrieve(training_file)).bytes).toBe(rowsOf(40).length)
    }
    const job = await ended(server.client, id)
    expect(job.error).toBeNull()
    expect(bitsOf(data, id)).toBe(bitsOf(alone, whole.id))
    expect(job.trained_tokens).toBe(expected.trained_tokens)
    const messages: string[] = []
    for await (const { message } of server.client.fineTuning.jobs.listEvents(id)) messages.push(message)
    const steps = messages.reverse().flatMap((text) => /^Step (\d+)\/80: training/.exec(text)?.[1] ?? [])
    expect(steps).toEqual(Array.from({ length: 80 }, (_, i) => `${i + 1}`))
    expect(messages.filter((text) => text.startsWith('New fine-tuned model created'))).toHaveLength(1)
    const files = (await server.client.files.list()).data
    expect(files.map(({ purpose }) => purpose).sort()).toEqual(['fine-tune', 'fine-tune-results'])
    expect(server.stderr()).not.toContain('error')
    expect(await gone(server, 'SIGTERM')).toBe(0)
  })

  test('goes on with a reinforcement job, whose grader it makes again', { timeout: 120_000 }, async () => {
    const hyperparameters = {
      n_epochs: 4,
      batch_size: 2,
      compute_multiplier: 0.5,
      learning_rate_multiplier: 10,
    }
    const request = withConfig(
      { model: 'base', seed: 7, method: reinforcement({ ...hyperparameters, eval_interval: 4 }) },
      { ...SMALL, max_completion_length: 8 },
    )
    const create = async ({ client }: Running) => {
      const training_file = await upload(client, promptsOf(10))
      const validation_file = await upload(client, promptsOf(2))
      return client.fineTuning.jobs.create({ ...request, training_file, validation_file })
    }
    const alone = join(scratchFolder(), 'alone')
    const first = await started(alone)
    const whole = await create(first)
    expect((await ended(first.client, whole.id)).status).toBe('succeeded')
    const metricsOf = async ({ client }: Running, id: string) => {
      const metrics: unknown[] = []
      for await (const { type, data } of client.fineTuning.jobs.listEvents(id))
        if (type === 'metrics') metrics.push(data)
      return metrics.reverse()
    }
    const expected = await metricsOf(first, whole.id)
    expect(expected).toHaveLength(20 + 5)
    expect(await gone(first, 'SIGTERM')).toBe(0)

    const data = join(scratchFolder(), 'killed')
    let server = await started(data)
    const { id } = await create(server)
    // Before the first checkpoint, and beyond others.
    for (const events of [2, 9, 17]) {
      while ((await metricsOf(server, id)).length < events)
        await new Promise((resolve) => setTimeout(resolve, 20))
      await gone(server, 'SIGKILL')
      server = await started(data)
    }
    expect(await ended(server.client, id)).toMatchObject({ status: 'succeeded', error: null })
    expect(bitsOf(data, id)).toBe(bitsOf(alone, whole.id))
    expect(await metricsOf(server, id)).toEqual(expected)
    expect(await gone(server, 'SIGTERM')).toBe(0)
  })

  test('goes on after a stop in the middle of a job with the same bits', { timeout: 60_000 }, async () => {
    const create = async ({ client }: Running) =>
      client.fineTuning.jobs.create({ ...REQUEST, training_file: await upload(client, rowsOf(40)) })
    const alone = join(scratchFolder(), 'alone')
    const first = await started(alone)
    const whole = await create(first)
    expect((await ended(first.client, whole.id)).status).toBe('succeeded')
    expect(await gone(first, 'SIGTERM')).toBe(0)

    const data = join(scratchFolder(), 'stopped')
    let server = await started(data)
    const { id } = await create(server)
    const told = async ({ client }: Running) => {
      const messages: string[] = []
      for await (const { message } of client.fineTuning.jobs.listEvents(id)) messages.push(message)
      return messages.reverse().flatMap((text) => /^Step (\d+)\/80: training/.exec(text)?.[1] ?? [])
    }
    for (const steps of [3, 12]) {
      while ((await told(server)).length < steps) await new Promise((resolve) => setTimeout(resolve, 20))
      const stream = await server.client.chat.completions.create({ ...LONG, stream: true })
      const reasons = (async () => {
        const found: unknown[] = []
        for await (const { choices } of stream) found.push(choices[0]?.finish_reason)
        return found.at(-1)
      })()
      expect(await gone(server, 'SIGTERM')).toBe(0)
      expect(await reasons).toBe('length')
      server = await started(data)
    }
    expect((await ended(server.client, id)).status).toBe('succeeded')
    expect(await told(server)).toEqual(Array.from({ length: 80 }, (_, i) => `${i + 1}`))
    expect(bitsOf(data, id)).toBe(bitsOf(alone, whole.id))
  })

  test('ends at once by a second signal', async () => {
    const data = join(scratchFolder(), 'data')
    const server = await started(data, ['--stop-timeout', '600'])
    const long = server.client.chat.completions.create({ ...LONG, n: 16 }).catch((error: Error) => error.name)
    const metrics = async () => {
      const url = new URL('/metrics', server.client.baseURL)
      return (await fetch(url, { headers: { authorization: `Bearer ${server.token}` } })).text()
    }
    while (!(await metrics()).includes('lowrank_answers_running 1'))
      await new Promise((resolve) => setTimeout(resolve, 20))
    const end = new Promise((resolve) => server.child.once('exit', (_, signal) => resolve(signal)))
    server.child.kill('SIGTERM')
    const ready = new URL('/ready', server.client.baseURL)
    while ((await fetch(ready)).status !== 503) await new Promise((resolve) => setTimeout(resolve, 20))
    const begin = performance.now()
    server.child.kill('SIGTERM')
    expect(await end).toBe('SIGTERM')
    expect(performance.now() - begin).toBeLessThan(1000)
    expect(await long).toBe('Error')
    expect(await gone(await started(data), 'SIGINT')).toBe(0)
  })

  test('logs in JSON lines alone, and prints its key nowhere', async () => {
    const data = join(scratchFolder(), 'data')
    const args = ['serve', '--model', BASE, '--data', data, '--log-format', 'json']
    let token: Promise<string> | undefined
    const { code, stdout, stderr } = await lowrank(args, {
      watch(child, { stderr }) {
        const url = /"event":"serving","url":"([^"]+)"/.exec(stderr)?.[1]
        if (url === undefined || token !== undefined) return
        token = (async () => {
          const key = readFileSync(join(data, 'token'), 'utf8').trim()
          await new OpenAI({ baseURL: url, apiKey: key }).models.list()
          send(child, 'SIGTERM')
          return key
        })()
      },
    })
    expect([code, stdout]).toEqual([0, ''])
    const lines = stderr
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>)
    expect(lines.map(({ event }) => event)).toEqual(['note', 'serving', 'note', 'request', 'note'])
    expect(lines[3]).toMatchObject({ method: 'GET', route: '/v1/models', status: 200 })
    expect(stderr).not.toContain(await token)

    const bad = await lowrank(['serve', '--model', join(data, 'none'), '--log-format', 'json'])
    expect([bad.code, bad.stdout]).toEqual([1, ''])
    const errors = bad.stderr
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { level: string })
    expect(errors.filter(({ level }) => level === 'error')).toHaveLength(1)
  })

  test('takes its key from a file, which it prints nowhere', async () => {
    const folder = scratchFolder()
    const data = join(folder, 'data')
    const file = join(folder, 'key')
    const key = `sk-${'k'.repeat(40)}`
    writeFileSync(file, `${key}\n`)
    const args = ['serve', '--model', BASE, '--data', data, '--token-file', file]
    let status: Promise<number> | undefined
    const { code, stdout, stderr } = await lowrank([...args, '--public-host', 'api.example.com'], {
      env: { LOWRANK_TOKEN: 'of the environment' },
      watch(child, { stdout }) {
        const url = /base URL {2}(\S+)/.exec(stdout)?.[1]
        if (url === undefined || status !== undefined) return
        status = fetch(`${url}/models`, { headers: { authorization: `Bearer ${key}` } }).then((response) => {
          send(child, 'SIGTERM')
          return response.status
        })
      },
    })
    expect([code, await status]).toEqual([0, 200])
    expect(stdout).toContain(`API key   in ${file}\n`)
    expect(stdout).toMatch(/^page {6}http:\/\/127\.0\.0\.1:\d+\/$/m)
    expect(stdout + stderr).not.toContain(key)
    expect(existsSync(join(data, 'token'))).toBe(false)

    const refused = async (text: string, ...more: string[]) => {
      writeFileSync(file, text)
      const ended = await lowrank([...args, ...more])
      expect(ended.code).toBeGreaterThan(0)
      return ended.stderr
    }
    for (const empty of ['', '\n', '\r\n'])
      expect(await refused(empty)).toContain(`${file} is empty; expected the key of clients in one line`)
    const odd = await refused(`${key}\nsecond line\n`)
    expect(odd).toContain('the token has spaces, line breaks')
    expect(odd).not.toContain('second line')
    expect(await refused('x'.repeat(5000))).toContain(file)
    expect(await refused(key, '--token', key)).toContain('--token and --token-file exclude each other')
    expect(await refused(key, '--public-host', 'https://a.b')).toContain('is no name of a host')
    expect((await lowrank([...args.slice(0, -1), folder])).stderr).toContain('not a regular file')
    expect((await lowrank([...args.slice(0, -1), join(folder, 'none')])).stderr).toContain('does not exist')
    const unset = await lowrank(args.slice(0, -2), { env: { LOWRANK_TOKEN: '' } })
    expect(unset.stderr).toContain('LOWRANK_TOKEN is empty')
  })

  test('refuses what it cannot serve, and says what to do', async () => {
    const data = join(scratchFolder(), 'data')
    const model = ['--model', BASE, '--data', data]
    expect((await lowrank(['serve', '--data', data])).stderr).toContain(
      'pass either a config file or --model',
    )
    expect((await lowrank(['serve', ...model, '--alias', 'gpt'])).stderr).toContain('expected NAME=MODEL')
    expect((await lowrank(['serve', ...model, '--alias', 'gpt=small'])).stderr).toContain(
      'there is no model small',
    )
    const open = await lowrank(['serve', ...model, '--host', '0.0.0.0', '--token', 'short'])
    expect(open.stderr).toContain('use one of at least 32')
    const server = await started(data)
    expect((await lowrank(['serve', ...model])).stderr).toContain('in progress')
    expect(await gone(server, 'SIGINT')).toBe(0)
  })
})
