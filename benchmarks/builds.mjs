// The speed of two builds of this package by turns: what a change of the engine costs or saves.
//
//   LOWRANK_THREADS=1 node benchmarks/builds.mjs MODEL --old FOLDER [--strategies lora,dora] [--quantization nf4]
//     [--precision auto] [--tokens 512] [--rounds 9] [--json]
//
// MODEL is a folder or a .gguf file; FOLDER is a clone of another commit in which `npm run build` ran. Both builds are
// loaded into one process. A round trains each strategy for two steps with either build, in turns that begin with the
// other one each time, and takes the second step; evaluation and generation follow. The ratios are the median over the
// rounds of new to old CPU time within a round, so that a machine that is busy for a while slows both sides.
import { pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'
import { table } from '../scripts/markdown.mjs'
import { cpuSeconds, median, textRows } from './measure.mjs'

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    old: { type: 'string' },
    strategies: {
      type: 'string',
      default: 'lora,lora-fa,lora-plus,dora,delta-lora,dylora,adalora,lora-drop,vera,loha,lokr,full',
    },
    quantization: { type: 'string', default: 'nf4' },
    precision: { type: 'string', default: 'auto' },
    tokens: { type: 'string', default: '512' },
    rounds: { type: 'string', default: '9' },
    json: { type: 'boolean', default: false },
  },
})
if (positionals.length !== 1 || options.old === undefined)
  throw new Error('name a model and the other build: node benchmarks/builds.mjs MODEL --old FOLDER')

const load = async (folder) => {
  const api = await import(new URL('dist/esm/index.js', folder).href)
  const open = (quantization) => api.loadModel(positionals[0], { quantization, precision: options.precision })
  return { api, quantized: await open(options.quantization), plain: await open('none') }
}
const builds = {
  old: await load(pathToFileURL(`${options.old}/`)),
  new: await load(new URL('../', import.meta.url)),
}

const rows = textRows(2, Number(options.tokens))
const factoryOf = (name) => name.replace(/-(.)/g, (_, letter) => letter.toUpperCase())

/** Seconds of the second of two steps. */
async function step({ api, quantized, plain }, name) {
  const model = name === 'full' ? plain : quantized
  const adapter = await model.attach(await model.probe(api[factoryOf(name)](), rows))
  let seconds
  let before = cpuSeconds()
  const run = adapter.train(rows, {
    maxSteps: 2,
    perDeviceTrainBatchSize: 1,
    maxSeqLength: Number(options.tokens),
    packing: false,
    gradientCheckpointing: false,
  })
  for await (const _ of run) {
    seconds = cpuSeconds() - before
    before = cpuSeconds()
  }
  await adapter.detach()
  return seconds
}
const timed = async (work) => {
  const before = cpuSeconds()
  await work()
  return cpuSeconds() - before
}
const evaluation = ({ quantized }) =>
  timed(() => quantized.evaluate(rows, { maxSeqLength: Number(options.tokens), packing: false }))
const generation = ({ quantized }) =>
  timed(() => quantized.generate('Once upon a time', { maxNewTokens: 64, temperature: 0 }))

const jobs = [
  ...options.strategies.split(',').map((name) => [name, (build) => step(build, name)]),
  ['evaluation', evaluation],
  ['generation', generation],
]
const seconds = Object.fromEntries(jobs.map(([name]) => [name, { old: [], new: [] }]))
for (let round = 0; round < Number(options.rounds); round++) {
  for (const [name, work] of jobs) {
    const turns = round % 2 === 0 ? ['old', 'new'] : ['new', 'old']
    for (const turn of turns) seconds[name][turn].push(await work(builds[turn]))
    process.stderr.write(`\r\x1b[Kround ${round + 1}: ${name}`)
  }
}
process.stderr.write('\r\x1b[K')

const results = jobs.map(([name]) => {
  const { old, new: now } = seconds[name]
  const ratios = now.map((value, i) => value / old[i]).toSorted((a, b) => a - b)
  return {
    name,
    old: median(old),
    new: median(now),
    ratio: median(ratios),
    least: ratios[0],
    most: ratios.at(-1),
  }
})
if (options.json) console.log(JSON.stringify({ ...options, results }))
else
  console.log(
    table(
      ['', 'old, s', 'new, s', 'new / old', 'rounds'],
      results.map(({ name, old, new: now, ratio, least, most }) => [
        name,
        old.toFixed(3),
        now.toFixed(3),
        ratio.toFixed(3),
        `${least.toFixed(2)} to ${most.toFixed(2)}`,
      ]),
    ),
  )
for (const { quantized, plain } of Object.values(builds)) {
  await quantized.dispose()
  await plain.dispose()
}
