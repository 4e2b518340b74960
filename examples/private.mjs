/**
 * Fine-tunes on the rows of several people so that the adapter reveals little about any of them, then evaluates its ranks.
 *
 *   node examples/private.mjs models/SmolLM2-135M-Instruct out
 */
import { dataset, dpDylora, dylora, loadModel } from 'lowrank'

const [path, output] = process.argv.slice(2)
if (!path || !output) {
  console.error('usage: node examples/private.mjs MODEL OUTPUT')
  process.exit(2)
}

/** Rows with their authors. A real guarantee needs many more authors. */
const rows = Array.from({ length: 200 }, (_, i) => ({
  messages: [
    { role: 'user', content: `${i % 10} + ${i % 7} = ?` },
    { role: 'assistant', content: `${(i % 10) + (i % 7)}` },
  ],
  person: `person ${i % 40}`,
}))

const model = await loadModel(path)
try {
  const adapter = await model.attach(
    dpDylora({
      adapter: dylora({ r: 4, loraAlpha: 8, trainedRanks: 'active' }),
      clients: { column: 'person' },
      targetEpsilon: 8,
      rounds: 5,
      cohort: 8,
    }),
  )
  const run = adapter.train(dataset(rows, { name: 'sums' }), {
    perDeviceTrainBatchSize: 4,
    maxSeqLength: 64,
    outputDir: output,
  })
  for await (const { step, totalSteps, privacy } of run)
    console.log(
      `round ${step}/${totalSteps}: ${privacy.cohort} people, rank ${privacy.rank}, epsilon ${privacy.epsilon.toFixed(2)}`,
    )
  for (const rank of [1, 2, 4]) {
    adapter.rank = rank
    const { loss } = await model.evaluate(dataset(rows.slice(0, 20), { name: 'sums' }), { maxSeqLength: 64 })
    console.log(`loss at rank ${rank}: ${loss.toFixed(4)}`)
  }
  // PEFT reads it as LoRA; its lowrank.json records the privacy spent.
  await adapter.save(`${output}/rank-2`, { rank: 2 })
  console.log(`The adapter is in ${output}, truncated to rank 2 in ${output}/rank-2.`)
} finally {
  await model.dispose()
}
