import { request } from 'node:http'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { ConfigError } from '../../../lib/core/errors.js'
import { scratchFolder } from '../scratch.js'
import { type Asked, begun } from './service.js'

const NAME = 'api.example.com'
const TOKEN = `sk-${'a'.repeat(40)}`
let asked: Asked
beforeAll(async () => {
  asked = await begun(join(scratchFolder(), 'data'), { token: TOKEN, publicHosts: ['API.example.com'] })
})
afterAll(() => asked.service.close())

function statusOf(headers: Record<string, string>, path = '/v1/models'): Promise<number | undefined> {
  const { port } = new URL(asked.service.url)
  const all = { authorization: `Bearer ${TOKEN}`, ...headers }
  return new Promise((resolve, reject) => {
    const sent = request({ port, host: '127.0.0.1', path, headers: all }, (response) => {
      response.resume()
      resolve(response.statusCode)
    })
    sent.on('error', reject)
    sent.end()
  })
}

test('a proxy passes requests on by the public name, or by the own name of the server', async () => {
  const { port } = new URL(asked.service.url)
  const origin = `https://${NAME}`
  for (const host of [NAME, `${NAME}:443`, 'Api.Example.Com', `127.0.0.1:${port}`]) {
    expect(await statusOf({ host })).toBe(200)
    expect(await statusOf({ host, origin })).toBe(200)
    expect(await statusOf({ host }, '/ready')).toBe(200)
  }
  expect(await statusOf({ host: `${NAME}:8443`, origin: `${origin}:8443` })).toBe(200)
})

test('other names, origins, and names that only further headers have are refused', async () => {
  const forwarded = { 'x-forwarded-host': NAME, forwarded: `host=${NAME}`, 'x-original-host': NAME }
  for (const host of ['evil.test', `${NAME}.evil.test`, `evil.${NAME}`, 'example.com', `${NAME}.`]) {
    expect([host, await statusOf({ host })]).toEqual([host, 421])
    expect([host, await statusOf({ host, ...forwarded }, '/health')]).toEqual([host, 421])
  }
  const origins = ['https://evil.test', `https://evil.${NAME}`, `https://${NAME}.evil.test`, `ftp://${NAME}`]
  for (const origin of [...origins, `https://${NAME}:1`, `https://${NAME}/`, 'null', ''])
    expect([origin, await statusOf({ host: NAME, origin })]).toEqual([origin, 403])
  expect(await statusOf({ host: NAME, 'sec-fetch-site': 'cross-site' })).toBe(403)
  expect(await statusOf({ host: NAME, authorization: 'Bearer x' })).toBe(401)
})

test.each([
  ['', {}, 'is empty'],
  ['two words of more than thirty-two characters', {}, 'has spaces'],
  [`${TOKEN}\n`, {}, 'has spaces, line breaks'],
  ['é'.repeat(40), {}, 'beyond ASCII'],
  ['short', { publicHosts: [NAME] }, `has 5 characters, and ${NAME} can be reached by others`],
  [TOKEN, { publicHosts: ['https://a.b/'] }, '"https://a.b/" is no name of a host; expected one such as'],
])('the token %j with %j is refused', async (token, options, message) => {
  const failure = await begun(join(scratchFolder(), 'data'), { token, ...options }).then(
    () => undefined,
    (error: unknown) => error as Error,
  )
  expect(failure).toBeInstanceOf(ConfigError)
  expect(failure?.message).toContain(message)
  if (token.length > 5) expect(failure?.message).not.toContain(token.trim())
})
