/** A sequence of drawn requests: none is an error of the server, waits for ever, or changes what others get. */
import { request as httpRequest } from 'node:http'
import { join } from 'node:path'
import type OpenAI from 'openai'
import { toFile } from 'openai'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { loadModel } from '../../../../lib/model/load.js'
import { WHOLE } from '../../../sweep.js'
import { randomOf } from '../../grammar/schemas.js'
import { scratchFolder } from '../../scratch.js'
import { callingModel } from '../calling.js'
import { type Asked, BASE, begun, ended, rowsOf, supervised, upload, withConfig } from '../service.js'
import { type Drawn, drawnRequest, type Ids } from './requests.js'

const COUNT = Number(process.env.LOWRANK_FUZZED_REQUESTS ?? (WHOLE ? 10_000 : 300))
const SEED = Number(process.env.LOWRANK_FUZZ_SEED ?? 1)
/** Things are made anew after so many requests, which may have removed them. */
const RENEWED = 20
const SECONDS = 20
const EVENTS_MS = 2000

let asked: Asked
let client: OpenAI
let tuned: string
beforeAll(async () => {
  const models = new Map([
    ['base', await loadModel(BASE)],
    ['calling', await loadModel(callingModel())],
  ])
  asked = await begun(join(scratchFolder(), 'data'), { models })
  client = asked.client
  const method = supervised({ n_epochs: 1, batch_size: 4 })
  const training_file = await upload(client, rowsOf(4))
  const { id } = await client.fineTuning.jobs.create(withConfig({ model: 'base', training_file, method }))
  tuned = (await ended(client, id)).fine_tuned_model as string
})
afterAll(() => asked.service.close())

async function made(): Promise<Ids> {
  const { id: parts } = await client.uploads.create({
    ...{ bytes: 4, filename: 'a.jsonl', mime_type: 'text/jsonl', purpose: 'fine-tune' },
  })
  const file = await upload(client, rowsOf(4))
  const job = await client.fineTuning.jobs.create(withConfig({ model: 'base', training_file: file }))
  return {
    ...{ file, job: job.id, upload: parts, tuned },
    response: (await client.responses.create({ model: 'base', input: 'a', max_output_tokens: 16 })).id,
    part: (await client.uploads.parts.create(parts, { data: await toFile(Buffer.from('a'), 'part') })).id,
  }
}

interface Got {
  status: number
  type: string
  id: string | undefined
  text: string
}

function send({ method, path, headers, body, route }: Drawn): Promise<Got> {
  const { port, hostname } = new URL(asked.service.url)
  const given = { authorization: `Bearer ${asked.service.token}`, ...headers }
  const length =
    ['GET', 'HEAD', 'DELETE'].includes(method) && body.length === 0 ? {} : { 'content-length': body.length }
  return new Promise((resolve, reject) => {
    const sent = httpRequest(
      { port, hostname, method, path, headers: { ...given, ...length } },
      (response) => {
        let text = ''
        response.on('data', (bytes) => {
          text += bytes
        })
        const { 'content-type': type = '', 'x-request-id': id } = response.headers
        const done = () => {
          clearTimeout(late)
          resolve({ status: response.statusCode as number, type, id: id as string, text })
        }
        response.on('end', done)
        response.on('error', reject)
        // The events of a paused job have no end.
        if (route.endsWith('/events')) setTimeout(() => sent.destroy().on('close', done), EVENTS_MS).unref()
      },
    )
    const late = setTimeout(() => sent.destroy(new Error(`no whole answer for ${SECONDS} s`)), SECONDS * 1000)
    sent.on('error', reject)
    sent.end(body)
  })
}

/** What is wrong with an answer; undefined if nothing is. */
function faultOf({ method }: Drawn, { status, type, id, text }: Got): string | undefined {
  if (status >= 500) return 'an error of the server'
  if (text.includes('"server_error"')) return 'an error of the server in a stream'
  if (status < 400 || method === 'HEAD') return undefined
  if (!id?.startsWith('req_')) return 'no id'
  if (type !== 'application/json') return `an error of the type ${type}`
  const { error } = JSON.parse(text) as { error: Record<string, unknown> }
  const isText = (value: unknown) => typeof value === 'string' && value !== ''
  const isWhole =
    isText(error.message) &&
    isText(error.type) &&
    (error.code === null || isText(error.code)) &&
    (error.param === null || typeof error.param === 'string')
  return isWhole && Object.keys(error).length === 4 ? undefined : 'an error of another shape'
}

const answer = async () => {
  const messages = [{ role: 'user' as const, content: 'Say the number 7' }]
  const texts = ['base', tuned].map(async (model) => {
    const request = { model, messages, temperature: 0, max_tokens: 12 }
    return (await client.chat.completions.create(request)).choices[0]?.message.content
  })
  return Promise.all(texts)
}

test(`${COUNT} requests`, { timeout: COUNT * 200 + 60_000 }, async () => {
  const before = await answer()
  const random = randomOf(SEED)
  const statuses: Record<number, number> = {}
  let ids = await made()
  for (let at = 0; at < COUNT; at++) {
    if (at % RENEWED === 0) {
      await client.fineTuning.jobs.cancel(ids.job).catch(() => undefined)
      ids = await made()
    }
    const drawn = drawnRequest(random, ids)
    const told = () =>
      `request ${at} of seed ${SEED}: ${drawn.method} ${drawn.path.slice(0, 300)} ${JSON.stringify(drawn.headers)} ${drawn.body.toString().slice(0, 2000)}`
    const got = await send(drawn).catch((error: Error) => expect.fail(`${error.message}\n${told()}`))
    expect(
      faultOf(drawn, got),
      `${told()}\n${got.status} ${got.text.slice(0, 500)} ${asked.reports}`,
    ).toBeUndefined()
    statuses[got.status] = (statuses[got.status] ?? 0) + 1
    const { object, id } =
      got.text.startsWith('{"object":"fine_tuning.job"') || got.text.includes('"fine_tuning.job"')
        ? (JSON.parse(got.text) as { object: string; id: string })
        : { object: '', id: '' }
    if (object === 'fine_tuning.job' && id !== ids.job)
      await client.fineTuning.jobs.cancel(id).catch(() => undefined)
  }
  expect(await answer()).toEqual(before)
  expect(asked.reports).toEqual([])
  // Faults that all are met at the first check would find little.
  expect(statuses[200]).toBeGreaterThan(COUNT / 5)
  expect(statuses[400]).toBeGreaterThan(COUNT / 5)
})
