// Speed of generating one answer, token by token, in lowrank and in llama.cpp (node-llama-cpp), on the same GGUF file.
//
//   npm ci && npm run build && node benchmarks/peers/generate.mjs MODEL.gguf [--quantization nf4] [--threads 2]
//     [--tokens 64] [--rounds 5]
//
// Each takes the same text as prompt and then draws so many tokens. They take turns, and ratios are medians over the
// rounds, by the clock and by CPU time, which is the one to read where others use the machine too. llama.cpp computes
// with the blocks of the file, lowrank with the linears as --quantization says.
import { parseArgs } from 'node:util'
import { getLlama, LlamaLogLevel } from 'node-llama-cpp'
import { cpuSeconds, median, ranged, words } from '../measure.mjs'

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    quantization: { type: 'string', default: 'nf4' },
    threads: { type: 'string', default: '2' },
    tokens: { type: 'string', default: '64' },
    rounds: { type: 'string', default: '5' },
  },
})
const [file] = positionals
if (file === undefined) throw new Error('name one file: node benchmarks/peers/generate.mjs MODEL.gguf')
const count = Number(options.tokens)
const threads = Number(options.threads)
process.env.LOWRANK_THREADS ??= options.threads
const { loadModel } = await import('../../dist/esm/index.js')
const prompt = words(32)
const model = await loadModel(file, { quantization: options.quantization })
async function ours() {
  // Sampling hardly ever draws the token that ends an answer after so few.
  let cpu = 0
  const stream = model.stream(prompt, { maxNewTokens: count, temperature: 1 })
  for (;;) {
    const { done, value } = await stream.next()
    cpu ||= cpuSeconds()
    if (!done) continue
    if (value.tokenIds.length < count)
      throw new Error(`the answer ended after ${value.tokenIds.length} tokens; take fewer --tokens`)
    return { wall: value.tokensPerSecond, cpu: count / (cpuSeconds() - cpu) }
  }
}

const llama = await getLlama({
  gpu: false,
  build: 'never',
  logLevel: LlamaLogLevel.error,
  maxThreads: threads,
})
const peer = await llama.loadModel({ modelPath: file })
async function theirs() {
  const context = await peer.createContext({ contextSize: 512, threads })
  const sequence = context.getSequence()
  let done = 0
  let begin = 0
  let cpu = 0
  for await (const _ of sequence.evaluate(peer.tokenize(prompt), { temperature: 1, yieldEogToken: true })) {
    if (done === 0) {
      begin = performance.now()
      cpu = cpuSeconds()
    }
    if (++done > count) break
  }
  const rates = { wall: count / ((performance.now() - begin) / 1000), cpu: count / (cpuSeconds() - cpu) }
  await context.dispose()
  return rates
}

const rounds = []
await ours()
await theirs()
for (let round = 0; round < Number(options.rounds); round++) rounds.push([await ours(), await theirs()])
await model.dispose()
await peer.dispose()
const told = (clock, unit) => {
  const ratios = rounds.map(([own, other]) => own[clock] / other[clock])
  const [own, other] = [0, 1].map((side) => median(rounds.map((round) => round[side][clock])).toFixed(1))
  return `tokens per ${unit}: lowrank (${options.quantization}) ${own}, llama.cpp ${other}, ratio ${ranged(ratios)}`
}
console.log([told('wall', 'second'), told('cpu', 'CPU second')].join('\n'))
