import { execFileSync, spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { NativeLoadError } from '../../../lib/core/errors.js'
import { addonPackage, libc } from '../../../lib/native/prebuilt.js'

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
  vi.restoreAllMocks()
  vi.unstubAllEnvs()
  vi.doUnmock('../../../lib/core/root.js')
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
    vi.doMock('../../../lib/core/root.js', () => ({ packageRoot: root }))
  })
  afterEach(() => {
    try {
      rmSync(root, { recursive: true, force: true })
    } catch (error) {
      // Windows keeps an addon for as long as it is loaded.
      if (process.platform !== 'win32') throw error
    }
  })

  function place(file: string, content?: string): string {
    const path = join(root, file)
    mkdirSync(join(path, '..'), { recursive: true })
    if (content === undefined) copyFileSync(addon, path)
    else writeFileSync(path, content)
    return path
  }

  test('the kernels for NVIDIA cards in prebuilds/ are no addon', async () => {
    place(`${prebuilds}/lowrank.node`)
    writeFileSync(join(root, 'prebuilds', 'lowrank.cuda'), 'kernels')
    const { packagedAddons } = await freshLoader()
    expect(packagedAddons().map(({ file }) => file)).toEqual([
      `${process.platform}-${process.arch}/lowrank.node`,
    ])
  })

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
    const path = place(`${prebuilds}/lowrank.${libc().name}.node`)
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
    expect(lines.find((line) => line.includes(broken))).toMatch(
      /file too short|invalid ELF header|it is not a Windows library/,
    )
    expect(lines.find((line) => line.includes(join(root, prebuilds, 'lowrank.node')))).toContain(
      'no such file',
    )
    expect(lines.at(-1)).toContain(
      `node ${join(relative(process.cwd(), root), 'scripts', 'native.mjs')} install"`,
    )
    expect(lines.at(-2)).toBe('Prebuilt addons in this package: none.')
    expect(error.details).toMatchObject({ node: process.versions.node, nodeApi: process.versions.napi })
  })

  describe('as it is published', () => {
    const own = addonPackage()

    /** A release whose addons are packages of their own, with the one for this platform installed in a version. */
    function release(packages: string[], installed?: string, content?: string): string {
      const optionalDependencies = Object.fromEntries(packages.map((name) => [name, '1.2.3']))
      place('package.json', JSON.stringify({ name: 'lowrank', version: '1.2.3', optionalDependencies }))
      if (installed)
        place(`node_modules/${own}/package.json`, JSON.stringify({ name: own, version: installed }))
      return installed ? place(`node_modules/${own}/lowrank.node`, content) : ''
    }

    test('the addon is the one of the package for this platform', async () => {
      const path = release([own, '@lowrank/plan9-x64'], '1.2.3')
      const { addonOrigin, packagedAddons } = await freshLoader()
      expect(addonOrigin()).toEqual({ from: 'prebuild', path })
      expect(packagedAddons()).toEqual([{ file: own, fits: true }])
    })

    test('a package that was left out is named with the command that installs it', async () => {
      release([own])
      const { message } = await failureOf(await freshLoader())
      expect(message).toContain(`\n  ${own}: not installed\n`)
      expect(message).toContain(
        `Install the missing package with "npm install --save-optional ${own}@1.2.3", or build`,
      )
    })

    test('a package of another version is refused', async () => {
      release([own], '1.2.2')
      const { message } = await failureOf(await freshLoader())
      expect(message).toContain(`\n  ${own}: its version is 1.2.2; expected 1.2.3\n`)
      expect(message).not.toContain('Install the missing package')
    })

    test('an addon that does not load is told with its path', async () => {
      const path = release([own], '1.2.3', 'not a library, but long enough for a header')
      const { message } = await failureOf(await freshLoader())
      expect(message).toContain(`\n  ${path}: `)
    })

    test('a release that has none for this platform says so', async () => {
      release(['@lowrank/plan9-x64'])
      const { message } = await failureOf(await freshLoader())
      expect(message).toContain('Packages with prebuilt addons: @lowrank/plan9-x64. None of them is for ')
      expect(message).not.toContain('not installed')
    })
  })

  describe.runIf(process.platform === 'linux')('on Linux, in plain words', () => {
    const glibc = libc().name === 'glibc'

    /** The one line of the message about the file at `path`. */
    async function said(path: string): Promise<string | undefined> {
      const { message } = await failureOf(await freshLoader())
      return message.split('\n').find((line) => line.includes(path))
    }

    test('says that a file is for another processor', async () => {
      const path = place('build/Release/lowrank.node')
      const bytes = readFileSync(path)
      bytes.writeUInt16LE(process.arch === 'x64' ? 183 : 62, 18)
      writeFileSync(path, bytes)
      const other = process.arch === 'x64' ? 'arm64' : 'x64'
      expect(await said(path)).toContain(`${path}: it is for ${other}; this is ${process.arch} (`)
    })

    test.runIf(glibc)('says which glibc a file needs and which one is here', async () => {
      const path = place('build/Release/lowrank.node')
      const bytes = readFileSync(path)
      const [version = ''] = /GLIBC_2\.\d+\0/.exec(bytes.toString('latin1')) ?? []
      bytes.write('9'.repeat(version.length - 9), bytes.indexOf(version) + 8, 'latin1')
      writeFileSync(path, bytes)
      expect(await said(path)).toMatch(/: it needs glibc 2\.9+; this system has 2\.\d+ \(/)
    })

    test('says that a file is no library', async () => {
      const path = place('build/Release/lowrank.node', 'MZ and so on, long enough for a header')
      expect(await said(path)).toContain(`${path}: it is not a Linux library (`)
    })

    test('says that a file is for another system', async () => {
      const path = place('build/Release/lowrank.node')
      writeFileSync(path, Buffer.from('cffaedfe0c000001'.padEnd(64, '0'), 'hex'))
      expect(await said(path)).toContain(`${path}: it is a library for macOS; this is Linux (`)
    })

    test('says on musl that no prebuilt addon is for it, and what a build needs there', async () => {
      place(`${prebuilds}/lowrank.glibc.node`)
      vi.spyOn(process.report, 'getReport').mockReturnValue({ header: {} })
      const { message } = await failureOf(await freshLoader())
      expect(message).toContain(`on ${process.platform}-${process.arch} musl (`)
      expect(message).toContain(`${join(root, prebuilds, 'lowrank.musl.node')}: no such file`)
      expect(message).toContain(
        `Prebuilt addons in this package: ${process.platform}-${process.arch}/lowrank.glibc.node.\nNone of them is for musl (Alpine).`,
      )
      expect(message).toContain('install" (after "apk add g++ make cmake").')
    })
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

describe('under options of Node.js that forbid parts', () => {
  // Version 20 has it as an experiment.
  const permission = process.allowedNodeEnvironmentFlags.has('--permission')
    ? '--permission'
    : '--experimental-permission'

  /** What a program says that renders a chat template and prints the error. */
  function said(...options: string[]): string {
    const script = `
      const { addonOrigin } = require('./dist/cjs/native/load.js')
      const { TextCall } = require('./dist/cjs/data/text-call.js')
      try {
        addonOrigin()
        new TextCall({ kind: 'render', chats: [], specialTokens: {} }, 64).close().then(() => console.log('works'))
      } catch ({ code, message }) {
        console.log(code + ': ' + message)
      }`
    const run = spawnSync(process.execPath, [...options, '-e', script], { encoding: 'utf8' })
    return run.stdout + run.stderr.replace(/^.*Warning.*$/gm, '')
  }
  const all = ['--allow-fs-read=*', '--allow-fs-write=*']

  test('an addon that may not be loaded names the option, and no compiler', () => {
    const text = said(permission, ...all)
    expect(text).toMatch(
      /^NATIVE_LOAD: The native addon .* --permission, which forbids addons: add --allow-addons\./,
    )
    expect(text).not.toContain('compiler')
    expect(said('--no-addons')).toMatch(/^NATIVE_LOAD: .* --no-addons, which forbids addons: remove it\./)
  })

  test('a process that may not be started names the option', () => {
    expect(said(permission, ...all, '--allow-addons')).toMatch(
      /^UNSUPPORTED: .*allow it with --allow-child-process\./,
    )
    expect(said(permission, ...all, '--allow-addons', '--allow-child-process')).toMatch(/^works/)
  })

  test('a package that may not be read names its folder', () => {
    const options = ['dist', 'node_modules'].map((name) => `--allow-fs-read=${join(process.cwd(), name)}`)
    expect(said(permission, ...options, '--allow-addons')).toContain(`--allow-fs-read=${process.cwd()}`)
  })
})
