/**
 * Trains a classifier on a table as spreadsheet programs write it, and asks it: strict TypeScript from data to answer.
 * The labels may differ by white space and case, and the file may have any encoding that Node.js decodes.
 *
 *   npx tsc --strict --module nodenext examples/classifier.ts && node examples/classifier.js MODEL messages.csv out "My kettle leaks."
 */
import { type Classified, dataset, loadModel, lora, type RunResult, readLabels } from 'lowrank'

const [path, table, outputDir, ...texts] = process.argv.slice(2)
if (path === undefined || table === undefined || outputDir === undefined) {
  console.error('usage: node examples/classifier.js MODEL TABLE.csv OUTPUT [TEXT...]')
  process.exit(2)
}

const data = dataset(table, {
  columns: { text: 'message', label: 'topic' },
  encoding: 'windows-1252',
  stripLabels: true,
})

const model = await loadModel(path, { labels: await readLabels(data) })
try {
  const adapter = await model.attach(lora({ r: 8, loraAlpha: 16 }))
  const { best, steps }: RunResult = await adapter.train(data, {
    task: 'classification',
    evalFraction: 0.2,
    evalSteps: 10,
    metricForBestModel: 'f1',
    loadBestModelAtEnd: true,
    perDeviceTrainBatchSize: 8,
    maxSeqLength: 64,
    numTrainEpochs: 6,
    outputDir,
  })
  console.log(
    `${steps} steps; step ${best?.step} is the best, with a held-out F1 of ${best?.value.toFixed(3)}`,
  )
  const answers: Classified[] = await model.classify(texts)
  for (const [index, { label, probabilities }] of answers.entries())
    console.log(`${label} ${(probabilities[label] ?? 0).toFixed(2)}: ${texts[index]}`)
} finally {
  await model.dispose()
}
