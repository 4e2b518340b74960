// The time and memory of a private step by example against a step of ordinary LoRA on the same tokens.
//
//   npm run build && node benchmarks/private.mjs MODEL [--quantization nf4] [--precision auto] [--rounds 5] [--json]
//     [--ranks 8,16] [--shapes 8x128,4x512] [--modules lm_head]
//
// MODEL is a folder or a .gguf file; a shape is examples x tokens of each, one micro-batch. With modules both sides train
// these whole, too, and the private one takes its examples one at a time. A round trains the one and the other for two
// steps and takes the second; ratios are medians over the rounds of those within a round, so that a machine that is busy
// for a while slows both sides. CPU time suffers least from that, on one thread (LOWRANK_THREADS=1). Everybody is drawn
// into a step, so that both see the same.
import { parseArgs } from 'node:util'
import { dpDylora, loadModel, lora, planModel } from '../dist/esm/index.js'
import { cpuSeconds, median, textRows } from './measure.mjs'

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    quantization: { type: 'string', default: 'nf4' },
    precision: { type: 'string', default: 'auto' },
    ranks: { type: 'string', default: '8,16' },
    shapes: { type: 'string', default: '8x128,4x512' },
    rounds: { type: 'string', default: '5' },
    modules: { type: 'string' },
    json: { type: 'boolean', default: false },
  },
})
if (positionals.length !== 1) throw new Error('name one model: node benchmarks/private.mjs MODEL')
const [path] = positionals
const held = { quantization: options.quantization, precision: options.precision }
const STEPS = 2
const MIB = 2 ** 20

function strategies(rank, examples) {
  const plain = lora({ r: rank, modulesToSave: options.modules?.split(',') ?? null })
  const settings = {
    privacyUnit: 'example',
    noiseMultiplier: 1,
    rounds: STEPS,
    cohort: examples,
    delta: 1e-3,
  }
  return { plain, private: dpDylora({ adapter: plain, ...settings }) }
}

/** Of the second step, which finds everything warm. */
async function stepOf(model, strategy, examples, tokens) {
  // Words of one token or more each, cut to the length.
  const rows = textRows(examples, tokens)
  const adapter = await model.attach(strategy)
  try {
    let step
    let before = cpuSeconds()
    const run = adapter.train(rows, {
      ...(strategy.name === 'lora' ? { maxSteps: STEPS } : {}),
      maxSeqLength: tokens,
      perDeviceTrainBatchSize: examples,
      gradientCheckpointing: false,
      packing: false,
      warmupRatio: 0,
    })
    for await (const { tokensPerSecond, tokens: count } of run) {
      if (count !== examples * tokens) throw new Error(`${count} tokens in a step of ${examples} x ${tokens}`)
      const now = cpuSeconds()
      step = { wall: count / tokensPerSecond, cpu: now - before }
      before = now
    }
    return step
  } finally {
    await adapter.detach()
  }
}

const model = await loadModel(path, held)
const results = []
for (const shape of options.shapes.split(',')) {
  const [examples, tokens] = shape.split('x').map(Number)
  for (const rank of options.ranks.split(',').map(Number)) {
    const both = strategies(rank, examples)
    const times = { plain: [], private: [] }
    for (let round = 0; round < Number(options.rounds); round++)
      for (const name of round % 2 ? ['private', 'plain'] : ['plain', 'private'])
        times[name].push(await stepOf(model, both[name], examples, tokens))
    const shaped = {
      ...held,
      perDeviceTrainBatchSize: examples,
      maxSeqLength: tokens,
      gradientCheckpointing: false,
    }
    const peaks = {}
    for (const name of ['plain', 'private'])
      peaks[name] = (await planModel(path, { strategy: both[name], ...shaped })).peakBytes
    const ratiosOf = (clock) => times.private.map((step, round) => step[clock] / times.plain[round][clock])
    const summary = (clock) => {
      const ratios = ratiosOf(clock)
      return { ratio: median(ratios), lowest: Math.min(...ratios), highest: Math.max(...ratios) }
    }
    const [wall, cpu] = ['wall', 'cpu'].map(summary)
    const seconds = (name) => median(times[name].map((step) => step.wall))
    results.push({
      examples,
      tokens,
      rank,
      plain_seconds: seconds('plain'),
      private_seconds: seconds('private'),
      wall,
      cpu,
      plain_bytes: peaks.plain,
      private_bytes: peaks.private,
    })
    const text = ({ ratio, lowest, highest }) =>
      `${ratio.toFixed(2)} x (${lowest.toFixed(2)} to ${highest.toFixed(2)})`
    if (!options.json)
      console.log(
        `${shape} r=${rank}: ${seconds('plain').toFixed(2)} s plain, ${seconds('private').toFixed(2)} s private, ` +
          `${text(wall)}, CPU time ${text(cpu)}; planned ${(peaks.plain / MIB).toFixed(0)} MiB and ` +
          `${(peaks.private / MIB).toFixed(0)} MiB`,
      )
  }
}
await model.dispose()
if (options.json) console.log(JSON.stringify(results))
