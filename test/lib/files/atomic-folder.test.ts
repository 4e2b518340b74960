import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { makeFolder, writeFolder } from '../../../lib/files/atomic-folder.js'
import { removeUnfinished } from '../../../lib/files/temporary.js'
import { scratchFolder } from './scratch.js'

test('a folder appears with all its files', async () => {
  const parent = scratchFolder()
  const target = join(parent, 'a/b')
  await writeFolder(target, async (folder) => {
    expect(readdirSync(join(parent, 'a'))).not.toContain('b')
    writeFileSync(join(folder, 'x'), '1')
    writeFileSync(join(folder, 'y'), '2')
  })
  expect(readdirSync(target).sort()).toEqual(['x', 'y'])
  expect(readdirSync(join(parent, 'a'))).toEqual(['b'])
})

test('files replace those of a folder that exists, and others stay', async () => {
  const target = scratchFolder()
  writeFileSync(join(target, 'x'), 'old')
  writeFileSync(join(target, 'other'), 'stays')
  await writeFolder(target, async (folder) => writeFileSync(join(folder, 'x'), 'new'))
  expect(readFileSync(join(target, 'x'), 'utf8')).toBe('new')
  expect(readFileSync(join(target, 'other'), 'utf8')).toBe('stays')
})

test('a failure leaves nothing behind and what was there untouched', async () => {
  const parent = scratchFolder()
  mkdirSync(join(parent, 'out'))
  writeFileSync(join(parent, 'out/x'), 'old')
  const failing = writeFolder(join(parent, 'out'), async (folder) => {
    writeFileSync(join(folder, 'x'), 'half')
    throw new Error('failed half way')
  })
  await expect(failing).rejects.toThrow('failed half way')
  expect(readdirSync(parent)).toEqual(['out'])
  expect(readFileSync(join(parent, 'out/x'), 'utf8')).toBe('old')
})

test('what is unfinished when the process has to end can be removed at once', async () => {
  const folder = scratchFolder()
  const writing = writeFolder(join(folder, 'out'), async (inside) => {
    writeFileSync(join(inside, 'a'), 'half')
    expect(readdirSync(folder)).toHaveLength(1)
    removeUnfinished()
    expect(readdirSync(folder)).toEqual([])
    throw new Error('over')
  })
  await expect(writing).rejects.toThrow('over')
  await writeFolder(join(folder, 'out'), async (inside) => writeFileSync(join(inside, 'a'), 'all'))
  removeUnfinished()
  expect(readdirSync(join(folder, 'out'))).toEqual(['a'])
})

test('a place where no folder can be is a WriteError that names it', async () => {
  const file = join(scratchFolder(), 'file')
  writeFileSync(file, '')
  const wrong = expect.objectContaining({ code: 'WRITE', message: expect.stringContaining(file) })
  await expect(makeFolder(join(file, 'x'))).rejects.toThrow(wrong)
  await expect(writeFolder(file, async () => {})).rejects.toThrow(wrong)
})
