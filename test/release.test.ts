/** Refusals of scripts/release.mjs, in a repository of its own with the files that it looks at; and third-party notices. */

import { execFileSync, spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { TARGETS } from '../scripts/targets.mjs'
import { sweepTest } from './sweep.js'

const root = mkdtempSync(join(tmpdir(), 'lowrank-release-'))
const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string }
afterAll(() => rmSync(root, { recursive: true, force: true }))

const git = (...args: string[]) =>
  execFileSync('git', ['-c', 'user.name=A', '-c', 'user.email=a@b.c', ...args], { cwd: root })

/** Reasons that a release is refused for. */
function reasons(): string[] {
  const { status, stderr } = spawnSync(process.execPath, ['scripts/release.mjs'], {
    cwd: root,
    encoding: 'utf8',
  })
  expect(status).toBe(1)
  const [head, ...rest] = stderr.trim().split('\n  - ')
  expect(head).toBe('this release is refused:')
  return rest
}

beforeAll(() => {
  const parts = ['scripts', 'package.json', 'CMakeLists.txt', 'THIRD-PARTY-NOTICES.md', 'LICENSE']
  for (const part of parts) cpSync(part, join(root, part), { recursive: true })
  writeFileSync(join(root, 'CHANGELOG.md'), '# Changelog\n')
  symlinkSync(join(process.cwd(), 'node_modules'), join(root, 'node_modules'))
  mkdirSync(join(root, 'native'))
  writeFileSync(join(root, 'native', 'one.cpp'), 'int one;\n')
  writeFileSync(join(root, '.gitignore'), 'prebuilds/\nout/\nnode_modules\n')
  git('init', '-q')
  git('add', '.')
  git('commit', '-q', '-m', 'First')
})

/** Puts a file where the addon for a target belongs, as if it had just been built. */
function place(target: string) {
  const file = join(root, 'prebuilds', TARGETS[target]?.file ?? '')
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, 'an addon, but of no format, and long enough for the header of one')
  const script = `import { note } from './scripts/build-record.mjs'; note(${JSON.stringify(target)})`
  execFileSync(process.execPath, ['--input-type=module', '-e', script], { cwd: root })
  return file
}

describe('a release is refused', () => {
  test('without an addon for every platform, without CUDA kernels, and without a section in the changelog', () => {
    const said = reasons()
    for (const target of Object.keys(TARGETS))
      expect(said).toContain(
        `the addon for ${target}: there is none; npm run build:prebuilds -- --target ${target}`,
      )
    expect(said).toContain('the CUDA kernels: there is none; npm run cuda:pack')
    expect(said).toContain(`CHANGELOG.md has no section "## ${version}"`)
    expect(said).toHaveLength(Object.keys(TARGETS).length + 2)
  })

  sweepTest('with an addon that fails its check, was replaced, or was built from other sources', () => {
    const file = place('win32-x64')
    const of = (what: string) => reasons().filter((reason) => reason.includes(what))
    expect(of('win32-x64')).toEqual([expect.stringContaining('it is neither ELF, PE nor Mach-O')])
    writeFileSync(join(root, 'native', 'one.cpp'), 'int two;\n')
    expect(of('the addon for win32-x64')).toEqual([
      expect.stringContaining('it was built from other sources'),
    ])
    expect(of('not committed')).toEqual([expect.stringContaining('native/one.cpp')])
    git('checkout', '-q', '.')
    writeFileSync(file, 'another file')
    expect(of('the addon for win32-x64')).toEqual([
      expect.stringContaining('it is not the one that was built'),
    ])
    expect(of('not committed')).toEqual([])
  })

  test('where the tag of the version is of another commit', () => {
    git('tag', `v${version}`)
    expect(reasons().filter((reason) => reason.includes('is the tag'))).toEqual([])
    writeFileSync(join(root, 'CHANGELOG.md'), `# Changelog\n\n## ${version} (2026-11-27)\n`)
    git('commit', '-q', '-a', '-m', 'Second')
    const said = reasons()
    expect(said.filter((reason) => reason.includes('is the tag'))).toHaveLength(1)
    expect(said.filter((reason) => reason.includes('CHANGELOG'))).toEqual([])
  })
})

test('CHANGELOG.md has a section for the version that is released next', () => {
  expect(readFileSync('CHANGELOG.md', 'utf8').split('\n')).toContain(`## ${version}`)
})

describe('THIRD-PARTY-NOTICES.md', () => {
  test('has the licenses that are found', () => {
    const { status, stderr } = spawnSync(process.execPath, ['scripts/notices.mjs', '--check'], {
      encoding: 'utf8',
    })
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
  })
})
