// The service under load: chats with many adapters of one base beside a training job. Every answer is held to the one that
// the same prompt gets alone. Printed are answers lost and changed, times, memory, and what switching adapters and a long
// system prompt cost.
//
//   npm run build && node benchmarks/service.mjs MODEL [--adapters 16] [--requests 1000] [--tokens 24] [--at-once 16]
//     [--quantization nf4] [--json]
//
// With --json the output is what benchmarks/results/service.json holds, from which docs/serve.md has its figures.
//
// MODEL is a folder or a .gguf file. The service runs in a process of its own.
import { fork } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import OpenAI, { toFile } from 'openai'
import { loadModel, lora } from '../dist/esm/index.js'
import { serve } from '../dist/esm/serve/index.js'
import { measuredBy, median } from './measure.mjs'

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    adapters: { type: 'string', default: '16' },
    requests: { type: 'string', default: '1000' },
    tokens: { type: 'string', default: '24' },
    'at-once': { type: 'string', default: '16' },
    quantization: { type: 'string', default: 'nf4' },
    json: { type: 'boolean', default: false },
    folder: { type: 'string' },
  },
})
if (positionals.length !== 1) throw new Error('name one model: node benchmarks/service.mjs MODEL')
const [count, requests, tokens, atOnce] = ['adapters', 'requests', 'tokens', 'at-once'].map((key) =>
  Number(options[key]),
)
const PROMPTS = 6
const SUBJECTS = ['rivers', 'clocks', 'bread', 'snow', 'trains', 'bees', 'glass', 'maps']

/** Trains the adapters for a moment, so that they differ, and answers until the parent ends. */
async function server(folder) {
  const model = await loadModel(positionals[0], { quantization: options.quantization })
  const tuned = []
  for (let i = 0; i < count; i++) {
    const adapter = await model.attach(lora({ r: 8 }), { seed: i })
    const rows = SUBJECTS.slice(0, 2).map((subject) => ({
      messages: [
        { role: 'user', content: `Tell me about ${subject}.` },
        { role: 'assistant', content: `${SUBJECTS[i % SUBJECTS.length]} ${i}: `.repeat(4) },
      ],
    }))
    await adapter.train(rows, { maxSteps: 3, learningRate: 0.003, maxSeqLength: 128 })
    const path = join(folder, `adapter-${i}`)
    await adapter.save(path)
    await adapter.detach()
    tuned.push({ name: `tuned-${i}`, base: 'base', path, created: 1 })
  }
  const service = await serve({ models: new Map([['base', model]]), data: join(folder, 'data'), tuned })
  process.send({ url: service.url, token: service.token })
  process.on('disconnect', () => service.close().then(() => process.exit()))
}

async function measured() {
  const folder = mkdtempSync(join(tmpdir(), 'lowrank-service-'))
  const child = fork(import.meta.filename, [...process.argv.slice(2), '--folder', folder])
  try {
    const { url, token } = await new Promise((resolve, reject) => {
      child.once('message', resolve)
      child.once('exit', () => reject(new Error('the service ended')))
    })
    const client = new OpenAI({ baseURL: url, apiKey: token, maxRetries: 0, timeout: 600_000 })
    const at = new Client(client)
    const expected = await at.alone()
    return {
      ...(await prefix(at)),
      ...(await switches(at)),
      ...(await load(at, expected, () => residentBytes(child.pid))),
    }
  } finally {
    child.disconnect()
    await new Promise((resolve) => child.once('exit', resolve))
    rmSync(folder, { recursive: true })
  }
}

class Client {
  constructor(client) {
    this.client = client
  }
  chat(model, messages, most) {
    return this.client.chat.completions.create({
      ...{ model, messages, temperature: 0, max_completion_tokens: most },
    })
  }
  async text(adapter, prompt) {
    const content = `Tell me about ${SUBJECTS[prompt % SUBJECTS.length]}, point ${prompt}.`
    const answer = await this.chat(`tuned-${adapter}`, [{ role: 'user', content }], tokens)
    return answer.choices[0].message.content
  }
  /** Answers of every adapter to every prompt, one after the other. */
  async alone() {
    const texts = []
    for (let i = 0; i < count * PROMPTS; i++) texts.push(await this.text(i % count, Math.floor(i / count)))
    return texts
  }
  /** Milliseconds of a request for one token. */
  async first(model, messages) {
    const begin = performance.now()
    await this.chat(model, messages, 1)
    return performance.now() - begin
  }
}

const question = (i) => [{ role: 'user', content: `What is number ${String(i).padStart(4, '0')} good for?` }]

/** A request for another adapter than the one before, against one for the same. */
async function switches(at) {
  const [same, other] = [[], []]
  for (let i = 0; i < 200; i++) {
    same.push(await at.first('tuned-0', question(i)))
    // The first of each pair comes after another adapter, the second after the same.
    await at.first('tuned-1', question(i))
    other.push(await at.first('tuned-0', question(1000 + i)))
    await at.first('tuned-0', question(2000 + i))
  }
  return { switch_ms: median(other) - median(same), one_token_ms: median(same) }
}

/** Prompts of 20 tokens behind a system prompt of about 1,000, of which the first ones compute it. */
async function prefix(at) {
  const system = (i) => `Rule ${i}. ${'Answer in short and plain sentences, and never guess. '.repeat(95)}`
  const [anew, later] = [[], []]
  for (let i = 0; i < 7; i++) {
    const messages = (k) => [{ role: 'system', content: system(i) }, ...question(k)]
    anew.push(await at.first('tuned-0', messages(0)))
    for (let k = 1; k < 6; k++) later.push(await at.first('tuned-0', messages(k)))
  }
  const { usage } = await at.chat('tuned-0', [{ role: 'system', content: system(6) }, ...question(9)], 1)
  return {
    prompt_tokens: usage.prompt_tokens,
    cached_tokens: usage.prompt_tokens_details.cached_tokens,
    ...{ prefix_anew_ms: median(anew), prefix_later_ms: median(later) },
  }
}

/** All requests, some at once, while a job trains. */
async function load(at, expected, resident) {
  const { client } = at
  const row = (i) => ({
    messages: [
      { role: 'user', content: `Count to ${i}.` },
      { role: 'assistant', content: Array.from({ length: 12 }, (_, k) => i + k).join(', ') },
    ],
  })
  const data = Array.from({ length: 40 }, (_, i) => `${JSON.stringify(row(i))}\n`).join('')
  const file = await client.files.create({
    ...{ file: await toFile(Buffer.from(data), 'rows.jsonl'), purpose: 'fine-tune' },
  })
  const job = await client.fineTuning.jobs.create({
    ...{ model: 'base', training_file: file.id },
    method: { type: 'supervised', supervised: { hyperparameters: { n_epochs: 50, batch_size: 2 } } },
  })
  const stepOf = async () => {
    const { data } = await client.fineTuning.jobs.listEvents(job.id, { limit: 20 })
    return Math.max(0, ...data.map((event) => event.data?.step ?? 0))
  }
  while ((await stepOf()) < 3) await new Promise((resolve) => setTimeout(resolve, 100))
  const begun = await stepOf()
  const [times, memory] = [[], []]
  let [next, lost, changed] = [0, 0, 0]
  const begin = performance.now()
  const worker = async () => {
    while (next < requests) {
      // All pairs of an adapter and a prompt, in an order that mixes both.
      const number = (next++ * 37) % expected.length
      const sent = performance.now()
      try {
        const text = await at.text(number % count, Math.floor(number / count))
        if (text !== expected[number]) changed++
      } catch {
        lost++
      }
      times.push(performance.now() - sent)
      if (times.length % 100 === 0) memory.push(resident())
    }
  }
  await Promise.all(Array.from({ length: atOnce }, worker))
  const seconds = (performance.now() - begin) / 1000
  const steps = (await stepOf()) - begun
  const { status } = await client.fineTuning.jobs.retrieve(job.id)
  if (status !== 'running') throw new Error(`the job was over before the requests: ${status}`)
  await client.fineTuning.jobs.cancel(job.id)
  times.sort((a, b) => a - b)
  const at_share = (share) => times[Math.floor(share * (times.length - 1))]
  return {
    ...{ requests, adapters: count, at_once: atOnce, lost, changed, seconds, job_steps: steps },
    ...{ p50_ms: at_share(0.5), p99_ms: at_share(0.99), resident_bytes: memory },
  }
}

const residentBytes = (pid) =>
  1024 * Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))[1])

const MIB = 2 ** 20
if (options.folder !== undefined) await server(options.folder)
else {
  const result = await measured()
  if (options.json) console.log(JSON.stringify({ ...measuredBy(), ...result }, null, 1))
  else {
    const { resident_bytes: memory } = result
    console.log(`${result.requests} requests, ${result.adapters} adapters, ${result.at_once} at once`)
    console.log(`lost ${result.lost}, other than alone ${result.changed}`)
    console.log(`p50 ${result.p50_ms.toFixed(0)} ms, p99 ${result.p99_ms.toFixed(0)} ms`)
    console.log(`${result.seconds.toFixed(0)} s, in which the job made ${result.job_steps} steps`)
    console.log(`resident MiB: ${memory.map((bytes) => (bytes / MIB).toFixed(0)).join(' ')}`)
    console.log(
      `one token: ${result.one_token_ms.toFixed(1)} ms, a switch adds ${result.switch_ms.toFixed(2)} ms`,
    )
    console.log(
      `prompt of ${result.prompt_tokens} tokens: ${result.prefix_anew_ms.toFixed(0)} ms anew, ${result.prefix_later_ms.toFixed(0)} ms with ${result.cached_tokens} cached`,
    )
  }
}
