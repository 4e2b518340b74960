/** Starts and stops the service: its data folder, its models, its queue, and the HTTP server. */
import { randomBytes } from 'node:crypto'
import { mkdir, readFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { getRequestListener } from '@hono/node-server'
import { ConfigError } from '../core/errors.js'
import { isLoopback, listenError, publicHost, urlHost } from '../core/hosts.js'
import { once } from '../core/once.js'
import { quote } from '../core/quote.js'
import { PRIVATE, writeFileWhole } from '../io/atomic.js'
import type { Model } from '../model/model.js'
import { lockRun } from '../train/folders/run-lock.js'
import { Gate } from './answers.js'
import { appOf, outside } from './app.js'
import { Files } from './files.js'
import { frontUrl } from './front.js'
import { InProgress } from './in-progress.js'
import { Jobs, stateOf } from './jobs.js'
import type { Log } from './log.js'
import { Memory } from './memory.js'
import { Metrics } from './metrics.js'
import { Models, type TunedModel } from './models.js'
import { Trainer } from './trainer.js'
import { Uploads } from './uploads.js'

/** A shorter token could be guessed where others can try. */
const LEAST_TOKEN = 32
const TOKEN_BYTES = 32
const MOST_HEADER = 16 << 10
const HEADERS_MS = 10_000
const MOST_CONNECTIONS = 1024
/** Milliseconds that answers in progress may take after a stop. */
const STOP_MS = 10_000
/** The same for requests of other kinds, once answers have ended. */
const LAST_MS = 1000

export interface ServeOptions {
  /** Loaded models by the names that they are asked by. */
  models: ReadonlyMap<string, Model>
  /** Other names of models. */
  aliases?: ReadonlyMap<string, string>
  /** Folder of files and jobs. */
  data: string
  /** Default 127.0.0.1. */
  host?: string
  /** Default 0: any free port. */
  port?: number
  /** Most bytes that models and jobs may take together. Default: what is free now, or the memory of the card. */
  memory?: number
  /** Adapters that answer besides those of jobs. */
  tuned?: readonly TunedModel[]
  /** Default: the one of the data folder, which is made by its first server. */
  token?: string
  /** Names that a proxy before the server is reached by, without ports. */
  publicHosts?: readonly string[]
  /** Most milliseconds that answers in progress may take after a stop; default 10,000. */
  stopTimeout?: number
  /** Called with requests that are over, changes of jobs, and errors of the server. */
  log?: Log
}

export interface Service {
  /** The base URL for clients. */
  readonly url: string
  readonly token: string
  /** Address of the page, with the token in its fragment, which browsers send to nobody. */
  readonly page: string
  /**
   * Refuses new requests, waits for answers in progress or ends them after `stopTimeout`, saves a checkpoint of the job at
   * work, and frees the models.
   */
  close(): Promise<void>
}

/**
 * @throws {BusyError} when another server has the data folder, or another program the port; {ConfigError} for an address
 * that others can reach, without a token that cannot be guessed
 */
export async function serve(options: ServeOptions): Promise<Service> {
  const { host = '127.0.0.1', port = 0, data, log = () => undefined, stopTimeout = STOP_MS } = options
  await mkdir(data, { recursive: true, mode: 0o700 })
  const publicHosts = (options.publicHosts ?? []).map(knownHost)
  const token = options.token ?? (await ownToken(join(data, 'token')))
  checkToken(token, isLoopback(host) ? publicHosts[0] : host)
  const lock = await lockRun(data)
  let server: Server | undefined
  let trainer: Trainer | undefined
  try {
    const models = new Models(options.models, options.aliases ?? new Map())
    for (const tuned of options.tuned ?? []) models.add(tuned)
    const files = await Files.open(join(data, 'files'))
    const uploads = await Uploads.open(join(data, 'uploads'), files)
    const memory = new Memory(models, options.memory)
    models.room = (model) => memory.freeFor(model)
    const jobs = await Jobs.open(join(data, 'jobs'), files, models, memory)
    jobs.told = (job) => log({ event: 'job', id: job.id, status: stateOf(job) })
    const metrics = new Metrics()
    const address = { host, port, publicHosts }
    const inProgress = new InProgress()
    let stopping = false
    const app = appOf({
      ...{ models, files, uploads, jobs, memory, metrics, token, address, log },
      ...{ gate: new Gate(), inProgress },
      isReady: () => !stopping,
    })
    server = createServer(
      { maxHeaderSize: MOST_HEADER, headersTimeout: HEADERS_MS, requestTimeout: 0 },
      getRequestListener(app.fetch, { errorHandler: outside }),
    )
    server.maxConnections = MOST_CONNECTIONS
    await listening(server, host, port)
    address.port = (server.address() as AddressInfo).port
    trainer = new Trainer({ jobs, files, models, memory, metrics, log })
    const running = { server, trainer }
    const url = `http://${urlHost(['0.0.0.0', '::'].includes(host) ? '127.0.0.1' : host)}:${address.port}/v1`
    return {
      ...{ url, token, page: frontUrl(url, token) },
      close: once(async () => {
        stopping = true
        const begun = performance.now()
        await Promise.all([running.trainer.close().then(() => jobs.close()), inProgress.drained(stopTimeout)])
        await closed(running.server, Math.max(LAST_MS, stopTimeout + begun - performance.now()))
        await models.dispose()
        lock.release()
      }),
    }
  } catch (error) {
    await trainer?.close()
    server?.close()
    lock.release()
    throw error
  }
}

function knownHost(given: string): string {
  const name = publicHost(given)
  if (name !== undefined) return name
  throw new ConfigError(
    `${quote(given)} is no name of a host; expected one such as api.example.com, without https://, port, and path.`,
  )
}

/** @param open what others can reach the server by; undefined if they cannot */
function checkToken(token: string, open: string | undefined): void {
  if (token === '')
    throw new ConfigError(
      'the token of --token, --token-file, or LOWRANK_TOKEN is empty; give one, or none to have one made.',
    )
  if (!/^[!-~]+$/.test(token))
    throw new ConfigError(
      'the token has spaces, line breaks, or characters beyond ASCII, which no request can send; use letters and digits.',
    )
  if (open !== undefined && token.length < LEAST_TOKEN)
    throw new ConfigError(
      `the token has ${token.length} characters, and ${open} can be reached by others; use one of at least ${LEAST_TOKEN}, or none to have one made.`,
    )
}

/** A token that survives the server, so that clients need not be told another one. */
async function ownToken(path: string): Promise<string> {
  const found = (await readFile(path, 'utf8').catch(() => '')).trim()
  if (found.length >= LEAST_TOKEN) return found
  const made = `sk-${randomBytes(TOKEN_BYTES).toString('base64url')}`
  await writeFileWhole(path, `${made}\n`, PRIVATE)
  return made
}

function listening(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => reject(listenError(error, host, port)))
    server.listen(port, host, () => resolve())
  })
}

/** Closes the server, after so many milliseconds with the connections that are busy. */
function closed(server: Server, most: number): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve())
    server.closeIdleConnections()
    setTimeout(() => server.closeAllConnections(), most).unref()
  })
}
