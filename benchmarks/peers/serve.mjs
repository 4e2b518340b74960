// Throughput of chats with `lowrank serve` and with llama.cpp's server, on the same GGUF file: tokens per second of one
// chat, and of several at once.
//
//   npm ci && npm run build && node benchmarks/peers/serve.mjs MODEL.gguf --llama-server PATH
//     [--quantization keep,nf4] [--threads 2] [--texts 16] [--tokens 64] [--rounds 5] [--json]
//
// The servers take turns, and ratios are medians over the rounds. No two prompts are equal, so that none comes from a
// cache, and answers end at so many tokens. With --json the output is what benchmarks/results/peers-serve.json holds. llama.cpp computes with the blocks of the file, lowrank with the linears as
// --quantization says, each in a server of its own.
import { spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import OpenAI from 'openai'
import { answers, measuredBy, median, ranged } from '../measure.mjs'

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    'llama-server': { type: 'string' },
    quantization: { type: 'string', default: 'keep,nf4' },
    threads: { type: 'string', default: '2' },
    texts: { type: 'string', default: '16' },
    tokens: { type: 'string', default: '64' },
    rounds: { type: 'string', default: '5' },
    json: { type: 'boolean', default: false },
  },
})
const [file] = positionals
const llama = options['llama-server']
if (file === undefined || llama === undefined)
  throw new Error('name a file and a server: node benchmarks/peers/serve.mjs MODEL.gguf --llama-server PATH')
const [texts, tokens, rounds] = ['texts', 'tokens', 'rounds'].map((key) => Number(options[key]))
const KEY = 'a-key-of-the-benchmark-with-enough-characters'
const folder = mkdtempSync(join(tmpdir(), 'lowrank-peers-'))

function freePort() {
  return new Promise((found) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address()
      server.close(() => found(port))
    })
  })
}

async function started(name, commandOf) {
  const port = await freePort()
  const [command, ...args] = commandOf(port)
  const child = spawn(command, args, {
    stdio: 'ignore',
    env: { ...process.env, LOWRANK_THREADS: options.threads },
  })
  const url = `http://127.0.0.1:${port}`
  await answers(`${url}/health`, child)
  const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: KEY, maxRetries: 0, timeout: 600_000 })
  return { name, child, client, one: [], many: [] }
}

let asked = 0
/** @returns the tokens of an answer */
async function chat({ client }) {
  const content = `${asked++} is a number. Write a long story about it, and about the number after it.`
  const { usage } = await client.chat.completions.create({
    ...{ model: 'base', messages: [{ role: 'user', content }], temperature: 0, max_tokens: tokens },
  })
  return usage.completion_tokens
}

/** Tokens per second of so many chats at once. */
async function rate(server, count) {
  const begin = performance.now()
  const made = await Promise.all(Array.from({ length: count }, () => chat(server)))
  return (1000 * made.reduce((sum, each) => sum + each, 0)) / (performance.now() - begin)
}

const cli = resolve(import.meta.dirname, '../../dist/esm/cli/main.js')
const ours = (quantization) => (port) => [
  ...[process.execPath, cli, 'serve', '--model', `base=${file}`, '--quantization', quantization],
  ...['--port', port, '--token', KEY, '--data', join(folder, quantization)],
]
const theirs = (port) => [
  ...[llama, '--model', file, '--port', port, '--api-key', KEY, '--threads', options.threads],
  ...['--parallel', texts, '--ctx-size', 1024 * texts],
]
const servers = []
try {
  servers.push(await started('llama.cpp', theirs))
  for (const quantization of options.quantization.split(','))
    servers.push(await started(`lowrank, ${quantization}`, ours(quantization)))
  for (let round = -1; round < rounds; round++) {
    for (const server of servers) {
      const one = await rate(server, 1)
      const many = await rate(server, texts)
      // The first round warms up.
      if (round < 0) continue
      server.one.push(one)
      server.many.push(many)
    }
  }
  const [peer, ...own] = servers
  const { stdout, stderr } = spawnSync(llama, ['--version'], { encoding: 'utf8' })
  const rows = servers.map(({ name, one, many }) => ({ name, one: median(one), many: median(many) }))
  const ratios = own.map(({ name, one, many }) => ({
    name,
    one: ranged(one.map((value, i) => value / peer.one[i])),
    many: ranged(many.map((value, i) => value / peer.many[i])),
  }))
  const found = {
    ...measuredBy(),
    llama_cpp: /version: .*/.exec(stdout + stderr)?.[0],
    texts,
    tokens,
    rounds,
    rows,
    ratios,
  }
  if (options.json) console.log(JSON.stringify(found, null, 1))
  else {
    console.log(found.llama_cpp)
    for (const { name, one, many } of rows)
      console.log(`${name}: ${one.toFixed(1)} tokens per second of one chat, ${many.toFixed(1)} of ${texts}`)
    for (const { name, one, many } of ratios)
      console.log(`${name} / llama.cpp: ${one} of one chat, ${many} of ${texts}`)
  }
} finally {
  for (const { child } of servers) child.kill()
  await Promise.all(servers.map(({ child }) => new Promise((done) => child.once('exit', done))))
  rmSync(folder, { recursive: true })
}
