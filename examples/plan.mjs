/**
 * Memory of training for a few strategies and batch sizes, computed without loading the model; its
 * config.json alone is enough.
 *
 *   node examples/plan.mjs models/SmolLM2-135M-Instruct
 */
import { formatBytes, lora, planModel, qlora } from 'lowrank'

const [path] = process.argv.slice(2)
if (!path) {
  console.error('usage: node examples/plan.mjs MODEL')
  process.exit(2)
}

for (const strategy of [lora({ r: 16 }), qlora({ adapter: lora({ r: 16 }) })]) {
  for (const perDeviceTrainBatchSize of [1, 4]) {
    const memory = await planModel(path, { strategy, perDeviceTrainBatchSize, maxSeqLength: 128 })
    const weights = formatBytes(memory.bytes('weights') + memory.bytes('quantization_constants'))
    const peak = formatBytes(memory.peakBytes)
    console.log(
      `${strategy.name}, batch ${perDeviceTrainBatchSize}: ${peak} at the peak, ${weights} of it weights`,
    )
  }
}
