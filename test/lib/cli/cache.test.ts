import { createHash } from 'node:crypto'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { basename, join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { ConfigError } from '../../../lib/core/errors.js'
import { loadModel } from '../../../lib/model/load.js'
import { tinyModel } from '../../e2e/tiny-model.js'
import { needs, symbolicLink } from '../../needs.js'
import { sweepTest } from '../../sweep.js'
import { scratchFolder } from '../scratch.js'
import { lowrank, printed } from './lowrank.js'

let model: string
let cache: string
let hub: string
beforeEach(() => {
  hub = scratchFolder()
  model = tinyModel()
  cache = join(scratchFolder(), 'weights')
  vi.stubEnv('LOWRANK_WEIGHT_CACHE', cache)
})
afterEach(() => {
  vi.unstubAllEnvs()
  vi.restoreAllMocks()
})

/** Paged weights lie in a file, however fast they were made. */
async function load(quantization: 'nf4' | 'fp4' = 'nf4'): Promise<void> {
  await (await loadModel(model, { precision: 'fp32', quantization, pagedWeights: true })).dispose()
}

const files = () => readdirSync(cache).filter((name) => name.endsWith('.weights'))
const call = (...args: string[]) =>
  lowrank(['cache', ...args, '--json'], { env: { LOWRANK_WEIGHT_CACHE: cache, HF_HUB_CACHE: hub } })

/** Changes one bit, as a bad disk does. */
function damage(path: string): void {
  const { atime, mtime } = statSync(path)
  const bytes = readFileSync(path)
  bytes[bytes.length - 5000] = (bytes.at(-5000) as number) ^ 1
  writeFileSync(path, bytes)
  utimesSync(path, atime, mtime)
}

sweepTest('the cache is listed, checked and cleared', async () => {
  await load('nf4')
  await load('fp4')
  const [listed] = printed<'cache'>(await call())
  expect(listed).toMatchObject({ action: 'list', folder: cache, limit_bytes: 20 * 2 ** 30 })
  expect(listed?.files.map(({ model: name, quantization }) => [name, quantization]).sort()).toEqual([
    ['smollm2', 'fp4'],
    ['smollm2', 'nf4'],
  ])
  expect(listed?.bytes).toBe(files().reduce((sum, name) => sum + statSync(join(cache, name)).size, 0))

  const bad = files().find((name) => name.includes('.nf4.')) as string
  damage(join(cache, bad))
  const checked = await call('check')
  expect(checked.code).toBe(1)
  const states = printed<'cache'>(checked)[0]?.files.map(({ name, state }) => [name.split('.')[1], state])
  expect(Object.fromEntries(states ?? [])).toEqual({ nf4: 'damaged', fp4: 'whole' })
  expect(files()).toHaveLength(1)

  expect((await call('clear', 'other')).code).toBe(2)
  expect((await call('mend')).code).toBe(2)
  const cleared = await call('clear', 'smollm2')
  expect(printed<'cache'>(cleared)[0]?.files).toHaveLength(1)
  expect(readdirSync(cache)).toEqual([])
  expect((await lowrank(['cache'], { env: { LOWRANK_WEIGHT_CACHE: cache } })).stdout).toContain('0 files')
})

test('a file with a bit that flipped is found after the next start of the system, made again, and said', async () => {
  await load()
  const [name] = files() as [string]
  const path = join(cache, name)
  const good = readFileSync(path)
  damage(path)
  const record = JSON.parse(readFileSync(`${path}.json`, 'utf8'))
  writeFileSync(`${path}.json`, JSON.stringify({ ...record, boot: 'the one before' }))
  const warned = vi.spyOn(process, 'emitWarning').mockImplementation(() => undefined)
  await load()
  expect(warned.mock.calls.map(([text]) => text)).toContain(
    `${path} is damaged: its content does not match its hash. It is written again.`,
  )
  expect(readFileSync(path).equals(good)).toBe(true)
})

test('the cache is for its owner alone', async () => {
  needs('file modes')
  await load()
  expect(statSync(cache).mode & 0o777).toBe(0o700)
  for (const name of readdirSync(cache)) expect(statSync(join(cache, name)).mode & 0o077).toBe(0)
  chmodSync(cache, 0o777)
  const error = await load().catch((caught: unknown) => caught)
  expect(error).toBeInstanceOf(ConfigError)
  expect(String(error)).toContain('is writable by everyone')
})

test('a limit that was lowered evicts at once', async () => {
  await load()
  vi.stubEnv('LOWRANK_WEIGHT_CACHE_LIMIT', '1KiB')
  const { stdout } = await lowrank(['cache', '--json'], {
    env: { LOWRANK_WEIGHT_CACHE: cache, LOWRANK_WEIGHT_CACHE_LIMIT: '1KiB' },
  })
  expect(JSON.parse(stdout).files).toEqual([])
  expect(existsSync(cache) && files()).toEqual([])
})

/** A repository as Python leaves it: blobs by their hashes, of large files SHA-256, of others git's, and links to them. */
function downloaded(repo: string, files: Record<string, { content: string; large: boolean }>): void {
  const folder = join(hub, `models--${repo.replace('/', '--')}`)
  const snapshot = join(folder, 'snapshots', 'a'.repeat(40))
  mkdirSync(join(folder, 'blobs'), { recursive: true })
  mkdirSync(snapshot, { recursive: true })
  for (const [name, { content, large }] of Object.entries(files)) {
    const hash = createHash(large ? 'sha256' : 'sha1')
    if (!large) hash.update(`blob ${content.length}\0`)
    const blob = join('blobs', hash.update(content).digest('hex'))
    writeFileSync(join(folder, blob), content)
    symbolicLink(join('../..', blob), join(snapshot, name))
  }
}

test('check reads what was downloaded, and names what is damaged', async () => {
  downloaded('me/tiny', {
    'config.json': { content: '{}', large: false },
    'model.safetensors': { content: 'w'.repeat(6000), large: true },
  })
  downloaded('me/other', { 'config.json': { content: '{"a": 1}', large: false } })
  const whole = await call('check')
  expect(whole.code).toBe(0)
  const found = printed<'cache'>(whole)[0]?.downloads
  expect(found?.folder).toBe(hub)
  expect(found?.files.map(({ model, names, state }) => [model, names, state])).toEqual([
    ['me/other', ['config.json'], 'whole'],
    expect.arrayContaining(['me/tiny', 'whole']),
    expect.arrayContaining(['me/tiny', 'whole']),
  ])
  const weights = found?.files.find(({ names }) => names.includes('model.safetensors'))?.path as string
  const record = join(hub, 'models--me--tiny', '.lowrank', 'checked', basename(weights))
  expect(existsSync(record)).toBe(true)

  // Its size and time are as they were, so only the hash tells.
  damage(weights)
  const damaged = await lowrank(['cache', 'check', 'me/tiny'], {
    env: { LOWRANK_WEIGHT_CACHE: cache, HF_HUB_CACHE: hub },
  })
  expect(damaged.code).toBe(1)
  expect(damaged.stdout).toContain(
    `damaged: model.safetensors of me/tiny, ${weights}. lowrank will not use it: the next command that names me/tiny downloads it again.`,
  )
  expect(damaged.stdout).toContain('2 downloaded files')
  expect(existsSync(weights)).toBe(true)
  expect(existsSync(record)).toBe(false)
  expect((await call('check', 'other')).code).toBe(0)
})
