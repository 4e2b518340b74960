/** What is written is synced before it gets its name, and its folder afterwards; a door to the file system records it. */
import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { afterEach, expect, test, vi } from 'vitest'
import { HubCache } from '../../../lib/hub/cache.js'
import { writeFileWhole } from '../../../lib/io/atomic.js'
import { writeFolder } from '../../../lib/io/atomic-folder.js'
import { GrowingFile } from '../../../lib/io/growing-file.js'
import { scratchFolder } from '../scratch.js'

const { calls, paths } = vi.hoisted(() => ({ calls: [] as string[], paths: new Map<number, string>() }))
vi.mock('node:fs', async (original) => {
  const fs = await original<typeof import('node:fs')>()
  const fsync: typeof fs.fsync = Object.assign(
    (descriptor: number, done: (error: NodeJS.ErrnoException | null) => void) => {
      calls.push(`sync ${paths.get(descriptor)}`)
      fs.fsync(descriptor, done)
    },
    { __promisify__: fs.fsync.__promisify__ },
  )
  return { ...fs, fsync, default: { ...fs, fsync } }
})
vi.mock('node:fs/promises', async (original) => {
  const fs = await original<typeof import('node:fs/promises')>()
  const open = async (...args: Parameters<typeof fs.open>) => {
    const handle = await fs.open(...args)
    paths.set(handle.fd, String(args[0]))
    for (const call of ['write', 'appendFile'] as const) {
      const real = handle[call].bind(handle) as (...args: unknown[]) => unknown
      const recorded = (...given: unknown[]) => {
        calls.push(`${call} ${String(args[0])}`)
        return real(...given)
      }
      Object.assign(handle, { [call]: recorded })
    }
    return handle
  }
  const rename = async (from: string, to: string) => {
    calls.push(`rename ${from} ${to}`)
    await fs.rename(from, to)
  }
  return { ...fs, open, rename, default: { ...fs, open, rename } }
})
afterEach(() => void calls.splice(0))

/** The calls, with `temporary` for temporary names and folders by their last name. */
const told = () => calls.map((call) => call.replace(/\S*\.lowrank-[\w-]+\.tmp/g, 'temporary'))

test('a file is synced before it is renamed, and its folder afterwards', async () => {
  const folder = scratchFolder()
  await writeFileWhole(join(folder, 'file'), 'text')
  expect(told()).toEqual([
    'write temporary',
    'sync temporary',
    `rename temporary ${join(folder, 'file')}`,
    `sync ${folder}`,
  ])
})

test('so are a folder and the files in it', async () => {
  const above = scratchFolder()
  const place = join(above, 'folder')
  await writeFolder(place, (folder) => writeFileWhole(join(folder, 'file'), 'text'))
  expect(told().map((call) => call.replaceAll('temporary/temporary', 'temporary/inner'))).toEqual([
    expect.stringMatching(/^write /),
    expect.stringMatching(/^sync /),
    expect.stringMatching(/^rename /),
    // The folder, once by its last file and once as a whole.
    'sync temporary',
    'sync temporary',
    `rename temporary ${place}`,
    `sync ${above}`,
  ])
})

test('lines of a growing file are durable when asked', async () => {
  const path = join(scratchFolder(), 'log')
  const file = await GrowingFile.open(path)
  await file.append('line\n')
  await file.sync()
  await file.close()
  expect(told()).toEqual([`appendFile ${path}`, `sync ${path}`])
})

test('a download is synced before it is renamed, and its folder afterwards', async () => {
  const { downloadBlob } = await import('../../../lib/hub/download.js')
  const bytes = Buffer.from('the weights')
  const hash = createHash('sha256').update(bytes).digest('hex')
  const file = { path: 'model.safetensors', size: bytes.length, hash } as never
  const cache = new HubCache(scratchFolder(), 'someone/model')
  const client = {
    settings: { timeoutMs: 10_000, endpoint: 'http://hub' },
    file: async () => new Response(bytes),
  }
  const watch = { onBytes: () => undefined, onWait: () => undefined }
  await downloadBlob(client as never, cache, { repo: 'someone/model', commit: 'main', file }, watch)
  const blob = cache.blob(file)
  expect(readFileSync(blob, 'utf8')).toBe('the weights')
  expect(existsSync(`${blob}.lowrank.incomplete`)).toBe(false)
  const own = calls.filter((call) => call.includes(basename(blob)) || call.endsWith(join(blob, '..')))
  const partial = `${blob}.lowrank.incomplete`
  expect(own.slice(0, 4)).toEqual([
    `write ${partial}`,
    `sync ${partial}`,
    `rename ${partial} ${blob}`,
    `sync ${join(blob, '..')}`,
  ])
})
