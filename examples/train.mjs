/**
 * Fine-tunes a model with QLoRA from JavaScript and compares an answer before and after.
 *
 *   node examples/train.mjs models/SmolLM2-135M-Instruct train.jsonl out
 */
import { dataset, loadModel, lora, nf4, qlora } from 'lowrank'

const [path, data, output] = process.argv.slice(2)
if (!path || !data || !output) {
  console.error('usage: node examples/train.mjs MODEL TRAIN.jsonl OUTPUT')
  process.exit(2)
}

const question = [{ role: 'user', content: 'What is the color of the sky?' }]

// Node 20 has no `await using` yet; with TypeScript or a newer Node, it replaces the try and finally.
const model = await loadModel(path, { quantization: nf4() })
try {
  const before = await model.generate(question, { maxNewTokens: 32 })

  const adapter = await model.attach(qlora({ adapter: lora({ r: 16, loraAlpha: 32 }) }))
  const run = adapter.train(dataset(data), {
    learningRate: 1e-3,
    lrSchedulerType: 'cosine',
    warmupRatio: 0.03,
    numTrainEpochs: 3,
    perDeviceTrainBatchSize: 4,
    maxSeqLength: 128,
    evalFraction: 0.1,
    outputDir: output,
  })

  console.log(`Planned, before the first step:\n${run.memory}`)
  for await (const step of run) {
    console.log(`step ${step.step}/${step.totalSteps}: loss ${step.loss.toFixed(4)}`)
  }
  for (const { step, loss } of run.evaluations)
    console.log(`held-out loss after step ${step}: ${loss.toFixed(4)}`)

  const after = await model.generate(question, { maxNewTokens: 32 })
  console.log(`Before: ${before.text}\nAfter:  ${after.text}\nThe adapter is in ${output}.`)
} finally {
  await model.dispose()
}
