/**
 * The server of a live page: it serves the page, streams the run's log as server-sent events, and accepts actions on
 * the run. It listens on the loopback interface by default, and responds only to requests with the token in its URL.
 */
import { randomBytes } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import * as z from 'zod'
import { BusyError, LowrankError } from '../../core/errors.js'
import { listenError, urlHost } from '../../core/hosts.js'
import { fromSystem } from '../../core/system-error.js'
import type { RunControls } from './controls.js'
import { refusal } from './guard.js'
import { LogStream } from './log-stream.js'
import { ACTIONS, type AskLine, type RunStatus } from './protocol.js'

const MOST_BODY = 1 << 16
/** Interval for polling the log. */
const TICK_MS = 250
/** Interval for checking the run's status, in ticks. */
const STATUS_TICKS = 2
/** Questions that may wait or be answered at a time; a run answers one after another, between its steps. */
const MOST_QUESTIONS = 8

const actBody = z.strictObject({ action: z.enum(ACTIONS) })
const askBody = z.strictObject({ prompt: z.string().min(1).max(20_000) })

const HEADERS = {
  'Cache-Control': 'no-store',
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Referrer-Policy': 'no-referrer',
  'X-Content-Type-Options': 'nosniff',
}

/** Headers of a page. @param policy Content-Security-Policy, without `frame-ancestors` */
export function pageHeaders(policy: string): Record<string, string> {
  return {
    ...HEADERS,
    'Content-Type': 'text/html; charset=utf-8',
    'Content-Security-Policy': `${policy}; frame-ancestors 'none'`,
    'X-Frame-Options': 'DENY',
  }
}

/** A page with its content security policy. */
export interface ServedPage {
  html: string
  /** Content-Security-Policy, without `frame-ancestors`. */
  policy: string
}

export interface LiveOptions {
  /** The path of the run's log, once it exists. */
  log: () => string | undefined
  /** Creates the page for each request from the current log. */
  page: () => Promise<ServedPage>
  /** For a list of runs: creates the page of one of them; undefined for a name that is none. */
  run?: (name: string) => Promise<ServedPage | undefined>
  controls: RunControls
  /** Default 127.0.0.1. */
  host?: string
  /** Default 0: any free port. */
  port?: number
}

export interface LiveServer {
  /** Includes the token. */
  readonly url: string
  /** Sends the remaining log lines, then stops. */
  close(): Promise<void>
}

/** @throws {BusyError} when the port is in use; {ConfigError} when the address does not belong to this machine */
export async function serveLive(options: LiveOptions): Promise<LiveServer> {
  const { host = '127.0.0.1', port = 0 } = options
  const server = new Server(options, host)
  await server.listen(port)
  return server
}

class Server implements LiveServer {
  readonly #options: LiveOptions
  readonly #host: string
  readonly #token = randomBytes(18).toString('base64url')
  readonly #http = createServer((request, response) => this.#answer(request, response))
  readonly #streams = new Set<LogStream>()
  #timer: NodeJS.Timeout | undefined
  #ticks = 0
  #ticking = Promise.resolve()
  #status: RunStatus = { alive: true, reachable: false }
  #questions = 0

  constructor(options: LiveOptions, host: string) {
    this.#options = options
    this.#host = host
  }

  async listen(port: number): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#http.once('error', (error: NodeJS.ErrnoException) => reject(listenError(error, this.#host, port)))
      this.#http.listen(port, this.#host, resolve)
    })
  }

  get url(): string {
    const named = ['0.0.0.0', '::'].includes(this.#host) ? '127.0.0.1' : this.#host
    return `http://${urlHost(named)}:${this.#port}/?token=${this.#token}`
  }

  async close(): Promise<void> {
    clearInterval(this.#timer)
    await this.#ticking
    const log = this.#options.log()
    await Promise.all([...this.#streams].map((stream) => stream.end(log, this.#status)))
    await new Promise<void>((resolve) => {
      this.#http.close(() => resolve())
      this.#http.closeIdleConnections()
      // A client that does not read the rest must not keep the process alive.
      setTimeout(() => this.#http.closeAllConnections(), 500).unref()
    })
  }

  get #port(): number {
    return (this.#http.address() as AddressInfo).port
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    this.#route(request, response).catch((error: unknown) => {
      if (response.headersSent) response.destroy()
      else plain(response, ...failure(error))
    })
  }

  async #route(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method, headers } = request
    const url = addressOf(request.url)
    const server = { token: this.#token, port: this.#port, host: this.#host }
    const refused = refusal({ method, url, headers }, server)
    if (refused !== undefined) return plain(response, refused.status, refused.message)
    const { controls } = this.#options
    switch (`${method} ${url.pathname}`) {
      case 'GET /':
        return this.#page(response, await this.#options.page())
      case 'GET /run': {
        const served = await this.#options.run?.(url.searchParams.get('name') ?? '')
        return served === undefined
          ? plain(response, 404, 'There is no such run.')
          : this.#page(response, served)
      }
      case 'GET /events':
        return this.#stream(request, response, url)
      case 'GET /status':
        return json(response, await controls.status())
      case 'POST /act': {
        const { action } = await readBody(request, actBody)
        await controls.act(action)
        response.writeHead(204, HEADERS).end()
        return
      }
      case 'POST /ask':
        return this.#ask(request, response)
      default:
        return plain(response, 404, 'There is nothing here.')
    }
  }

  #page(response: ServerResponse, { html, policy }: ServedPage): void {
    response.writeHead(200, pageHeaders(policy))
    response.end(html)
  }

  async #stream(request: IncomingMessage, response: ServerResponse, url: URL): Promise<void> {
    response.writeHead(200, { ...HEADERS, 'Content-Type': 'text/event-stream' })
    const id = request.headers['last-event-id'] ?? url.searchParams.get('from') ?? undefined
    const stream = new LogStream(response, typeof id === 'string' ? id : undefined)
    this.#streams.add(stream)
    response.on('close', () => {
      this.#streams.delete(stream)
      if (this.#streams.size === 0) this.#rest()
    })
    this.#status = await this.#options.controls.status()
    await stream.look(this.#options.log(), this.#status)
    if (response.writableEnded) return
    this.#timer ??= setInterval(() => {
      this.#ticking = this.#tick()
    }, TICK_MS).unref()
  }

  /** Stops reading the log while no page is open. */
  #rest(): void {
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  async #tick(): Promise<void> {
    const { controls, log } = this.#options
    if (this.#ticks++ % STATUS_TICKS === 0) this.#status = await controls.status()
    await Promise.all([...this.#streams].map((stream) => stream.look(log(), this.#status)))
  }

  async #ask(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { prompt } = await readBody(request, askBody)
    if (this.#questions >= MOST_QUESTIONS)
      throw new BadRequest(429, `The run has ${MOST_QUESTIONS} questions to answer. Ask again in a while.`)
    this.#questions++
    try {
      await this.#reply(prompt, response)
    } finally {
      this.#questions--
    }
  }

  async #reply(prompt: string, response: ServerResponse): Promise<void> {
    const controller = new AbortController()
    response.on('close', () => controller.abort(new Error('nobody waits for the answer any longer')))
    const line = (event: AskLine) => void response.write(`${JSON.stringify(event)}\n`)
    response.writeHead(200, { ...HEADERS, 'Content-Type': 'application/x-ndjson' })
    response.flushHeaders()
    try {
      const { signal } = controller
      const onText = (text: string) => line({ event: 'text', text })
      const { step, finishReason } = await this.#options.controls.ask(prompt, { signal, onText })
      line({ event: 'answer', step, finish_reason: finishReason })
    } catch (error) {
      const { code = 'INTERNAL', message } = fromSystem(error) as Partial<LowrankError> & Error
      line({ event: 'error', code, message })
    }
    response.end()
  }
}

/** The path and the query of a request. Joined as text, since `//` would begin the name of a host. */
function addressOf(target = '/'): URL {
  return new URL(`http://127.0.0.1${target.startsWith('/') ? '' : '/'}${target}`)
}

async function readBody<T>(request: IncomingMessage, schema: z.ZodType<T>): Promise<T> {
  let text = ''
  for await (const piece of request.setEncoding('utf8')) {
    text += piece
    if (text.length > MOST_BODY) throw new BadRequest(413, 'The body is too long.')
  }
  const { success, data } = schema.safeParse(parsed(text))
  if (!success) throw new BadRequest(400, 'The body is not what this address expects.')
  return data
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

class BadRequest extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message)
  }
}

function failure(error: unknown): [status: number, message: string] {
  if (error instanceof BadRequest) return [error.status, error.message]
  if (error instanceof LowrankError) return [error instanceof BusyError ? 409 : 400, error.message]
  return [500, (error as Error).message]
}

function plain(response: ServerResponse, status: number, message: string): void {
  // Close the connection instead of reading the rest of the body.
  if (status === 413) response.setHeader('Connection', 'close')
  response.writeHead(status, { ...HEADERS, 'Content-Type': 'text/plain; charset=utf-8' }).end(`${message}\n`)
}

function json(response: ServerResponse, value: object): void {
  response.writeHead(200, { ...HEADERS, 'Content-Type': 'application/json' }).end(JSON.stringify(value))
}
