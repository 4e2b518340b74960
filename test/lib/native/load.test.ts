import { execFileSync } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { NativeLoadError } from '../../../lib/errors.js'

type Loader = typeof import('../../../lib/native/load.js')

/** The loader as a new process sees it: nothing loaded yet. */
async function freshLoader(): Promise<Loader> {
  vi.resetModules()
  return await import('../../../lib/native/load.js')
}

async function failureOf(loader: Loader): Promise<NativeLoadError> {
  try {
    loader.loadAddon()
  } catch (error) {
    return error as NativeLoadError
  }
  throw new Error('the addon loaded')
}

afterEach(() => {
  vi.unstubAllEnvs()
  vi.doUnmock('../../../lib/root.js')
})

test('the addon was built as the version in package.json', async () => {
  const { loadAddon } = await freshLoader()
  const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string }
  expect(loadAddon()).toMatchObject({ version })
})

test('a second call returns the same addon', async () => {
  const { loadAddon } = await freshLoader()
  expect(loadAddon()).toBe(loadAddon())
})

describe('in a package folder', () => {
  // The path of this checkout's own addon, taken before any test changes the environment.
  const addon = process.env.LOWRANK_NATIVE_PATH ?? join(process.cwd(), 'build/Release/lowrank.node')
  const prebuilds = `prebuilds/${process.platform}-${process.arch}`
  let root: string

  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'lowrank-load-'))
    vi.stubEnv('LOWRANK_NATIVE_PATH', undefined)
    vi.stubEnv('LOWRANK_PREBUILD_ONLY', undefined)
    vi.doMock('../../../lib/root.js', () => ({ packageRoot: root }))
  })
  afterEach(() => rmSync(root, { recursive: true, force: true }))

  function place(file: string, content?: string): string {
    const path = join(root, file)
    mkdirSync(join(path, '..'), { recursive: true })
    if (content === undefined) copyFileSync(addon, path)
    else writeFileSync(path, content)
    return path
  }

  test('a build from source comes before a prebuilt addon', async () => {
    const path = place('build/Release/lowrank.node')
    place(`${prebuilds}/lowrank.glibc.node`)
    const { addonOrigin } = await freshLoader()
    expect(addonOrigin()).toEqual({ from: 'build', path })
  })

  test('LOWRANK_PREBUILD_ONLY passes over a build from source', async () => {
    place('build/Release/lowrank.node', 'never opened')
    const path = place(`${prebuilds}/lowrank.node`)
    vi.stubEnv('LOWRANK_PREBUILD_ONLY', '1')
    const { addonOrigin } = await freshLoader()
    expect(addonOrigin()).toEqual({ from: 'prebuild', path })
  })

  test.runIf(process.platform === 'linux')('the prebuilt addon for this C library comes first', async () => {
    const header = (process.report.getReport() as unknown as { header: { glibcVersionRuntime?: string } })
      .header
    const path = place(`${prebuilds}/lowrank.${header.glibcVersionRuntime ? 'glibc' : 'musl'}.node`)
    place(`${prebuilds}/lowrank.node`, 'never opened')
    const { addonOrigin } = await freshLoader()
    expect(addonOrigin()).toEqual({ from: 'prebuild', path })
  })

  test('LOWRANK_NATIVE_PATH names the one file to load', async () => {
    const path = place('elsewhere/lowrank.node')
    place('build/Release/lowrank.node', 'never opened')
    vi.stubEnv('LOWRANK_NATIVE_PATH', path)
    const { addonOrigin } = await freshLoader()
    expect(addonOrigin()).toEqual({ from: 'env', path })
  })

  test('a file that LOWRANK_NATIVE_PATH names wrongly is an error although a build exists', async () => {
    place('build/Release/lowrank.node')
    vi.stubEnv('LOWRANK_NATIVE_PATH', join(root, 'absent.node'))
    const error = await failureOf(await freshLoader())
    expect(error).toMatchObject({ code: 'NATIVE_LOAD', name: 'NativeLoadError' })
    expect(error.message).toContain(`${join(root, 'absent.node')}: no such file`)
    expect(error.message).toContain('Point LOWRANK_NATIVE_PATH at a lowrank.node built for this machine')
  })

  test('a failure lists every path with its own reason, the platform and the command that mends it', async () => {
    const broken = place('build/Release/lowrank.node', 'not an ELF file')
    const error = await failureOf(await freshLoader())
    expect(error).toMatchObject({ code: 'NATIVE_LOAD' })
    const lines = error.message.split('\n')
    expect(lines[0]).toContain(`${process.platform}-${process.arch}`)
    expect(lines[0]).toContain(`Node ${process.versions.node}, Node-API ${process.versions.napi}`)
    expect(lines.find((line) => line.includes(broken))).toMatch(/file too short|invalid ELF header/)
    expect(lines.find((line) => line.includes(join(root, prebuilds, 'lowrank.node')))).toContain(
      'no such file',
    )
    expect(lines.at(-1)).toContain('npm rebuild lowrank --build-from-source')
    expect(error.details).toMatchObject({ node: process.versions.node, nodeApi: process.versions.napi })
  })
})

test('both module formats load one addon in one process', () => {
  const script = `
    import { createRequire } from 'node:module'
    import { loadAddon } from './dist/esm/native/load.js'
    const cjs = createRequire(process.cwd() + '/')('./dist/cjs/native/load.js')
    process.stdout.write(String(loadAddon() === cjs.loadAddon()))`
  const stdout = execFileSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' })
  expect(stdout).toBe('true')
})
