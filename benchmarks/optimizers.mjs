// Learning with 8-bit or paged AdamW state compared with AdamW: held-out loss over training, several seeds each.
//
//   npm run build && node benchmarks/optimizers.mjs MODEL [--dataset demo/train.jsonl] [--held-out demo/test.jsonl]
//     [--optimizers adamw_8bit,paged_adamw_8bit] [--quantization nf4] [--rank 16] [--learning-rate 2e-4]
//     [--steps 100] [--every 10] [--seeds 3] [--json]
//
// MODEL is a folder or a .gguf file. Two runs of one seed see the same rows and start from the same adapter, so that
// only the optimizer tells them apart. Printed is the mean over all evaluations of the distance between their losses,
// and beside it the same between AdamW's own runs of two seeds: the noise that it is to be read against. Paged state
// has a quarter of its bytes in memory.
import { parseArgs } from 'node:util'
import { loadModel, lora } from '../dist/esm/index.js'

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    dataset: { type: 'string', default: 'demo/train.jsonl' },
    'held-out': { type: 'string', default: 'demo/test.jsonl' },
    optimizers: { type: 'string', default: 'adamw_8bit,paged_adamw_8bit' },
    quantization: { type: 'string', default: 'nf4' },
    rank: { type: 'string', default: '16' },
    'learning-rate': { type: 'string', default: '2e-4' },
    steps: { type: 'string', default: '100' },
    every: { type: 'string', default: '10' },
    seeds: { type: 'string', default: '3' },
    json: { type: 'boolean', default: false },
  },
})
if (positionals.length !== 1) throw new Error('name one model: node benchmarks/optimizers.mjs MODEL')
const seeds = Array.from({ length: Number(options.seeds) }, (_, i) => i + 1)
const model = await loadModel(positionals[0], { quantization: options.quantization })

/** Held-out losses over a run, and the bytes of the optimizer's state, in memory and all. */
async function curve(optimizer, seed) {
  const adapter = await model.attach(lora({ r: Number(options.rank), targetModules: 'all-linear' }), { seed })
  try {
    const run = adapter.train(options.dataset, {
      ...{ optimizer, seed, evalDataset: options['held-out'], evalSteps: Number(options.every) },
      ...{ maxSteps: Number(options.steps), learningRate: Number(options['learning-rate']), packing: false },
    })
    for await (const _ of run);
    return {
      losses: run.evaluations.map(({ loss }) => loss),
      stateBytes: run.memory.bytes('optimizer') + run.memory.pagedStateBytes,
    }
  } finally {
    await adapter.detach()
  }
}

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length
/** Mean distance between two curves. */
const apart = (a, b) => mean(a.losses.map((loss, i) => Math.abs(loss - b.losses[i])))

const plain = []
for (const seed of seeds) plain.push(await curve('adamw', seed))
const [{ stateBytes }] = plain
const results = []
for (const name of options.optimizers.split(',')) {
  const state = name.endsWith('8bit') ? stateBytes / 4 : stateBytes
  const optimizer = name.startsWith('paged') ? { type: name, resident: Math.ceil(state / 4) } : name
  const runs = []
  for (const seed of seeds) runs.push(await curve(optimizer, seed))
  results.push({
    optimizer: name,
    state_bytes: runs[0].stateBytes,
    final_losses: runs.map(({ losses }) => losses.at(-1)),
    distance: mean(runs.map((run, i) => apart(run, plain[i]))),
  })
}
await model.dispose()
const pairs = plain.flatMap((a, i) => plain.slice(i + 1).map((b) => apart(a, b)))
const noise = mean(pairs)
if (options.json)
  console.log(
    JSON.stringify({
      ...{ quantization: options.quantization, rank: Number(options.rank), steps: Number(options.steps) },
      ...{ seeds: seeds.length, distance_between_seeds: noise },
      adamw: { state_bytes: stateBytes, final_losses: plain.map(({ losses }) => losses.at(-1)) },
      optimizers: results,
    }),
  )
else {
  const last = (losses) => losses.map((loss) => loss.toFixed(4)).join(', ')
  console.log(
    `adamw: state ${stateBytes} bytes, held-out loss ${last(plain.map(({ losses }) => losses.at(-1)))}`,
  )
  for (const { optimizer, state_bytes, final_losses, distance } of results)
    console.log(
      `${optimizer}: state ${(state_bytes / stateBytes).toFixed(3)} of it, held-out loss ${last(final_losses)}; ` +
        `${distance.toExponential(1)} from adamw with the same seed`,
    )
  console.log(`adamw with another seed: ${noise.toExponential(1)}`)
}
