/** Requests of a service's page, with the key in a header. The address gives the key once, in its fragment. */
import { partsOf } from './dom.js'

const KEY = 'lowrank-key'

/** Takes the key out of the address, where it would be seen and kept in the history. */
export function takeKey(): void {
  const given = new URLSearchParams(location.hash.slice(1)).get('token')
  if (given === null) return
  setKey(given)
  history.replaceState(null, '', location.pathname)
}

export const setKey = (key: string) => sessionStorage.setItem(KEY, key)
export const forgetKey = () => sessionStorage.removeItem(KEY)
export const hasKey = () => sessionStorage.getItem(KEY) !== null

/** A request that the server refused. */
export class Refused extends Error {
  readonly status: number

  constructor(status: number, message: string) {
    super(message)
    this.status = status
  }
}

/** @throws {Refused} for an answer that is an error */
async function request(path: string, init: RequestInit = {}): Promise<Response> {
  const headers = { ...init.headers, Authorization: `Bearer ${sessionStorage.getItem(KEY) ?? ''}` }
  const response = await fetch(path, { ...init, headers, cache: 'no-store' })
  if (response.ok) return response
  const body = (await response.json().catch(() => undefined)) as { error?: { message?: string } } | undefined
  throw new Refused(response.status, body?.error?.message ?? `the server answers ${response.status}.`)
}

/** All items of a list. */
export async function listOf<T>(path: string): Promise<T[]> {
  return ((await (await request(path)).json()) as { data: T[] }).data
}

/** Events of a stream as they come. @param body of a POST; a GET without one */
export async function* eventsOf<T>(
  path: string,
  signal: AbortSignal,
  body?: object,
): AsyncGenerator<T, void, void> {
  const post = { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) }
  const response = await request(path, { signal, ...(body === undefined ? {} : post) })
  if (response.body === null) return
  for await (const part of partsOf(response.body, '\n\n')) {
    if (!part.startsWith('data: ') || part === 'data: [DONE]') continue
    const event = JSON.parse(part.slice('data: '.length)) as Awaited<T> & { error?: { message: string } }
    if (event.error) throw new Error(event.error.message)
    yield event
  }
}
