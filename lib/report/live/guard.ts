/**
 * Checks of a request before anything answers it: the Host (against DNS rebinding), the token of the URL, and for
 * actions the Origin and the type of the body. Pages of other sites fail all four.
 */
import { createHash, timingSafeEqual } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'
import { isIP } from 'node:net'

/** Refusal of a request: its status, and a sentence for whoever made it. */
export interface Refusal {
  status: number
  message: string
}

/** A request, as far as it is checked. */
export interface Requested {
  method: string | undefined
  url: URL
  headers: IncomingHttpHeaders
}

/** Properties of the server that requests are checked against. */
export interface Guarded {
  token: string
  port: number
  /** The address that it listens on. */
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

/** True for an address at which nobody but this machine can reach a server. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127\.\d+\.\d+\.\d+$/.test(host)
}

/** An address as it stands in a URL. */
export function urlHost(host: string): string {
  return isIP(host) === 6 ? `[${host}]` : host
}

/** A name that an attacker points here is not among those of the server; a bare address is none. */
function isOurs(given: string | undefined, { host, port }: Guarded): boolean {
  const known = [...LOOPBACK, urlHost(host)].map((name) => `${name}:${port}`)
  if (given === undefined || known.includes(given)) return given !== undefined
  if (isLoopback(host)) return false
  const name = given.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1')
  return isIP(name) !== 0
}

/** Takes as long for any text of any length. */
function sameText(given: string | null, expected: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest()
  return timingSafeEqual(digest(given ?? ''), digest(expected))
}
