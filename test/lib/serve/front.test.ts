import { request } from 'node:http'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { scratchFolder } from '../scratch.js'
import { type Asked, begun } from './service.js'

let asked: Asked
beforeAll(async () => {
  asked = await begun(scratchFolder())
})
afterAll(async () => asked.service.close())

test('the page comes without the key, holds no data, and may run its own script alone', async () => {
  const { url, token, page } = asked.service
  expect(page).toBe(`${new URL('/', url).href}#token=${token}`)
  const response = await fetch(new URL('/', url))
  expect(response.status).toBe(200)
  const headers = Object.fromEntries(response.headers)
  expect(headers).toMatchObject({
    'content-type': 'text/html; charset=utf-8',
    'referrer-policy': 'no-referrer',
    'x-content-type-options': 'nosniff',
    'cache-control': 'no-store',
  })
  const policy = headers['content-security-policy'] ?? ''
  expect(policy).toMatch(
    /^default-src 'none'; style-src 'sha256-\S+'; script-src 'sha256-\S+'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'$/,
  )
  const html = await response.text()
  expect(html).not.toContain(token)
  expect(html).not.toContain('base</')
  expect(html).toContain('name="referrer" content="no-referrer"')
})

test('a request for the page by another name is refused, and a key in a query opens no route', async () => {
  const { url, token } = asked.service
  const { port } = new URL(url)
  const status = await new Promise((resolve) =>
    request({ port, host: '127.0.0.1', path: '/', headers: { host: `evil.test:${port}` } }, (response) => {
      response.resume()
      resolve(response.statusCode)
    }).end(),
  )
  expect(status).toBe(421)
  expect((await fetch(`${url}/models?token=${token}`)).status).toBe(401)
  expect((await fetch(new URL('/', url), { method: 'POST' })).status).toBe(404)
})
