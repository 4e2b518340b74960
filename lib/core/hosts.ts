/** Names of this machine in requests to a server of this process, and the comparison of secrets. */
import { createHash, timingSafeEqual } from 'node:crypto'
import { isIP } from 'node:net'
import { BusyError, ConfigError, type LowrankError } from './errors.js'

const LOOPBACK = ['127.0.0.1', 'localhost', '[::1]']

/** True for an address that only this machine can reach. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127\.\d+\.\d+\.\d+$/.test(host)
}

/** An address as written in a URL. */
export function urlHost(host: string): string {
  return isIP(host) === 6 ? `[${host}]` : host
}

/**
 * A name that a server is reached by, as Host headers have it; undefined for what is no name or address alone.
 * @param text such as api.example.com
 */
export function publicHost(text: string): string | undefined {
  const name = text.toLowerCase()
  if (isIP(name) !== 0) return urlHost(name)
  const labels = name.split('.')
  const isName = name.length <= 253 && labels.every((label) => /^(?!-)[a-z0-9-]{1,63}(?<!-)$/.test(label))
  // The last label of a name has a letter, or parsers of URLs take the name for an address.
  return isName && /[a-z]/.test(labels.at(-1) as string) ? name : undefined
}

/** Where a server listens, and the names that a proxy before it is reached by. */
export interface ServerAddress {
  host: string
  port: number
  /** As `publicHost` gives them; their ports are those of the proxy. */
  publicHosts?: readonly string[]
}

/**
 * True if a Host header names the server that listens on this address and port: by its own names, or by a bare IP address.
 * A domain that an attacker points here does not.
 */
export function isOwnHost(
  given: string | undefined,
  { host, port, publicHosts = [] }: ServerAddress,
): boolean {
  const known = [...LOOPBACK, urlHost(host)].map((name) => `${name}:${port}`)
  if (given === undefined || known.includes(given)) return given !== undefined
  if (publicHosts.includes(given.toLowerCase().replace(/:\d{1,5}$/, ''))) return true
  if (isLoopback(host)) return false
  const name = given.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1')
  return isIP(name) !== 0
}

/** Compares secrets in a time that depends neither on their content nor on their length. */
export function sameSecret(given: string | null | undefined, expected: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest()
  return timingSafeEqual(digest(given ?? ''), digest(expected))
}

/** The error of a server that cannot listen on an address. */
export function listenError(
  { code, message }: NodeJS.ErrnoException,
  host: string,
  port: number,
): LowrankError {
  if (code === 'EADDRINUSE')
    return new BusyError(
      `port ${port} is in use by another program; choose another with --port, or leave it out for one that is free.`,
      { port },
    )
  if (code === 'EACCES')
    return new ConfigError(`this user may not listen on port ${port}; choose one from 1024 to 65535.`, {
      port,
    })
  const expected = isLoopback(host)
    ? ''
    : ' Expected an address of this machine, such as 127.0.0.1 or 0.0.0.0.'
  return new ConfigError(`cannot listen on ${host}: ${message}.${expected}`, { host, port })
}
