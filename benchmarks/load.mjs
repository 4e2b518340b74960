// From a fresh process to the first training step: load a model whose weights are cached, attach an adapter, plan, take a
// step.
//
//   npm run build && node benchmarks/load.mjs MODEL [--quantization nf4] [--tokens 128] [--rounds 5]
//
// MODEL is a folder or a .gguf file. The first process fills the cache of quantized weights and is not counted. Printed are
// medians over the processes after it: what Node takes to start and to import the package, and then seconds from there.
import { execFileSync } from 'node:child_process'
import { parseArgs } from 'node:util'
import { loadModel, lora } from '../dist/esm/index.js'
import { median, textRows } from './measure.mjs'

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    quantization: { type: 'string', default: 'nf4' },
    tokens: { type: 'string', default: '128' },
    rounds: { type: 'string', default: '5' },
    once: { type: 'boolean', default: false },
  },
})
if (positionals.length !== 1) throw new Error('name one model: node benchmarks/load.mjs MODEL')
const tokens = Number(options.tokens)

async function once() {
  const started = performance.now()
  const at = {}
  const reach = (name) => {
    at[name] = (performance.now() - started) / 1000
  }
  at['Node and imports'] = started / 1000
  const model = await loadModel(positionals[0], { quantization: options.quantization })
  reach('model loaded')
  const adapter = await model.attach(lora({ r: 16, targetModules: 'all-linear' }))
  const run = adapter.train(textRows(1, tokens), {
    ...{ maxSteps: 1, maxSeqLength: tokens, perDeviceTrainBatchSize: 1, trainOn: 'all' },
  })
  for await (const { tokensPerSecond, tokens: count } of run) {
    reach('first step done')
    at['first step began'] = at['first step done'] - count / tokensPerSecond
  }
  await model.dispose()
  return at
}

if (options.once) console.log(JSON.stringify(await once()))
else {
  const rounds = Array.from({ length: Number(options.rounds) + 1 }, () =>
    JSON.parse(execFileSync(process.execPath, [...process.argv.slice(1), '--once'], { encoding: 'utf8' })),
  ).slice(1)
  for (const name of ['Node and imports', 'model loaded', 'first step began', 'first step done'])
    console.log(`${name.padEnd(16)} ${median(rounds.map((at) => at[name])).toFixed(2)} s`)
}
