/** Responses, by OpenAI's client and the default provider of the AI SDK. */
import { createOpenAI } from '@ai-sdk/openai'
import { ChatOpenAI } from '@langchain/openai'
import { generateText, Output, streamText } from 'ai'
import type OpenAI from 'openai'
import { zodTextFormat } from 'openai/helpers/zod'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import * as z from 'zod'
import { addon } from '../../../lib/native/addon.js'
import { scratchFolder } from '../scratch.js'
import { type Asked, begun } from './service.js'

let asked: Asked
let client: OpenAI
beforeAll(async () => {
  asked = await begun(scratchFolder())
  client = asked.client
})
afterAll(() => asked.service.close())

const input = 'Describe a small boat.'
const request = { model: 'base', input, temperature: 0, max_output_tokens: 12 }
const Boat = z.strictObject({ name: z.string().max(8), crew: z.int().min(1).max(9) })

/** The text of the same chat. */
async function chat(messages: OpenAI.Chat.ChatCompletionMessageParam[]): Promise<string> {
  const { choices } = await client.chat.completions.create({
    ...{ model: 'base', messages, temperature: 0, max_tokens: 12 },
  })
  return choices[0]?.message.content as string
}

describe("OpenAI's client", () => {
  test('gets the text of the same chat, whole or streamed', async () => {
    const text = await chat([
      { role: 'system', content: 'Be brief.' },
      { role: 'user', content: input },
    ])
    const given = { ...request, instructions: 'Be brief.', metadata: { a: 'b' } }
    const whole = await client.responses.create(given)
    expect(whole).toMatchObject({
      ...{ object: 'response', model: 'base', error: null, instructions: 'Be brief.', metadata: { a: 'b' } },
      output: [{ type: 'message', role: 'assistant', content: [{ type: 'output_text', annotations: [] }] }],
      ...{
        output_text: text,
        temperature: 0,
        top_p: 1,
        max_output_tokens: 12,
        text: { format: { type: 'text' } },
      },
      ...{ tool_choice: 'auto', tools: [], parallel_tool_calls: true, truncation: 'disabled', store: true },
    })
    const { input_tokens, output_tokens, total_tokens } = whole.usage as OpenAI.Responses.ResponseUsage
    expect(total_tokens).toBe(input_tokens + output_tokens)
    const stream = client.responses.stream(given)
    const events: OpenAI.Responses.ResponseStreamEvent[] = []
    for await (const event of stream) events.push(event)
    expect(events.map((event) => event.sequence_number)).toEqual(events.map((_, index) => index))
    const deltas = events.filter(({ type }) => type === 'response.output_text.delta')
    expect(deltas.length).toBeGreaterThan(2)
    expect(events.map(({ type }) => type).filter((type) => !type.endsWith('.delta'))).toEqual([
      ...['response.created', 'response.in_progress', 'response.output_item.added'],
      ...['response.content_part.added', 'response.output_text.done', 'response.content_part.done'],
      ...['response.output_item.done', `response.${whole.status}`],
    ])
    expect((await stream.finalResponse()).output_text).toBe(text)
  })

  test('is told that its limit has cut the answer', async () => {
    const cut = await client.responses.create({ ...request, max_output_tokens: 2 })
    expect(cut).toMatchObject({
      ...{ status: 'incomplete', incomplete_details: { reason: 'max_output_tokens' } },
      output: [{ status: 'incomplete' }],
      usage: { output_tokens: 2 },
    })
  })

  test('goes on from an answer before, by its id or with its items', async () => {
    const first = await client.responses.create({ ...request, instructions: 'Be brief.' })
    const text = await chat([
      { role: 'user', content: input },
      { role: 'assistant', content: first.output_text },
      { role: 'user', content: 'Why?' },
    ])
    const byId = { ...request, input: 'Why?', previous_response_id: first.id }
    const next = await client.responses.create(byId)
    expect(next.output_text).toBe(text)
    const user = (content: string) => ({ role: 'user' as const, content })
    const items = [user(input), ...(first.output as OpenAI.Responses.ResponseInputItem[]), user('Why?')]
    expect((await client.responses.create({ ...request, input: items })).output_text).toBe(text)
    const named = { type: 'item_reference' as const, id: first.output[0]?.id as string }
    const referred = [user(input), named, user('Why?')]
    expect((await client.responses.create({ ...request, input: referred })).output_text).toBe(text)

    expect(await client.responses.retrieve(first.id)).toMatchObject({ id: first.id, output: first.output })
    await client.responses.delete(first.id)
    await expect(client.responses.retrieve(first.id)).rejects.toMatchObject({ status: 404 })
    await expect(client.responses.create(byId)).rejects.toMatchObject({
      ...{ status: 400, code: 'previous_response_not_found', param: 'previous_response_id' },
    })
    const hidden = await client.responses.create({ ...request, store: false })
    await expect(client.responses.retrieve(hidden.id)).rejects.toMatchObject({ status: 404 })
  })

  test('parses an answer that follows its schema, and gets log-probabilities', async () => {
    const format = zodTextFormat(Boat, 'boat')
    const parsed = await client.responses.parse({
      ...{ model: 'base', input, temperature: 1, max_output_tokens: 200, text: { format } },
      include: ['message.output_text.logprobs'],
    })
    Boat.parse(parsed.output_parsed)
    const [message] = parsed.output
    const [part] = message?.type === 'message' ? message.content : []
    const logprobs = part?.type === 'output_text' ? (part.logprobs ?? []) : []
    expect(logprobs.map(({ token }) => token).join('')).toBe(parsed.output_text)
  })

  test('leaves a stream, which ends its answer', async () => {
    const held = () => addon().allocated().kv_cache
    const before = held()
    for (let reads = 1; reads < 5; reads++) {
      let read = 0
      const stream = await client.responses.create({ ...request, max_output_tokens: 900, stream: true })
      for await (const _ of stream) if (++read === reads) break
    }
    await expect.poll(held, { timeout: 5000 }).toBe(before)
  })

  test('is told what is wrong by the name of its key', async () => {
    const refused = (more: object) =>
      client.responses.create({ ...request, ...more } as never).then(
        () => expect.unreachable(),
        (error: unknown) => error,
      )
    const rows: [more: object, param: string][] = [
      [{ input: [{ role: 'robot', content: 'a' }] }, 'input[0].role'],
      [{ input: [{ type: 'function_call', name: 'a' }] }, 'input[0].call_id'],
      [{ input: [{ type: 'image_generation_call' }] }, 'input[0].type'],
      [{ input: [{ type: 'item_reference', id: 'msg_a' }] }, 'input[0].id'],
      [{ input: [{ role: 'user', content: [{ type: 'input_image' }] }] }, 'input[0].content'],
      [{ input: 'moon '.repeat(2000) }, 'input'],
      [{ tools: [{ type: 'web_search' }] }, 'tools[0].type'],
      [{ tools: [{ type: 'function', name: 'a' }] }, 'tools'],
      [{ background: true }, 'background'],
      [{ max_tokens: 3 }, 'max_tokens'],
      [{ logit_bias: { 1: 1 } }, 'logit_bias'],
      [{ text: { format: { type: 'json_schema', name: 'a', schema: { not: {} } } } }, 'text.format'],
      [{ truncation: 'auto' }, 'truncation'],
    ]
    for (const [more, param] of rows) expect(await refused(more)).toMatchObject({ status: 400, param })
    expect(await refused({ model: 'other' })).toMatchObject({ status: 404, code: 'model_not_found' })
  })
})

test('the default provider of the AI SDK gets texts, streams, and objects', async () => {
  const { url, token } = asked.service
  const model = createOpenAI({ baseURL: url, apiKey: token })('base')
  const text = await chat([{ role: 'user', content: input }])
  const given = { model, prompt: input, temperature: 0, maxOutputTokens: 12 }
  const { text: whole, usage } = await generateText(given)
  expect(whole).toBe(text)
  expect(usage.totalTokens).toBeGreaterThan(usage.outputTokens as number)
  expect(await streamText(given).text).toBe(text)
  const { output } = await generateText({
    ...{
      model,
      prompt: input,
      temperature: 1,
      maxOutputTokens: 200,
      output: Output.object({ schema: Boat }),
    },
  })
  Boat.parse(output)
})

test('LangChain.js gets a text by responses', async () => {
  const { url, token } = asked.service
  const model = new ChatOpenAI({
    ...{ model: 'base', apiKey: token, configuration: { baseURL: url }, useResponsesApi: true },
    ...{ temperature: 0, maxTokens: 12 },
  })
  const text = await chat([{ role: 'user', content: input }])
  expect((await model.invoke(input)).text).toBe(text)
})
