import { readdirSync, readFileSync } from 'node:fs'
import { mkdir, rename, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'
import { moved, movedOver } from '../../../lib/io/move.js'
import { scratchFolder } from '../scratch.js'

const refusal = (code: string) => Object.assign(new Error(`${code}: rename`), { code })

/** Moves as Windows does it while the files of `held` are in use: none can be replaced, all can be renamed. */
function windows(held: Set<string>) {
  const moves: string[] = []
  return {
    moves,
    platform: 'win32' as const,
    move: async (from: Parameters<typeof rename>[0], to: Parameters<typeof rename>[1]) => {
      moves.push(String(to))
      if (held.has(String(to))) {
        const names = readdirSync(dirname(String(to)))
        if (names.some((name) => join(dirname(String(to)), name) === String(to))) throw refusal('EPERM')
      }
      await rename(from, to)
    },
  }
}

async function twoFiles() {
  const folder = scratchFolder()
  const [from, to] = [join(folder, 'new'), join(folder, 'old')]
  await writeFile(from, 'new')
  await writeFile(to, 'old')
  return { folder, from, to }
}

test('a file that is in use for a moment is waited for', async () => {
  const { folder, from, to } = await twoFiles()
  const held = new Set([to])
  const on = windows(held)
  setTimeout(() => held.clear(), 30)
  await movedOver(from, to, on)
  expect(readFileSync(to, 'utf8')).toBe('new')
  expect(readdirSync(folder)).toEqual(['old'])
  expect(on.moves.length).toBeGreaterThan(1)
})

test('one that stays in use gives up its name', async () => {
  const { folder, from, to } = await twoFiles()
  await movedOver(from, to, windows(new Set([to])))
  expect(readFileSync(to, 'utf8')).toBe('new')
  expect(readdirSync(folder)).toEqual(['old'])
})

test('where the new file cannot take its place, the old one gets its name back', async () => {
  const { from, to } = await twoFiles()
  let refused = 0
  const move: typeof rename = async (source, target) => {
    if (source === from && target === to) {
      refused++
      throw refusal('EACCES')
    }
    await rename(source, target)
  }
  await expect(movedOver(from, to, { platform: 'win32', move })).rejects.toThrow('EACCES')
  expect(refused).toBeGreaterThan(3)
  expect([readFileSync(from, 'utf8'), readFileSync(to, 'utf8')]).toEqual(['new', 'old'])
})

test('a folder never gives up its name for a file', async () => {
  const folder = scratchFolder()
  const [from, to] = [join(folder, 'new'), join(folder, 'old')]
  await writeFile(from, 'new')
  await mkdir(to)
  await expect(movedOver(from, to, windows(new Set([to])))).rejects.toThrow('EPERM')
  expect(readdirSync(folder).sort()).toEqual(['new', 'old'])
})

test('other errors, and those of other systems, are told at once', async () => {
  const { from, to } = await twoFiles()
  for (const [platform, code] of [['win32', 'ENOSPC'] as const, ['linux', 'EPERM'] as const]) {
    let tried = 0
    const move = async () => {
      tried++
      throw refusal(code)
    }
    await expect(moved(from, to, { platform, move })).rejects.toThrow(code)
    await expect(movedOver(from, to, { platform, move })).rejects.toThrow(code)
    expect(tried).toBe(2)
  }
})
