/** Files of a private run: its output folder may be shared whole, and everything else is kept in another folder. */

import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { TrainControl } from '../../../lib/model/adapter.js'
import { loadModel } from '../../../lib/model/load.js'
import type { Model } from '../../../lib/model/model.js'
import type { TrainOptions } from '../../../lib/options/types.js'
import { dpDylora } from '../../../lib/strategies/dp-dylora.js'
import { dylora } from '../../../lib/strategies/dylora.js'
import { lora } from '../../../lib/strategies/lora.js'
import type { StrategyConfig } from '../../../lib/strategies/strategy.js'
import { chats, tinyModel } from '../../e2e/tiny-model.js'
import { sweepTest } from '../../sweep.js'
import { scratchFile, scratchFolder } from '../scratch.js'

const ADAPTER = ['README.md', 'adapter_config.json', 'adapter_model.safetensors', 'lowrank.json']
const strategy = dpDylora({
  adapter: dylora({ r: 2, loraAlpha: 4, trainedRanks: 'active' }),
  clients: { column: 'user' },
  cohort: 3,
  rounds: 4,
  noiseMultiplier: 0.5,
  delta: 1e-2,
})

let model: Model
let data: string
let publicData: string
beforeAll(async () => {
  const rows = chats(24).trim().split('\n')
  const owned = rows.map((row, i) => JSON.stringify({ ...JSON.parse(row), user: `person-${i % 8}` }))
  data = scratchFile('clients.jsonl', `${owned.join('\n')}\n`)
  publicData = scratchFile('public.jsonl', chats(4))
  model = await loadModel(tinyModel(), { precision: 'fp32' })
})
afterAll(() => model.dispose())

const newOutput = () => join(scratchFolder(), 'out')
const secretOf = (outputDir: string) => `${outputDir}-secret`
const filesIn = (folder: string) => readdirSync(folder, { recursive: true }).map(String).sort()

async function train(
  outputDir: string,
  {
    until,
    of = strategy,
    ...control
  }: Partial<TrainOptions> & TrainControl & { until?: number; of?: StrategyConfig } = {},
): Promise<void> {
  const adapter = await model.attach(of, { seed: 1 })
  const options = { maxSeqLength: 64, perDeviceTrainBatchSize: 2, learningRate: 0.01, seed: 7 }
  try {
    for await (const { step } of adapter.train(data, { ...options, outputDir, ...control }))
      if (step === until) return
  } finally {
    await adapter.detach()
  }
}

test('the output folder has the adapter and its promise, and nothing that noise does not cover', async () => {
  const outputDir = newOutput()
  await train(outputDir, { saveSteps: 2, evalDataset: publicData, evalSteps: 2 })
  expect(filesIn(outputDir)).toEqual(ADAPTER)
  const secret = secretOf(outputDir)
  expect(readdirSync(secret).sort()).toEqual([
    'checkpoint-0',
    'checkpoint-2',
    'checkpoint-4',
    'metrics.jsonl',
    'report.html',
    'run.json',
  ])
  if (process.platform !== 'win32') expect(statSync(secret).mode & 0o777).toBe(0o700)

  const { rules, run } = JSON.parse(readFileSync(join(secret, 'checkpoint-4', 'training_state.json'), 'utf8'))
  const metrics = readFileSync(join(secret, 'metrics.jsonl'), 'utf8').trim().split('\n')
  const measured = metrics.flatMap((line) => {
    const { loss, grad_norm, train_loss, clipped_share, perplexity } = JSON.parse(line)
    return [loss, grad_norm, train_loss, clipped_share, perplexity].filter(
      (value) => String(value).length > 6,
    )
  })
  expect(measured.length).toBeGreaterThan(8)
  const key = Buffer.from(rules.key, 'hex')
  const owners = Buffer.from(rules.pledge.owners, 'base64')
  const rowKeys = Array.from({ length: 8 }, (_, row) => owners.subarray(8 * row, 8 * row + 8))
  const kept = [rules.key, key, key.toString('base64'), rules.pledge.owners, run, 'person-', ...rowKeys]
  for (const file of ADAPTER) {
    const bytes = readFileSync(join(outputDir, file))
    for (const secret of [...kept, ...measured.map(String)]) expect(bytes.includes(secret), file).toBe(false)
  }
})

sweepTest(
  'an interrupted run goes on from the folder apart, also with its best step kept there',
  async () => {
    const outputDir = newOutput()
    const best = {
      ...{
        evalDataset: publicData,
        evalSteps: 1,
        loadBestModelAtEnd: true,
        metricForBestModel: 'loss' as const,
      },
      ...{ saveSteps: 1, saveTotalLimit: 1 },
    }
    await train(outputDir, { ...best, until: 2 })
    expect(readdirSync(outputDir)).toEqual([])
    expect(readdirSync(secretOf(outputDir))).toContain('checkpoint-2')
    await expect(train(outputDir, best)).rejects.toThrow(
      `${secretOf(outputDir)} holds checkpoints of an earlier run. Use resume: true to continue it`,
    )
    await train(outputDir, { ...best, resume: true })
    expect(filesIn(outputDir)).toEqual(ADAPTER)
    await expect(train(outputDir)).rejects.toThrow(
      `${outputDir} holds the adapter and ${secretOf(outputDir)} holds checkpoints of an earlier run.`,
    )
    await train(outputDir, { force: true })
  },
)

test('what a run kept inside of the output folder is neither taken along nor lost', async () => {
  const outputDir = newOutput()
  await train(outputDir, { saveSteps: 2, until: 2 })
  const move = (from: string, to: string) => {
    mkdirSync(to, { recursive: true })
    for (const name of readdirSync(from)) renameSync(join(from, name), join(to, name))
  }
  move(secretOf(outputDir), outputDir)
  const before = filesIn(outputDir)
  for (const control of [{}, { resume: true }, { resume: join(outputDir, 'checkpoint-2') }])
    await expect(train(outputDir, control)).rejects.toThrow(
      `${outputDir} holds metrics.jsonl, report.html, run.json, checkpoints. A private run keeps such files in ${secretOf(outputDir)}, apart from the adapter. Move them there if they belong to this run; otherwise use another outputDir to keep them, or force: true to remove them.`,
    )
  expect(filesIn(outputDir)).toEqual(before)
  move(outputDir, secretOf(outputDir))
  await train(outputDir, { resume: true })
  expect(filesIn(outputDir)).toEqual(ADAPTER)
})

test('by force, what an open run kept in the output folder is gone, and nothing else', async () => {
  const outputDir = newOutput()
  await train(outputDir, { of: lora({ r: 2 }), maxSteps: 2, saveSteps: 1 })
  expect(readdirSync(outputDir)).toEqual(
    expect.arrayContaining(['checkpoint-1', 'metrics.jsonl', 'run.json']),
  )
  expect(existsSync(secretOf(outputDir))).toBe(false)
  writeFileSync(join(outputDir, 'README.md'), 'mine')
  await train(outputDir, { force: true })
  expect(filesIn(outputDir)).toEqual(ADAPTER)
  expect(readFileSync(join(outputDir, 'README.md'), 'utf8')).toBe('mine')
})
