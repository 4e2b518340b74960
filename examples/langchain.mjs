/**
 * Asks a model by LangChain.js, from a server that `lowrank serve` runs on this machine: a text while it comes, and an
 * object that follows a schema. Needs the packages @langchain/openai, @langchain/core, and zod.
 *
 *   LOWRANK_TOKEN=sk-… node examples/langchain.mjs http://127.0.0.1:8000/v1 SmolLM2-135M-Instruct
 */
import { ChatOpenAI } from '@langchain/openai'
import * as z from 'zod'

const [baseURL, model] = process.argv.slice(2)
if (!baseURL || !model) {
  console.error('usage: node examples/langchain.mjs BASE_URL MODEL')
  process.exit(2)
}

const server = { model, apiKey: process.env.LOWRANK_TOKEN, configuration: { baseURL } }
const ask = new ChatOpenAI({ ...server, temperature: 0, maxTokens: 16 })
for await (const { content } of await ask.stream('Describe a boat.')) process.stdout.write(content)
console.log()

const Boat = z.object({ name: z.string().max(12), crew: z.int().min(1).max(9) })
const describe = new ChatOpenAI({ ...server, maxTokens: 200 })
console.log(await describe.withStructuredOutput(Boat).invoke('Describe a boat in JSON.', { seed: 1 }))
