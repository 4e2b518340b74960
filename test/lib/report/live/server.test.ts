import { appendFileSync, renameSync, statSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import {
  announce,
  type ControlledRun,
  ownControls,
  type RunControls,
  remoteControls,
  withdraw,
} from '../../../../lib/report/live/controls.js'
import { type LiveOptions, type LiveServer, serveLive } from '../../../../lib/report/live/server.js'
import { needs, needsTimesOfBirth } from '../../../needs.js'
import { scratchFolder } from '../../scratch.js'

const servers: LiveServer[] = []
afterEach(async () => {
  for (const server of servers.splice(0)) await server.close()
})

/** A run that records what is done to it. */
class FakeRun implements ControlledRun {
  readonly did: string[] = []
  aborted = false
  answer: () => Promise<void> = async () => undefined

  pause = () => void this.did.push('pause')
  resume = () => void this.did.push('resume')
  stop = () => void this.did.push('stop')

  ask: ControlledRun['ask'] = async (prompt, { signal, onText }) => {
    this.did.push(`ask ${prompt}`)
    signal.addEventListener('abort', () => {
      this.aborted = true
    })
    onText('It is ')
    await this.answer()
    onText('sold.')
    return { step: 7, finishReason: 'stop' }
  }
}

async function serve(more: Partial<LiveOptions> = {}, run = new FakeRun()) {
  const log = join(scratchFolder(), 'metrics.jsonl')
  const server = await serveLive({
    log: () => log,
    page: async () => ({ html: '<!doctype html><title>A run</title>', policy: "default-src 'none'" }),
    controls: ownControls(() => run),
    ...more,
  })
  servers.push(server)
  const url = new URL(server.url)
  const at = (path: string) => `${url.origin}/${path}${url.search}`
  const post = (path: string, body: unknown, headers = {}) => {
    const given = { origin: url.origin, 'content-type': 'application/json', ...headers }
    const text = typeof body === 'string' ? body : JSON.stringify(body)
    return fetch(at(path), { method: 'POST', headers: given, body: text })
  }
  return { log, server, url, at, post, run }
}

/** Events of a server, until so many have come or the stream ends; `at` is called with their number so far. */
async function events(
  url: string,
  count: number,
  headers: Record<string, string> = {},
  at: (count: number) => void = () => undefined,
) {
  const response = await fetch(url, { headers })
  const found: { id?: string; event?: string; data: string }[] = []
  let rest = ''
  for await (const text of (response.body as ReadableStream<Uint8Array>).pipeThrough(
    new TextDecoderStream(),
  )) {
    const blocks = (rest + text).split('\n\n')
    rest = blocks.pop() as string
    for (const block of blocks) {
      const fields = block.split('\n').map((line) => line.split(/: (.*)/s) as [string, string])
      const data = fields.filter(([name]) => name === 'data').map(([, value]) => value)
      const { id, event } = Object.fromEntries(fields)
      if (event !== undefined) found.push({ ...(id ? { id } : {}), event, data: data.join('\n') })
    }
    at(found.length)
    if (found.length >= count) break
  }
  return found
}

describe('the page', () => {
  test('has a policy, is not kept, sniffed, framed, or told to other sites', async () => {
    const { server } = await serve()
    const response = await fetch(server.url)
    expect(response.status).toBe(200)
    expect(Object.fromEntries(response.headers)).toMatchObject({
      'content-type': 'text/html; charset=utf-8',
      'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
      'cache-control': 'no-store',
      'referrer-policy': 'no-referrer',
      'x-content-type-options': 'nosniff',
      'x-frame-options': 'DENY',
    })
    expect(await response.text()).toContain('A run')
  })

  test('and everything else is forbidden without the token', async () => {
    const { url } = await serve()
    for (const path of ['', 'events', 'status', 'nothing'])
      expect((await fetch(`${url.origin}/${path}`)).status).toBe(403)
    expect(await (await fetch(url.origin)).text()).toContain('Open the URL that the terminal printed.')
  })

  test('is on loopback only', async () => {
    const { url } = await serve()
    expect(url.hostname).toBe('127.0.0.1')
    const { networkInterfaces } = await import('node:os')
    const others = Object.values(networkInterfaces()).flatMap((all) => all ?? [])
    for (const { address, internal, family } of others)
      if (!internal && family === 'IPv4') {
        const refused = new Promise((resolve) => {
          connect(Number(url.port), address)
            .once('connect', () => resolve(false))
            .once('error', () => resolve(true))
        })
        expect(await refused).toBe(true)
      }
  })

  test('nothing is where no page is', async () => {
    const { at } = await serve()
    expect((await fetch(at('nothing'))).status).toBe(404)
  })
})

describe('events', () => {
  test('begin with all lines as one event, go on with new ones, and resume at their id', async () => {
    needsTimesOfBirth()
    const { log, at } = await serve()
    writeFileSync(log, '{"step":1}\n{"step":2}\n')
    const append = (count: number) => count === 2 && appendFileSync(log, '{"step":3}\n{"st')
    const [status, first, second] = await events(at('events'), 3, {}, append)
    expect(status).toEqual({ event: 'status', data: '{"alive":true,"reachable":true}' })
    expect(first).toMatchObject({ event: 'lines', data: '{"step":1}\n{"step":2}' })
    expect(second).toMatchObject({ event: 'lines', data: '{"step":3}' })
    const again = await events(at('events'), 2, { 'last-event-id': first?.id as string })
    expect(again[1]).toEqual(second)
    const later = await events(`${at('events')}&from=${first?.id}`, 2)
    expect(later[1]).toEqual(second)
  })

  test('begin anew when a resumed run has replaced the log, in all tabs', async () => {
    const { log, at } = await serve()
    writeFileSync(log, '{"step":1}\n{"step":2}\n')
    let ready = 0
    const replace = (count: number) => {
      if (count !== 2 || ++ready < 2) return
      writeFileSync(`${log}.new`, '{"step":1}\n')
      renameSync(`${log}.new`, log)
    }
    const tab = () => events(at('events'), 4, {}, replace)
    for (const seen of await Promise.all([tab(), tab()]))
      expect(seen.slice(2)).toMatchObject([{ event: 'reset' }, { event: 'lines', data: '{"step":1}' }])
  })

  test('wait for a log, and end with its last lines when the server closes', async () => {
    const { log, at, server } = await serve()
    let seen: ReturnType<typeof events> | undefined
    await new Promise<void>((begun) => {
      seen = events(at('events'), 9, {}, () => begun())
    })
    writeFileSync(log, '{"event":"done"}\n')
    servers.splice(0)
    await server.close()
    expect((await seen)?.at(-1)).toMatchObject({ event: 'lines', data: '{"event":"done"}' })
  })
})

describe('an action', () => {
  test('acts on the run', async () => {
    const { post, run } = await serve()
    for (const action of ['pause', 'resume', 'stop']) expect((await post('act', { action })).status).toBe(204)
    expect(run.did).toEqual(['pause', 'resume', 'stop'])
  })

  test.each([{ action: 'delete' }, { action: 'pause', more: 1 }, {}, 'not JSON', ''])(
    'that is %j is refused',
    async (body) => {
      const { post, run } = await serve()
      expect((await post('act', body)).status).toBe(400)
      expect(run.did).toEqual([])
    },
  )

  test('from another site, with a form, or of great length is refused', async () => {
    const { post, run } = await serve()
    const action = { action: 'stop' }
    expect((await post('act', action, { origin: 'http://evil.example' })).status).toBe(403)
    expect((await post('act', action, { 'content-type': 'text/plain' })).status).toBe(415)
    expect((await post('act', `{"action":"${'x'.repeat(1 << 17)}"}`)).status).toBe(413)
    expect(run.did).toEqual([])
  })

  test('before the run begins is told to wait', async () => {
    const { post } = await serve({ controls: ownControls(() => undefined) })
    const response = await post('act', { action: 'pause' })
    expect([response.status, await response.text()]).toEqual([409, 'the run cannot be reached.\n'])
  })
})

describe('a question', () => {
  const lines = async (response: Response) =>
    (await response.text())
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))

  test('is answered in pieces', async () => {
    const { post } = await serve()
    expect(await lines(await post('ask', { prompt: 'Where is it?' }))).toEqual([
      { event: 'text', text: 'It is ' },
      { event: 'text', text: 'sold.' },
      { event: 'answer', step: 7, finish_reason: 'stop' },
    ])
  })

  test('that fails says why', async () => {
    const run = new FakeRun()
    run.answer = () => Promise.reject(new Error('the prompt is too long'))
    const { post } = await serve({}, run)
    const [, error] = await lines(await post('ask', { prompt: 'Hello' }))
    expect(error).toEqual({ event: 'error', code: 'INTERNAL', message: 'the prompt is too long' })
    expect((await post('ask', { prompt: '' })).status).toBe(400)
  })

  test('that nobody waits for any longer is given up', async () => {
    const run = new FakeRun()
    run.answer = () => new Promise(() => undefined)
    const { at, url } = await serve({}, run)
    const controller = new AbortController()
    const headers = { origin: url.origin, 'content-type': 'application/json' }
    const body = '{"prompt":"Hello"}'
    const response = await fetch(at('ask'), { method: 'POST', headers, body, signal: controller.signal })
    expect(response.status).toBe(200)
    controller.abort()
    await expect.poll(() => run.aborted).toBe(true)
  })
})

describe('more questions than a run can answer', () => {
  const asked = async (post: (path: string, body: unknown) => Promise<Response>, count: number) =>
    Promise.all(Array.from({ length: count }, (_, i) => post('ask', { prompt: `Question ${i}` })))

  test('are refused until one of the others is answered', async () => {
    const run = new FakeRun()
    const answers: (() => void)[] = []
    run.answer = () => new Promise((done) => void answers.push(done))
    const { post } = await serve({}, run)
    const waiting = await asked(post, 8)
    expect(waiting.map(({ status }) => status)).toEqual(Array(8).fill(200))
    const refused = await post('ask', { prompt: 'One more' })
    expect([refused.status, await refused.text()]).toEqual([
      429,
      'The run has 8 questions to answer. Ask again in a while.\n',
    ])
    expect(run.did).toHaveLength(8)
    for (const answer of answers.splice(0)) answer()
    await Promise.all(waiting.map((response) => response.text()))
    expect((await post('ask', { prompt: 'Once more' })).status).toBe(200)
    for (const answer of answers) answer()
  })

  test('are refused in the same words by a page that watches it', async () => {
    const run = new FakeRun()
    run.answer = () => new Promise(() => undefined)
    const [folder, own] = [scratchFolder(), await serve({}, run)]
    await announce(folder, own.server.url)
    await asked(own.post, 8)
    const [{ signal }, onText] = [new AbortController(), () => undefined]
    const question = remoteControls(folder, () => 'here').ask('One more', { signal, onText })
    await expect(question).rejects.toMatchObject({
      code: 'BUSY',
      message: 'The run has 8 questions to answer. Ask again in a while.',
    })
  })
})

/** A request as some program may send it: the status of its answer. */
function statusOf({ port }: URL, target: string): Promise<number> {
  const socket = connect(Number(port), '127.0.0.1')
  socket.write(`GET ${target} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nConnection: close\r\n\r\n`)
  return new Promise((done, failed) => {
    let text = ''
    socket.on('error', failed).on('data', (piece) => {
      text += piece
    })
    socket.on('close', () => done(Number(text.split(' ')[1])))
  })
}

test.each(['/', '//', '///', '//evil.example', '/\\', '//[', '/%', '//:0', 'http://evil.example/', '*'])(
  'a request for %s without a token is forbidden as any other is',
  async (target) => {
    const { url } = await serve()
    expect(await statusOf(url, target)).toBe(403)
  },
)

describe('a run of another process', () => {
  async function remote() {
    const folder = scratchFolder()
    const own = await serve()
    let at: 'here' | 'elsewhere' | undefined = 'here'
    const controls: RunControls = remoteControls(folder, () => at)
    const move = (to: typeof at) => {
      at = to
    }
    return { folder, own, controls, move }
  }

  test('is reached through the file that its owner alone can read', async () => {
    needs('file modes')
    const { folder, own, controls } = await remote()
    expect(await controls.status()).toEqual({ alive: true, reachable: false })
    await expect(controls.act('pause')).rejects.toThrow('the run cannot be reached')
    await announce(folder, own.server.url)
    expect(statSync(join(folder, '.lowrank.live')).mode & 0o777).toBe(0o600)
    expect(await controls.status()).toEqual({ alive: true, reachable: true })
    await controls.act('pause')
    const pieces: string[] = []
    const onText = (text: string) => void pieces.push(text)
    const { signal } = new AbortController()
    expect(await controls.ask('Where?', { signal, onText })).toEqual({ step: 7, finishReason: 'stop' })
    expect(pieces.join('')).toBe('It is sold.')
    expect(own.run.did).toEqual(['pause', 'ask Where?'])
    await withdraw(folder)
    expect(await controls.status()).toEqual({ alive: true, reachable: false })
  })

  test('that ended, or is on another machine, is not reached', async () => {
    const { folder, own, controls, move } = await remote()
    await announce(folder, own.server.url)
    move('elsewhere')
    expect(await controls.status()).toEqual({ alive: true, reachable: false })
    move(undefined)
    expect(await controls.status()).toEqual({ alive: false, reachable: false })
    move('here')
    servers.splice(0)
    await own.server.close()
    expect(await controls.status()).toEqual({ alive: true, reachable: false })
    await expect(controls.act('stop')).rejects.toThrow('the run cannot be reached')
  })
})

test('a port that is in use, or an address of another machine, is one clear error', async () => {
  const taken = createServer()
  await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve))
  const { port } = taken.address() as { port: number }
  await expect(serve({ port })).rejects.toMatchObject({
    code: 'BUSY',
    message: `port ${port} is in use by another program; choose another with --port, or leave it out for one that is free.`,
  })
  taken.close()
  await expect(serve({ host: '192.0.2.1' })).rejects.toThrow('Expected an address of this machine')
})
