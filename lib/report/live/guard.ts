/**
 * Validates a request before it is handled: the Host header (against DNS rebinding), the token in the URL, and for
 * actions the Origin and the content type. Requests from other sites fail all four.
 */
import { createHash, timingSafeEqual } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'
import { isIP } from 'node:net'

/** A rejected request: the status, and a message for the client. */
export interface Refusal {
  status: number
  message: string
}

/** The parts of a request that are checked. */
export interface Requested {
  method: string | undefined
  url: URL
  headers: IncomingHttpHeaders
}

/** Properties of the server that requests are checked against. */
export interface Guarded {
  token: string
  port: number
  /** The address it listens on. */
  host: string
}

const LOOPBACK = ['127.0.0.1', 'localhost', '[::1]']

export function refusal({ method, url, headers }: Requested, server: Guarded): Refusal | undefined {
  if (!isOurs(headers.host, server)) return { status: 421, message: 'This server has another name.' }
  if (!sameText(url.searchParams.get('token'), server.token))
    return { status: 403, message: 'The token is missing or wrong. Open the URL that the terminal printed.' }
  if (method === 'GET') return undefined
  if (method !== 'POST') return { status: 405, message: 'Only GET and POST are known here.' }
  if (headers.origin !== `http://${headers.host}`)
    return { status: 403, message: 'Only the page of this server may act on the run.' }
  if (headers['content-type'] !== 'application/json')
    return { status: 415, message: 'Expected a body of the type application/json.' }
  return undefined
}

/** True for an address that only this machine can reach. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127\.\d+\.\d+\.\d+$/.test(host)
}

/** An address as written in a URL. */
export function urlHost(host: string): string {
  return isIP(host) === 6 ? `[${host}]` : host
}

/** Accepts the server's own names and bare IP addresses, so a domain that an attacker points here is rejected. */
function isOurs(given: string | undefined, { host, port }: Guarded): boolean {
  const known = [...LOOPBACK, urlHost(host)].map((name) => `${name}:${port}`)
  if (given === undefined || known.includes(given)) return given !== undefined
  if (isLoopback(host)) return false
  const name = given.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1')
  return isIP(name) !== 0
}

/** Constant-time comparison, independent of content and length. */
function sameText(given: string | null, expected: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest()
  return timingSafeEqual(digest(given ?? ''), digest(expected))
}
