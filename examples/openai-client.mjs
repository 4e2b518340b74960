/**
 * Fine-tunes a model and asks the result, by OpenAI's client, from a server that `lowrank serve` runs on this machine. The
 * server prints the base URL, the key, and the names of its models.
 *
 *   LOWRANK_TOKEN=sk-… node examples/openai-client.mjs http://127.0.0.1:8000/v1 SmolLM2-135M-Instruct train.jsonl
 */
import { createReadStream } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import OpenAI from 'openai'

const [baseURL, model, data] = process.argv.slice(2)
if (!baseURL || !model || !data) {
  console.error('usage: node examples/openai-client.mjs BASE_URL MODEL DATA')
  process.exit(2)
}

const client = new OpenAI({ baseURL, apiKey: process.env.LOWRANK_TOKEN })

const file = await client.files.create({ file: createReadStream(data), purpose: 'fine-tune' })
let job = await client.fineTuning.jobs.create({ model, training_file: file.id })
console.log(`${job.id}: ${job.status}`)
while (!['succeeded', 'failed', 'cancelled'].includes(job.status)) {
  await sleep(1000)
  job = await client.fineTuning.jobs.retrieve(job.id)
}
console.log(`${job.id}: ${job.status}`)
if (job.status !== 'succeeded') throw new Error(job.error?.message)

const messages = [{ role: 'user', content: 'Say the number 7' }]
for (const name of [model, job.fine_tuned_model]) {
  const answer = await client.chat.completions.create({
    model: name,
    messages,
    max_tokens: 16,
    temperature: 0,
  })
  console.log(`${name}: ${answer.choices[0].message.content}`)
}
