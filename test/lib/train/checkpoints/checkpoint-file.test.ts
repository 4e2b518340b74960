import { createHash } from 'node:crypto'
import {
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { writeSafetensors } from '../../../../lib/formats/safetensors.js'
import { SUMS, writeSums } from '../../../../lib/io/sums.js'
import type { Adapter, TrainControl } from '../../../../lib/model/adapter.js'
import { loadModel } from '../../../../lib/model/load.js'
import type { Model } from '../../../../lib/model/model.js'
import type { TrainOptions } from '../../../../lib/options/types.js'
import { lora } from '../../../../lib/strategies/lora.js'
import {
  latestCheckpoint,
  listCheckpoints,
  pruneCheckpoints,
} from '../../../../lib/train/checkpoints/checkpoint-folder.js'
import { readCheckpoint } from '../../../../lib/train/checkpoints/state-file.js'
import { chats, tinyModel } from '../../../e2e/tiny-model.js'
import { needs, symbolicLink } from '../../../needs.js'
import { sweepTest } from '../../../sweep.js'
import { scratchFile, scratchFolder } from '../../scratch.js'

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

/** A copy of the output folder. */
function copyAll(): string {
  const path = scratchFolder()
  cpSync(original, path, { recursive: true })
  return path
}

/** A copy of the first checkpoint, to be damaged. */
function copy(): string {
  const path = join(scratchFolder(), 'checkpoint-1')
  cpSync(join(original, 'checkpoint-1'), path, { recursive: true })
  return path
}

/** As somebody would who knows that there are hashes. */
async function edit(path: string, change: Record<string, unknown>): Promise<void> {
  const file = join(path, 'training_state.json')
  writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, 'utf8')), ...change }))
  await writeSums(path)
}

/** One bit of a file turned over. */
function flip(path: string, at = statSync(path).size >> 1): void {
  const bytes = readFileSync(path)
  bytes[at] = (bytes[at] as number) ^ 1
  writeFileSync(path, bytes)
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
    expect(state.totals.lossSum / state.totals.supervisedTokens).toBeGreaterThan(1)
    expect(identity.options).toMatchObject({ max_steps: 2, learning_rate: 1e-3, optimizer: 'adamw' })
    expect(identity.options).not.toHaveProperty('save_steps')
    const text = readFileSync(join(original, 'checkpoint-1/training_state.json'), 'utf8')
    expect(text).not.toMatch(/"[a-z_]+[A-Z]\w*":/)
  })

  test('holds what may be a key where only its owner reads it', () => {
    needs('file modes')
    expect(statSync(join(original, 'checkpoint-1', 'training_state.json')).mode & 0o777).toBe(0o600)
  })

  test.each([
    [
      { version: 3 },
      'training_state.json: version is 3, but this version of lowrank reads version 2; resume with the version that wrote it.',
    ],
    [{ step: -1 }, 'training_state.json: step is -1, expected a number from 0.'],
    [
      { cursor: { epoch: 0 } },
      'training_state.json: cursor.micro_batch is undefined, expected a number from 0.',
    ],
    [{ options: { seed: 1 } }, 'options and their hash do not agree; the file was changed or damaged.'],
  ])('damaged by %j is refused', async (change, message) => {
    const path = copy()
    await edit(path, change)
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
    await writeSums(path)
    await expect(resume(path)).rejects.toThrow(
      /m\.base_model\.model\..*lora_A\.weight is missing, expected F32 \[2, 96\]/,
    )
  })

  test('has the SHA-256 of every other file, as sha256sum checks it', () => {
    const path = join(original, 'checkpoint-1')
    const names = readdirSync(path).filter((name) => name !== SUMS)
    const lines = names.sort().map((name) => {
      const sum = createHash('sha256')
        .update(readFileSync(join(path, name)))
        .digest('hex')
      return `${sum}  ${name}\n`
    })
    expect(readFileSync(join(path, SUMS), 'utf8')).toBe(lines.join(''))
  })

  test.each([
    'adapter_config.json',
    'adapter_model.safetensors',
    'lowrank.json',
    'training_state.json',
    'training_state.safetensors',
  ])('with one bit of %s turned over is named, and the one before it is used', async (name) => {
    const folder = copyAll()
    const [first, second] = [join(folder, 'checkpoint-1'), join(folder, 'checkpoint-2')]
    expect(await latestCheckpoint(folder)).toEqual({ path: second, damaged: [] })
    flip(join(second, name))
    const damage = `${name} is damaged`
    await expect(readCheckpoint(second)).rejects.toThrow(
      `the checkpoint ${second} cannot be used: ${damage}. Resume from another one.`,
    )
    const run = adapter.train(data, { ...options, outputDir: folder, resume: true })
    const steps: number[] = []
    for await (const { step } of run) steps.push(step)
    expect(steps).toEqual([2])
    expect(run.resumed).toEqual({ path: first, step: 1, damaged: [{ path: second, damage }] })
    expect(await latestCheckpoint(folder)).toEqual({ path: second, damaged: [] })
  })

  test.each(['training_state.json', 'training_state.safetensors', SUMS])(
    'whose %s leads out of its folder is refused',
    async (name) => {
      const path = copy()
      const outside = join(scratchFolder(), 'outside')
      renameSync(join(path, name), outside)
      symbolicLink(outside, join(path, name))
      await expect(readCheckpoint(path)).rejects.toThrow(`${name} is a link out of its folder`)
    },
  )

  test('whose hashes are missing, damaged or incomplete is refused', async () => {
    const path = copy()
    const sums = readFileSync(join(path, SUMS), 'utf8')
    writeFileSync(join(path, SUMS), sums.replace(/.*training_state\.json\n/, ''))
    await expect(readCheckpoint(path)).rejects.toThrow(`its ${SUMS} does not list training_state.json`)
    writeFileSync(join(path, SUMS), `${sums}${'0'.repeat(64)}  ../secret\n`)
    await expect(readCheckpoint(path)).rejects.toThrow(`its ${SUMS} is damaged`)
    rmSync(join(path, SUMS))
    await expect(readCheckpoint(path)).rejects.toThrow(`it has no ${SUMS}`)
  })

  test('is chosen, listed and pruned by its step', async () => {
    const folder = scratchFolder()
    const at = (step: number) => join(folder, `checkpoint-${step}`)
    for (const step of [9, 10, 100]) mkdirSync(at(step))
    // Copied, or restored from a backup.
    utimesSync(at(100), 1, 1)
    mkdirSync(join(folder, 'checkpoint-old'))
    expect(await listCheckpoints(folder)).toEqual([100, 10, 9].map(at))
    await expect(latestCheckpoint(folder)).rejects.toThrow(
      'holds no checkpoint to resume from. checkpoint-100: it has no adapter_config.json. checkpoint-10: it has',
    )
    await pruneCheckpoints(folder, 2, [at(9)])
    expect(await listCheckpoints(folder)).toEqual([at(100), at(9)])
    await pruneCheckpoints(folder, 1, [at(9), at(100)])
    expect(await listCheckpoints(folder)).toEqual([at(100), at(9)])
    expect(await listCheckpoints('/nowhere')).toEqual([])
  })

  test('is the newest by its steps, whatever the clock says', async () => {
    const folder = scratchFolder()
    const { now } = Date
    let ahead = 1e9
    // Every look at the clock finds an earlier time.
    Date.now = () => {
      ahead -= 1e6
      return now() + ahead
    }
    try {
      for await (const _ of adapter.train(data, { ...options, saveTotalLimit: 1, outputDir: folder }));
    } finally {
      Date.now = now
    }
    expect(await listCheckpoints(folder)).toEqual([join(folder, 'checkpoint-2')])
    expect((await latestCheckpoint(folder)).path).toBe(join(folder, 'checkpoint-2'))
  })

  test('of an earlier run in the same folder is neither taken for the newest nor kept instead of it', async () => {
    const folder = scratchFolder()
    const at = (step: number) => join(folder, `checkpoint-${step}`)
    for await (const _ of adapter.train(data, { ...options, outputDir: folder }));
    const again = { ...options, maxSteps: 1, outputDir: folder, force: true }
    for await (const _ of adapter.train(data, { ...again, saveTotalLimit: 2 }));
    expect(await listCheckpoints(folder)).toEqual([at(1), at(2)])
    expect((await latestCheckpoint(folder)).path).toBe(at(1))
    // Without a word of whose the folder is, nobody can tell.
    renameSync(join(folder, 'run.json'), join(folder, 'elsewhere.json'))
    await expect(latestCheckpoint(folder)).rejects.toThrow(
      'holds checkpoints of several runs (checkpoint-2, checkpoint-1); name the one to resume from.',
    )
    renameSync(join(folder, 'elsewhere.json'), join(folder, 'run.json'))
    for await (const _ of adapter.train(data, { ...again, saveTotalLimit: 1 }));
    expect(await listCheckpoints(folder)).toEqual([at(1)])
  })

  test('of a run that saved none yet is not another one', async () => {
    const folder = copyAll()
    for await (const _ of adapter.train(data, {
      ...options,
      outputDir: folder,
      force: true,
      saveSteps: null,
    }))
      break
    await expect(latestCheckpoint(folder)).rejects.toThrow(
      `${folder} holds no checkpoint to resume from. ${join(folder, 'checkpoint-2')} belongs to an earlier run; name it to resume that run.`,
    )
  })

  test('that was being replaced when the process was killed is found where it lies', async () => {
    const folder = copyAll()
    const at = (step: number) => join(folder, `checkpoint-${step}`)
    const beside = `${at(2)}.lowrank-replaced`
    renameSync(at(2), beside)
    expect((await latestCheckpoint(folder)).path).toBe(beside)
    expect((await readCheckpoint(at(2))).path).toBe(beside)
    // The other half of the same: the new one is in place, and the old one not gone yet.
    cpSync(at(1), `${at(1)}.lowrank-replaced`, { recursive: true })
    for await (const _ of adapter.train(data, { ...options, outputDir: folder, resume: true }));
    expect(readdirSync(folder).filter((name) => name.startsWith('checkpoint'))).toEqual([
      'checkpoint-1',
      'checkpoint-2',
    ])
  })
})

describe('an output folder with the result of a run', () => {
  const train = async (control: TrainControl & Partial<TrainOptions>) => {
    for await (const _ of adapter.train(data, { ...options, ...control }));
  }

  test('is left alone by another run that is not forced', async () => {
    const outputDir = copyAll()
    const before = readdirSync(outputDir).map((name) => [name, statSync(join(outputDir, name)).mtimeMs])
    await expect(train({ outputDir })).rejects.toThrow(
      `${outputDir} holds the adapter and checkpoints of an earlier run. Use resume: true to continue it, another outputDir to keep it, or force: true to replace it.`,
    )
    expect(readdirSync(outputDir).map((name) => [name, statSync(join(outputDir, name)).mtimeMs])).toEqual(
      before,
    )
    await train({ outputDir, resume: true })
    await train({ outputDir, force: true })
  })

  sweepTest('may be resumed from its own checkpoints, and not from those of another run', async () => {
    const outputDir = copyAll()
    await train({ outputDir, resume: join(outputDir, 'checkpoint-1') })
    // The same run, saved elsewhere.
    await train({ outputDir, resume: join(original, 'checkpoint-1') })
    const other = scratchFolder()
    await train({ outputDir: other })
    const resume = join(other, 'checkpoint-1')
    await expect(train({ outputDir, resume })).rejects.toThrow(
      `${outputDir} holds the adapter and checkpoints of another run than ${resume}. Use another outputDir to keep it, or force: true to replace it.`,
    )
    await train({ outputDir, resume, force: true })
  })
})
