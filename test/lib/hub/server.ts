/**
 * A small Hugging Face hub on loopback, with the addresses, headers and redirects of the real one: large files lie on
 * another host (another port here) that must not see the token. Tests make it fail in all the ways that networks do.
 */
import { createHash } from 'node:crypto'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll } from 'vitest'

export interface Repo {
  /** Files by commit. */
  commits: Record<string, Record<string, Uint8Array | string>>
  refs: Record<string, string>
  /** Accepted tokens for files, of a gated one; the listing is open. */
  gatedFor?: string[]
  /** Accepted tokens for anything, of a private one. */
  privateFor?: string[]
}

export interface Seen {
  host: 'hub' | 'cdn'
  method: string
  path: string
  range: string | undefined
  authorization: string | undefined
}

/** Fault of one response. */
export type Fault =
  | { status: number; headers?: Record<string, string> }
  /** Ends the connection after so many bytes of the body. */
  | { cutAfter: number }
  /** Sends so many bytes of the body and then nothing. */
  | { stallAfter: number }
  /** Answers as if nothing had been said of a range. */
  | { ignoreRange: true }
  | { body: Uint8Array; headers?: Record<string, string> }
  | { redirect: string }

const LARGE = /\.(safetensors|gguf)$/

export const sha256 = (data: Uint8Array | string) => createHash('sha256').update(data).digest('hex')
export const gitHash = (data: Uint8Array | string) =>
  createHash('sha1')
    .update(`blob ${Buffer.byteLength(data)}\0`)
    .update(data)
    .digest('hex')

export class FakeHub {
  readonly repos: Record<string, Repo> = {}
  readonly seen: Seen[] = []
  /** Called for every request; what it returns happens instead of the answer. */
  fault: (seen: Seen) => Fault | undefined = () => undefined
  /** Changes the entries of a listing. */
  tamper: (entry: Record<string, unknown>) => Record<string, unknown> = (entry) => entry
  /** Entries on one page of a listing. */
  pageSize = 1000
  readonly #hub: Server
  readonly #cdn: Server

  private constructor() {
    this.#hub = createServer((request, response) => this.#answer('hub', request, response))
    this.#cdn = createServer((request, response) => this.#answer('cdn', request, response))
  }

  static async start(): Promise<FakeHub> {
    const hub = new FakeHub()
    for (const server of [hub.#hub, hub.#cdn])
      await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
    return hub
  }

  async stop(): Promise<void> {
    for (const server of [this.#hub, this.#cdn]) {
      server.closeAllConnections()
      await new Promise((done) => server.close(done))
    }
  }

  get endpoint(): string {
    return `http://127.0.0.1:${(this.#hub.address() as AddressInfo).port}`
  }

  get cdn(): string {
    return `http://127.0.0.1:${(this.#cdn.address() as AddressInfo).port}`
  }

  /** Publishes files as the one commit of a repository, and `main`. @returns the commit */
  add(id: string, files: Record<string, Uint8Array | string>, more: Partial<Repo> = {}): string {
    const commit = createHash('sha1')
      .update(JSON.stringify([id, Object.keys(files)]))
      .digest('hex')
    this.repos[id] = { commits: { [commit]: files }, refs: { main: commit }, ...more }
    return commit
  }

  /** Paths that were asked for, without what was asked of the CDN. */
  get asked(): string[] {
    return this.seen.filter(({ host }) => host === 'hub').map(({ path }) => path)
  }

  #answer(host: Seen['host'], request: IncomingMessage, response: ServerResponse): unknown {
    const { range, authorization } = request.headers
    const path = decodeURIComponent(request.url ?? '/').replace(/\?.*/s, '')
    const seen = { host, method: request.method ?? '', path, range, authorization }
    this.seen.push(seen)
    const fault = this.fault(seen)
    if (fault !== undefined && 'status' in fault) return response.writeHead(fault.status, fault.headers).end()
    if (fault !== undefined && 'redirect' in fault)
      return response.writeHead(302, { location: fault.redirect }).end()
    if (fault !== undefined && 'body' in fault) return response.writeHead(200, fault.headers).end(fault.body)
    if (host === 'cdn') return this.#content(path.slice(1), request, response, fault)
    const url = new URL(request.url ?? '/', this.endpoint)
    const [, api, id = '', kind, rest = ''] =
      /^\/(api\/models\/)?([^/]+\/[^/]+)\/(revision|tree|resolve)\/(.+)$/.exec(
        decodeURIComponent(url.pathname),
      ) ?? []
    const repo = Object.hasOwn(this.repos, id) ? this.repos[id] : undefined
    const token = authorization?.replace('Bearer ', '')
    const refuse = (status: number, code: string) =>
      response.writeHead(status, { 'x-error-code': code, 'x-error-message': `words about ${code}` }).end('{}')
    if (!repo || (repo.privateFor && !repo.privateFor.includes(token ?? '')))
      return refuse(token === undefined ? 401 : 404, 'RepoNotFound')
    const json = (value: unknown, headers: Record<string, string> = {}) =>
      response.writeHead(200, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(value))
    if (api !== undefined && kind === 'revision') {
      const commit = repo.refs[rest] ?? (rest in repo.commits ? rest : undefined)
      return commit === undefined
        ? refuse(404, 'RevisionNotFound')
        : json({ id, sha: commit, lastModified: '2026-01-01' })
    }
    if (api !== undefined && kind === 'tree') {
      const files = repo.commits[rest]
      return files === undefined ? refuse(404, 'RevisionNotFound') : this.#tree(url, files, json)
    }
    const [name = '', ...parts] = rest.split('/')
    const commit = repo.refs[name] ?? name
    const content = repo.commits[commit]?.[parts.join('/')]
    if (repo.gatedFor && !repo.gatedFor.includes(token ?? ''))
      return refuse(token === undefined ? 401 : 403, 'GatedRepo')
    if (content === undefined) return refuse(404, 'EntryNotFound')
    const common = { 'x-repo-commit': commit }
    if (LARGE.test(rest)) {
      const hash = sha256(content)
      const linked = { 'x-linked-size': String(Buffer.byteLength(content)), 'x-linked-etag': `"${hash}"` }
      return response.writeHead(302, { ...common, ...linked, location: `${this.cdn}/${hash}` }).end()
    }
    if (!url.searchParams.has('cached'))
      return response.writeHead(307, { ...common, location: `${url.pathname}?cached` }).end()
    this.#send(content, { ...common, etag: `"${gitHash(content)}"` }, request, response, fault)
  }

  #tree(
    url: URL,
    files: Record<string, Uint8Array | string>,
    json: (value: unknown, headers?: Record<string, string>) => unknown,
  ): unknown {
    const entries = Object.entries(files).map(([path, data]) => {
      const size = Buffer.byteLength(data)
      const lfs = LARGE.test(path) ? { lfs: { oid: sha256(data), size, pointerSize: 134 } } : {}
      return this.tamper({ type: 'file', path, size, oid: gitHash(data), ...lfs })
    })
    const from = Number(url.searchParams.get('cursor') ?? 0)
    const next = from + this.pageSize
    url.searchParams.set('cursor', String(next))
    return json(entries.slice(from, next), next < entries.length ? { link: `<${url.href}>; rel="next"` } : {})
  }

  #content(
    hash: string,
    request: IncomingMessage,
    response: ServerResponse,
    fault: Fault | undefined,
  ): unknown {
    const all = Object.values(this.repos).flatMap(({ commits }) =>
      Object.values(commits).flatMap(Object.values),
    )
    const content = all.find((data) => sha256(data) === hash)
    if (content === undefined) return response.writeHead(404).end()
    this.#send(content, { etag: `"${hash}"` }, request, response, fault)
  }

  #send(
    content: Uint8Array | string,
    headers: Record<string, string>,
    { method, headers: { range } }: IncomingMessage,
    response: ServerResponse,
    fault: Fault | undefined,
  ): unknown {
    const data = Buffer.from(content)
    const [, from] = /^bytes=(\d+)-/.exec(range ?? '') ?? []
    const start = from === undefined || (fault && 'ignoreRange' in fault) ? undefined : Number(from)
    if (start !== undefined && start >= data.length) return response.writeHead(416).end()
    const body = data.subarray(start ?? 0)
    const partial = { 'content-range': `bytes ${start}-${data.length - 1}/${data.length}` }
    const length = { 'content-length': String(body.length), 'accept-ranges': 'bytes' }
    response.writeHead(start === undefined ? 200 : 206, {
      ...headers,
      ...length,
      ...(start === undefined ? {} : partial),
    })
    if (method === 'HEAD') return response.end()
    const most =
      fault && 'cutAfter' in fault
        ? fault.cutAfter
        : fault && 'stallAfter' in fault
          ? fault.stallAfter
          : undefined
    if (most === undefined || most >= body.length) return response.end(body)
    response.write(body.subarray(0, most), () => {
      // The written bytes are sent before the connection closes.
      if (fault && 'cutAfter' in fault) setTimeout(() => response.destroy(), 20)
    })
  }
}

/** A hub of its own, stopped when the test file is done. */
export async function fakeHub(): Promise<FakeHub> {
  const hub = await FakeHub.start()
  afterAll(() => hub.stop())
  return hub
}
