// The time and memory of a private step by example against a step of ordinary LoRA on the same tokens.
//
//   npm run build && node benchmarks/private.mjs MODEL [--quantization nf4] [--precision auto] [--rounds 5] [--json]
//     [--ranks 8,16] [--shapes 8x128,4x512]
//
// MODEL is a folder or a .gguf file; a shape is examples x tokens of each, one micro-batch. A round trains the one and
// the other for two steps and takes the second; the ratio is the median over the rounds of the ratios within a round, so
// that a machine that is busy for a while slows both sides. Everybody is drawn into a step, so that both see the same.
import { parseArgs } from 'node:util'
import { dpDylora, loadModel, lora, planModel } from '../dist/esm/index.js'

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    quantization: { type: 'string', default: 'nf4' },
    precision: { type: 'string', default: 'auto' },
    ranks: { type: 'string', default: '8,16' },
    shapes: { type: 'string', default: '8x128,4x512' },
    rounds: { type: 'string', default: '5' },
    json: { type: 'boolean', default: false },
  },
})
if (positionals.length !== 1) throw new Error('name one model: node benchmarks/private.mjs MODEL')
const [path] = positionals
const held = { quantization: options.quantization, precision: options.precision }
const STEPS = 2
const MIB = 2 ** 20

const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]

function strategies(rank, examples) {
  const plain = lora({ r: rank })
  const settings = {
    privacyUnit: 'example',
    noiseMultiplier: 1,
    rounds: STEPS,
    cohort: examples,
    delta: 1e-3,
  }
  return { plain, private: dpDylora({ adapter: plain, ...settings }) }
}

async function stepSeconds(model, strategy, examples, tokens) {
  // Words of one token or more each, cut to the length.
  const rows = Array.from({ length: examples }, (_, i) => ({
    text: Array.from({ length: 2 * tokens }, (_, j) => `word${(i * 31 + j * 17) % 97}`).join(' '),
  }))
  const adapter = await model.attach(strategy)
  try {
    let seconds = 0
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
      seconds = count / tokensPerSecond
    }
    return seconds
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
        times[name].push(await stepSeconds(model, both[name], examples, tokens))
    const shaped = {
      ...held,
      perDeviceTrainBatchSize: examples,
      maxSeqLength: tokens,
      gradientCheckpointing: false,
    }
    const peaks = {}
    for (const name of ['plain', 'private'])
      peaks[name] = (await planModel(path, { strategy: both[name], ...shaped })).peakBytes
    const ratios = times.private.map((seconds, i) => seconds / times.plain[i])
    results.push({
      examples,
      tokens,
      rank,
      plain_seconds: median(times.plain),
      private_seconds: median(times.private),
      ratio: median(ratios),
      lowest: Math.min(...ratios),
      highest: Math.max(...ratios),
      plain_bytes: peaks.plain,
      private_bytes: peaks.private,
    })
    if (!options.json) {
      const { plain_seconds, private_seconds, ratio, lowest, highest, plain_bytes, private_bytes } =
        results.at(-1)
      console.log(
        `${shape} r=${rank}: ${plain_seconds.toFixed(2)} s plain, ${private_seconds.toFixed(2)} s private, ` +
          `${ratio.toFixed(2)} x (${lowest.toFixed(2)} to ${highest.toFixed(2)}); planned ` +
          `${(plain_bytes / MIB).toFixed(0)} MiB and ${(private_bytes / MIB).toFixed(0)} MiB`,
      )
    }
  }
}
await model.dispose()
if (options.json) console.log(JSON.stringify(results))
