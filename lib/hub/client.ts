/**
 * Requests to the Hub. The official client fetches commits and listings using the `fetch` provided here, which follows
 * redirects without sending the token to other hosts, retries where useful, limits response sizes, and turns every
 * refusal into an actionable error. Files are downloaded directly, because the official client cannot resume downloads
 * and lets the server choose the transfer protocol.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { HubError, LowrankError } from '../core/errors.js'
import { checkedListing, type HubListing } from './cache.js'
import { isCommit } from './name.js'
import { refusal, Temporary, unreachable } from './refusals.js'
import type { HubSettings } from './settings.js'

const FIRST_PAUSE_MS = 500
const LONGEST_PAUSE_MS = 60_000
const REDIRECTS = 10
const ANSWER_LIMIT = 64 << 20
const LISTED_LIMIT = 200_000
const LISTED_PAGES = 2000

/** Settles with the promise, or rejects immediately when the signal is aborted, even if the network hangs. */
async function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  let stop = () => {}
  const aborted = new Promise<never>((_, reject) => {
    stop = () => reject(signal.reason)
    if (signal.aborted) stop()
    else signal.addEventListener('abort', stop, { once: true })
  })
  try {
    return await Promise.race([promise, aborted])
  } finally {
    signal.removeEventListener('abort', stop)
  }
}

/** The body of a response, chunk by chunk. */
export async function* pieces(
  response: Response,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array, void, void> {
  const reader = response.body?.getReader()
  if (reader === undefined) return
  try {
    for (;;) {
      const { done, value } = await orAborted(reader.read(), signal)
      if (done) return
      yield value
    }
  } finally {
    // Not awaited, since a broken connection may never respond.
    reader.cancel().catch(() => undefined)
  }
}

export interface HubClientOptions {
  signal?: AbortSignal | undefined
  /** Called with the reason for a delay. */
  onWait?: ((reason: string) => void) | undefined
}

export class HubClient {
  readonly settings: HubSettings
  readonly #options: HubClientOptions

  constructor(settings: HubSettings, options: HubClientOptions = {}) {
    this.settings = settings
    this.#options = options
  }

  /** The commit of a branch, tag, or abbreviated commit. */
  async commitOf(repo: string, revision: string): Promise<string> {
    const { modelInfo } = await import('@huggingface/hub')
    const { sha } = await modelInfo({
      name: repo,
      revision,
      hubUrl: this.settings.endpoint,
      additionalFields: ['sha'],
      fetch: this.#fetchFor(repo, revision),
    })
    if (typeof sha !== 'string' || !isCommit(sha)) throw this.#badAnswer(repo, 'names no commit')
    return sha
  }

  async list(repo: string, commit: string): Promise<HubListing> {
    const { listFiles } = await import('@huggingface/hub')
    const { endpoint } = this.settings
    const files = []
    let listed = 0
    const entries = listFiles({
      repo: { type: 'model', name: repo },
      revision: commit,
      recursive: true,
      hubUrl: endpoint,
      fetch: this.#pagesFor(repo, commit),
    })
    for await (const entry of entries) {
      if (++listed > LISTED_LIMIT) throw this.#badAnswer(repo, `lists more than ${LISTED_LIMIT} files`)
      if (entry?.type !== 'file') continue
      files.push({
        path: String(entry.path),
        size: entry.lfs?.size ?? entry.size,
        hash: String(entry.lfs?.oid ?? entry.oid),
      })
    }
    return checkedListing(files)
  }

  /**
   * Requests a file's bytes starting at `start`.
   * @returns a response with status 200 (the whole file), 206, or 416; its body has not been read
   */
  async file(
    repo: string,
    commit: string,
    path: string,
    start: number,
    stop: AbortSignal,
  ): Promise<Response> {
    const name = path.split('/').map(encodeURIComponent).join('/')
    const url = new URL(`${this.settings.endpoint}/${repo}/resolve/${commit}/${name}`)
    // Sizes and ranges refer to the uncompressed file.
    const headers = new Headers({ 'accept-encoding': 'identity', accept: '*/*' })
    if (start > 0) headers.set('range', `bytes=${start}-`)
    const response = await this.#follow(url, headers, stop)
    if (response.ok || (response.status === 416 && start > 0)) return response
    throw await this.#refused(response, repo, commit, path)
  }

  /**
   * Waits before retrying, if a retry may help.
   * @param attempt number of consecutive failed attempts
   * @throws the error to report otherwise
   */
  async pause(error: unknown, attempt: number): Promise<void> {
    const { signal, onWait } = this.#options
    signal?.throwIfAborted()
    const known = error instanceof LowrankError || error instanceof Temporary
    const problem = known ? error : unreachable(this.settings.endpoint, error)
    if (!(problem instanceof Temporary)) throw problem
    if (attempt >= problem.attempts) throw problem.problem
    const ms = Math.min(Math.max(FIRST_PAUSE_MS * 2 ** (attempt - 1), problem.afterMs), LONGEST_PAUSE_MS)
    const [reason] = problem.message.split(/[.;] /, 1)
    onWait?.(`${reason}; trying again in ${(ms / 1000).toFixed(1)} s`)
    await sleep(ms, undefined, { signal }).catch(() => undefined)
    signal?.throwIfAborted()
  }

  /** `fetch` for the official client: complete responses of limited size. */
  #fetchFor(repo: string, revision: string): typeof fetch {
    return async (input) => {
      const url = new URL(String(input))
      // Each page of a listing contains the URL of the next one.
      if (url.origin !== new URL(this.settings.endpoint).origin)
        throw this.#badAnswer(repo, `points to ${url.origin}, another host`)
      return this.#retrying(async () => {
        const { signal, done } = this.#deadline()
        try {
          const response = await this.#follow(url, new Headers({ accept: 'application/json' }), signal)
          if (!response.ok) throw await this.#refused(response, repo, revision)
          const bytes = await this.#bounded(response, repo, signal)
          const { status, headers } = response
          JSON.parse(bytes.toString('utf8'))
          return new Response(bytes, { status, headers })
        } catch (error) {
          if (error instanceof SyntaxError) throw this.#badAnswer(repo, 'sent no JSON')
          throw error
        } finally {
          done()
        }
      })
    }
  }

  /** Detects loops, since each page of a listing names the next and a server could continue forever. */
  #pagesFor(repo: string, commit: string): typeof fetch {
    const fetchPage = this.#fetchFor(repo, commit)
    const seen = new Set<string>()
    return async (input) => {
      const url = String(input)
      if (seen.has(url)) throw this.#badAnswer(repo, 'lists the same page of files twice')
      if (seen.size === LISTED_PAGES)
        throw this.#badAnswer(repo, `lists more than ${LISTED_PAGES} pages of files`)
      seen.add(url)
      const page = await fetchPage(input)
      if (page.headers.has('link') && !(await page.clone().text()).includes('{'))
        throw this.#badAnswer(repo, 'lists a page without files, and another after it')
      return page
    }
  }

  async #bounded(response: Response, repo: string, stop: AbortSignal): Promise<Buffer> {
    const parts: Uint8Array[] = []
    let size = 0
    for await (const piece of pieces(response, stop)) {
      size += piece.length
      if (size > ANSWER_LIMIT) throw this.#badAnswer(repo, `sent more than ${ANSWER_LIMIT} bytes`)
      parts.push(piece)
    }
    return Buffer.concat(parts)
  }

  /** Follows redirects; the token is sent only to the endpoint. */
  async #follow(first: URL, headers: Headers, stop: AbortSignal): Promise<Response> {
    const { endpoint, token } = this.settings
    const home = new URL(endpoint)
    let url = first
    for (let hop = 0; hop <= REDIRECTS; hop++) {
      const sent = new Headers(headers)
      sent.set('user-agent', 'lowrank')
      if (token !== undefined && url.origin === home.origin) sent.set('authorization', `Bearer ${token}`)
      const request = fetch(url.href, { headers: sent, redirect: 'manual', signal: stop })
      const response = await orAborted(request, stop)
      const location = response.headers.get('location')
      if (response.status < 300 || response.status >= 400 || location === null) return response
      await response.body?.cancel()
      if (!URL.canParse(location, url.href)) throw this.#badAnswer(url.host, 'redirects to no address')
      const next = new URL(location, url)
      const worse = url.protocol === 'https:' && next.protocol !== 'https:'
      if (worse || !/^https?:$/.test(next.protocol))
        throw this.#badAnswer(url.host, `redirects to ${next.protocol}//${next.host}, which is not as safe`)
      url = next
    }
    throw this.#badAnswer(first.host, `redirects more than ${REDIRECTS} times`)
  }

  async #retrying<T>(work: () => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await work()
      } catch (error) {
        await this.pause(error, attempt)
      }
    }
  }

  #deadline(): { signal: AbortSignal; done: () => void } {
    const timer = new AbortController()
    const timeout = setTimeout(() => timer.abort(new Error('no answer')), this.settings.timeoutMs)
    const { signal } = this.#options
    const both = signal ? AbortSignal.any([signal, timer.signal]) : timer.signal
    return { signal: both, done: () => clearTimeout(timeout) }
  }

  #refused(response: Response, repo: string, revision: string, path?: string): Promise<HubError | Temporary> {
    const { endpoint, token } = this.settings
    return refusal(response, { endpoint, repo, revision, path, hasToken: token !== undefined })
  }

  #badAnswer(where: string, what: string): HubError {
    const { endpoint } = this.settings
    return new HubError(`${endpoint} ${what} (requested ${where}); is it the Hugging Face hub or a mirror?`, {
      reason: 'bad_answer',
      endpoint,
    })
  }
}
