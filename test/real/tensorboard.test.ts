/** Event files as TensorBoard's own reader has them. */
import { execFile } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'
import { loadModel, lora } from '../../lib/index.js'
import { readMetrics } from '../../lib/train/records/metrics-file.js'
import { chats, tinyModel } from '../e2e/tiny-model.js'
import { scratchFile, scratchFolder } from '../lib/scratch.js'
import { pythonWith } from '../python.js'

const PACKAGES = ['tensorboard==2.20.0', 'setuptools==75.8.0']
const READ = `
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1], size_guidance={'scalars': 0, 'tensors': 0})
events.Reload()
print(json.dumps({tag: [[e.step, e.value] for e in events.Scalars(tag)] for tag in events.Tags()['scalars']}))
`

const run = promisify(execFile)

const found = await pythonWith('tensorboard', PACKAGES)
if ('skipped' in found) console.warn(`Skipping TensorBoard's reader: ${found.skipped}`)

it.skipIf('skipped' in found)('reads every number, also of a run that was stopped and resumed', async () => {
  const outputDir = scratchFolder()
  const data = scratchFile('train.jsonl', chats(40))
  const model = await loadModel(tinyModel(), { precision: 'fp32' })
  try {
    for (const resume of [false, true]) {
      const adapter = await model.attach(lora({ r: 4 }), { seed: 1 })
      const shape = { maxSeqLength: 64, perDeviceTrainBatchSize: 2, learningRate: 0.01, maxSteps: 12 }
      const options = { ...shape, saveSteps: 4, evalSteps: 4, evalFraction: 0.2, outputDir, resume }
      // The first run is left in its tenth step, whose numbers the second makes again.
      for await (const { step } of adapter.train(data, { ...options, reportTo: 'tensorboard' }))
        if (!resume && step === 10) break
      await adapter.detach()
    }
  } finally {
    await model.dispose()
  }
  const python = (found as { python: string }).python
  const [place] = readdirSync(join(outputDir, 'runs'))
  const { stdout } = await run(python, ['-c', READ, join(outputDir, 'runs', place as string)])
  const read = JSON.parse(stdout) as Record<string, [number, number][]>
  const steps = (await readMetrics(outputDir)).flatMap((line) => (line.event === 'step' ? [line] : []))
  expect(steps.map(({ step }) => step)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])
  for (const key of ['loss', 'grad_norm', 'learning_rate'] as const)
    expect(read[`train/${key}`]).toEqual(
      steps.map((line) => [line.step, expect.closeTo(Math.fround(line[key] as number), 9)]),
    )
  expect(read['eval/loss']?.map(([step]) => step)).toEqual([0, 4, 8, 12])
})
