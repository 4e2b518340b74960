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
 * True if a Host header names the server that listens on this address and port: by its own names, or by a bare IP address.
 * A domain that an attacker points here does not.
 */
export function isOwnHost(
  given: string | undefined,
  { host, port }: { host: string; port: number },
): boolean {
  const known = [...LOOPBACK, urlHost(host)].map((name) => `${name}:${port}`)
  if (given === undefined || known.includes(given)) return given !== undefined
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
