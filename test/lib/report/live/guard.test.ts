import { describe, expect, test } from 'vitest'
import { isLoopback, urlHost } from '../../../../lib/core/hosts.js'
import { refusal } from '../../../../lib/report/live/guard.js'

const server = { token: 'secret', port: 4000, host: '127.0.0.1' }

function status(
  change: { method?: string; token?: string | null; headers?: Record<string, string | undefined> } = {},
  of = server,
): number | undefined {
  const { method = 'GET', token = 'secret', headers = {} } = change
  const url = new URL(`http://127.0.0.1/${token === null ? '' : `?token=${token}`}`)
  const usual = {
    host: '127.0.0.1:4000',
    origin: 'http://127.0.0.1:4000',
    'content-type': 'application/json',
  }
  return refusal({ method, url, headers: { ...usual, ...headers } }, of)?.status
}

test('the page of the URL that was printed is served, under any name of loopback', () => {
  expect(status()).toBe(undefined)
  for (const host of ['localhost:4000', '[::1]:4000']) expect(status({ headers: { host } })).toBe(undefined)
})

test.each(['evil.example:4000', '127.0.0.1:4001', '127.0.0.1', 'localhost', undefined, '', '10.0.0.7:4000'])(
  'a request to the host %s is misdirected, whatever its token',
  (host) => {
    expect(status({ headers: { host } })).toBe(421)
  },
)

test.each([null, '', 'secre', 'secret2', 'SECRET'])('the token %s is forbidden', (token) => {
  expect(status({ token })).toBe(403)
  expect(status({ token, method: 'POST' })).toBe(403)
})

describe('an action', () => {
  test('by the page is allowed', () => {
    expect(status({ method: 'POST' })).toBe(undefined)
  })

  test.each([undefined, 'null', 'http://evil.example', 'http://127.0.0.1:4001', 'https://127.0.0.1:4000'])(
    'from the origin %s is forbidden',
    (origin) => {
      expect(status({ method: 'POST', headers: { origin } })).toBe(403)
    },
  )

  test.each([undefined, 'text/plain', 'application/x-www-form-urlencoded'])(
    'with a body of the type %s is refused',
    (type) => {
      expect(status({ method: 'POST', headers: { 'content-type': type } })).toBe(415)
    },
  )

  test('by another method is none', () => {
    for (const method of ['PUT', 'DELETE', 'OPTIONS', 'HEAD']) expect(status({ method })).toBe(405)
  })
})

test('a server that listens on every address answers bare addresses, but no foreign name', () => {
  const open = { ...server, host: '0.0.0.0' }
  expect(status({ headers: { host: '10.0.0.7:4000' } }, open)).toBe(undefined)
  expect(status({ headers: { host: '[fe80::1]:4000' } }, open)).toBe(undefined)
  expect(status({ headers: { host: 'evil.example:4000' } }, open)).toBe(421)
  expect(status({ headers: { host: 'box.lan:4000' } }, { ...server, host: 'box.lan' })).toBe(undefined)
})

test('loopback is told from addresses that others reach', () => {
  for (const host of ['127.0.0.1', '127.8.8.8', '::1', 'localhost']) expect(isLoopback(host)).toBe(true)
  for (const host of ['0.0.0.0', '::', '10.0.0.1', '127.0.0.1.evil.example'])
    expect(isLoopback(host)).toBe(false)
  expect([urlHost('::1'), urlHost('127.0.0.1')]).toEqual(['[::1]', '127.0.0.1'])
})
