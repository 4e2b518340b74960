/** Checks every request before its route does: whom it is for, where it comes from, and its key. */
import type { Context } from 'hono'
import { isOwnHost, type ServerAddress, sameSecret } from '../core/hosts.js'
import { ApiError } from './errors.js'

/** Routes that tell nothing of the data. */
const WITHOUT_KEY = ['/', '/health', '/ready']

/** The state of the server that requests are checked against. */
export interface Guarded {
  token: string
  /** The address that the server listens on; its port is known once it listens. */
  address: ServerAddress
  /** False while the server starts or stops. */
  isReady: () => boolean
}

/** @throws {ApiError} for a request of another site, or without the token */
export function guard(context: Context, { token, address, isReady }: Guarded): void {
  const header = (name: string) => context.req.header(name)
  if (!isOwnHost(header('host'), address))
    throw new ApiError(421, 'This server has another name.', 'misdirected')
  const { pathname } = new URL(context.req.url)
  if (WITHOUT_KEY.includes(pathname)) return
  const origin = header('origin')
  // A proxy may have taken TLS and the name of the page away.
  const own = [header('host'), ...(address.publicHosts ?? [])].flatMap((name) => [
    `http://${name}`,
    `https://${name}`,
  ])
  if ((origin !== undefined && !own.includes(origin)) || header('sec-fetch-site') === 'cross-site')
    throw new ApiError(403, 'Requests of other sites are refused.', 'origin_refused')
  const given = header('authorization')?.replace(/^Bearer\s+/i, '') ?? header('api-key')
  if (!sameSecret(given, token))
    throw new ApiError(
      401,
      'Incorrect API key provided. It is the token that the server printed.',
      'invalid_api_key',
    )
  if (header('content-encoding') !== undefined)
    throw new ApiError(415, 'Bodies must not be compressed.', 'unsupported_media_type')
  if (!isReady())
    throw new ApiError(503, 'The server is stopping.', 'overloaded', null, {
      ...{ 'retry-after': '5', connection: 'close' },
    })
}
