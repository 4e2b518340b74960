/** Files that are replaced while a model has them mapped or a program has them open. */
import { closeSync, openSync, readdirSync, readFileSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { writeFileWhole } from '../../../lib/io/atomic.js'
import { restoreReplaced, writeFolder } from '../../../lib/io/atomic-folder.js'
import { removeLeftovers } from '../../../lib/io/temporary.js'
import { loadModel } from '../../../lib/model/load.js'
import { lora } from '../../../lib/strategies/lora.js'
import { chats, tinyModel } from '../../e2e/tiny-model.js'
import { scratchFile, scratchFolder } from '../scratch.js'

let cache: string
beforeEach(() => {
  cache = scratchFolder()
  vi.stubEnv('LOWRANK_WEIGHT_CACHE', cache)
})
afterEach(() => {
  vi.unstubAllEnvs()
  vi.restoreAllMocks()
})

const tokens = Int32Array.from({ length: 12 }, (_, i) => (i * 37 + 11) % 240)
const load = (model: string) => loadModel(model, { precision: 'fp32', pagedWeights: true })

test('a cached weight file is replaced under a model that has it mapped', async () => {
  const folder = tinyModel()
  const first = await load(folder)
  const expected = await first.logits(tokens)
  const [name = ''] = readdirSync(cache).filter((file) => file.endsWith('.weights'))
  // Its record is of other bytes, so the next model writes the file again.
  const record = join(cache, `${name}.json`)
  const { sha256: _, ...rest } = JSON.parse(readFileSync(record, 'utf8'))
  writeFileSync(record, JSON.stringify({ ...rest, sha256: '0'.repeat(64), boot: 'the one before' }))
  vi.spyOn(process, 'emitWarning').mockImplementation(() => undefined)
  const second = await load(folder)
  expect(await second.logits(tokens)).toEqual(expected)
  expect(await first.logits(tokens)).toEqual(expected)
  expect(readFileSync(record, 'utf8')).not.toContain('0'.repeat(64))
  await first.dispose()
  await second.dispose()
  // The old file has a temporary name where the system keeps one, until its process is gone.
  for (const left of readdirSync(cache).filter((file) => file.endsWith('.tmp')))
    utimesSync(join(cache, left), 1, 1)
  await removeLeftovers(cache)
  expect(readdirSync(cache).sort()).toEqual([name, `${name}.json`])
})

test('an adapter is saved over files that somebody has open', async () => {
  const folder = tinyModel()
  const model = await load(folder)
  const adapter = await model.attach(lora({ r: 2 }))
  const data = scratchFile('data.jsonl', chats(4))
  const train = async () => {
    for await (const _ of adapter.train(data, { maxSteps: 1, maxSeqLength: 64 }));
  }
  await train()
  const out = scratchFolder()
  await adapter.save(out)
  const open = openSync(join(out, 'adapter_model.safetensors'), 'r')
  try {
    await train()
    await adapter.save(out)
  } finally {
    closeSync(open)
  }
  const saved = await model.loadAdapter(out, { name: 'saved' })
  expect(await model.logits(tokens, { adapters: [saved] })).toEqual(
    await model.logits(tokens, { adapters: [adapter] }),
  )
  await model.dispose()
})

test('files and folders are replaced while somebody reads them', async () => {
  const folder = scratchFolder()
  const path = join(folder, 'a.bin')
  writeFileSync(path, 'old')
  const open = openSync(path, 'r')
  await writeFileWhole(path, 'new')
  expect(readFileSync(path, 'utf8')).toBe('new')
  closeSync(open)
  const place = join(folder, 'checkpoint-1')
  const write = (text: string) =>
    writeFolder(place, async (inside) => writeFileSync(join(inside, 'b'), text), { replace: true })
  await write('old')
  const inside = openSync(join(place, 'b'), 'r')
  await write('new')
  expect(readFileSync(join(place, 'b'), 'utf8')).toBe('new')
  closeSync(inside)
  await restoreReplaced(folder)
  expect(readdirSync(folder).sort()).toEqual(['a.bin', 'checkpoint-1'])
})
