/** The record of a run, metrics.jsonl, beside its progress. */

import { appendFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { ConfigError } from '../../../../lib/core/errors.js'
import { loadModel } from '../../../../lib/model/load.js'
import { adalora } from '../../../../lib/strategies/adalora.js'
import { lora } from '../../../../lib/strategies/lora.js'
import type { StrategyConfig } from '../../../../lib/strategies/strategy.js'
import type { MetricsLine } from '../../../../lib/train/records/event-schemas.js'
import { hasEnded, readMetrics } from '../../../../lib/train/records/metrics-file.js'
import { chats, tinyModel } from '../../../e2e/tiny-model.js'
import { sweepTest } from '../../../sweep.js'
import { scratchFile, scratchFolder } from '../../scratch.js'

const folder = tinyModel()
const data = scratchFile('train.jsonl', chats(60))

const only = <Kind extends MetricsLine['event']>(lines: readonly MetricsLine[], kind: Kind) =>
  lines.filter((line): line is Extract<MetricsLine, { event: Kind }> => line.event === kind)

async function train(strategy: StrategyConfig, options: object, asked = false): Promise<MetricsLine[]> {
  const model = await loadModel(folder, { precision: 'fp32' })
  const outputDir = scratchFolder()
  try {
    const adapter = await model.attach(strategy, { seed: 1 })
    const shape = { maxSeqLength: 64, perDeviceTrainBatchSize: 2, learningRate: 0.01, outputDir }
    const run = adapter.train(data, { ...shape, ...options })
    for await (const _ of run) if (asked) expect(await hasEnded(outputDir)).toBe(false)
    if (asked) await run.samples()
    expect(await hasEnded(outputDir)).toBe(true)
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
  } finally {
    await model.dispose()
  }
  return readMetrics(outputDir)
}

sweepTest('a record begins with what went in, and memory by category is that of the plan', async () => {
  const lines = await train(
    lora({ r: 4, loraAlpha: 8 }),
    {
      ...{ maxSteps: 25, evalFraction: 0.2, sampleRows: 2, command: 'npx lowrank train run.yaml' },
    },
    true,
  )
  expect(lines[0]).toMatchObject({
    event: 'start',
    version: expect.stringMatching(/^\d+\.\d+\.\d+/),
    model: { name: folder, fingerprint: expect.stringMatching(/^[0-9a-f]{16,}$/) },
    strategy: { name: 'lora', r: 4, lora_alpha: 8 },
    strategy_label: 'LoRA',
    trainable_parameters: expect.any(Number),
    data: { name: data, rows: 48, hash: expect.any(String) },
    evaluation: { name: null, rows: 12, hash: expect.any(String) },
    device: 'cpu',
    total_steps: 25,
    config: { learning_rate: 0.01, max_steps: 25, max_seq_length: 64, eval_fraction: 0.2 },
    command: 'npx lowrank train run.yaml',
    resumed_from: null,
  })
  expect(Object.keys((lines[0] as { config: object }).config)).not.toContain('seed')
  const [plan] = only(lines, 'plan')
  const memory = only(lines, 'memory')
  expect(memory.map(({ step }) => step)).toEqual([0, 10, 20, 25])
  const planned = Object.fromEntries((plan?.rows ?? []).map(({ category, bytes }) => [category, bytes]))
  expect(memory[1]?.allocated).toMatchObject({ weights: planned.weights, adapters: planned.adapters })
  expect(memory[1]?.resident_bytes).toBeGreaterThan(1 << 20)
  expect(lines.at(-1)).toMatchObject({
    event: 'samples',
    held_out: true,
    rows: [{ prompt: expect.any(String) }, {}],
  })
})

test('AdaLoRA records the ranks that it has left', async () => {
  const lines = await train(adalora({ initR: 4, targetR: 2, tinit: 2, tfinal: 4 }), { maxSteps: 16 })
  const ranks = only(lines, 'ranks')
  expect(ranks.length).toBeGreaterThan(3)
  const left = ranks.map(({ ranks }) => Object.values(ranks).reduce((sum, rank) => sum + rank, 0))
  const linears = Object.keys(ranks[0]?.ranks ?? {})
  expect(linears).toContain('model.layers.0.self_attn.q_proj')
  expect(left.at(-1)).toBe(2 * linears.length)
  expect(left[0]).toBeGreaterThan(left.at(-1) as number)
  expect(left[0]).toBeLessThanOrEqual(4 * linears.length)
})

test('a failure is recorded, and half a line at the end is left out', async () => {
  const model = await loadModel(folder, { precision: 'fp32' })
  const outputDir = scratchFolder()
  const adapter = await model.attach(lora({ r: 4 }), { seed: 1 })
  const run = adapter.train(data, {
    maxSteps: 30,
    maxSeqLength: 64,
    learningRate: 1e30,
    maxGradNorm: 0,
    outputDir,
  })
  await expect(async () => {
    for await (const _ of run);
  }).rejects.toThrow()
  await model.dispose()
  appendFileSync(`${outputDir}/metrics.jsonl`, '{"event":"st')
  const [error] = (await readMetrics(outputDir)).slice(-1)
  expect(error).toMatchObject({ event: 'error', code: 'DIVERGED', step: expect.any(Number) })
})
