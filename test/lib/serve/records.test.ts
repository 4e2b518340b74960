import { appendFileSync, existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { EventLog } from '../../../lib/serve/event-log.js'
import { type Recorded, Records } from '../../../lib/serve/records.js'
import { scratchFolder } from '../scratch.js'

const open = (folder: string) => Records.open<Recorded>(folder, (name) => name.startsWith('file-'))

test('records are found again in their order, and what has none is removed', async () => {
  const folder = join(scratchFolder(), 'files')
  const records = await open(folder)
  for (const id of ['file-b', 'file-a']) {
    await records.begin(id)
    await records.put({ id, sequence: records.nextSequence() })
  }
  mkdirSync(join(folder, 'file-half'))
  mkdirSync(join(folder, 'of-somebody'))
  expect((await open(folder)).all.map(({ id }) => id)).toEqual(['file-b', 'file-a'])
  expect(existsSync(join(folder, 'file-half'))).toBe(false)
  expect(existsSync(join(folder, 'of-somebody'))).toBe(true)
})

test('a record that cannot be read is an error, and stays', async () => {
  const folder = join(scratchFolder(), 'files')
  const records = await open(folder)
  await records.begin('file-a')
  await records.put({ id: 'file-a', sequence: 1 })
  writeFileSync(records.path('file-a', 'record.json'), '{"id": ')
  await expect(open(folder)).rejects.toThrow('record.json')
  expect(existsSync(records.path('file-a', 'record.json'))).toBe(true)
})

test('a torn last event is dropped, and so is one that was cut in the middle', async () => {
  const path = join(scratchFolder(), 'events.jsonl')
  const log = await EventLog.open(path)
  await log.message('first')
  appendFileSync(path, '{"object":"fine_tu{"object":\n{"object":"fi')
  const again = await EventLog.open(path)
  await again.metrics('Step 1/2: training loss=1', { step: 1 })
  const last = await EventLog.open(path)
  expect(last.all.map(({ message }) => message)).toEqual(['Step 1/2: training loss=1', 'first'])
  expect(last.lastStepWith('step')).toBe(1)
})
