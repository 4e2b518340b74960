/** Tools, by OpenAI's client, the AI SDK, and LangChain.js, of a model that was trained on calls by a job. */
import { join } from 'node:path'
import { createOpenAI } from '@ai-sdk/openai'
import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { tool as langchainTool } from '@langchain/core/tools'
import { ChatOpenAI } from '@langchain/openai'
import { generateText, stepCountIs, streamText, tool } from 'ai'
import type OpenAI from 'openai'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import * as z from 'zod'
import { loadModel } from '../../../lib/model/load.js'
import { scratchFolder } from '../scratch.js'
import { both, called, callingModel, callingRows, question, result, second, tools } from './calling.js'
import { type Asked, BASE, begun, ended, supervised, upload, withConfig } from './service.js'

let asked: Asked
let client: OpenAI
let model: string
beforeAll(async () => {
  asked = await begun(join(scratchFolder(), 'tools-data'), {
    models: new Map([
      ['base', await loadModel(BASE)],
      ['calling', await loadModel(callingModel())],
    ]),
  })
  client = asked.client
  const job = await client.fineTuning.jobs.create(
    withConfig(
      {
        ...{ model: 'calling', training_file: await upload(client, callingRows()), seed: 1 },
        method: supervised({ n_epochs: 10, batch_size: 4, learning_rate_multiplier: 10 }),
      },
      { strategy: { name: 'lora', r: 8, modules_to_save: ['embed_tokens', 'lm_head'] }, max_seq_length: 128 },
    ),
  )
  const { status, error, fine_tuned_model } = await ended(client, job.id)
  expect(error).toBeNull()
  expect(status).toBe('succeeded')
  model = fine_tuned_model as string
}, 120_000)
afterAll(() => asked.service.close())

const ask = () => ({ model, messages: [question], tools, temperature: 0, max_tokens: 64 })
const CALL = { type: 'function', function: { name: 'weather', arguments: '{"town":"Bonn"}' } }

describe("OpenAI's client", () => {
  test('gets the call that the model was trained on, whole or streamed', async () => {
    const { choices, usage } = await client.chat.completions.create(ask())
    expect(choices).toMatchObject([
      { finish_reason: 'tool_calls', message: { role: 'assistant', content: null, tool_calls: [CALL] } },
    ])
    expect(usage?.completion_tokens).toBeGreaterThan(4)
    const chunks: OpenAI.Chat.ChatCompletionChunk[] = []
    for await (const chunk of await client.chat.completions.create({ ...ask(), stream: true }))
      chunks.push(chunk)
    const deltas = chunks.map((chunk) => chunk.choices[0]?.delta)
    expect(deltas).toMatchObject([
      { role: 'assistant', content: null },
      {
        tool_calls: [
          {
            index: 0,
            id: expect.stringMatching(/^call_/),
            ...CALL,
            function: { name: 'weather', arguments: '' },
          },
        ],
      },
      { tool_calls: [{ index: 0, function: { arguments: CALL.function.arguments } }] },
      {},
    ])
    expect(chunks.map((chunk) => chunk.choices[0]?.finish_reason)).toEqual([null, null, null, 'tool_calls'])
  })

  test('gets several calls after a text, and one where it wants no more', async () => {
    const request = { ...ask(), messages: [both], max_tokens: 120 }
    const { choices } = await client.chat.completions.create(request)
    const calls = [CALL, { type: 'function', function: second.function }]
    expect(choices).toMatchObject([
      { finish_reason: 'tool_calls', message: { content: 'I ask.', tool_calls: calls } },
    ])
    const runner = client.chat.completions.stream(request)
    expect((await runner.finalMessage()).tool_calls).toMatchObject(calls)
    const one = await client.chat.completions.create({ ...request, parallel_tool_calls: false })
    expect(one.choices).toMatchObject([{ finish_reason: 'tool_calls', message: { content: 'I ask.' } }])
    expect(one.choices[0]?.message.tool_calls).toMatchObject([CALL])
    expect(one.usage?.completion_tokens).toBeGreaterThan(4)
  })

  test('runs the function and asks again by its own helper', async () => {
    const towns: string[] = []
    const runner = client.chat.completions.runTools({
      ...ask(),
      tools: [
        {
          type: 'function',
          function: {
            ...{ name: 'weather', description: 'The weather of a town' },
            parameters: tools[0]?.function.parameters as object,
            parse: (text: string) => JSON.parse(text) as { town: string },
            function: ({ town }: { town: string }) => {
              towns.push(town)
              return 'rain'
            },
          },
        },
      ],
    })
    expect(await runner.finalContent()).toBe('Yes, rain.')
    expect(towns).toEqual(['Bonn'])
  })

  test('takes back a call whose content is empty, null, or absent', async () => {
    const texts: unknown[] = []
    for (const content of ['', null, undefined]) {
      const messages = [question, { ...called, content }, result] as OpenAI.Chat.ChatCompletionMessageParam[]
      const { choices } = await client.chat.completions.create({ ...ask(), messages })
      texts.push(choices[0]?.message.content)
    }
    expect(texts).toEqual(Array(3).fill('Yes, rain.'))
  })

  test('has no tools where it chooses none', async () => {
    const { choices } = await client.chat.completions.create({ ...ask(), tool_choice: 'none' })
    expect(choices[0]?.message).not.toHaveProperty('tool_calls')
    const none = { model, messages: [question], temperature: 0, max_tokens: 64 }
    const without = await client.chat.completions.create(none)
    expect(choices[0]?.message).toEqual(without.choices[0]?.message)
    const empty = await client.chat.completions.create({ ...none, tools: [] })
    expect(empty.choices[0]?.message).toEqual(without.choices[0]?.message)
  })

  test('gets a call where it requires one, of the tools and parameters that there are', async () => {
    const parameters = {
      type: 'object',
      properties: { a: { type: 'integer', minimum: 3, maximum: 99 }, b: { enum: ['x', 'y'] } },
      required: ['a', 'b'],
      additionalProperties: false,
    }
    const add = { type: 'function' as const, function: { name: 'add', parameters } }
    const request = { ...ask(), tools: [add, ...tools], temperature: 1.5, max_tokens: 200 }
    const question = [{ role: 'user' as const, content: 'Describe a small boat.' }]
    const called: string[] = []
    for (let seed = 0; seed < 6; seed++) {
      const { choices } = await client.chat.completions.create({
        ...{ ...request, messages: question, seed, tool_choice: 'required' },
      })
      const [{ finish_reason, message } = expect.unreachable()] = choices
      const [call, ...more] = message.tool_calls ?? []
      if (finish_reason === 'length' || call?.type !== 'function') continue
      expect({ finish_reason, more, content: message.content }).toEqual({
        ...{ finish_reason: 'tool_calls', more: [], content: null },
      })
      called.push(call.function.name)
      const given = JSON.parse(call.function.arguments) as { a: number; b: string; town: string }
      if (call.function.name === 'weather') expect(given.town).toBeTypeOf('string')
      else {
        expect([given.a >= 3 && given.a <= 99, ['x', 'y'].includes(given.b)]).toEqual([true, true])
        expect(Object.keys(given)).toEqual(['a', 'b'])
      }
    }
    expect(called.length).toBeGreaterThan(0)
    const { choices } = await client.chat.completions.create({
      ...{ ...request, messages: question, seed: 7 },
      tool_choice: { type: 'function', function: { name: 'add' } },
    })
    expect(choices).toMatchObject([
      { finish_reason: 'stop', message: { tool_calls: [{ function: { name: 'add' } }] } },
    ])
  })

  test('gets a call, or what follows its format', async () => {
    const schema = { type: 'object', properties: { rain: { type: 'boolean' } }, required: ['rain'] }
    const response_format = { type: 'json_schema' as const, json_schema: { name: 'rain', schema } }
    const first = await client.chat.completions.create({ ...ask(), response_format })
    expect(first.choices).toMatchObject([
      { finish_reason: 'tool_calls', message: { content: null, tool_calls: [CALL] } },
    ])
    const kinds = new Set<string>()
    for (let seed = 0; seed < 16; seed++) {
      const { choices } = await client.chat.completions.create({
        ...{ ...ask(), messages: [{ role: 'user', content: 'Describe a small boat.' }], response_format },
        ...{ temperature: 2, seed, max_tokens: 200 },
      })
      const [{ finish_reason, message } = expect.unreachable()] = choices
      if (finish_reason === 'length') continue
      kinds.add(finish_reason)
      const [call, ...more] = message.tool_calls ?? []
      if (finish_reason === 'stop') {
        expect(JSON.parse(message.content as string)).toEqual({ rain: expect.any(Boolean) })
      } else
        expect([call?.type === 'function' && JSON.parse(call.function.arguments), more]).toEqual([
          { town: expect.any(String) },
          [],
        ])
    }
    expect([...kinds].sort()).toEqual(['stop', 'tool_calls'])
    const item = await client.responses.create({
      ...{ model, input: question.content, temperature: 0 },
      tools: tools.map(({ type, function: described }) => ({ type, ...described })) as never,
      text: { format: { type: 'json_schema', name: 'rain', schema } },
    })
    expect(item.output).toMatchObject([{ type: 'function_call', arguments: '{"town":"Bonn"}' }])
  })

  test('is told what a model or the server cannot do with tools', async () => {
    const refused = (more: object) =>
      client.chat.completions.create({ ...ask(), ...more } as never).then(
        () => expect.unreachable(),
        (error: unknown) => error,
      )
    expect(await refused({ model: 'base' })).toMatchObject({ status: 400, param: 'tools' })
    const named = (name: string) => ({ type: 'function', function: { name } })
    for (const tool_choice of ['any', named('other'), { type: 'custom', custom: { name: 'weather' } }])
      expect(await refused({ tool_choice })).toMatchObject({ status: 400, param: 'tool_choice' })
    expect(await refused({ tool_choice: 'required', tools: [] })).toMatchObject({
      ...{ status: 400, param: 'tool_choice' },
    })
    const parameters = { type: 'object', properties: { a: { not: {} } } }
    const odd = [{ type: 'function', function: { name: 'odd', parameters } }]
    expect(await refused({ tool_choice: 'required', tools: odd })).toMatchObject({
      ...{ status: 400, param: 'tools', code: 'invalid_json_schema' },
    })
    expect(await refused({ tools: [...tools, ...tools] })).toMatchObject({
      status: 400,
      param: 'tools[1].function.name',
    })
    expect(await refused({ tools: [{ type: 'web_search' }] })).toMatchObject({ status: 400 })
    const json_schema = { name: 'odd', schema: parameters }
    expect(await refused({ response_format: { type: 'json_schema', json_schema } })).toMatchObject({
      ...{ status: 400, param: 'response_format', code: 'invalid_json_schema' },
    })
    expect(await refused({ messages: [question, called, { role: 'tool', content: 'a' }] })).toMatchObject({
      ...{ status: 400, param: 'messages[2].tool_call_id' },
    })
  })
})

describe('responses', () => {
  const request = () => ({
    ...{ model, temperature: 0, max_output_tokens: 64 },
    tools: tools.map(({ type, function: described }) => ({ type, strict: null, ...described })) as never,
  })

  test('have calls, whose results go on from them', async () => {
    const first = await client.responses.create({ ...request(), input: question.content })
    const [call, ...more] = first.output
    expect(more).toEqual([])
    const told = { type: 'function_call', name: 'weather', arguments: '{"town":"Bonn"}', status: 'completed' }
    expect(call).toMatchObject(told)
    const { call_id } = call as OpenAI.Responses.ResponseFunctionToolCall
    const output = { type: 'function_call_output' as const, call_id, output: 'rain' }
    const byId = { ...request(), previous_response_id: first.id, input: [output] }
    expect((await client.responses.create(byId)).output_text).toBe('Yes, rain.')
    const { role, content } = question
    const items = { ...request(), input: [{ role, content }, call as never, output] }
    expect((await client.responses.create(items)).output_text).toBe('Yes, rain.')
  })

  test('stream a text and calls', async () => {
    const stream = client.responses.stream({ ...request(), input: both.content, max_output_tokens: 120 })
    const { output } = await stream.finalResponse()
    expect(output).toMatchObject([
      { type: 'message', content: [{ text: 'I ask.' }] },
      { type: 'function_call', arguments: '{"town":"Bonn"}' },
      { type: 'function_call', arguments: '{"town":"Ulm"}' },
    ])
  })

  test('run the function and ask again by the default provider of the AI SDK', async () => {
    const weather = tool({ description: 'The weather', inputSchema: Town, execute: () => 'rain' })
    const provider = createOpenAI({ baseURL: asked.service.url, apiKey: asked.service.token })
    const given = {
      ...{ model: provider(model), prompt: question.content, temperature: 0 },
      ...{ tools: { weather }, stopWhen: stepCountIs(3) },
    }
    expect((await generateText(given)).text).toBe('Yes, rain.')
    expect(await streamText(given).text).toBe('Yes, rain.')
  })
})

const Town = z.object({ town: z.string().max(12) })

describe('the AI SDK', () => {
  const parts = () => {
    const provider = createOpenAICompatible({
      ...{ name: 'lowrank', baseURL: asked.service.url, apiKey: asked.service.token },
      ...{ supportsStructuredOutputs: true },
    })
    const weather = tool({ description: 'The weather', inputSchema: Town, execute: () => 'rain' })
    return { model: provider(model), tools: { weather }, prompt: question.content, temperature: 0 }
  }

  test('runs the function and asks again, whole or streamed', async () => {
    const request = { ...parts(), stopWhen: stepCountIs(3) }
    const { text, steps } = await generateText(request)
    expect(text).toBe('Yes, rain.')
    expect(steps.map(({ finishReason }) => finishReason)).toEqual(['tool-calls', 'stop'])
    expect(steps[0]?.toolCalls).toMatchObject([{ toolName: 'weather', input: { town: 'Bonn' } }])
    expect(await streamText(request).text).toBe('Yes, rain.')
  })

  test('gets a call where it requires one', async () => {
    const request = { ...parts(), prompt: 'Describe a small boat.', maxOutputTokens: 200 }
    for (const toolChoice of ['required', { type: 'tool', toolName: 'weather' }] as const) {
      const { toolCalls } = await generateText({ ...request, toolChoice })
      expect(toolCalls).toMatchObject([{ toolName: 'weather', input: { town: expect.any(String) } }])
    }
  })
})

test('LangChain.js binds a function, runs it, asks again, and reads a structured answer', async () => {
  const { url, token } = asked.service
  const chat = new ChatOpenAI({ model, apiKey: token, configuration: { baseURL: url }, temperature: 0 })
  const weather = langchainTool(() => 'rain', { name: 'weather', description: 'The weather', schema: Town })
  const bound = chat.bindTools([weather])
  const call = await bound.invoke([question])
  expect(call.tool_calls).toMatchObject([{ name: 'weather', args: { town: 'Bonn' } }])
  const told = await weather.invoke(call.tool_calls?.[0] as never)
  expect((await bound.invoke([question, call, told])).content).toBe('Yes, rain.')
  for (const method of ['jsonSchema', 'functionCalling'] as const) {
    const read = await chat.withStructuredOutput(Town, { method, name: 'town' }).invoke([question])
    expect(read).toEqual({ town: expect.any(String) })
  }
})
