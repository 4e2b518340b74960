/** report.html of real runs. */

import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import type { TrainControl } from '../../../lib/model/adapter.js'
import { loadModel } from '../../../lib/model/load.js'
import type { Model } from '../../../lib/model/model.js'
import type { TrainOptions } from '../../../lib/options/types.js'
import { dpDylora } from '../../../lib/strategies/dp-dylora.js'
import { dylora } from '../../../lib/strategies/dylora.js'
import { lora } from '../../../lib/strategies/lora.js'
import type { StrategyConfig } from '../../../lib/strategies/strategy.js'
import type { TrainingRun } from '../../../lib/train/run/run.js'
import { chats, tinyModel } from '../../e2e/tiny-model.js'
import { scratchFile, scratchFolder } from '../scratch.js'

const folder = tinyModel()
const data = scratchFile('train.jsonl', chats(40))
const loaded: Model[] = []
afterEach(async () => {
  for (const model of loaded.splice(0)) await model.dispose()
})

async function start(
  options: Partial<TrainOptions> & TrainControl = {},
  strategy: StrategyConfig = lora({ r: 4 }),
): Promise<{ run: TrainingRun; outputDir: string; report: () => string }> {
  const model = await loadModel(folder, { precision: 'fp32' })
  loaded.push(model)
  const outputDir = join(scratchFolder(), 'orders')
  const adapter = await model.attach(strategy, { seed: 1 })
  const shape = { maxSteps: 4, maxSeqLength: 64, perDeviceTrainBatchSize: 2, outputDir }
  const run = adapter.train(data, { ...shape, ...options })
  return { run, outputDir, report: () => readFileSync(join(outputDir, 'report.html'), 'utf8') }
}

test('a run leaves its report, with its answers once they are asked', async () => {
  const { run, outputDir, report } = await start({ evalFraction: 0.2, sampleRows: 1 })
  for await (const _ of run);
  expect(report()).toContain('<span class="state done">Done</span>')
  expect(report()).toContain('<h1>orders</h1>')
  expect(report()).not.toContain('id="answers"')
  await run.samples()
  expect(report()).toContain('id="answers"')
  expect(readdirSync(outputDir).sort()).toEqual(
    'README.md adapter_config.json adapter_model.safetensors lowrank.json metrics.jsonl report.html run.json'.split(
      ' ',
    ),
  )
})

test('so does one that is stopped, or left, or fails', async () => {
  const stopped = await start()
  for await (const { step } of stopped.run) if (step === 2) stopped.run.stop()
  expect(stopped.report()).toContain('The run was stopped after step 2 of 4.')
  const left = await start()
  for await (const { step } of left.run) if (step === 2) break
  expect(left.report()).toContain('The run is at step 2, or ended there without a word.')
  const failing = await start({ learningRate: 1e30, maxGradNorm: 0, warmupRatio: 0 })
  await expect(async () => {
    for await (const _ of failing.run);
  }).rejects.toThrow('step 2')
  expect(failing.report()).toContain('<b>DIVERGED</b>')
})

test('a private run keeps its report with its secrets', async () => {
  const clients = { partition: 'iid', count: 8 } as const
  const noise = { noiseMultiplier: 1, clippingNorm: 1, delta: 0.01 }
  const strategy = dpDylora({ adapter: dylora({ r: 2 }), clients, rounds: 2, cohort: 4, ...noise })
  const { run, outputDir } = await start({ maxSteps: null }, strategy)
  for await (const _ of run);
  expect(existsSync(join(outputDir, 'report.html'))).toBe(false)
  expect(readFileSync(join(`${outputDir}-secret`, 'report.html'), 'utf8')).toContain(
    'Keep this page to yourself',
  )
})

test('report: false writes none', async () => {
  const { run, outputDir } = await start({ report: false })
  for await (const _ of run);
  expect(existsSync(join(outputDir, 'adapter_config.json'))).toBe(true)
  expect(existsSync(join(outputDir, 'report.html'))).toBe(false)
})
