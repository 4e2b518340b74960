import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join, relative, sep } from 'node:path'
import { beforeEach, describe, expect, it, vi } from 'vitest'
import {
  ConfigError,
  FileFormatError,
  HubError,
  type LowrankError,
  UnsupportedError,
  WriteError,
} from '../../../lib/core/errors.js'
import { type DownloadProgress, type Located, type LocateOptions, locate } from '../../../lib/hub/locate.js'
import type { HubKind } from '../../../lib/hub/select.js'
import { openModelFiles } from '../../../lib/models/index.js'
import { symbolicLink } from '../../needs.js'
import { vectors } from '../formats/model-fixtures.js'
import { scratchFolder } from '../scratch.js'
import { type Fault, fakeHub, gitHash, type Seen, sha256 } from './server.js'

/** Pauses between attempts are real, and long. */
vi.mock('node:timers/promises', async (original) => {
  const real = await original<typeof import('node:timers/promises')>()
  const setTimeout: typeof real.setTimeout = (ms, ...rest) => real.setTimeout((ms ?? 0) / 50, ...rest)
  return { ...real, setTimeout }
})

const hub = await fakeHub()
const ID = 'acme/tiny'
const CONFIG = '{"model_type":"llama"}'
const INDEX = 'model.safetensors.index.json'
const FILES = {
  '.gitattributes': '*.safetensors filter=lfs',
  'README.md': '# Tiny',
  'config.json': CONFIG,
  'generation_config.json': '{"eos_token_id":2}',
  'tokenizer.json': '{"tokens":[]}',
  'tokenizer_config.json': '{}',
  'chat_template.jinja': '{{ messages }}',
  'additional_chat_templates/rag.jinja': '{{ documents }}',
  'model.safetensors': vectors(['a', 'b'], 'F32', 40_000),
  'pytorch_model.bin': 'pickle',
  'onnx/model.onnx': 'onnx',
}
const NEEDED = Object.keys(FILES)
  .filter((name) => !/README|gitattributes|bin$|onnx/.test(name))
  .sort()

let cache: string

beforeEach(() => {
  vi.unstubAllEnvs()
  for (const name of Object.keys(process.env))
    if (/^(HF_|HUGGING|TRANSFORMERS)/.test(name)) vi.stubEnv(name, undefined)
  vi.stubEnv('HF_ENDPOINT', hub.endpoint)
  vi.stubEnv('HF_HOME', join(scratchFolder(), 'huggingface'))
  cache = join(process.env.HF_HOME as string, 'hub')
  hub.seen.length = 0
  hub.fault = () => undefined
  hub.tamper = (entry) => entry
  hub.pageSize = 1000
  for (const id of Object.keys(hub.repos)) delete hub.repos[id]
})

const repoFolder = (id = ID) => join(cache, `models--${id.replace('/', '--')}`)
const offline = () => vi.stubEnv('HF_HUB_OFFLINE', '1')

/** Every file below a folder, links not followed. */
function tree(folder: string): string[] {
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true })
  return entries
    .filter((entry) => !entry.isDirectory())
    .map(({ parentPath, name }) => relative(folder, join(parentPath, name)).split(sep).join('/'))
    .sort()
}

async function refusal(
  name: string,
  kind: new (message: string) => LowrankError,
  options: LocateOptions & { as?: HubKind } = {},
): Promise<LowrankError> {
  const { as = 'model', ...rest } = options
  const error = await locate(as, name, rest).then(
    () => undefined,
    (reason: unknown) => reason,
  )
  expect(error).toBeInstanceOf(kind)
  return error as LowrankError
}

/** A fault that happens a number of times to what matches. */
function times(count: number, matches: (seen: Seen) => boolean, fault: Fault) {
  let left = count
  return (seen: Seen) => (matches(seen) && left-- > 0 ? fault : undefined)
}

const ofCdn = ({ host }: Seen) => host === 'cdn'

describe('a name on the hub', () => {
  it('becomes a folder of the cache as Python lays it out, with the files that are needed', async () => {
    const commit = hub.add(ID, FILES)
    const { path, hub: origin } = await locate('model', ID)
    expect(origin).toEqual({ repo: ID, file: null, commit })
    expect(path).toBe(join(repoFolder(), 'snapshots', commit))
    expect(readFileSync(join(repoFolder(), 'refs', 'main'), 'utf8')).toBe(commit)
    expect(tree(path)).toEqual(NEEDED)
    for (const [name, contents] of Object.entries(FILES)) {
      if (!NEEDED.includes(name)) continue
      const hash = name.endsWith('.safetensors') ? sha256(contents) : gitHash(contents)
      const up = name.includes('/') ? '../../..' : '../..'
      if (process.platform !== 'win32') expect(readlinkSync(join(path, name))).toBe(`${up}/blobs/${hash}`)
      expect(readFileSync(join(path, name)).equals(Buffer.from(contents))).toBe(true)
    }
    // Nothing else stays behind: no partial files, no locks.
    expect(readdirSync(join(repoFolder(), 'blobs'))).toHaveLength(NEEDED.length)
    expect(tree(join(cache, '.locks'))).toEqual([])
    expect((await openModelFiles(path)).tensors.size).toBe(2)
  })

  it('needs no network once its files are there, online or offline', async () => {
    hub.add(ID, FILES)
    const first = await locate('model', ID)
    hub.seen.length = 0
    expect(await locate('model', ID)).toEqual(first)
    offline()
    expect(await locate('model', ID)).toEqual(first)
    expect(hub.seen).toEqual([])
  })

  it('stays at the commit that it was first seen at, until it is told to look again', async () => {
    const old = hub.add(ID, FILES)
    await locate('config', ID)
    const young = 'b'.repeat(40)
    const repo = hub.repos[ID]
    if (repo) {
      repo.commits[young] = { ...FILES, 'config.json': '{"model_type":"mistral"}' }
      repo.refs.main = young
    }
    // The weights come from the commit that the config came from.
    expect((await locate('model', ID)).hub?.commit).toBe(old)
    vi.stubEnv('LOWRANK_HUB_REFRESH', '1')
    const { path, hub: origin } = await locate('model', ID)
    expect(origin?.commit).toBe(young)
    expect(readFileSync(join(path, 'config.json'), 'utf8')).toContain('mistral')
  })

  it.each([
    ['branch', 'dev/next', `${ID}@dev/next`],
    ['pull request', 'refs/pr/4', `${ID}@refs/pr/4`],
    ['tag', 'v1.0', `${ID}@v1.0`],
  ])('takes a %s after it, or as an option', async (_, revision, name) => {
    const commit = hub.add(ID, FILES)
    const other = 'c'.repeat(40)
    const repo = hub.repos[ID]
    if (repo) {
      repo.commits[other] = FILES
      repo.refs[revision] = other
    }
    const named = await locate('config', name)
    expect(named.hub?.commit).toBe(other)
    expect(await locate('config', ID, { revision })).toEqual(named)
    expect(readFileSync(join(repoFolder(), 'refs', revision), 'utf8')).toBe(other)
    expect((await locate('config', ID)).hub?.commit).toBe(commit)
  })

  it('takes a commit without asking what it stands for', async () => {
    const commit = hub.add(ID, FILES)
    await locate('config', `${ID}@${commit}`)
    expect(hub.asked.filter((path) => path.includes('/revision/'))).toEqual([])
    expect(existsSync(join(repoFolder(), 'refs'))).toBe(false)
  })

  it('refuses two revisions at once, and what git does not allow', async () => {
    expect((await refusal(`${ID}@a`, ConfigError, { revision: 'b' })).message).toContain(
      'two revisions are given',
    )
    for (const revision of ['../../x', 'a..b', '/a', 'a/', 'a//b', 'x.lock', 'a b', 'a\n', '', '.a', 'a/.b'])
      await refusal(`${ID}@${revision}`, ConfigError)
    expect(hub.seen).toEqual([])
  })

  it('gives way to what exists on disk', async () => {
    hub.add(ID, FILES)
    const folder = scratchFolder()
    mkdirSync(join(folder, ID), { recursive: true })
    const before = process.cwd()
    process.chdir(folder)
    try {
      expect(await locate('model', ID)).toEqual({ path: ID, hub: null })
      expect((await refusal(ID, ConfigError, { revision: 'v1' })).message).toContain('is a local path')
    } finally {
      process.chdir(before)
    }
    expect(hub.seen).toEqual([])
  })

  it('brings shards by their index', async () => {
    const shards = {
      'model-00001-of-00002.safetensors': vectors(['a']),
      'model-00002-of-00002.safetensors': vectors(['b']),
    }
    const weight_map = { a: 'model-00001-of-00002.safetensors', b: 'model-00002-of-00002.safetensors' }
    const commit = hub.add(ID, {
      'config.json': CONFIG,
      [INDEX]: JSON.stringify({ weight_map }),
      ...shards,
      'model-00003-of-00003.safetensors': vectors(['c']),
    })
    const { path } = await locate('model', ID)
    expect(tree(path)).toEqual(['config.json', ...Object.keys(shards), INDEX].sort())
    rmSync(join(path, 'model-00002-of-00002.safetensors'))
    offline()
    expect((await refusal(ID, HubError)).message).toContain(
      'model-00002-of-00002.safetensors is not in the cache',
    )
    const repo = hub.repos[ID]
    if (repo) repo.commits[commit] = {}
  })

  it('lists a repository of many pages', async () => {
    hub.pageSize = 2
    hub.add(ID, FILES)
    expect(tree((await locate('model', ID)).path)).toEqual(NEEDED)
  })

  it.each([
    ['the same page again', '[{"type":"directory"}]', () => 'again', 'lists the same page of files twice'],
    ['new pages', '[{"type":"directory"}]', (n: number) => `${n}`, 'lists more than 2000 pages of files'],
    ['empty pages', '[]', (n: number) => `${n}`, 'lists a page without files, and another after it'],
  ])('refuses a listing that never ends: %s', async (_, body, cursor, message) => {
    hub.add(ID, FILES)
    let pages = 0
    hub.fault = ({ host, path }) => {
      if (host !== 'hub' || !path.includes('/tree/')) return undefined
      const next = `${hub.endpoint}${path.split('?')[0]}?cursor=${cursor(++pages)}`
      return { body: Buffer.from(body), headers: { link: `<${next}>; rel="next"` } }
    }
    expect((await refusal(ID, HubError)).message).toContain(message)
    expect(pages).toBeLessThanOrEqual(2000)
  })

  it('brings no more of a model than its config, or its tokenizer, where that is all that is wanted', async () => {
    hub.add(ID, FILES)
    expect(tree((await locate('config', ID)).path)).toEqual(['config.json'])
    expect(tree((await locate('tokenizer', ID)).path)).toEqual(
      NEEDED.filter((name) => name !== 'model.safetensors'),
    )
    expect(hub.seen.filter(ofCdn)).toEqual([])
  })

  it('may be of a GGUF file: the only one, or one that is named', async () => {
    const files = { 'README.md': '', 'tiny-Q8_0.gguf': 'GGUF8', 'sub/tiny-F16.gguf': 'GGUF16' }
    const commit = hub.add(ID, files)
    const { path, hub: origin } = await locate('model', `${ID}/sub/tiny-F16.gguf@main`)
    expect(path).toBe(join(repoFolder(), 'snapshots', commit, 'sub', 'tiny-F16.gguf'))
    expect(readFileSync(path, 'utf8')).toBe('GGUF16')
    expect(origin).toEqual({ repo: ID, file: 'sub/tiny-F16.gguf', commit })
    expect((await refusal(ID, FileFormatError)).message).toBe(
      `${ID} has several GGUF files: tiny-Q8_0.gguf, sub/tiny-F16.gguf. Name one of them, as ${ID}/tiny-Q8_0.gguf.`,
    )
    expect((await refusal(`${ID}/other.gguf`, HubError)).message).toBe(
      `${ID} has no file other.gguf. It has tiny-Q8_0.gguf, sub/tiny-F16.gguf.`,
    )
    hub.add('acme/one', { 'one.gguf': 'GGUF', 'mmproj-one.gguf': 'GGUF', 'big-00001-of-00002.gguf': 'GGUF' })
    expect((await locate('config', 'acme/one')).path).toMatch(/one\.gguf$/)
  })

  it('may have shards without an index', async () => {
    const files = {
      'config.json': CONFIG,
      'model-00001-of-00002.safetensors': vectors(['a']),
      'model-00002-of-00002.safetensors': vectors(['b']),
    }
    hub.add(ID, { ...files, 'README.md': '' })
    expect(tree((await locate('model', ID)).path)).toEqual(Object.keys(files))
  })

  it('may be of an adapter', async () => {
    const files = {
      'adapter_config.json': '{}',
      'adapter_model.safetensors': vectors(['a']),
      'lowrank.json': '{}',
    }
    hub.add(ID, {
      ...files,
      'checkpoint-1/adapter_config.json': '{}',
      'tokenizer.json': '{}',
      'optimizer.pt': 'x',
    })
    expect(tree((await locate('adapter', ID)).path)).toEqual(Object.keys(files))
    expect((await locate('any', ID)).path).toBe((await locate('adapter', ID)).path)
    expect((await refusal(ID, HubError)).message).toContain('is an adapter: pass its base model')
    hub.add('acme/model', FILES)
    expect((await refusal('acme/model', HubError, { as: 'adapter' })).message).toContain('it is a model')
    const ofMlx = { 'adapter_config.json': '{}', 'adapters.safetensors': vectors(['a']) }
    hub.add('acme/mlx', { ...ofMlx, '0000100_adapters.safetensors': vectors(['a']) })
    expect(tree((await locate('adapter', 'acme/mlx')).path)).toEqual(Object.keys(ofMlx))
    hub.add('acme/state', { 'README.md': '', 'adapter_model.safetensors': vectors(['a']) })
    expect(tree((await locate('adapter', 'acme/state')).path)).toEqual(['adapter_model.safetensors'])
    hub.add('acme/pickled', { 'adapter_config.json': '{}', 'adapter_model.bin': 'x' })
    expect((await refusal('acme/pickled', UnsupportedError, { as: 'adapter' })).message).toContain(
      'adapter_model.bin of acme/pickled is a pickle',
    )
  })
})

describe('a cache that another tool filled', () => {
  /** As Python leaves it: blobs by hash, links, a ref, and no record of what else the commit has. */
  function filled(files: Record<string, string | Uint8Array>): string {
    const commit = 'd'.repeat(40)
    const snapshot = join(repoFolder(), 'snapshots', commit)
    for (const folder of ['blobs', 'refs']) mkdirSync(join(repoFolder(), folder), { recursive: true })
    for (const [name, contents] of Object.entries(files)) {
      writeFileSync(join(repoFolder(), 'blobs', gitHash(contents)), contents)
      mkdirSync(dirname(join(snapshot, name)), { recursive: true })
      symbolicLink(`../../blobs/${gitHash(contents)}`, join(snapshot, name))
    }
    writeFileSync(join(repoFolder(), 'refs', 'main'), commit)
    hub.repos[ID] = { commits: { [commit]: FILES }, refs: { main: commit } }
    return snapshot
  }

  it('is used offline as far as it goes', async () => {
    const snapshot = filled({ 'config.json': CONFIG, 'model.safetensors': vectors(['a']) })
    offline()
    expect((await locate('model', ID)).path).toBe(snapshot)
    expect((await refusal(ID, HubError, { as: 'adapter' })).details).toMatchObject({ reason: 'offline' })
  })

  it('is completed online', async () => {
    const { 'model.safetensors': _, ...rest } = FILES
    const snapshot = filled(rest)
    await locate('model', ID)
    expect(tree(snapshot)).toContain('model.safetensors')
    expect(
      hub.seen.filter(({ path }) => path.includes('/resolve/')).map(({ path }) => path.split('/').at(-1)),
    ).toEqual(['model.safetensors'])
  })

  it('is used as it is when the hub cannot be reached', async () => {
    const snapshot = filled({ 'config.json': CONFIG, 'model.safetensors': vectors(['a']) })
    vi.stubEnv('HF_ENDPOINT', 'http://127.0.0.1:1')
    expect((await locate('model', ID)).path).toBe(snapshot)
  })

  it("takes Python's record of what a commit has", async () => {
    const snapshot = filled({ 'config.json': CONFIG })
    mkdirSync(join(repoFolder(), 'trees'))
    const files = {
      'config.json': { size: CONFIG.length, blob_id: gitHash(CONFIG) },
      'tokenizer.json': { size: 2, blob_id: gitHash('{}') },
    }
    writeFileSync(
      join(repoFolder(), 'trees', `${'d'.repeat(40)}.json`),
      JSON.stringify({ format_version: 1, files }),
    )
    expect((await locate('config', ID)).path).toBe(snapshot)
    expect(hub.seen).toEqual([])
  })

  it('may keep large blobs once for all repositories', async () => {
    const snapshot = filled({ 'config.json': CONFIG })
    const weights = vectors(['a'])
    mkdirSync(join(cache, 'blobs', 'ab'), { recursive: true })
    writeFileSync(join(cache, 'blobs', 'ab', 'abc'), weights)
    symbolicLink('../../blobs/ab/abc', join(repoFolder(), 'blobs', sha256(weights)))
    symbolicLink(`../../blobs/${sha256(weights)}`, join(snapshot, 'model.safetensors'))
    offline()
    expect((await openModelFiles((await locate('model', ID)).path)).tensors.size).toBe(1)
  })
})

describe('a download', () => {
  it('goes on where it broke off, within a call and at the next one', async () => {
    hub.add(ID, FILES)
    const { length } = FILES['model.safetensors']
    hub.fault = times(2, ofCdn, { cutAfter: 30_000 })
    const seen: DownloadProgress[] = []
    await locate('model', ID, { onDownload: (progress) => seen.push(progress) })
    expect(hub.seen.filter(ofCdn).map(({ range }) => range)).toEqual([
      undefined,
      'bytes=30000-',
      'bytes=60000-',
    ])
    const last = seen.at(-1)
    expect(last).toMatchObject({ repo: ID, doneFiles: NEEDED.length, totalFiles: NEEDED.length })
    expect(last?.doneBytes).toBe(last?.totalBytes)
    expect(last?.receivedBytes).toBe(last?.totalBytes)
    expect(last?.totalBytes).toBeGreaterThan(length)
    expect(seen.some(({ waiting }) => waiting?.includes('trying again'))).toBe(true)

    rmSync(repoFolder(), { recursive: true })
    hub.seen.length = 0
    const stop = new AbortController()
    hub.fault = times(1, ofCdn, { stallAfter: 50_000 })
    const partial = join(repoFolder(), 'blobs', `${sha256(FILES['model.safetensors'])}.lowrank.incomplete`)
    const watch = setInterval(() => {
      if (existsSync(partial) && statSync(partial).size === 50_000) stop.abort(new Error('enough'))
    }, 20)
    await expect(locate('model', ID, { signal: stop.signal })).rejects.toThrow('enough')
    clearInterval(watch)
    expect(tree(join(cache, '.locks'))).toEqual([])
    const { path } = await locate('model', ID)
    expect(hub.seen.filter(ofCdn).map(({ range }) => range)).toEqual([undefined, 'bytes=50000-'])
    expect(sha256(readFileSync(join(path, 'model.safetensors')))).toBe(sha256(FILES['model.safetensors']))
    expect(readdirSync(join(repoFolder(), 'blobs')).filter((name) => name.includes('incomplete'))).toEqual([])
  })

  it('begins again where the server knows no ranges, or what was left is damaged or too long', async () => {
    hub.add(ID, FILES)
    const weights = Buffer.from(FILES['model.safetensors'])
    const partial = join(repoFolder(), 'blobs', `${sha256(weights)}.lowrank.incomplete`)
    const leave = (bytes: Uint8Array) => {
      rmSync(repoFolder(), { recursive: true, force: true })
      mkdirSync(dirname(partial), { recursive: true })
      writeFileSync(partial, bytes)
      hub.seen.length = 0
    }
    const ranges = async () => {
      const { path } = await locate('model', ID)
      expect(readFileSync(join(path, 'model.safetensors')).equals(weights)).toBe(true)
      return hub.seen.filter(ofCdn).map(({ range }) => range)
    }
    leave(weights.subarray(0, 1000))
    hub.fault = (seen) => (ofCdn(seen) ? { ignoreRange: true } : undefined)
    expect(await ranges()).toEqual(['bytes=1000-'])
    hub.fault = () => undefined
    leave(Buffer.alloc(1000, 7))
    expect(await ranges()).toEqual(['bytes=1000-', undefined])
    leave(Buffer.alloc(weights.length, 7))
    expect(await ranges()).toEqual([undefined])
    leave(Buffer.alloc(weights.length + 1, 7))
    expect(await ranges()).toEqual([undefined])
    leave(weights)
    expect(await ranges()).toEqual([])
  })

  it('tries again when the hub is busy, after the time that it asks for', async () => {
    hub.add(ID, FILES)
    const faults = [
      times(2, ({ path }) => path.includes('/revision/'), { status: 429, headers: { 'retry-after': '10' } }),
      times(1, ({ path }) => path.includes('/tree/'), { status: 503 }),
      times(1, ofCdn, { status: 504 }),
    ]
    hub.fault = (seen) => faults.map((fault) => fault(seen)).find((fault) => fault !== undefined)
    const waits: string[] = []
    await locate('model', ID, { onDownload: ({ waiting }) => waiting && waits.push(waiting) })
    expect(waits.map((wait) => wait.replace(hub.endpoint, 'HUB'))).toEqual([
      'HUB answers that too many requests were made (429); trying again in 10.0 s',
      'HUB answers that too many requests were made (429); trying again in 10.0 s',
      'HUB answers with the status 503; trying again in 0.5 s',
      'HUB answers with the status 504; trying again in 0.5 s',
    ])
  })

  it('gives up after a few attempts', async () => {
    hub.add(ID, FILES)
    hub.fault = () => ({ status: 503 })
    expect(await refusal(ID, HubError)).toMatchObject({ details: { reason: 'server', status: 503 } })
    expect(hub.seen).toHaveLength(5)
  })

  it('ends a connection that says nothing any more', async () => {
    vi.stubEnv('HF_HUB_DOWNLOAD_TIMEOUT', '0.2')
    hub.add(ID, FILES)
    hub.fault = times(1, ofCdn, { stallAfter: 10 })
    await locate('model', ID)
    expect(hub.seen.filter(ofCdn).map(({ range }) => range)).toEqual([undefined, 'bytes=10-'])
  })

  it('refuses other bytes than were listed, and keeps none of them', async () => {
    hub.add(ID, FILES)
    const wrong = Buffer.from(FILES['model.safetensors']).fill(1)
    hub.fault = (seen) => (ofCdn(seen) ? { body: wrong } : undefined)
    const error = await refusal(ID, HubError)
    expect(error.message).toContain('"model.safetensors" of acme/tiny from')
    expect(error.details).toMatchObject({
      reason: 'checksum',
      expected: sha256(FILES['model.safetensors']),
      found: sha256(wrong),
    })
    // Other files may have been under way: what came of them is right, and kept for the next time.
    const ofModel = (name: string) => name.startsWith(sha256(FILES['model.safetensors']))
    expect(readdirSync(join(repoFolder(), 'blobs')).filter(ofModel)).toEqual([])
    rmSync(repoFolder(), { recursive: true })
    hub.fault = ({ path, host }) =>
      host === 'hub' && path.endsWith('/config.json')
        ? { body: Buffer.from('{"model_type":"other"}') }
        : undefined
    expect((await refusal(ID, HubError)).details).toMatchObject({ reason: 'checksum', path: 'config.json' })
    hub.fault = () => undefined
    await locate('model', ID)
  })

  it('reads no more than was listed', async () => {
    hub.add(ID, FILES)
    const long = Buffer.concat([Buffer.from(FILES['model.safetensors']), Buffer.alloc(1)])
    hub.fault = (seen) => (ofCdn(seen) ? { body: long } : undefined)
    expect((await refusal(ID, HubError)).message).toContain('that it lists for "model.safetensors"')
  })

  it('that fails stops its siblings at once, whatever they wait for, and leaves no lock', async () => {
    const shards = Object.fromEntries(
      ['a', 'b', 'c', 'd', 'e'].map((name) => [`${name}.safetensors`, vectors([name], 'F32', 400_000)]),
    )
    const weightMap = Object.fromEntries(
      ['a', 'b', 'c', 'd', 'e'].map((name) => [name, `${name}.safetensors`]),
    )
    hub.add(ID, { 'config.json': CONFIG, [INDEX]: JSON.stringify({ weight_map: weightMap }), ...shards })
    const asked: string[] = []
    hub.fault = (seen) => {
      if (!ofCdn(seen)) return undefined
      asked.push(seen.path)
      return asked.length === 4 ? { status: 404 } : { stallAfter: 1000 }
    }
    const start = performance.now()
    expect((await refusal(ID, HubError)).details.reason).toBe('not_found')
    expect(performance.now() - start).toBeLessThan(10_000)
    expect(tree(join(cache, '.locks'))).toEqual([])
  })

  it('that was damaged since is found by its hash when its time has changed, and made again', async () => {
    const warned = vi.spyOn(process, 'emitWarning').mockImplementation(() => undefined)
    const commit = hub.add(ID, FILES)
    const { path } = await locate('model', ID)
    const file = join(path, 'model.safetensors')
    const right = readFileSync(file)
    const wrong = Uint8Array.from(right)
    wrong[wrong.length - 1] = (wrong.at(-1) as number) ^ 1
    writeFileSync(file, wrong)
    utimesSync(file, 1, 1)
    offline()
    expect((await refusal(ID, HubError)).message).toContain('model.safetensors is not in the cache')
    expect(String(warned.mock.calls[0]?.[0])).toMatch(/model\.safetensors of the cache is damaged/)
    vi.stubEnv('HF_HUB_OFFLINE', undefined)
    expect(await locate('model', ID)).toEqual({ path, hub: { repo: ID, file: null, commit } })
    expect(readFileSync(file).equals(right)).toBe(true)
    warned.mockRestore()
  })

  it('is made once by two calls at the same time', async () => {
    hub.add(ID, FILES)
    const [one, two] = await Promise.all([locate('model', ID), locate('model', ID)])
    expect(one).toEqual(two)
    expect(hub.seen.filter(ofCdn)).toHaveLength(1)
  })

  it('waits for another process that is at it, and takes over when that one is gone', async () => {
    hub.add(ID, FILES)
    const lock = join(cache, '.locks', 'models--acme--tiny', `${sha256(FILES['model.safetensors'])}.lowrank`)
    mkdirSync(dirname(lock), { recursive: true })
    writeFileSync(lock, '')
    const waits: string[] = []
    const done = locate('model', ID, {
      onDownload: ({ waiting }) => {
        if (waiting === undefined) return
        waits.push(waiting)
        const long = new Date(Date.now() - 60_000)
        utimesSync(lock, long, long)
      },
    })
    await done
    expect(waits).toEqual(['another process is downloading model.safetensors'])
    expect(existsSync(lock)).toBe(false)
  })

  it('is not begun when the disk has no room for it', async () => {
    hub.add(ID, FILES)
    hub.tamper = (entry) =>
      entry.lfs ? { ...entry, size: 2 ** 52, lfs: { ...(entry.lfs as object), size: 2 ** 52 } } : entry
    const error = await refusal(ID, WriteError)
    expect(error.message).toMatch(/the download needs 4096\.0 TiB in .*, where only [\d.]+ \w+ are free/)
    expect(hub.seen.filter(ofCdn)).toEqual([])
  })

  it('says where it cannot write', async () => {
    hub.add(ID, FILES)
    const blocked = join(scratchFolder(), 'file')
    writeFileSync(blocked, '')
    vi.stubEnv('HF_HUB_CACHE', blocked)
    expect((await refusal(ID, WriteError)).message).toMatch(/ENOTDIR|EEXIST/)
  })
})

describe('the token', () => {
  const TOKEN = 'hf_secret'

  it('goes to the hub and to no other host', async () => {
    vi.stubEnv('HF_TOKEN', TOKEN)
    hub.add(ID, FILES, { privateFor: [TOKEN] })
    await locate('model', ID)
    const sent = (host: string) => [
      ...new Set(hub.seen.filter((seen) => seen.host === host).map(({ authorization }) => authorization)),
    ]
    expect(sent('hub')).toEqual([`Bearer ${TOKEN}`])
    expect(sent('cdn')).toEqual([undefined])
  })

  it('is not lured elsewhere by redirects or pages of a listing', async () => {
    vi.stubEnv('HF_TOKEN', TOKEN)
    hub.add(ID, FILES)
    hub.fault = ({ host, path }) =>
      host === 'hub' && path.includes('/revision/') ? { redirect: `${hub.cdn}/steal` } : undefined
    await refusal(ID, HubError)
    expect(hub.seen.filter(ofCdn).map(({ authorization }) => authorization)).toEqual([undefined])
    hub.seen.length = 0
    hub.fault = ({ host, path }) =>
      host === 'hub' && path.includes('/tree/')
        ? { body: Buffer.from('[{"type":"directory"}]'), headers: { link: `<${hub.cdn}/steal>; rel="next"` } }
        : undefined
    expect((await refusal(ID, HubError)).message).toContain('another host')
    expect(hub.seen.filter(ofCdn)).toEqual([])
  })

  it.each([
    [undefined, 'is gated: log in and accept its conditions on HUB/acme/tiny, then set HF_TOKEN'],
    ['hf_other', 'is gated and your account has no access yet: accept its conditions on HUB/acme/tiny'],
  ])('%s: a gated repository names the page to go to', async (token, message) => {
    vi.stubEnv('HF_TOKEN', token)
    hub.add(ID, FILES, { gatedFor: [TOKEN] })
    const error = await refusal(ID, HubError)
    expect(error.details).toMatchObject({ reason: 'gated' })
    expect(error.message.replaceAll(hub.endpoint, 'HUB')).toContain(message)
    expect(error.message).toContain('The hub says: "words about GatedRepo".')
  })

  it('is asked for where something is private or does not exist', async () => {
    hub.add(ID, FILES, { privateFor: [TOKEN] })
    const without = await refusal(ID, HubError)
    expect(without.details).toMatchObject({ reason: 'unauthorized', status: 401 })
    expect(without.message).toContain(
      'has no public model or adapter acme/tiny. Check the name; if it is private, set HF_TOKEN',
    )
    vi.stubEnv('HF_TOKEN', 'hf_other')
    const other = await refusal(ID, HubError)
    expect(other.details).toMatchObject({ reason: 'not_found', status: 404 })
    for (const { message } of [without, other])
      expect(message).toContain(`no file or folder ${join(process.cwd(), ID)} exists`)
    for (const { message } of [without, other]) expect(message).not.toContain('hf_other')
  })
})

describe('what the hub does not have', () => {
  it('is told: revisions, models', async () => {
    hub.add(ID, FILES)
    expect((await refusal(`${ID}@v9`, HubError)).message).toBe(`${ID} has no branch, tag or commit "v9".`)
    hub.add('acme/readme', { 'README.md': '' })
    expect((await refusal('acme/readme', HubError)).message).toBe(
      'acme/readme has no supported model: neither config.json with safetensors, nor a GGUF file.',
    )
    hub.add('acme/bare', { 'config.json': CONFIG })
    expect((await refusal('acme/bare', HubError)).message).toContain(
      'neither model.safetensors nor model.safetensors.index.json, nor',
    )
    hub.add('acme/pickled', { 'config.json': CONFIG, 'pytorch_model.bin': 'x' })
    expect((await refusal('acme/pickled', UnsupportedError)).message).toContain(
      'pytorch_model.bin of acme/pickled is a pickle',
    )
    expect(hub.seen.filter(({ path }) => path.includes('/resolve/'))).toEqual([])
  })

  it('is not looked for when the name can only be a path', async () => {
    for (const name of [
      './acme/tiny',
      '/acme/tiny',
      'acme/tiny/more',
      'acme/tiny.safetensors',
      'a--b/c',
      'acme\\tiny',
    ])
      expect((await refusal(name, FileFormatError)).message).toContain('there is no model at ')
    expect((await refusal('tiny', FileFormatError)).message).toBe(
      `there is no model at tiny (${join(process.cwd(), 'tiny')}); names on the Hugging Face hub have the form owner/name`,
    )
    expect(hub.seen).toEqual([])
  })

  it('is not looked for offline', async () => {
    offline()
    const { message, details } = await refusal(ID, HubError)
    expect(details).toMatchObject({ reason: 'offline' })
    expect(message).toBe(
      `acme/tiny cannot be used offline: its revision main is not in the cache (${repoFolder()}). Unset HF_HUB_OFFLINE to download it. ` +
        `(The hub was searched because no file or folder ${join(process.cwd(), ID)} exists.)`,
    )
  })

  it('cannot be told when nobody answers', async () => {
    vi.stubEnv('HF_ENDPOINT', 'http://127.0.0.1:1')
    const { message, details } = await refusal(ID, HubError)
    expect(details).toMatchObject({ reason: 'unreachable', endpoint: 'http://127.0.0.1:1' })
    expect(message).toContain('http://127.0.0.1:1')
    expect(message).toContain('HF_ENDPOINT sets a mirror')
  })

  it('is no matter of a server that is no hub', async () => {
    hub.fault = () => ({ body: Buffer.from('<html>'), headers: { 'content-type': 'text/html' } })
    expect((await refusal(ID, HubError)).message).toContain('is it the Hugging Face hub or a mirror?')
    hub.fault = () => ({ body: Buffer.from('{"sha":"../../x"}') })
    expect((await refusal(ID, HubError)).message).toContain('names no commit')
    hub.fault = ({ path }) => ({ redirect: path })
    expect((await refusal(ID, HubError)).message).toContain('redirects more than')
    hub.fault = () => ({ redirect: 'file:///etc/passwd' })
    expect((await refusal(ID, HubError)).message).toContain('which is not as safe')
  })
})

describe('names of files that lead out of the cache', () => {
  it('are not written', async () => {
    const names = [
      '../evil.jinja',
      '/evil.jinja',
      'additional_chat_templates/../../../evil.jinja',
      'a\\..\\evil',
      '..',
      'x/',
    ]
    hub.add(ID, { ...FILES, ...Object.fromEntries(names.map((name) => [name, 'evil'])) })
    const { path } = await locate('model', ID)
    expect(tree(path)).toEqual(NEEDED)
    expect(tree(cache).filter((name) => name.includes('evil'))).toEqual([])
  })

  it('are refused as shards and as hashes', async () => {
    const weight_map = { a: '../../../../evil.safetensors' }
    hub.add(ID, { 'config.json': CONFIG, [INDEX]: JSON.stringify({ weight_map }) })
    expect((await refusal(ID, FileFormatError)).message).toContain('not a plain *.safetensors file name')
    hub.add('acme/hash', FILES)
    hub.tamper = (entry) => ({ ...entry, oid: '../../evil', lfs: undefined })
    expect((await refusal('acme/hash', HubError)).message).toContain('without a valid size and hash')
    hub.tamper = (entry) => ({ ...entry, size: -1, lfs: undefined })
    expect((await refusal('acme/hash', HubError)).message).toContain('without a valid size and hash')
  })
})

it('links are not followed out of the cache when a file takes the place of one', async () => {
  const commit = hub.add(ID, FILES)
  const victim = join(scratchFolder(), 'victim')
  writeFileSync(victim, 'mine')
  const snapshot = join(repoFolder(), 'snapshots', commit)
  mkdirSync(snapshot, { recursive: true })
  symbolicLink(victim, join(snapshot, 'config.json'))
  const located: Located = await locate('config', ID)
  expect(readFileSync(victim, 'utf8')).toBe('mine')
  expect(lstatSync(join(located.path, 'config.json')).isSymbolicLink()).toBe(true)
  expect(readFileSync(join(located.path, 'config.json'), 'utf8')).toBe(CONFIG)
})
