/**
 * Trains a model on calls, and has each client call a function with it, by chats and by responses. Prints what came as JSON.
 *
 *   node tools.mjs BASE_URL MODEL CALLS.jsonl
 */
import { createReadStream } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { createOpenAI } from '@ai-sdk/openai'
import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { tool as langchainTool } from '@langchain/core/tools'
import { ChatOpenAI } from '@langchain/openai'
import { generateText, Output, stepCountIs, streamText, tool } from 'ai'
import OpenAI from 'openai'
import { zodResponseFormat, zodTextFormat } from 'openai/helpers/zod'
import * as z from 'zod'

const [baseURL, base, data] = process.argv.slice(2)
const apiKey = process.env.OPENAI_API_KEY
const client = new OpenAI()
const prompt = 'Rain in Bonn?'
const Town = z.object({ town: z.string().max(12) })
const description = 'The weather of a town'

async function trained() {
  const { id } = await client.files.create({ file: createReadStream(data), purpose: 'fine-tune' })
  const hyperparameters = { n_epochs: 10, batch_size: 4, learning_rate_multiplier: 10 }
  let job = await client.fineTuning.jobs.create({
    ...{ model: base, training_file: id, seed: 1 },
    method: { type: 'supervised', supervised: { hyperparameters } },
    lowrank: {
      ...{
        strategy: { name: 'lora', r: 8, modules_to_save: ['embed_tokens', 'lm_head'] },
        max_seq_length: 128,
      },
    },
  })
  while (!['succeeded', 'failed', 'cancelled'].includes(job.status)) {
    await sleep(100)
    job = await client.fineTuning.jobs.retrieve(job.id)
  }
  if (job.status !== 'succeeded') throw new Error(job.error?.message)
  return job.fine_tuned_model
}

async function byOpenAI(model) {
  const chat = { model, messages: [{ role: 'user', content: prompt }], temperature: 0 }
  const weather = {
    ...{ name: 'weather', description, parse: JSON.parse, function: () => 'rain' },
    parameters: { type: 'object', properties: { town: { type: 'string' } }, required: ['town'] },
  }
  const runner = client.chat.completions.runTools({
    ...chat,
    tools: [{ type: 'function', function: weather }],
  })
  const answer = await runner.finalContent()
  const format = zodResponseFormat(Town, 'town')
  const parsed = await client.chat.completions.parse({ ...chat, response_format: format })
  const item = await client.responses.parse({
    ...{ model, input: prompt, temperature: 0, text: { format: zodTextFormat(Town, 'town') } },
  })
  return [answer, parsed.choices[0].message.parsed, item.output_parsed]
}

async function byAiSdk(model) {
  const weather = tool({ description, inputSchema: Town, execute: () => 'rain' })
  const given = { model, prompt, temperature: 0, tools: { weather }, stopWhen: stepCountIs(3) }
  const { text, steps } = await generateText(given)
  const called = steps[0].toolCalls.map(({ toolName, input }) => [toolName, input.town])
  const output = Output.object({ schema: Town })
  return [
    ...[text, await streamText(given).text, called],
    (await generateText({ model, prompt, temperature: 0, output })).output,
  ]
}

async function byLangChain(model, useResponsesApi) {
  const chat = new ChatOpenAI({ model, apiKey, configuration: { baseURL }, temperature: 0, useResponsesApi })
  const weather = langchainTool(() => 'rain', { name: 'weather', description, schema: Town })
  const bound = chat.bindTools([weather])
  const question = { role: 'user', content: prompt }
  const call = await bound.invoke([question])
  const told = await weather.invoke(call.tool_calls[0])
  const { text } = await bound.invoke([question, call, told])
  return [text, call.tool_calls[0].args.town, await chat.withStructuredOutput(Town).invoke(prompt)]
}

const model = await trained()
const compatible = createOpenAICompatible({
  ...{ name: 'lowrank', baseURL, apiKey, supportsStructuredOutputs: true },
})
console.log(
  JSON.stringify({
    openai: await byOpenAI(model),
    compatible: await byAiSdk(compatible(model)),
    provider: await byAiSdk(createOpenAI({ baseURL, apiKey })(model)),
    langchain: await byLangChain(model, false),
    responses: await byLangChain(model, true),
  }),
)
