/**
 * Packs what is published and installs it as a user would: the short rows of scripts/install-matrix.mjs, which need nothing
 * but this machine's Node, npm and compiler. Dependencies come from npm's registry or its cache. With prebuilds/
 * present, no compiler is within reach.
 */
import { execFile } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, describe, expect, test } from 'vitest'
import { layOut, MOST_BYTES, tooLarge } from '../../scripts/packages.mjs'

/** A row as the script reports it; `skipped` and `problem` say why it was not tried, or did not end as it should. */
interface Row {
  command: string
  prebuilt: string
  compiler: string
  expected: string
  skipped?: string
  problem?: string
}

const work = mkdtempSync(join(tmpdir(), 'lowrank-package-'))
afterAll(() => rmSync(work, { recursive: true, force: true }))

const run = promisify(execFile)

async function matrix(): Promise<Row[]> {
  const file = join(work, 'matrix.json')
  // It ends with 1 when a row failed, which the tests below say better.
  await run(process.execPath, ['scripts/install-matrix.mjs', '--short', '--json', file]).catch(
    (error: { stderr: string }) => console.error(error.stderr),
  )
  return (JSON.parse(readFileSync(file, 'utf8')) as { installs: Row[] }).installs
}

const rows = await matrix()

describe('the packed package', () => {
  const stranger = join(work, 'stranger.node')
  writeFileSync(stranger, Buffer.alloc(1024))
  const targets = ['linux-x64-musl', 'win32-x64', 'darwin-arm64']
  const packages = layOut(join(work, 'packages'), targets, () => stranger)
  const filesOf = (folder: string) =>
    readdirSync(folder, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => relative(folder, join(entry.parentPath, entry.name)))
  const manifestOf = (folder: string) =>
    JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Record<string, unknown>
  const main = packages.at(-1)?.folder ?? ''
  const { version } = manifestOf('.')

  test('holds what an install needs and nothing of the development setup', () => {
    const files = filesOf(main)
    const building = ['CMakeLists.txt', 'scripts/native.mjs']
    const demo = ['config.yaml', 'base/model.safetensors', 'base/tokenizer.json', 'train.jsonl', 'test.jsonl']
    // Error messages send people to the first of the pages.
    const reading = [
      'LICENSE',
      'THIRD-PARTY-NOTICES.md',
      'README.md',
      'docs/troubleshooting.md',
      'docs/install.md',
      'examples/lora.yaml',
    ]
    for (const needed of [...building, ...demo.map((file) => `demo/${file}`), ...reading]) {
      expect(files).toContain(needed)
    }
    const development = /\.map$|tsbuildinfo|\.test\.|^test|^lib\/|^out|^build\/|^prebuilds\/|^docs\/api\//
    expect(files.filter((file) => development.test(file))).toEqual(['native/addon/exports.map'])
    expect(manifestOf(main)).not.toHaveProperty('devDependencies')
  })

  test('has pages that say how to install what is published, and nothing of before', () => {
    // Contributors clone the repository whatever is published.
    const pages = filesOf(main).filter((file) => file.endsWith('.md') && file !== 'CONTRIBUTING.md')
    const texts = pages.map((file) => readFileSync(join(main, file), 'utf8'))
    expect(texts.filter((text) => /is not published|<!-- until|git clone </.test(text))).toEqual([])
    const install = /## Install\n\n```sh\nnpm install lowrank\n/
    expect(readFileSync(join(main, 'README.md'), 'utf8')).toMatch(install)
    // A page that loses its way of before has another one.
    expect(readFileSync('README.md', 'utf8')).not.toMatch(install)
  })

  test('has nothing that a package manager would run at an install', () => {
    // Package managers run node-gyp where they find binding.gyp, whatever package.json says.
    expect(filesOf(main)).not.toContain('binding.gyp')
    expect(manifestOf(main)).not.toHaveProperty('scripts')
    // A tarball of the checkout has its package.json.
    const { scripts, gypfile } = manifestOf('.')
    for (const name of ['preinstall', 'install', 'postinstall']) expect(scripts).not.toHaveProperty(name)
    expect(gypfile).toBe(false)
  })

  test('names a package with an addon for each platform, which only such a platform installs', () => {
    const optional = {
      '@lowrank/darwin-arm64': version,
      '@lowrank/linux-x64-musl': version,
      '@lowrank/win32-x64': version,
    }
    expect(manifestOf(main).optionalDependencies).toEqual(optional)
    expect(manifestOf('.')).not.toHaveProperty('optionalDependencies')
    const [musl, windows] = packages.map(({ folder }) => manifestOf(folder))
    expect(musl).toMatchObject({ version, os: ['linux'], cpu: ['x64'], libc: ['musl'], main: 'lowrank.node' })
    expect(windows).toMatchObject({ name: '@lowrank/win32-x64', os: ['win32'], cpu: ['x64'] })
    expect(windows).not.toHaveProperty('libc')
    const files = ['LICENSE', 'README.md', 'THIRD-PARTY-NOTICES.md', 'lowrank.node', 'package.json']
    expect(filesOf(join(work, 'packages', 'win32-x64')).sort()).toEqual(files)
  })

  test('stays below the size that one platform may install', () => {
    expect([...tooLarge(packages)]).toEqual([])
    const large = packages.map((each) => ({ ...each, bytes: each.bytes + MOST_BYTES / 2 }))
    expect([...tooLarge(large)]).toHaveLength(targets.length)
  })

  test('is tried in several ways', () => {
    expect(rows.length).toBeGreaterThan(9)
  })

  for (const { command, prebuilt, compiler, expected, skipped, problem } of rows) {
    const title = `${command}; prebuilt addon: ${prebuilt}, compiler: ${compiler}; ${expected}`
    test(title, ({ skip }) => {
      if (skipped) skip(skipped)
      expect(problem).toBeUndefined()
    })
  }
})
