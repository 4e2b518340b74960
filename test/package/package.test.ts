/**
 * Packs the package and installs it as a user would. Dependencies come from npm's registry or its cache.
 *
 * With prebuilds/ present the tarball is tested as published: no compiler within reach. The way from source is
 * tested with the same tarball minus its prebuilt addons.
 */
import { spawn } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'

interface Ended {
  code: number | null
  output: string
}

const work = mkdtempSync(join(tmpdir(), 'lowrank-package-'))
const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string }
const prebuilt = existsSync('prebuilds')

afterAll(() => rmSync(work, { recursive: true, force: true }))

function execute(cwd: string, command: string, args: string[], env: NodeJS.ProcessEnv = {}): Promise<Ended> {
  const inherited = Object.entries(process.env).filter(
    ([name]) => !/^(npm_(?!config_)|LOWRANK_|VITEST|NODE_)/.test(name),
  )
  const child = spawn(command, args, {
    cwd,
    env: { ...Object.fromEntries(inherited), ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text
    })
  }
  return new Promise((done, failed) => {
    child.on('error', failed)
    child.on('close', (code) => done({ code, output }))
  })
}

function findOnPath(name: string): string {
  const folder = (process.env.PATH ?? '').split(delimiter).find((entry) => existsSync(join(entry, name)))
  if (!folder) throw new Error(`${name} is not on PATH`)
  return realpathSync(join(folder, name))
}

/** A PATH with Node and a shell on it, and no compiler or CMake. */
function barePath(): string {
  const folder = join(work, 'bin')
  if (!existsSync(folder)) {
    mkdirSync(folder)
    for (const name of ['node', 'npm', 'sh']) symlinkSync(findOnPath(name), join(folder, name))
  }
  return folder
}

/** An empty project with the tarball installed in it. */
async function install(name: string, tarball: string, args: string[], env?: NodeJS.ProcessEnv) {
  const folder = join(work, name)
  mkdirSync(folder)
  writeFileSync(join(folder, 'package.json'), '{ "name": "user", "private": true }')
  const npm = [
    'install',
    tarball,
    '--prefer-offline',
    '--no-audit',
    '--no-fund',
    '--foreground-scripts',
    ...args,
  ]
  return { folder, ...(await execute(folder, 'npm', npm, env)) }
}

/** What the installed package says when asked through each of its doors. */
async function ask(folder: string, env?: NodeJS.ProcessEnv): Promise<void> {
  const loader = `require.resolve('lowrank').replace('index.js', 'native/load.js')`
  const scripts = {
    'cjs.cjs': `const { LowrankError } = require('lowrank')
      console.log(typeof LowrankError, require(${loader}).loadAddon().version)`,
    'esm.mjs': `import { createRequire } from 'node:module'
      import { LowrankError } from 'lowrank'
      const require = createRequire(import.meta.url)
      console.log(typeof LowrankError, require(${loader}).loadAddon().version)`,
  }
  for (const [name, text] of Object.entries(scripts)) {
    writeFileSync(join(folder, name), text)
    const { code, output } = await execute(folder, process.execPath, [name], env)
    expect({ code, output }).toEqual({ code: 0, output: `function ${version}\n` })
  }
  const typed = `import { loadModel, lora, type Model } from 'lowrank'
    export const load = (path: string): Promise<Model> => loadModel(path)
    export const rank: number = lora({ r: 4 }).r
    // @ts-expect-error: a rank is a number
    lora({ r: 'four' })`
  const sources = ['types.mts', 'types.cts']
  for (const name of sources) writeFileSync(join(folder, name), typed)
  const tsc = join(process.cwd(), 'node_modules', 'typescript', 'bin', 'tsc')
  const flags = '--noEmit --strict --target es2022 --module nodenext --lib es2022,esnext.disposable,dom'
  const types = await execute(folder, process.execPath, [tsc, ...flags.split(' '), ...sources])
  expect(types).toEqual({ code: 0, output: '' })
  const cli = await execute(
    folder,
    process.execPath,
    [join('node_modules', '.bin', 'lowrank'), '--version'],
    env,
  )
  expect(cli).toEqual({ code: 0, output: `${version}\n` })
}

/** Packs this checkout as it was built; returns the tarball's path. */
async function pack(): Promise<string> {
  const args = ['pack', '--ignore-scripts', '--json', '--pack-destination', work]
  const { code, output } = await execute(process.cwd(), 'npm', args)
  expect(code, output).toBe(0)
  return join(work, `lowrank-${version}.tgz`)
}

/** The same package without prebuilt addons: what a platform that has none sees. */
async function withoutPrebuilds(tarball: string): Promise<string> {
  const folder = join(work, 'stripped')
  mkdirSync(folder)
  expect(await execute(folder, 'tar', ['xzf', tarball])).toEqual({ code: 0, output: '' })
  rmSync(join(folder, 'package', 'prebuilds'), { recursive: true, force: true })
  const stripped = join(work, 'stripped.tgz')
  expect(await execute(folder, 'tar', ['czf', stripped, 'package'])).toEqual({ code: 0, output: '' })
  return stripped
}

describe('the packed package', () => {
  let tarball: string
  let stripped: string

  beforeAll(async () => {
    tarball = await pack()
    stripped = await withoutPrebuilds(tarball)
  })

  test('holds what an install needs and nothing of the development setup', () => {
    const root = join(work, 'stripped', 'package')
    const files = readdirSync(root, { recursive: true, encoding: 'utf8' })
    for (const needed of ['LICENSE', 'CMakeLists.txt', 'binding.gyp', 'scripts/native.mjs']) {
      expect(files).toContain(needed)
    }
    expect(files.filter((file) => /tsbuildinfo|\.test\.|^test|^lib\/|^out|^build\//.test(file))).toEqual([])
  })

  test.runIf(prebuilt)(
    'installs without a compiler and loads from ESM, CommonJS and the command line',
    async () => {
      const env = { PATH: barePath() }
      const { folder, code, output } = await install('prebuilt', tarball, [], env)
      expect(code, output).toBe(0)
      await ask(folder, env)
      expect(existsSync(join(folder, 'node_modules/lowrank/build'))).toBe(false)
    },
  )

  test.runIf(prebuilt)('loads its prebuilt addon although install scripts were disabled', async () => {
    const env = { PATH: barePath() }
    const { folder, code, output } = await install('no-scripts', tarball, ['--ignore-scripts'], env)
    expect(code, output).toBe(0)
    await ask(folder, env)
  })

  test('without a prebuilt addon and a compiler, says what is missing and how to get it', async () => {
    const { code, output } = await install('nothing', stripped, [], { PATH: barePath() })
    expect(code).not.toBe(0)
    expect(output).toContain('lowrank: cannot build the native addon from source. Missing:')
    expect(output).toContain('CMake 3.22 or newer (no "cmake" on PATH)')
    expect(output).toContain('a C++20 compiler')
    expect(output).toContain('apt-get install g++ make cmake')
  })

  test('without a prebuilt addon, builds from source and leaves only the addon behind', async () => {
    const { folder, code, output } = await install('source', stripped, [])
    expect(code, output).toBe(0)
    await ask(folder)
    const installed = join(folder, 'node_modules', 'lowrank')
    expect(readdirSync(join(installed, 'build'), { recursive: true }).sort()).toEqual([
      'Release',
      join('Release', 'lowrank.node'),
    ])
    expect(existsSync(join(installed, 'out'))).toBe(false)
  })

  test('a prebuilt addon that does not load is no success: the install goes on to a build', async () => {
    const { folder } = await install('broken', stripped, ['--ignore-scripts'])
    const prebuilds = join(folder, 'node_modules/lowrank/prebuilds', `${process.platform}-${process.arch}`)
    mkdirSync(prebuilds, { recursive: true })
    writeFileSync(join(prebuilds, 'lowrank.node'), 'built for another machine')
    const loader = `require('lowrank/package.json') && require(require.resolve('lowrank').replace('index.js', 'native/load.js'))`
    const load = await execute(folder, process.execPath, ['-e', `${loader}.loadAddon()`])
    expect(load.code).not.toBe(0)
    expect(load.output).toContain(
      `Prebuilt addons in this package: ${process.platform}-${process.arch}/lowrank.node.`,
    )
    expect(load.output).toContain('node node_modules/lowrank/scripts/native.mjs install --build-from-source')
    const { code, output } = await execute(folder, 'npm', ['rebuild', 'lowrank', '--foreground-scripts'], {
      PATH: barePath(),
    })
    expect(code).not.toBe(0)
    expect(output).toMatch(/no prebuilt addon loads on .*, building from source/)
    if (process.platform === 'linux') expect(output).toContain('lowrank.node: it is no Linux library')
    expect(output).toContain(`${process.platform}-${process.arch}/lowrank.node`)
  })
})
