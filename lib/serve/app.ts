/** The routes of the service. Every request is checked first; every answer, also of an error, has an id. */
import { type HttpBindings, RequestError } from '@hono/node-server'
import { type Context, Hono } from 'hono'
import { routePath } from 'hono/route'
import { stream } from 'hono/streaming'
import { isRecord } from '../core/schema-shape.js'
import { type Answered, chat, completion } from './chat.js'
import type { Service } from './chat-request.js'
import { ApiError, asApiError, invalid } from './errors.js'
import { EXPOSITION_TYPE } from './exposition.js'
import type { Files } from './files.js'
import { frontPage } from './front.js'
import { runGrader, validateGrader } from './graders/routes.js'
import { type Guarded, guard } from './guard.js'
import { newId } from './ids.js'
import { GONE, type InProgress } from './in-progress.js'
import { type JobRecord, type Jobs, jobObject } from './jobs.js'
import type { Log } from './log.js'
import type { Memory } from './memory.js'
import type { Metrics } from './metrics.js'
import type { Models } from './models.js'
import { page } from './pages.js'
import { response } from './responses.js'
import { StoredResponses } from './stored-responses.js'
import type { Uploads } from './uploads.js'

const MOST_BODY = 8 << 20
const MOST_DEPTH = 64
const KEEP_ALIVE_MS = 15_000
const LISTED_JOBS = 20
const LISTED_EVENTS = 20
const LISTED_FILES = 10_000
const LISTED_CHECKPOINTS = 10

/** The parts of the service that the routes lead to. */
export interface Served extends Service, Guarded {
  models: Models
  metrics: Metrics
  files: Files
  uploads: Uploads
  jobs: Jobs
  memory: Memory
  inProgress: InProgress
  log: Log
}

export type Env = { Bindings: HttpBindings; Variables: { requestId: string; code: string | null } }

export function appOf(served: Served): Hono<Env> {
  const { files, uploads, jobs, models, metrics, inProgress, log } = served
  // Paths are decoded after they are split, since names of models may have slashes.
  const app = new Hono<Env>({ getPath: (request) => new URL(request.url).pathname })
  const job = (record: JobRecord) => jobObject(record, jobs.progress.get(record.id))

  app.use(async (context, next) => {
    const begun = performance.now()
    const id = newId('req_')
    context.set('requestId', id)
    const { outgoing } = context.env
    outgoing.once('close', () => {
      const seen = {
        ...{ method: context.req.method, route: routeOf(context) },
        status: outgoing.headersSent ? outgoing.statusCode : GONE,
        milliseconds: performance.now() - begun,
      }
      metrics.request(seen)
      log({ event: 'request', id, code: context.get('code') ?? null, ...seen })
    })
    guard(context, served)
    await next()
    const { headers } = context.res
    headers.set('x-request-id', id)
    headers.set('openai-version', '2020-10-01')
    if (!served.isReady()) headers.set('connection', 'close')
    headers.set('openai-processing-ms', String(Math.round(performance.now() - begun)))
  })
  app.onError((error, context) => {
    return refusal(toldError(context, error, log), context.get('requestId'))
  })
  app.notFound((context) => {
    const { method } = context.req
    const { pathname } = new URL(context.req.url)
    const message = `Unknown request URL: ${method} ${pathname}. ${gapOf(pathname)}`
    return refusal(
      toldError(context, new ApiError(404, message, 'unknown_url'), log),
      context.get('requestId'),
    )
  })

  app.get('/', () => frontPage())
  app.get('/health', (context) => context.json({ status: 'ok' }))
  app.get('/ready', (context) => {
    const ready = served.isReady()
    return context.json({ status: ready ? 'ok' : 'not ready' }, ready ? 200 : 503)
  })

  app.get('/metrics', (context) =>
    context.body(metrics.text(served), 200, { 'content-type': EXPOSITION_TYPE }),
  )

  app.get('/v1/models', (context) => context.json({ object: 'list', data: models.list }))
  app.get('/v1/models/:name', (context) => context.json(models.get(context.req.param('name'))))
  app.delete('/v1/models/:name', async (context) => {
    const id = context.req.param('name')
    await jobs.deleteModel(id)
    return context.json({ id, object: 'model', deleted: true })
  })

  app.post('/v1/files', async (context) =>
    context.json(await files.receive(context.env.incoming, context.env.incoming.headers)),
  )
  app.get('/v1/files', (context) => {
    const { order, purpose, ...query } = context.req.query()
    return context.json(page(files.list({ order, purpose }), query, LISTED_FILES))
  })
  app.get('/v1/files/:id', (context) => context.json(files.get(context.req.param('id'))))
  app.get('/v1/files/:id/content', (context) => {
    const { id, bytes, filename } = files.get(context.req.param('id'))
    context.header('content-type', 'application/octet-stream')
    context.header('content-length', String(bytes))
    context.header('x-content-type-options', 'nosniff')
    context.header('content-disposition', `attachment; filename*=UTF-8''${encodeURIComponent(filename)}`)
    return stream(context, async (out) => {
      for await (const bytes of files.content(id)) await out.write(bytes as Uint8Array)
    })
  })
  app.delete('/v1/files/:id', async (context) => {
    const id = context.req.param('id')
    await files.remove(id)
    return context.json({ id, object: 'file', deleted: true })
  })

  app.post('/v1/uploads', async (context) => context.json(await uploads.create(await bodyOf(context))))
  app.post('/v1/uploads/:id/parts', async (context) => {
    const { incoming } = context.env
    return context.json(await uploads.add(context.req.param('id'), incoming, incoming.headers))
  })
  app.post('/v1/uploads/:id/complete', async (context) =>
    context.json(await uploads.complete(context.req.param('id'), await bodyOf(context))),
  )
  app.post('/v1/uploads/:id/cancel', async (context) =>
    context.json(await uploads.cancel(context.req.param('id'))),
  )

  app.post('/v1/fine_tuning/jobs', async (context) =>
    context.json(job(await jobs.create(await bodyOf(context)))),
  )
  app.get('/v1/fine_tuning/jobs', (context) => {
    const list = page(jobs.all, context.req.query(), LISTED_JOBS)
    return context.json({ ...list, data: list.data.map(job) })
  })
  app.get('/v1/fine_tuning/jobs/:id', (context) => context.json(job(jobs.get(context.req.param('id')))))
  app.post('/v1/fine_tuning/jobs/:id/cancel', async (context) =>
    context.json(job(await jobs.cancel(context.req.param('id')))),
  )
  app.post('/v1/fine_tuning/jobs/:id/pause', async (context) =>
    context.json(job(await jobs.pause(context.req.param('id'), true))),
  )
  app.post('/v1/fine_tuning/jobs/:id/resume', async (context) =>
    context.json(job(await jobs.pause(context.req.param('id'), false))),
  )
  app.get('/v1/fine_tuning/jobs/:id/events', async (context) => {
    const id = context.req.param('id')
    const { stream = 'false', ...query } = context.req.query()
    if (!['true', 'false'].includes(stream))
      throw invalid('stream', `Invalid value for 'stream': expected true or false; got ${stream}.`)
    if (stream === 'false') return context.json(page(await jobs.events(id), query, LISTED_EVENTS))
    const events = await jobs.following(id, query.after, inProgress.begin(context.env.outgoing))
    return sent(context, { headers: {}, stream: events }, log)
  })
  app.get('/v1/fine_tuning/jobs/:id/checkpoints', (context) => {
    const { checkpoints } = jobs.get(context.req.param('id'))
    return context.json(page([...checkpoints].reverse(), context.req.query(), LISTED_CHECKPOINTS))
  })

  app.post('/v1/fine_tuning/alpha/graders/run', async (context) =>
    context.json(runGrader(await bodyOf(context))),
  )
  app.post('/v1/fine_tuning/alpha/graders/validate', async (context) =>
    context.json(validateGrader(await bodyOf(context))),
  )

  const responses = new StoredResponses()
  app.get('/v1/responses/:id', (context) => context.json(responses.get(context.req.param('id'))))
  app.delete('/v1/responses/:id', (context) => {
    const id = context.req.param('id')
    responses.remove(id)
    return context.json({ id, object: 'response', deleted: true })
  })
  const answering = { ...served, responses }

  for (const [path, route] of [
    ['/v1/chat/completions', chat],
    ['/v1/completions', completion],
    ['/v1/responses', response],
  ] as const)
    app.post(path, async (context) => {
      const gone = inProgress.begin(context.env.outgoing)
      return sent(context, await route(answering, await bodyOf(context), gone), log)
    })
  return app
}

/** The answer to an error, which the log has too. */
function toldError(context: Context<Env>, error: unknown, log: Log): ApiError {
  const api = asApiError(error)
  if (api.status >= 500 && api !== error) log({ event: 'failure', id: context.get('requestId'), error })
  context.set('code', api.code)
  return api
}

/** The pattern of the route that a request leads to. */
function routeOf(context: Context<Env>): string {
  const pattern = routePath(context, -1)
  return pattern === '/*' ? 'none' : pattern
}

function sent(context: Context<Env>, answered: Answered, log: Log): Response {
  const { headers, whole, stream: events, named = false } = answered
  for (const [name, value] of Object.entries(headers)) context.header(name, value)
  if (events === undefined) return context.json(whole ?? {})
  context.header('content-type', 'text/event-stream; charset=utf-8')
  context.header('cache-control', 'no-cache')
  context.header('x-accel-buffering', 'no')
  return stream(context, async (out) => {
    const alive = setInterval(() => void out.write(': keep-alive\n\n'), KEEP_ALIVE_MS)
    const write = (event: object) =>
      out.write(
        `${named ? `event: ${(event as { type: string }).type}\n` : ''}data: ${JSON.stringify(event)}\n\n`,
      )
    let count = 0
    try {
      for await (const event of events) {
        if (out.aborted) return
        await write(event)
        count++
      }
      if (!named) await out.write('data: [DONE]\n\n')
    } catch (error) {
      if (out.aborted) return
      const api = toldError(context, error, log)
      await write(named ? { ...api.body.error, type: 'error', sequence_number: count } : api.body)
    } finally {
      clearInterval(alive)
    }
  })
}

/** @throws {ApiError} for a body that is too large, too deep, or no JSON of an object */
async function bodyOf(context: Context<Env>): Promise<object> {
  const type = context.req.header('content-type') ?? ''
  if (!/^application\/json\b/i.test(type))
    throw new ApiError(415, 'Expected a body of the type application/json.', 'unsupported_media_type')
  const pieces: Uint8Array[] = []
  let bytes = 0
  for await (const piece of context.env.incoming) {
    bytes += (piece as Uint8Array).length
    if (bytes > MOST_BODY)
      throw new ApiError(413, `The body is larger than ${MOST_BODY} bytes.`, 'request_too_large', null, {
        connection: 'close',
      })
    pieces.push(piece as Uint8Array)
  }
  const text = Buffer.concat(pieces).toString('utf8')
  if (depthOf(text) > MOST_DEPTH)
    throw new ApiError(400, `The JSON is nested deeper than ${MOST_DEPTH} levels.`, 'invalid_body')
  const body = parsed(text)
  if (!isRecord(body)) throw invalid('body', 'Expected a JSON object.', 'invalid_body')
  return body
}

function parsed(json: string): unknown {
  try {
    return JSON.parse(json)
  } catch (error) {
    throw new ApiError(
      400,
      `We could not parse the JSON body of your request: ${(error as Error).message}.`,
      'invalid_body',
    )
  }
}

/** Depth of brackets outside of strings. */
function depthOf(json: string): number {
  let depth = 0
  let most = 0
  for (const [bracket] of json.matchAll(/"(?:[^"\\]|\\.)*"|[[{]|[\]}]/g)) {
    if (bracket === '[' || bracket === '{') most = Math.max(most, ++depth)
    else if (bracket === ']' || bracket === '}') depth--
  }
  return most
}

function refusal(error: ApiError, requestId: string): Response {
  const { status, headers, body } = error
  const definite = status < 500 && status !== 429
  return new Response(JSON.stringify(body), {
    status,
    headers: {
      'content-type': 'application/json',
      'x-request-id': requestId,
      'openai-version': '2020-10-01',
      ...(definite || error.code === 'insufficient_storage' ? { 'x-should-retry': 'false' } : {}),
      ...headers,
    },
  })
}

/** The answer to what fails outside of all routes, such as a request to a host that is no name. */
export function outside(error: unknown): Response {
  const isUnreadable = error instanceof RequestError
  const told = isUnreadable ? new ApiError(400, 'The host or the path of the request is malformed.') : error
  return refusal(asApiError(told), newId('req_'))
}

/** Advice on a route that does not exist, for those that people try. */
function gapOf(path: string): string {
  if (path.startsWith('/v1/embeddings')) return 'This server makes no embeddings.'
  if (path.startsWith('/openai/')) return "Set the client's base URL to this server's /v1."
  return 'See the documentation of lowrank serve for the routes.'
}
