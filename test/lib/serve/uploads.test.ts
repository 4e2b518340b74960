import { createHash } from 'node:crypto'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { APIError, type OpenAI, toFile } from 'openai'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { scratchFolder } from '../scratch.js'
import { type Asked, begun, ended, rowsOf, supervised, withConfig } from './service.js'

const data = join(scratchFolder(), 'data')
let asked: Asked
let client: OpenAI
const begin = async () => {
  asked = await begun(data)
  client = asked.client
}
beforeAll(begin)
afterAll(() => asked.service.close())

const text = rowsOf(30)
const pieces = [text.slice(0, 700), text.slice(700, 1500), text.slice(1500)]
const md5 = createHash('md5').update(text).digest('hex')
const create = (more: object = {}) =>
  client.uploads.create({
    ...{ bytes: text.length, filename: 'in-parts.jsonl', mime_type: 'text/jsonl', purpose: 'fine-tune' },
    ...more,
  })
const add = async (id: string, piece: string) =>
  (await client.uploads.parts.create(id, { data: await toFile(Buffer.from(piece), 'part') })).id
const refused = (call: PromiseLike<unknown>): Promise<APIError> =>
  Promise.resolve(call).then(
    () => expect.fail('the request was answered'),
    (error: unknown) => (error instanceof APIError ? error : expect.fail(String(error))),
  )

test('parts that came side by side are a file in the order that is given, and a job trains on it', async () => {
  const upload = await create()
  expect(upload).toMatchObject({ object: 'upload', status: 'pending', bytes: text.length, file: null })
  expect(upload.expires_at - upload.created_at).toBe(3600)
  const [third, second, first] = await Promise.all(
    [...pieces].reverse().map((piece) => add(upload.id, piece)),
  )
  const part_ids = [first, second, third] as string[]
  const done = await client.uploads.complete(upload.id, { part_ids, md5 })
  expect(done).toMatchObject({
    ...{ status: 'completed', id: upload.id },
    file: { filename: 'in-parts.jsonl', bytes: text.length, purpose: 'fine-tune', status: 'processed' },
  })
  const training_file = done.file?.id as string
  expect(await (await client.files.content(training_file)).text()).toBe(text)
  expect(readdirSync(join(data, 'uploads', upload.id))).toEqual(['record.json'])
  const method = supervised({ n_epochs: 1, batch_size: 8 })
  const { id } = await client.fineTuning.jobs.create(withConfig({ model: 'base', training_file, method }))
  expect((await ended(client, id)).status).toBe('succeeded')
  expect(await refused(client.uploads.complete(upload.id, { part_ids }))).toMatchObject({
    ...{ status: 400, code: 'invalid_state' },
  })
})

test('what is no whole upload is refused with what is wrong, and can be completed after', async () => {
  expect(await refused(create({ purpose: 'batch' }))).toMatchObject({ param: 'purpose' })
  expect(await refused(create({ bytes: 9e9 }))).toMatchObject({ param: 'bytes' })
  expect(await refused(create({ filename: undefined }))).toMatchObject({
    ...{ param: 'filename', code: 'missing_required_parameter' },
  })
  expect(await refused(create({ expires_after: { anchor: 'created_at', seconds: 3600 } }))).toMatchObject({
    ...{ param: 'expires_after', code: 'unsupported_parameter' },
  })
  expect(await refused(add('upload_x', 'a'))).toMatchObject({ status: 404 })
  const { id } = await create()
  const part_ids: string[] = []
  for (const piece of pieces) part_ids.push(await add(id, piece))
  const complete = (more: object) => refused(client.uploads.complete(id, { part_ids, ...more }))
  expect(await complete({ part_ids: [] })).toMatchObject({ param: 'part_ids' })
  const short = await complete({ part_ids: part_ids.slice(1) })
  expect(short).toMatchObject({ status: 400, param: 'part_ids' })
  expect(short.message).toContain(`${text.length - 700} bytes, and the upload has ${text.length}`)
  expect((await complete({ part_ids: [...part_ids, part_ids[0]] })).message).toContain('twice')
  for (const part of ['part_x', '../record.json', `part_${'a'.repeat(24)}`])
    expect(await complete({ part_ids: [part] })).toMatchObject({ param: 'part_ids[0]' })
  expect(await complete({ md5: 'f'.repeat(32) })).toMatchObject({ status: 400, param: 'md5' })
  expect(await complete({ md5: 'abc' })).toMatchObject({ param: 'md5' })
  // In another order the rows are no JSON.
  const mixed = await complete({ part_ids: [...part_ids].reverse() })
  expect(mixed).toMatchObject({ status: 400, param: 'file' })
  expect(mixed.message).toContain('in-parts.jsonl, line')
  expect((await client.uploads.complete(id, { part_ids, md5: md5.toUpperCase() })).status).toBe('completed')
  expect(asked.reports).toEqual([])
})

test('an upload that is cancelled or too old keeps nothing, also over a start of the server', async () => {
  const cancelled = await create()
  await add(cancelled.id, 'a')
  expect(await client.uploads.cancel(cancelled.id)).toMatchObject({ status: 'cancelled', file: null })
  expect(await refused(add(cancelled.id, 'a'))).toMatchObject({ code: 'invalid_state' })
  const [old, kept] = [await create(), await create()]
  await add(old.id, 'a')
  const part_ids: string[] = []
  for (const piece of pieces) part_ids.push(await add(kept.id, piece))
  const record = join(data, 'uploads', old.id, 'record.json')
  await asked.service.close()
  writeFileSync(record, readFileSync(record, 'utf8').replace(/"expires_at": \d+/, '"expires_at": 5'))
  await begin()
  expect(readdirSync(join(data, 'uploads', old.id))).toEqual(['record.json'])
  expect((await refused(add(old.id, 'a'))).message).toContain('expired')
  const { file } = await client.uploads.complete(kept.id, { part_ids, md5 })
  expect(file?.bytes).toBe(text.length)
})

test('a server that was killed while it completed an upload makes no second file', async () => {
  const { id } = await create()
  const part_ids: string[] = []
  for (const piece of pieces) part_ids.push(await add(id, piece))
  const { file } = await client.uploads.complete(id, { part_ids })
  const record = join(data, 'uploads', id, 'record.json')
  const files = (await client.files.list()).data.length
  await asked.service.close()
  // As it was when the file had been written, and the upload had not.
  writeFileSync(record, readFileSync(record, 'utf8').replace('"completed"', '"pending"'))
  await begin()
  expect((await client.uploads.complete(id, { part_ids })).file?.id).toBe(file?.id)
  expect((await client.files.list()).data).toHaveLength(files)
})
