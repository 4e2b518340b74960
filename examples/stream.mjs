/**
 * Fine-tunes a model on rows that are generated during training. A real program would read a database or a queue.
 *
 *   node examples/stream.mjs models/SmolLM2-135M-Instruct out
 */
import { dataset, loadModel, lora } from 'lowrank'

const [path, output] = process.argv.slice(2)
if (!path || !output) {
  console.error('usage: node examples/stream.mjs MODEL OUTPUT')
  process.exit(2)
}

let made = 0

/** Endless sums. A generator function, so that a resumed run can read the same rows again from the start. */
async function* sums() {
  for (let i = 0; ; i++) {
    const [a, b] = [i % 10, Math.floor(i / 10) % 10]
    made = i + 1
    yield {
      messages: [
        { role: 'user', content: `${a} + ${b} = ?` },
        { role: 'assistant', content: `${a + b}` },
      ],
    }
  }
}

const model = await loadModel(path)
try {
  const adapter = await model.attach(lora({ r: 8, loraAlpha: 16 }))
  const rows = dataset(sums, { name: 'sums', streaming: true, shuffleBufferSize: 100 })
  const run = adapter.train(rows, {
    learningRate: 1e-3,
    // A stream has no length, so the run needs a number of steps.
    maxSteps: 10,
    perDeviceTrainBatchSize: 2,
    maxSeqLength: 64,
    saveSteps: 5,
    outputDir: output,
  })
  for await (const step of run) {
    console.log(`step ${step.step}/${step.totalSteps}: loss ${step.loss.toFixed(4)}, ${made} rows made`)
  }
  console.log(`The adapter is in ${output}.`)
} finally {
  await model.dispose()
}
