import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { counterUniform } from '../../../lib/core/counter-random.js'
import { makeFolder, placeOf, writeFolder } from '../../../lib/io/atomic-folder.js'
import { damageIn } from '../../../lib/io/sums.js'
import { removeUnfinished } from '../../../lib/io/temporary.js'
import { sweepTest } from '../../sweep.js'
import { scratchFolder } from '../scratch.js'

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

test('a folder is replaced as a whole, and what was in it is gone', async () => {
  const parent = scratchFolder()
  const target = join(parent, 'out')
  mkdirSync(target)
  writeFileSync(join(target, 'x'), 'old')
  writeFileSync(join(target, 'other'), 'old')
  const write = async (folder: string) => {
    writeFileSync(join(folder, 'x'), 'new')
    expect(readFileSync(join(target, 'x'), 'utf8')).toBe('old')
  }
  await writeFolder(target, write, { replace: true })
  expect(readdirSync(target)).toEqual(['x'])
  expect(readFileSync(join(target, 'x'), 'utf8')).toBe('new')
  expect(readdirSync(parent)).toEqual(['out'])
})

sweepTest(
  'killed at any moment, a folder that is being replaced is whole, and as new as was said',
  async () => {
    const folder = scratchFolder()
    const place = join(folder, 'checkpoint-1')
    let said = 0
    for (let kill = 0; kill < 20; kill++) {
      const script = fileURLToPath(new URL('./replacing.mjs', import.meta.url))
      const child = spawn(process.execPath, [script, folder, String(said + 1)], {
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      let text = ''
      child.stdout.setEncoding('utf8').on('data', (piece: string) => {
        text += piece
      })
      await once(child.stdout, 'data')
      setTimeout(() => child.kill('SIGKILL'), 60 * counterUniform(7, 'kill', kill))
      await once(child, 'close')
      said = Number(text.trim().split('\n').at(-1))
      const found = placeOf(place)
      expect(await damageIn(found, ['a', 'b', 'c'])).toBeUndefined()
      const saved = Number.parseInt(readFileSync(join(found, 'b'), 'utf8'), 10)
      expect(saved).toBeGreaterThanOrEqual(said)
      expect(saved).toBeLessThanOrEqual(said + 1)
      said = saved
    }
  },
  60_000,
)
