import { request as httpRequest } from 'node:http'
import { connect } from 'node:net'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { scratchFolder } from '../scratch.js'
import { type Asked, begun } from './service.js'

let asked: Asked
let port: number
beforeAll(async () => {
  asked = await begun(join(scratchFolder(), 'data'))
  port = Number(new URL(asked.service.url).port)
})
afterAll(() => asked.service.close())

interface Sent {
  method?: string
  path?: string
  headers?: Record<string, string>
  body?: string | Buffer
  /** Without the token. */
  stranger?: boolean
}

interface Got {
  status: number
  error: { message: string; type: string; code: string | null; param: string | null } | undefined
  headers: Record<string, unknown>
}

function send({
  method = 'POST',
  path = '/v1/chat/completions',
  headers = {},
  body = '',
  stranger,
}: Sent): Promise<Got> {
  const token = stranger ? {} : { authorization: `Bearer ${asked.service.token}` }
  const all = { 'content-type': 'application/json', ...token, ...headers }
  return new Promise((resolve, reject) => {
    const sent = httpRequest({ port, host: '127.0.0.1', method, path, headers: all }, (response) => {
      let text = ''
      response.on('data', (bytes: Buffer) => {
        text += bytes
      })
      response.on('end', () => {
        const { error } = text.startsWith('{')
          ? (JSON.parse(text) as Pick<Got, 'error'>)
          : { error: undefined }
        resolve({ status: response.statusCode as number, error, headers: response.headers })
      })
    })
    sent.on('error', reject)
    sent.end(body)
  })
}

const multipart = (text: string) => ({
  path: '/v1/files',
  headers: { 'content-type': 'multipart/form-data; boundary=B' },
  body: text.replaceAll('\n', '\r\n'),
})
/** What each request got, for the table of docs/serve.md. */
const seen: { request: string; status: number; code: string | null }[] = []
const CHAT = JSON.stringify({ model: 'base', messages: [{ role: 'user', content: 'a' }], max_tokens: 1 })

describe('a request', () => {
  test.each<[string, Sent, number, string | null]>([
    ['without the token', { stranger: true, body: CHAT }, 401, 'invalid_api_key'],
    [
      'with the token in its query',
      { stranger: true, path: '/v1/models?token=x', method: 'GET' },
      401,
      'invalid_api_key',
    ],
    [
      'to another name of this address',
      { headers: { host: 'evil.example' }, body: CHAT },
      421,
      'misdirected',
    ],
    ['to a host that is no name', { headers: { host: 'a b' }, body: CHAT }, 400, null],
    ['to a port that is none', { headers: { host: '127.0.0.1:99999' }, body: CHAT }, 400, null],
    ['with a body that is a string', { path: '/v1/fine_tuning/jobs', body: '"a"' }, 400, 'invalid_body'],
    ['to another port', { headers: { host: '127.0.0.1:1' }, body: CHAT }, 421, 'misdirected'],
    ['of another site', { headers: { origin: 'https://evil.example' }, body: CHAT }, 403, 'origin_refused'],
    [
      'that a browser marks as of another site',
      { headers: { 'sec-fetch-site': 'cross-site' }, body: CHAT },
      403,
      'origin_refused',
    ],
    ['of a form', { headers: { 'content-type': 'text/plain' }, body: CHAT }, 415, 'unsupported_media_type'],
    [
      'that is compressed',
      { headers: { 'content-encoding': 'gzip' }, body: CHAT },
      415,
      'unsupported_media_type',
    ],
    ['that is no JSON', { body: '{"model":' }, 400, 'invalid_body'],
    ['that is no object', { body: '[1]' }, 400, 'invalid_body'],
    ['that is empty', { body: '' }, 400, 'invalid_body'],
    ['that is nested too deep', { body: '['.repeat(100) }, 400, 'invalid_body'],
    ['that is too large', { body: Buffer.alloc((8 << 20) + 1, 32) }, 413, 'request_too_large'],
    ['to a route that is not there', { path: '/v1/embeddings', body: CHAT }, 404, 'unknown_url'],
    ['to a path outside', { path: '/v1/files/..%2f..%2ftoken/content', method: 'GET' }, 404, null],
    ['to the record of a file', { path: '/v1/files/%2e%2e/content', method: 'GET' }, 404, 'unknown_url'],
    ['that deletes a base', { path: '/v1/models/base', method: 'DELETE' }, 403, 'model_not_found'],
    ['with a page that is gone', { path: '/v1/files?after=file-x', method: 'GET' }, 404, null],
    ['for no page', { path: '/v1/files?limit=0', method: 'GET' }, 400, 'invalid_value'],
    ['with an upload of no form', { path: '/v1/files', body: CHAT }, 415, 'unsupported_media_type'],
    [
      'with an upload cut short',
      multipart('--B\nContent-Disposition: form-data; name="file"; filename="a"\n\nx'),
      400,
      'invalid_body',
    ],
    [
      'with an upload of no file',
      multipart('--B\nContent-Disposition: form-data; name="purpose"\n\nfine-tune\n--B--\n'),
      400,
      'missing_required_parameter',
    ],
    [
      'with an upload for something else',
      multipart(
        '--B\nContent-Disposition: form-data; name="file"; filename="../../a"\n\n{"text": "a"}\n--B\nContent-Disposition: form-data; name="purpose"\n\nvision\n--B--\n',
      ),
      400,
      'invalid_value',
    ],
  ])('%s is refused', async (request, sent, status, code) => {
    const got = await send(sent)
    seen.push({ request, status: got.status, code: got.error?.code ?? null })
    expect(got.status).toBe(status)
    expect(got.error).toMatchObject({ code, message: expect.any(String), type: expect.any(String) })
    expect(got.error).toHaveProperty('param')
    expect(got.headers['x-should-retry']).toBe('false')
    expect(got.headers['x-request-id']).toMatch(/^req_/)
    expect(asked.reports).toEqual([])
  })

  test('gets what hostile.json says (vitest -u)', async () => {
    await expect(`${JSON.stringify(seen, null, 2)}\n`).toMatchFileSnapshot('hostile.json')
  })

  test('with huge headers, or of no HTTP, ends its connection', async () => {
    for (const hello of [
      `GET / HTTP/1.1\r\nhost: a\r\nx: ${'a'.repeat(20_000)}\r\n\r\n`,
      'nonsense\r\n\r\n',
    ]) {
      const answer = await new Promise<string>((resolve) => {
        let text = ''
        const socket = connect(port, '127.0.0.1', () => socket.write(sent))
        const sent = hello
        socket.on('data', (bytes) => {
          text += bytes
        })
        socket.on('close', () => resolve(text))
        socket.on('error', () => resolve(text))
      })
      expect(answer).toMatch(/^HTTP\/1\.1 4\d\d/)
    }
  })

  test('of any keys and values gets an answer, and never an error of the server', async () => {
    const keys = fc.constantFrom(
      ...[
        'model',
        'messages',
        'temperature',
        'stop',
        'n',
        'seed',
        'stream',
        'max_tokens',
        'top_p',
        'prompt',
        'tools',
        'input',
        'text',
        'previous_response_id',
      ],
      ...[
        'training_file',
        'method',
        'suffix',
        'metadata',
        'lowrank',
        'hyperparameters',
        '__proto__',
        'constructor',
      ],
    )
    const value = fc.oneof(
      fc.jsonValue({ maxDepth: 3 }),
      fc.constantFrom('base', [{ role: 'user', content: 'a' }], 1, null, [], {}, { type: 'dpo' }),
    )
    const path = fc.constantFrom(
      '/v1/chat/completions',
      '/v1/completions',
      '/v1/responses',
      '/v1/fine_tuning/jobs',
      '/v1/files',
    )
    await fc.assert(
      fc.asyncProperty(path, fc.array(fc.tuple(keys, value), { maxLength: 6 }), async (path, pairs) => {
        const body = `{${pairs.map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`).join(',')}}`
        const { status } = await send({ path, body })
        expect(status).toBeLessThan(500)
      }),
      { numRuns: Number(process.env.LOWRANK_HOSTILE_REQUESTS ?? 300), seed: 1 },
    )
    expect(asked.reports).toEqual([])
  })
})
