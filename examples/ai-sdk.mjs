/**
 * Asks a model by the AI SDK, from a server that `lowrank serve` runs on this machine: a text while it comes, and an object
 * that follows a schema. Needs the packages ai, @ai-sdk/openai-compatible, and zod.
 *
 *   LOWRANK_TOKEN=sk-… node examples/ai-sdk.mjs http://127.0.0.1:8000/v1 SmolLM2-135M-Instruct
 */
import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { generateText, Output, streamText } from 'ai'
import * as z from 'zod'

const [baseURL, name] = process.argv.slice(2)
if (!baseURL || !name) {
  console.error('usage: node examples/ai-sdk.mjs BASE_URL MODEL')
  process.exit(2)
}

const lowrank = createOpenAICompatible({
  ...{ name: 'lowrank', baseURL, apiKey: process.env.LOWRANK_TOKEN },
  supportsStructuredOutputs: true,
})
const model = lowrank(name)

const { textStream } = streamText({ model, prompt: 'Describe a boat.', temperature: 0, maxOutputTokens: 16 })
for await (const piece of textStream) process.stdout.write(piece)
console.log()

const Boat = z.object({ name: z.string().max(12), crew: z.int().min(1).max(9) })
const { output } = await generateText({
  ...{ model, prompt: 'Describe a boat in JSON.', seed: 1, maxOutputTokens: 200 },
  output: Output.object({ schema: Boat }),
})
console.log(output)
