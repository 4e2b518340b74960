/**
 * The table of docs/memory.md: what it takes to train models whose shapes are well known, planned from what of their
 * config.json decides it.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { formatBytes } from '../dist/esm/core/bytes.js'
import { full, lora, qlora } from '../dist/esm/index.js'
import { SHAPES } from '../dist/esm/models/shapes.js'
import { planModel } from '../dist/esm/planning/plan.js'
import { table, withMarked } from './markdown.mjs'

const adapter = lora({ r: 16, loraAlpha: 32, targetModules: 'all-linear' })
const METHODS = [full(), adapter, qlora({ adapter })]
const ROOM = { perDeviceTrainBatchSize: 1, maxSeqLength: 2048, precision: 'bf16', threads: 1 }

async function memory() {
  const folder = mkdtempSync(join(tmpdir(), 'lowrank-shapes-'))
  const file = join(folder, 'config.json')
  try {
    const rows = []
    for (const [model, config] of SHAPES) {
      writeFileSync(file, JSON.stringify(config))
      const plans = []
      for (const strategy of METHODS) plans.push(await planModel(file, { ...ROOM, strategy }))
      const [{ totalParameters }] = plans
      rows.push([
        model,
        `${(totalParameters / 1e9).toPrecision(3)} B`,
        ...plans.map(({ peakBytes }) => formatBytes(peakBytes)),
      ])
    }
    return table(['model', 'parameters', 'full', 'lora', 'qlora'], rows)
  } finally {
    rmSync(folder, { recursive: true })
  }
}

export async function withMemoryTable(page) {
  return withMarked(page, 'docs/memory.md', { memory: await memory() })
}
