import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { WriteError } from '../../../lib/core/errors.js'
import { writeSafetensors } from '../../../lib/formats/safetensors.js'
import { writeFileByPieces, writeFileWhole } from '../../../lib/io/atomic.js'
import { scratchFile, scratchFolder } from '../scratch.js'

afterEach(() => {
  vi.restoreAllMocks()
})

/** The class of file handles is not exported; a handle leads to it. */
async function handlePrototype(): Promise<FileHandle> {
  const handle = await open(scratchFile('any', ''), 'r')
  await handle.close()
  return Object.getPrototypeOf(handle) as FileHandle
}

/** Lets a device "fill up": writes succeed until the `allowed`-th, then fail as the kernel reports a full disk. */
async function fillDiskAfter(allowed: number): Promise<void> {
  const prototype = await handlePrototype()
  const write = prototype.write
  let done = 0
  const limited = function (this: FileHandle, ...parameters: unknown[]) {
    done += 1
    if (done > allowed) return Promise.reject(Object.assign(new Error('ENOSPC: write'), { code: 'ENOSPC' }))
    return Reflect.apply(write, this, parameters)
  }
  vi.spyOn(prototype, 'write').mockImplementation(limited as typeof write)
}

describe('writeFileWhole', () => {
  it('writes text and bytes, replacing what was there', async () => {
    const path = scratchFile('a.txt', 'old and longer')
    await writeFileWhole(path, 'né')
    expect(readFileSync(path, 'utf8')).toBe('né')
    await writeFileWhole(path, new Uint8Array([1, 2]))
    expect([...readFileSync(path)]).toEqual([1, 2])
  })
})

describe('writeFileByPieces', () => {
  it('shows nothing at the target before all pieces are written', async () => {
    const folder = scratchFolder()
    const path = join(folder, 'a.bin')
    await writeFileByPieces(path, 4, async (append) => {
      await append(new Uint8Array([1, 2]))
      expect(readdirSync(folder)).not.toContain('a.bin')
      await append(new Uint8Array([3, 4]))
    })
    expect([...readFileSync(path)]).toEqual([1, 2, 3, 4])
    expect(readdirSync(folder)).toEqual(['a.bin'])
  })

  it('keeps the old file and removes the temporary one when the disk is full', async () => {
    const path = scratchFile('model.safetensors', 'old')
    await fillDiskAfter(2)
    const tensors = ['a', 'b', 'c'].map((name) => ({
      name,
      dtype: 'U8' as const,
      shape: [100],
      data: new Uint8Array(100),
    }))
    const error = await writeSafetensors(path, tensors).catch((reason: unknown) => reason)
    expect(error).toBeInstanceOf(WriteError)
    const { bytesNeeded } = (error as WriteError).details
    expect((error as WriteError).message).toBe(
      `cannot write ${path} (${bytesNeeded} bytes): no space is left on the device; free some or choose another place (ENOSPC); no partial file was left`,
    )
    expect((error as WriteError).details).toEqual({ path, bytesNeeded: expect.any(Number), reason: 'ENOSPC' })
    expect(bytesNeeded).toBeGreaterThan(300)
    expect(readFileSync(path, 'utf8')).toBe('old')
    expect(readdirSync(join(path, '..'))).toEqual(['model.safetensors'])
  })

  it('goes on after a write that took only a part', async () => {
    const prototype = await handlePrototype()
    const write = prototype.write
    const stingy = function (this: FileHandle, bytes: Uint8Array, offset: number, length: number) {
      return Reflect.apply(write, this, [bytes, offset, Math.min(length, 3)])
    }
    vi.spyOn(prototype, 'write').mockImplementation(stingy as unknown as typeof write)
    const path = join(scratchFolder(), 'a.txt')
    await writeFileWhole(path, 'abcdefgh')
    expect(readFileSync(path, 'utf8')).toBe('abcdefgh')
  })

  it('passes on errors of the caller and leaves nothing behind', async () => {
    const folder = scratchFolder()
    const failing = writeFileByPieces(join(folder, 'a.bin'), 2, async (append) => {
      await append(new Uint8Array(1))
      throw new RangeError('mine')
    })
    await expect(failing).rejects.toThrow(new RangeError('mine'))
    expect(readdirSync(folder)).toEqual([])
  })

  it('names a folder that is missing, a file in its place, and a folder in the place of the file', async () => {
    const folder = scratchFolder()
    writeFileSync(join(folder, 'file'), '')
    mkdirSync(join(folder, 'taken', 'full'), { recursive: true })
    const write = (name: string) => writeFileWhole(join(folder, name), 'x')
    await expect(write('none/a')).rejects.toThrow('the folder does not exist; create it first (ENOENT)')
    // To Windows a file in the path is a folder that does not exist.
    await expect(write('file/a')).rejects.toThrow(/a part of the path is not a folder|create it first/)
    await expect(write('taken')).rejects.toThrow('a folder stands in its place (EISDIR)')
    expect(readdirSync(folder).sort()).toEqual(['file', 'taken'])
  })
})
