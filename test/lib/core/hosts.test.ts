import { expect, test } from 'vitest'
import { isOwnHost, publicHost } from '../../../lib/core/hosts.js'

test('a public host is a name or an address, and nothing around it', () => {
  expect(publicHost('API.Example.com')).toBe('api.example.com')
  expect(publicHost('localhost')).toBe('localhost')
  expect(publicHost('10.0.0.1')).toBe('10.0.0.1')
  expect(publicHost('FE80::1')).toBe('[fe80::1]')
  const bad = [
    '',
    '*',
    '*.example.com',
    'https://a.b',
    'a.b:443',
    'a.b/',
    'a b',
    'a..b',
    '.a',
    'a.',
    '-a',
    'a-',
  ]
  bad.push(
    'a@b',
    'a.b\r\nx',
    'a,b',
    'a_b',
    'é.fr',
    '[::1]',
    '1.2.3',
    '999.1.1.1',
    '0x7f.1',
    `${'a.'.repeat(127)}ab`,
  )
  for (const name of bad) expect([name, publicHost(name)]).toEqual([name, undefined])
})

test('a Host header names the server by its own name, its address, or a public name with any port', () => {
  const local = { host: '127.0.0.1', port: 8000 }
  const behind = { ...local, publicHosts: ['api.example.com', '[fe80::1]'] }
  for (const own of ['127.0.0.1:8000', 'localhost:8000', '[::1]:8000']) {
    expect(isOwnHost(own, local)).toBe(true)
    expect(isOwnHost(own, behind)).toBe(true)
  }
  for (const name of ['api.example.com', 'API.example.com:443', 'api.example.com:8443', '[fe80::1]:80']) {
    expect(isOwnHost(name, local)).toBe(false)
    expect(isOwnHost(name, behind)).toBe(true)
  }
  const evil = [
    'example.com',
    'x.api.example.com',
    'api.example.com.evil.test',
    'api.example.com:',
    'api.example.com.',
  ]
  evil.push(
    'api.example.com:80:80',
    'evil.test:api.example.com',
    'api.example.com@evil.test',
    'api.example.com:1e3',
  )
  evil.push(
    ' api.example.com',
    'api.example.com,evil.test',
    'evil.test#api.example.com',
    'localhost:9000',
    '10.0.0.1',
  )
  for (const name of evil) expect([name, isOwnHost(name, behind)]).toEqual([name, false])
  expect(isOwnHost(undefined, behind)).toBe(false)
  expect(isOwnHost('10.0.0.1:9000', { host: '0.0.0.0', port: 8000 })).toBe(true)
})
