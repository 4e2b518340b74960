/**
 * Validates a request before it is handled: the Host header (against DNS rebinding), the token in the URL, and for
 * actions the Origin and the content type. Requests from other sites fail all four.
 */
import type { IncomingHttpHeaders } from 'node:http'
import { isOwnHost, sameSecret } from '../../core/hosts.js'

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

export function refusal({ method, url, headers }: Requested, server: Guarded): Refusal | undefined {
  if (!isOwnHost(headers.host, server)) return { status: 421, message: 'This server has another name.' }
  if (!sameSecret(url.searchParams.get('token'), server.token))
    return { status: 403, message: 'The token is missing or wrong. Open the URL that the terminal printed.' }
  if (method === 'GET') return undefined
  if (method !== 'POST') return { status: 405, message: 'Only GET and POST are known here.' }
  if (headers.origin !== `http://${headers.host}`)
    return { status: 403, message: 'Only the page of this server may act on the run.' }
  if (headers['content-type'] !== 'application/json')
    return { status: 415, message: 'Expected a body of the type application/json.' }
  return undefined
}
