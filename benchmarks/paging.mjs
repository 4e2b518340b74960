// The time of a training step whose optimizer state is paged, and of one whose activations are offloaded, as ratios to the
// same step with all in memory.
//
//   npm run build && node benchmarks/paging.mjs MODEL [--quantization nf4] [--rank 64] [--tokens 512] [--share 0.25]
//     [--rounds 5]
//
// MODEL is a folder or a .gguf file. `--share` is what may stay in memory of the state of LoRA on all linears; the rest lies
// in a file. A round trains three steps each way and takes the mean of the last two; the ratio is the median over the rounds.
import { parseArgs } from 'node:util'
import { loadModel, lora, pagedAdamW } from '../dist/esm/index.js'
import { cpuSeconds, median, ranged, textRows } from './measure.mjs'

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    quantization: { type: 'string', default: 'nf4' },
    rank: { type: 'string', default: '64' },
    tokens: { type: 'string', default: '512' },
    share: { type: 'string', default: '0.25' },
    rounds: { type: 'string', default: '5' },
  },
})
if (positionals.length !== 1) throw new Error('name one model: node benchmarks/paging.mjs MODEL')
const tokens = Number(options.tokens)
const model = await loadModel(positionals[0], { quantization: options.quantization })
const strategy = lora({
  r: Number(options.rank),
  loraAlpha: Number(options.rank),
  targetModules: 'all-linear',
})
const rows = textRows(3, tokens)

/** Seconds of a step, and the bytes of its optimizer state. */
async function stepWith(changes) {
  const adapter = await model.attach(strategy)
  try {
    const run = adapter.train(rows, {
      ...{ ...changes, maxSteps: 3, maxSeqLength: tokens, perDeviceTrainBatchSize: 1, warmupRatio: 0 },
    })
    const wall = []
    const cpu = []
    let before = cpuSeconds()
    for await (const { tokensPerSecond, tokens: count } of run) {
      const now = cpuSeconds()
      wall.push(count / tokensPerSecond)
      cpu.push(now - before)
      before = now
    }
    const last = (all) => (all.at(-1) + all.at(-2)) / 2
    return {
      wall: last(wall),
      cpu: last(cpu),
      state: run.memory.bytes('optimizer'),
      offloaded: run.memory.offloadedBytes,
    }
  } finally {
    await adapter.detach()
  }
}

const { state } = await stepWith({ optimizer: 'adamw' })
const resident = `${Math.max(1, Math.floor((Number(options.share) * state) / 2 ** 20))}MiB`
const ways = {
  'paged state': { optimizer: pagedAdamW({ resident }) },
  'offloaded activations': { activationOffloading: true },
}
const ratios = Object.fromEntries(Object.keys(ways).map((name) => [name, { wall: [], cpu: [] }]))
const steps = []
let offloaded = 0
for (let round = 0; round < Number(options.rounds); round++) {
  const plain = await stepWith({})
  steps.push(plain.wall)
  for (const [name, changes] of Object.entries(ways)) {
    const paged = await stepWith(changes)
    offloaded = Math.max(offloaded, paged.offloaded)
    for (const clock of ['wall', 'cpu']) ratios[name][clock].push(paged[clock] / plain[clock])
  }
}
await model.dispose()
const mib = (bytes) => `${Math.round(bytes / 2 ** 20)} MiB`
console.log(
  [
    `state ${mib(state)}, of which ${resident} in memory; activations offloaded ${mib(offloaded)}; ${median(steps).toFixed(2)} s a step of ${tokens} tokens with all in memory`,
    ...Object.entries(ratios).map(
      ([name, { wall, cpu }]) => `${name}: ${ranged(wall)} times the time, CPU time ${ranged(cpu)} times`,
    ),
  ].join('\n'),
)
