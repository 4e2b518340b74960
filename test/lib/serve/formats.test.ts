/** Answers in a format, their log-probabilities, and penalties, by OpenAI's client. */
import { mkdtempSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { zodResponseFormat } from 'openai/helpers/zod'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import * as z from 'zod'
import { type Asked, begun } from './service.js'

describe('a client of answers', () => {
  let asked: Asked
  beforeAll(async () => {
    asked = await begun(mkdtempSync(join(tmpdir(), 'lowrank-formats-')))
  })
  afterAll(() => asked.service.close())

  const messages = [{ role: 'user' as const, content: 'Describe a small boat.' }]
  const Boat = z.strictObject({
    name: z.string().max(12),
    length: z.number().min(1).max(40),
    crew: z.array(z.strictObject({ rank: z.enum(['captain', 'mate']), age: z.int().min(16).max(99) })).max(2),
    home: z.string().max(5).nullable(),
  })

  test('parses answers that follow its schema, greedy or drawn, whole or streamed', async () => {
    const response_format = zodResponseFormat(Boat, 'boat')
    for (const [seed, temperature] of [0, 1, 1, 1.5].entries()) {
      const request = { model: 'base', messages, response_format, seed, temperature, max_tokens: 400 }
      const { choices } = await asked.client.chat.completions.parse(request)
      expect(choices[0]?.finish_reason).toBe('stop')
      Boat.parse(choices[0]?.message.parsed)
      const runner = asked.client.chat.completions.stream(request)
      expect((await runner.finalChatCompletion()).choices[0]?.message.content).toBe(
        choices[0]?.message.content,
      )
    }
  })

  test('gets an object for json_object', async () => {
    const { choices } = await asked.client.chat.completions.create({
      ...{ model: 'base', messages, max_tokens: 600, seed: 5, temperature: 0.2 },
      ...{ response_format: { type: 'json_object' }, logit_bias: {} },
    })
    const { message, finish_reason } = choices[0] as (typeof choices)[number]
    expect(message.content).toMatch(/^\{/)
    if (finish_reason === 'stop') expect(JSON.parse(message.content as string)).toBeTypeOf('object')
  })

  test('is told which keyword of its schema cannot be followed', async () => {
    const schema = { type: 'object', properties: { a: { not: {} } } }
    const request = asked.client.chat.completions.create({
      ...{ model: 'base', messages },
      response_format: { type: 'json_schema', json_schema: { name: 'a', schema } },
    })
    await expect(request).rejects.toMatchObject({
      ...{ status: 400, code: 'invalid_json_schema', param: 'response_format' },
      message: expect.stringContaining('#/properties/a/not'),
    })
  })

  test('gets the log-probabilities of the tokens of its text, whole or streamed', async () => {
    const request = { model: 'base', messages, max_tokens: 12, seed: 1, logprobs: true, top_logprobs: 2 }
    for (const more of [{}, { stop: ['e'] }, { temperature: 0 }]) {
      const { choices } = await asked.client.chat.completions.create({ ...request, ...more })
      const [choice] = choices
      const entries = choice?.logprobs?.content ?? []
      const bytes = entries.flatMap((entry) => entry.bytes as number[])
      expect(Buffer.from(bytes).toString()).toContain(choice?.message.content)
      for (const { logprob, top_logprobs } of entries) {
        expect(logprob).toBeLessThanOrEqual(top_logprobs[0]?.logprob as number)
        expect(top_logprobs).toHaveLength(2)
      }
      if ('temperature' in more)
        for (const { token, top_logprobs } of entries) expect(top_logprobs[0]?.token).toBe(token)
      const streamed: unknown[] = []
      for await (const chunk of await asked.client.chat.completions.create({
        ...request,
        ...more,
        stream: true,
      }))
        streamed.push(...(chunk.choices[0]?.logprobs?.content ?? []))
      expect(streamed).toEqual(entries)
    }
  })

  test('gets those of raw texts, with the places of the tokens, the same in a stream', async () => {
    const request = {
      model: 'base',
      prompt: ['Once', 'The é'],
      max_tokens: 8,
      logprobs: 2,
      temperature: 1,
      seed: 3,
    }
    const { choices } = await asked.client.completions.create(request)
    const streamed: string[][] = [[], []]
    const offsets: number[][] = [[], []]
    for await (const chunk of await asked.client.completions.create({ ...request, stream: true }))
      for (const { index, logprobs } of chunk.choices) {
        streamed[index]?.push(...(logprobs?.tokens ?? []))
        offsets[index]?.push(...(logprobs?.text_offset ?? []))
      }
    for (const [index, { text, logprobs }] of choices.entries()) {
      const { tokens = [], token_logprobs = [], top_logprobs = [], text_offset = [] } = logprobs ?? {}
      expect(tokens.join('')).toBe(text)
      expect(token_logprobs).toHaveLength(tokens.length)
      for (const [i, at] of text_offset.entries()) {
        expect(
          [...text]
            .slice(at)
            .join('')
            .startsWith(tokens[i] as string),
        ).toBe(true)
        expect(top_logprobs[i]?.[tokens[i] as string]).toBe(token_logprobs[i])
        expect(Object.keys(top_logprobs[i] ?? {}).length).toBeOneOf([2, 3])
      }
      expect([streamed[index], offsets[index]]).toEqual([tokens, text_offset])
    }
    const refused = asked.client.completions.create({ ...request, echo: true })
    await expect(refused).rejects.toMatchObject({ status: 400, param: 'logprobs' })
  })

  test('gets a list without any for an answer without text', async () => {
    // The end token is drawn first.
    const { eos_token_id } = JSON.parse(readFileSync('demo/base/config.json', 'utf8'))
    const logit_bias = { [[eos_token_id].flat()[0]]: 100 }
    const request = { model: 'base', messages, logit_bias, logprobs: true, temperature: 0 }
    const { choices } = await asked.client.chat.completions.create(request)
    expect(choices[0]).toMatchObject({ message: { content: '' }, logprobs: { content: [], refusal: null } })
  })

  test('gets other texts with penalties and biases', async () => {
    const ask = async (more: object) => {
      const request = { model: 'base', messages, temperature: 0, max_tokens: 24, logprobs: true, ...more }
      const { choices } = await asked.client.chat.completions.create(request)
      return (choices[0]?.logprobs?.content ?? []).map(({ token }) => token)
    }
    // The larger bias wins until its token was drawn so often that the penalties make up for it.
    const logit_bias = { 40: 100, 41: 70 }
    expect(new Set(await ask({ logit_bias })).size).toBe(1)
    expect(new Set(await ask({ logit_bias, frequency_penalty: 2, presence_penalty: 2 })).size).toBe(2)
    expect(new Set(await ask({ logit_bias: { 40: 100 } })).size).toBe(1)
    await expect(ask({ logit_bias: { 40: 101 } })).rejects.toMatchObject({ status: 400 })
    await expect(ask({ frequency_penalty: 3 })).rejects.toMatchObject({
      status: 400,
      param: 'frequency_penalty',
    })
  })
})
