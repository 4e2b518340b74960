/** A loaded model as a language model of the AI SDK, beside the service with the same model and adapter. */
import { join } from 'node:path'
import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { generateObject, generateText, type ModelMessage, Output, stepCountIs, streamText, tool } from 'ai'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import * as z from 'zod'
import { languageModel } from '../../../lib/ai/index.js'
import { lora } from '../../../lib/index.js'
import { loadModel } from '../../../lib/model/load.js'
import type { Model } from '../../../lib/model/model.js'
import { scratchFolder } from '../scratch.js'
import { both, callingModel, callingRows, question } from '../serve/calling.js'
import { type Asked, begun } from '../serve/service.js'

type Given = Parameters<typeof generateText>[0]
type Language = ReturnType<typeof languageModel>

let asked: Asked
let model: Model
let own: Language
let served: Given['model']
beforeAll(async () => {
  const scratch = scratchFolder()
  const folder = callingModel()
  const trained = await loadModel(folder)
  const adapter = await trained.attach(lora({ r: 8, modulesToSave: ['embed_tokens', 'lm_head'] }))
  const rows = callingRows()
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
  const path = join(scratch, 'caller')
  await adapter.train(rows, {
    maxSteps: 60,
    perDeviceTrainBatchSize: 4,
    learningRate: 2e-3,
    maxSeqLength: 128,
  })
  await adapter.save(path)
  await adapter.detach()
  asked = await begun(join(scratch, 'data'), {
    models: new Map([['calling', trained]]),
    tuned: [{ name: 'caller', base: 'calling', path, created: 1 }],
  })
  served = createOpenAICompatible({
    ...{ name: 'lowrank', baseURL: asked.service.url, apiKey: asked.service.token },
    ...{ supportsStructuredOutputs: true, includeUsage: true },
  })('caller')
  model = await loadModel(folder)
  await model.loadAdapter(path)
  own = languageModel(model)
}, 120_000)
afterAll(async () => {
  await model.dispose()
  await asked.service.close()
})

const Town = z.object({ town: z.string().max(12) })
const weather = tool({ description: 'The weather', inputSchema: Town, execute: () => 'rain' })
const tools = { weather }

/** What an answer is, without its random ids, and times. */
async function answerOf(
  language: Given['model'],
  given: Omit<Given, 'model' | 'prompt'> & { prompt?: string },
) {
  const { text, finishReason, steps, totalUsage } = await generateText({
    ...({ prompt: question.content, maxOutputTokens: 64, ...given } as Given),
    model: language,
  })
  const calls = steps.flatMap(({ toolCalls }) =>
    toolCalls.map(({ toolName, input }) => ({ toolName, input: input as unknown })),
  )
  const { inputTokens, outputTokens } = totalUsage
  return { text, finishReason, calls, inputTokens, outputTokens }
}

const SEA = 'Tell me about the moon and the sea.'
const requests: [string, Parameters<typeof answerOf>[1]][] = [
  ['greedy', { prompt: SEA, temperature: 0 }],
  ['sampled', { prompt: SEA, seed: 7, temperature: 0.9, topP: 0.9, maxOutputTokens: 12 }],
  ['sampled at the usual temperature', { prompt: SEA, seed: 3 }],
  ['stopped', { prompt: SEA, temperature: 0, stopSequences: ['e'] }],
  ['penalized', { prompt: SEA, temperature: 0, presencePenalty: 1.5, frequencyPenalty: 0.5 }],
  ['told by a system prompt', { prompt: SEA, system: 'Be brief.', temperature: 0 }],
  ['with tools', { tools, temperature: 0 }],
  ['with calls and their results', { tools, temperature: 0, stopWhen: stepCountIs(3) }],
  ['with two calls', { prompt: both.content, tools, temperature: 0, maxOutputTokens: 120 }],
  ['without a call', { tools, toolChoice: 'none', temperature: 0 }],
  ['with a call of any tool', { prompt: SEA, tools, toolChoice: 'required', seed: 5 }],
  [
    'with a call of a tool',
    { prompt: SEA, tools, toolChoice: { type: 'tool', toolName: 'weather' }, seed: 5 },
  ],
  ['with a schema', { prompt: SEA, output: Output.object({ schema: Town }), seed: 5 }],
]

describe('generateText and streamText', () => {
  test.each(requests)('get the answer of the service: %s', async (_, given) => {
    const whole = await answerOf(own, given)
    const expected = await answerOf(served, given)
    // A named call ends with the reason `stop` in OpenAI's API.
    const isNamed = typeof given.toolChoice === 'object'
    expect(whole).toEqual({ ...expected, finishReason: isNamed ? 'tool-calls' : expected.finishReason })
    const stream = streamText({
      ...({ prompt: question.content, maxOutputTokens: 64, ...given } as Given),
      model: own,
    })
    const { inputTokens, outputTokens } = await stream.totalUsage
    expect([await stream.text, await stream.finishReason, inputTokens, outputTokens]).toEqual(
      ['text', 'finishReason', 'inputTokens', 'outputTokens'].map((key) => whole[key as keyof typeof whole]),
    )
  })

  test('call the function, and answer with its result', async () => {
    const { text, steps } = await generateText({
      ...{ model: own, tools, prompt: question.content, temperature: 0, stopWhen: stepCountIs(3) },
    })
    expect(text).toBe('Yes, rain.')
    expect(steps.map(({ finishReason }) => finishReason)).toEqual(['tool-calls', 'stop'])
    expect(steps[0]?.toolCalls).toMatchObject([{ toolName: 'weather', input: { town: 'Bonn' } }])
  })

  test('get texts and calls in their order', async () => {
    const stream = streamText({
      ...{ model: own, tools: { weather: tool({ inputSchema: Town }) }, prompt: both.content },
      ...{ temperature: 0, maxOutputTokens: 120 },
    })
    const types: string[] = []
    for await (const { type } of stream.fullStream) if (types.at(-1) !== type) types.push(type)
    const call = ['tool-input-start', 'tool-input-delta', 'tool-input-end', 'tool-call']
    expect(types).toEqual([
      ...['start', 'start-step', 'text-start', 'text-delta', 'text-end'],
      ...[...call, ...call, 'finish-step', 'finish'],
    ])
    const { content } = await generateText({
      ...{ model: own, tools: { weather: tool({ inputSchema: Town }) }, prompt: both.content },
      ...{ temperature: 0, maxOutputTokens: 120, providerOptions: { lowrank: { parallelToolCalls: false } } },
    })
    expect(content).toMatchObject([
      { type: 'text', text: 'I ask.' },
      { type: 'tool-call', toolName: 'weather', input: { town: 'Bonn' } },
    ])
  })

  test('sample from the likeliest tokens', async () => {
    const one = { model: own, prompt: SEA, temperature: 2, maxOutputTokens: 12, seed: 1 }
    const greedy = await generateText({ ...one, temperature: 0 })
    expect((await generateText({ ...one, topK: 1 })).text).toBe(greedy.text)
    expect((await generateText(one)).text).not.toBe(greedy.text)
  })

  test('answer with some adapters, or with the base alone', async () => {
    const text = async (language: Language) =>
      (await generateText({ model: language, prompt: SEA, temperature: 0, maxOutputTokens: 12 })).text
    const base = languageModel(model, { adapters: [], modelId: 'base' })
    expect([base.modelId, own.modelId, own.provider]).toEqual(['base', 'calling', 'lowrank'])
    const [tuned, plain] = [await text(own), await text(base)]
    expect(plain).not.toBe(tuned)
    expect(await text(languageModel(model, { adapters: ['caller'] }))).toBe(tuned)
    model.use()
    expect(await text(own)).toBe(plain)
    model.use('caller')
    expect(() => languageModel(model, { adapters: ['cller'] })).toThrow(/did you mean caller\?/)
    expect(() => languageModel('calling' as never)).toThrow(/model is "calling", expected a model/)
    expect(() => languageModel(model, { modelid: 'a' } as never)).toThrow(/modelId/)
  })
})

describe('structured output', () => {
  const Boat = z.object({ name: z.string().max(12), crew: z.int().min(1).max(9) })

  test('follows its schema, whole and while it comes', async () => {
    const given = { model: own, prompt: SEA, temperature: 1.5, seed: 2 }
    const { object } = await generateObject({ ...given, schema: Boat })
    expect(Boat.parse(object)).toEqual(object)
    const { output } = await generateText({ ...given, output: Output.object({ schema: Boat }) })
    expect(output).toEqual(object)
    const stream = streamText({ ...given, output: Output.object({ schema: Boat }) })
    const partial: unknown[] = []
    for await (const part of stream.partialOutputStream) partial.push(part)
    expect(partial.at(-1)).toEqual(object)
    const { output: word } = await generateText({
      ...given,
      output: Output.choice({ options: ['up', 'down'] }),
    })
    expect(['up', 'down']).toContain(word)
  })

  test('comes after the calls of tools', async () => {
    const output = Output.object({ schema: z.object({ rain: z.boolean() }) })
    const given = { prompt: question.content, tools, output, temperature: 0, stopWhen: stepCountIs(3) }
    const answers: unknown[] = []
    for (const language of [own, served]) {
      const { steps, output } = await generateText({ ...given, model: language })
      expect(steps.map(({ finishReason }) => finishReason)).toEqual(['tool-calls', 'stop'])
      answers.push(output)
    }
    expect(answers[0]).toEqual({ rain: expect.any(Boolean) })
    expect(answers[1]).toEqual(answers[0])
  })

  test('is refused for a schema that cannot be followed', async () => {
    const schema = z.object({ a: z.string().regex(/(a)\1/) })
    await expect(generateObject({ model: own, prompt: SEA, schema, maxRetries: 0 })).rejects.toThrow(
      /pattern/,
    )
  })
})

describe('a call', () => {
  test('ends when it is aborted, before and while it answers', async () => {
    const given = { model: own, prompt: SEA, temperature: 1, maxOutputTokens: 2000 }
    const early = AbortSignal.abort(new Error('early'))
    await expect(generateText({ ...given, abortSignal: early })).rejects.toThrow('early')
    const late = new AbortController()
    const stream = streamText({ ...given, abortSignal: late.signal, stopSequences: [] })
    const types: string[] = []
    for await (const { type } of stream.fullStream) {
      types.push(type)
      if (type === 'text-delta') late.abort()
    }
    expect(types.at(-1)).toBe('abort')
  })

  test('ends when nobody reads its stream any more', async () => {
    const { stream } = await own.doStream({
      prompt: [{ role: 'user', content: [{ type: 'text', text: SEA }] }],
      ...{ temperature: 1, maxOutputTokens: 100_000 },
    })
    const reader = stream.getReader()
    const first = await reader.read()
    expect(first.value).toEqual({ type: 'stream-start', warnings: [] })
    await reader.read()
    await reader.read()
    await reader.cancel()
    expect(await reader.read()).toEqual({ done: true, value: undefined })
  })

  test('takes back reasoning, calls, and results of every kind', async () => {
    const call = (toolCallId: string) => ({
      ...{ type: 'tool-call' as const, toolCallId, toolName: 'weather', input: { town: 'Bonn' } },
    })
    const result = (toolCallId: string, output: object) =>
      ({ type: 'tool-result', toolCallId, toolName: 'weather', output }) as never
    const messages: ModelMessage[] = [
      {
        role: 'user',
        content: [
          { type: 'text', text: 'Rain in ' },
          { type: 'text', text: 'Bonn?' },
        ],
      },
      {
        role: 'assistant',
        content: [{ type: 'reasoning', text: 'I look.' }, ...['a', 'b', 'c', 'd'].map(call)],
      },
      {
        role: 'tool',
        content: [
          result('a', { type: 'text', value: 'rain' }),
          result('b', { type: 'json', value: { sky: 'rain' } }),
          result('c', { type: 'error-text', value: 'rain' }),
          result('d', { type: 'content', value: [{ type: 'text', text: 'rain' }] }),
        ],
      },
    ]
    const ask = async (language: Given['model']) => {
      const given = { model: language, messages, tools, temperature: 0, maxOutputTokens: 24 }
      const { text, usage } = await generateText(given)
      return [text, usage.inputTokens]
    }
    const [text, tokens] = await ask(own)
    expect(text).not.toBe('')
    expect(tokens).toBeGreaterThan(100)
    messages.splice(1, 1, { role: 'assistant', content: ['a', 'b', 'c'].map(call) })
    messages[2]?.role === 'tool' && messages[2].content.pop()
    expect(await ask(own)).toEqual(await ask(served))
  })

  test('is refused with a sentence about what it asked', async () => {
    const refused = (given: object) =>
      generateText({ model: own, prompt: SEA, maxRetries: 0, ...given } as Given).then(
        () => expect.unreachable(),
        (error: Error) => error.message,
      )
    const image = new URL('https://example.com/a.png')
    const content = [
      { type: 'text', text: 'What is it?' },
      { type: 'image', image },
    ]
    const messages = [{ role: 'user', content }]
    expect(await refused({ prompt: undefined, messages })).toBe(
      'languageModel(): prompt[0].content[1] is a file of the type image/*, and the model reads text alone; describe it by a text part.',
    )
    expect(await refused({ temperature: 3 })).toBe(
      "languageModel(): Invalid value for 'temperature': expected a number from 0 to 2; got 3.",
    )
    expect(await refused({ topP: 2 })).toMatch(/^languageModel\(\): Invalid value for 'topP': /)
    expect(await refused({ stopSequences: ['a', 'b', 'c', 'd', 'e'] })).toMatch(
      /'stopSequences': .*at most 4/,
    )
    expect(await refused({ prompt: 'a '.repeat(40_000) })).toMatch(/maximum context length/)
    expect(await refused({ providerOptions: { lowrank: { paralel: 1 } } })).toMatch(/parallelToolCalls/)
    const given = { model: languageModel(model, { adapters: [] }), tools }
    expect(await refused({ ...given, toolChoice: { type: 'tool', toolName: 'snow' } })).toMatch(
      /'toolChoice': no tool has the name 'snow'/,
    )
  })

  test('warns of what has no effect', async () => {
    const search = { type: 'provider', id: 'openai.web_search', name: 'search', args: {} }
    const { warnings } = await own.doGenerate({
      prompt: [{ role: 'user', content: [{ type: 'text', text: SEA }] }],
      tools: [search as never],
      ...{ temperature: 0, maxOutputTokens: 1, includeRawChunks: true },
    })
    expect(warnings).toEqual([
      {
        ...{ type: 'unsupported', feature: 'provider-defined tool openai.web_search' },
        details: 'lowrank runs no tools of its own',
      },
      { type: 'unsupported', feature: 'includeRawChunks' },
    ])
  })
})

test('a model that is disposed says so, also in a stream', async () => {
  const gone = await loadModel('demo/base')
  const language = languageModel(gone)
  const errors: unknown[] = []
  const stream = streamText({
    // A long answer, of which only a few tokens are drawn before they are read.
    ...{ model: language, prompt: SEA, temperature: 2, maxOutputTokens: 2000, seed: 4 },
    onError: ({ error }) => void errors.push(error),
  })
  let isGone = false
  for await (const _ of stream.textStream) {
    if (!isGone) await gone.dispose()
    isGone = true
  }
  expect(errors).toMatchObject([{ name: 'DisposedError' }])
  expect(await stream.finishReason).toBe('error')
  await expect(generateText({ model: language, prompt: SEA, maxRetries: 0 })).rejects.toThrow(/was disposed/)
})
