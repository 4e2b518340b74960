// Loads a model with NF4 in a process of its own, trains a few steps where a dataset is given, and prints what was
// planned and what was resident, in bytes, as JSON.
// Usage: node measure.mjs MODEL [DATASET MAX_STEPS]
import { loadModel, lora, nf4 } from '../../dist/esm/index.js'
import { addon } from '../../dist/esm/native/addon.js'

const [path, data, steps] = process.argv.slice(2)
const native = addon()
const before = native.residentBytes().rss
native.resetPeak()
const model = await loadModel(path, { quantization: nf4({ doubleQuant: true }) })
const loaded = { before, loadPeak: native.residentBytes().peak, allocated: native.allocated() }
let trained = {}
if (data !== undefined) {
  const adapter = await model.attach(lora({ r: 16, loraAlpha: 32, targetModules: 'all-linear' }))
  const run = adapter.train(data, {
    maxSteps: Number(steps),
    perDeviceTrainBatchSize: 4,
    maxSeqLength: 512,
    trainOn: 'all',
  })
  native.resetPeak()
  let tokens = 0
  for await (const step of run) tokens = Math.max(tokens, step.tokens)
  trained = { planned: run.memory.peakBytes, peak: native.residentBytes().peak, tokens }
}
console.log(JSON.stringify({ ...loaded, ...trained }))
await model.dispose()
