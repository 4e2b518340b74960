/** Snapshots of the download cache where symbolic links are not for everyone, as on Windows. */
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import type * as promises from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { beforeEach, expect, test, vi } from 'vitest'
import { HubCache } from '../../../lib/hub/cache.js'
import { scratchFolder } from '../scratch.js'

const system = vi.hoisted(() => ({ symlink: vi.fn(), link: vi.fn() }))
vi.mock('node:fs/promises', async (original) => ({ ...(await original<typeof promises>()), ...system }))

const refused = () => Promise.reject(Object.assign(new Error('not permitted'), { code: 'EPERM' }))
const file = { path: 'onnx/model.bin', size: 7, hash: 'a'.repeat(40) }

/** Links a file whose blob is there into a snapshot, twice; returns both paths. */
async function linked(): Promise<{ blob: string; at: string }> {
  const cache = new HubCache(scratchFolder(), 'acme/tiny')
  const blob = cache.blob(file)
  mkdirSync(dirname(blob), { recursive: true })
  writeFileSync(blob, 'content')
  await cache.link('c', file)
  await cache.link('c', file)
  const at = join(cache.snapshot('c'), file.path)
  expect(readFileSync(at, 'utf8')).toBe('content')
  expect(readdirSync(dirname(at))).toEqual(['model.bin'])
  return { blob, at }
}

beforeEach(async () => {
  const { link } = await vi.importActual<typeof promises>('node:fs/promises')
  system.link.mockImplementation(link)
})

test.each([
  ['refuses symbolic links', refused],
  ['says that it made one and did not', () => Promise.resolve()],
])('a system that %s gets a second name of the same content', async (_, symlink) => {
  system.symlink.mockImplementation(symlink)
  const { blob, at } = await linked()
  expect(statSync(at, { bigint: true }).ino).toBe(statSync(blob, { bigint: true }).ino)
})

test('a file system without any links gets a copy', async () => {
  system.symlink.mockImplementation(refused)
  system.link.mockImplementation(refused)
  const { blob, at } = await linked()
  expect(statSync(at, { bigint: true }).ino).not.toBe(statSync(blob, { bigint: true }).ino)
})
