import { cpSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Adapter } from '../../../lib/adapter.js'
import { writeSafetensors } from '../../../lib/files/safetensors.js'
import { loadModel, type Model } from '../../../lib/model.js'
import { lora } from '../../../lib/strategies/lora.js'
import {
  latestCheckpoint,
  listCheckpoints,
  pruneCheckpoints,
  readCheckpoint,
} from '../../../lib/train/checkpoint.js'
import { chats, tinyModel } from '../../e2e/tiny-model.js'
import { scratchFile, scratchFolder } from '../files/scratch.js'

let model: Model
let adapter: Adapter
let data: string
let original: string
const options = { maxSteps: 2, maxSeqLength: 64, saveSteps: 1 }

beforeAll(async () => {
  model = await loadModel(tinyModel(), { precision: 'fp32' })
  adapter = await model.attach(lora({ r: 2, targetModules: ['q_proj'] }))
  data = scratchFile('train.jsonl', chats(20))
  original = scratchFolder()
  for await (const _ of adapter.train(data, { ...options, outputDir: original }));
})
afterAll(() => model.dispose())

/** A copy of the first checkpoint, to be damaged. */
function copy(): string {
  const path = join(scratchFolder(), 'checkpoint-1')
  cpSync(join(original, 'checkpoint-1'), path, { recursive: true })
  return path
}

function edit(path: string, change: Record<string, unknown>): void {
  const file = join(path, 'training_state.json')
  writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, 'utf8')), ...change }))
}

async function resume(path: string): Promise<void> {
  for await (const _ of adapter.train(data, { ...options, resume: path }));
}

describe('a checkpoint', () => {
  test('is an adapter that loads, and says where the run stands', async () => {
    const loaded = await model.loadAdapter(copy())
    expect(loaded.strategy).toEqual(adapter.strategy)
    await loaded.detach()
    const { state, identity } = await readCheckpoint(copy())
    expect(state).toMatchObject({ step: 1, cursor: { epoch: 0, microBatch: 1 } })
    expect(identity.options).toMatchObject({ max_steps: 2, learning_rate: 2e-4, optimizer: 'adamw' })
    expect(identity.options).not.toHaveProperty('save_steps')
    const text = readFileSync(join(original, 'checkpoint-1/training_state.json'), 'utf8')
    expect(text).not.toMatch(/"[a-z_]+[A-Z]\w*":/)
  })

  test.skipIf(process.platform === 'win32')('holds what may be a key where only its owner reads it', () => {
    expect(statSync(join(original, 'checkpoint-1', 'training_state.json')).mode & 0o777).toBe(0o600)
  })

  test.each([
    [{ version: 2 }, 'training_state.json: version is 2, and this lowrank reads version 1; update lowrank.'],
    [{ step: -1 }, 'training_state.json: step is -1, expected a number from 0.'],
    [
      { cursor: { epoch: 0 } },
      'training_state.json: cursor.micro_batch is undefined, expected a number from 0.',
    ],
    [{ options: { seed: 1 } }, 'options and their hash do not agree; the file was changed or damaged.'],
  ])('damaged by %j is refused', async (change, message) => {
    const path = copy()
    edit(path, change)
    await expect(resume(path)).rejects.toThrow(expect.objectContaining({ code: 'FILE_FORMAT' }))
    await expect(resume(path)).rejects.toThrow(message)
  })

  test('whose moments are missing or truncated is refused', async () => {
    const path = copy()
    const file = join(path, 'training_state.safetensors')
    const bytes = readFileSync(file)
    writeFileSync(file, bytes.subarray(0, bytes.length - 4))
    await expect(resume(path)).rejects.toThrow(expect.objectContaining({ code: 'FILE_FORMAT' }))
    await writeSafetensors(file, [])
    await expect(resume(path)).rejects.toThrow(
      /m\.base_model\.model\..*lora_A\.weight is missing, expected F32 \[2, 96\]/,
    )
  })

  test('is chosen, listed and pruned by its step', async () => {
    const folder = scratchFolder()
    for (const step of [9, 10, 100]) mkdirSync(join(folder, `checkpoint-${step}`))
    mkdirSync(join(folder, 'checkpoint-old'))
    expect(await listCheckpoints(folder)).toEqual(
      [100, 10, 9].map((step) => join(folder, `checkpoint-${step}`)),
    )
    await expect(latestCheckpoint(folder)).rejects.toThrow(
      'holds no checkpoint to resume from; checkpoint-100, checkpoint-10, checkpoint-9 lack files.',
    )
    await pruneCheckpoints(folder, 1)
    expect(await listCheckpoints(folder)).toEqual([join(folder, 'checkpoint-100')])
    expect(await latestCheckpoint(original)).toBe(join(original, 'checkpoint-2'))
    expect(await listCheckpoints('/nowhere')).toEqual([])
  })

  test('of an earlier run in the same folder is neither taken for the newest nor kept instead of it', async () => {
    const folder = scratchFolder()
    const at = (step: number) => join(folder, `checkpoint-${step}`)
    for await (const _ of adapter.train(data, { ...options, outputDir: folder }));
    const again = { ...options, maxSteps: 1, outputDir: folder }
    for await (const _ of adapter.train(data, { ...again, saveTotalLimit: 2 }));
    expect(await listCheckpoints(folder)).toEqual([at(1), at(2)])
    expect(await latestCheckpoint(folder)).toBe(at(1))
    for await (const _ of adapter.train(data, { ...again, saveTotalLimit: 1 }));
    expect(await listCheckpoints(folder)).toEqual([at(1)])
  })
})
