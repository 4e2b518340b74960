import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, expect, test, vi } from 'vitest'
import { SystemError, UnsupportedError } from '../../../lib/core/errors.js'
import { compiledScript, nodeProgram, packageScript } from '../../../lib/core/node-program.js'
import { packageRoot } from '../../../lib/core/root.js'
import { renderChat } from '../../../lib/data/render-chat.js'
import { TextCall } from '../../../lib/data/text-call.js'
import { needs } from '../../needs.js'
import { scratchFolder } from '../scratch.js'

afterEach(() => {
  vi.unstubAllEnvs()
  vi.restoreAllMocks()
  vi.useRealTimers()
  Reflect.deleteProperty(process.versions, 'electron')
})

/** An executable file that is no Node.js. */
function program(script: string): string {
  needs('POSIX shells')
  const path = join(scratchFolder(), 'program')
  writeFileSync(path, `#!/bin/sh\n${script}\n`, { mode: 0o755 })
  return path
}

const inElectron = () =>
  Object.defineProperty(process.versions, 'electron', { value: '45.5.0', configurable: true })

const call = () => {
  const text = new TextCall({ kind: 'renderer' }, 64)
  text.send({ kind: 'render', chats: [], specialTokens: {} })
  return text
}

async function failure(text: TextCall, kind: typeof UnsupportedError = UnsupportedError) {
  const error = await text.next().catch((error: unknown) => error)
  await text.close()
  expect(error).toBeInstanceOf(kind)
  return error as UnsupportedError
}

test('Node.js is started by the program of this process, in the mode that Electron has for it, or by the one named', () => {
  expect(nodeProgram()).toMatchObject({ execPath: process.execPath, env: { ELECTRON_RUN_AS_NODE: '1' } })
  vi.stubEnv('LOWRANK_NODE', '/opt/node')
  expect(nodeProgram().execPath).toBe('/opt/node')
})

test('a named program does the work of the text worker', async () => {
  const folder = scratchFolder()
  const node = program(`touch ${folder}/used; exec ${process.execPath} "$@"`)
  vi.stubEnv('LOWRANK_NODE', node)
  const text = call()
  await expect(text.next()).resolves.toMatchObject({ kind: 'rendered' })
  await text.close()
  expect(readFileSync(join(folder, 'used'), 'utf8')).toBe('')
})

test('a process that has rendered a chat renders the next ones, and one that was stopped none', async () => {
  const folder = scratchFolder()
  vi.stubEnv('LOWRANK_NODE', program(`echo >> ${folder}/started; exec ${process.execPath} "$@"`))
  const starts = () => readFileSync(join(folder, 'started'), 'utf8').length
  const source = { tokenizerJson: {}, chatTemplate: '{{ messages[0].content }}' }
  const rendered = (content: string) => renderChat(source, [{ role: 'user', content }])
  for (const text of ['a', 'b', 'c']) expect(await rendered(text)).toBe(text)
  expect(starts()).toBe(1)
  const endless = '{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}'
  const limits = { milliseconds: 60_000, characters: 100 }
  const signal = AbortSignal.timeout(100)
  const never = renderChat({ ...source, chatTemplate: endless }, [], { limits, signal })
  await expect(never).rejects.toThrow('timeout')
  expect(await rendered('d')).toBe('d')
  expect(starts()).toBe(2)
})

test('a program that ends instead of working is named, with what to do', async () => {
  const path = program('exit 0')
  vi.stubEnv('LOWRANK_NODE', path)
  expect((await failure(call())).message).toBe(
    `chat templates and tokenizers run in a child process, but ${path} did not start as Node.js: it ended with ` +
      'code 0. LOWRANK_NODE, if it is set, must name a Node.js executable.',
  )
  inElectron()
  expect((await failure(call())).message).toContain(
    'without the fuse runAsNode; turn it on, or name a Node.js',
  )
})

test('a single executable application, which would start itself again, names LOWRANK_NODE', () => {
  vi.spyOn(process, 'getBuiltinModule').mockReturnValue({ isSea: () => true })
  vi.stubEnv('LOWRANK_NODE', '')
  expect(() => nodeProgram()).toThrow(
    /is a single executable application.*in the environment variable LOWRANK_NODE/,
  )
  vi.stubEnv('LOWRANK_NODE', '/opt/node')
  expect(nodeProgram().execPath).toBe('/opt/node')
})

test('Node.js that the system gives no threads aborts at its start, which is no matter of memory for the data', async () => {
  needs('POSIX shells')
  vi.stubEnv('LOWRANK_NODE', program('kill -ABRT $$'))
  const error = await failure(call(), SystemError)
  expect(error).toMatchObject({ code: 'SYSTEM', details: { reason: 'SIGABRT' } })
  expect(error.message).toContain('which ended at its start (SIGABRT)')
  expect(error.message).toContain('`ulimit -u`')
})

test('Node.js that gets only some of its threads never answers, which is an error in two minutes', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  vi.stubEnv('LOWRANK_NODE', program('exec sleep 100'))
  const failed = failure(call(), SystemError)
  vi.advanceTimersByTime(120_000)
  const error = await failed
  expect(error).toMatchObject({ code: 'SYSTEM' })
  expect(error.message).toContain('it did not answer within 120 s')
})

test('a program that is not there is named', async () => {
  vi.stubEnv('LOWRANK_NODE', '/nowhere/node')
  expect((await failure(call())).message).toContain(
    '/nowhere/node did not start as Node.js: spawn /nowhere/node ENOENT',
  )
})

test('an Electron that starts the app once more, which never answers, is an error in half a minute', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  vi.stubEnv('LOWRANK_NODE', program('exec sleep 100'))
  inElectron()
  const failed = failure(call())
  vi.advanceTimersByTime(30_000)
  expect((await failed).message).toContain('it did not answer within 30 s')
})

test('the copy beside an archive is for programs that cannot read in it', () => {
  vi.stubEnv('LOWRANK_NODE', '')
  const script = join('data', 'text-worker.js')
  expect(compiledScript(script)).toBe(join(packageRoot, 'dist', 'esm', script))
  expect(packageScript('app.asar', 'a.js')).toMatch(/app\.asar[\\/]a\.js$/)
  vi.stubEnv('LOWRANK_NODE', '/opt/node')
  expect(packageScript('app.asar', 'a.js')).toMatch(/app\.asar\.unpacked[\\/]a\.js$/)
})

test('the package is found without the files that packagers leave out', async () => {
  const root = scratchFolder()
  mkdirSync(join(root, 'dist', 'esm', 'core'), { recursive: true })
  for (const name of ['root.js', 'here.cjs', 'errors.js']) {
    const compiled = readFileSync(join(packageRoot, 'dist', 'esm', 'core', name), 'utf8')
    writeFileSync(join(root, 'dist', 'esm', 'core', name), compiled)
  }
  writeFileSync(join(root, 'package.json'), '{"name": "lowrank", "type": "module"}')
  const copy = (await import(join(root, 'dist', 'esm', 'core', 'root.js'))) as { packageRoot: string }
  expect(copy.packageRoot).toBe(root)
})
