/** Imports and exports of the addon, read from the file. */
import { spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { addonOrigin } from '../../lib/native/load.js'
import { libc, targetName } from '../../lib/native/prebuilt.js'
import { readBinary } from '../../scripts/binary.mjs'
import { scratchFolder } from '../lib/scratch.js'
import { EXPORTED, IMPORTED, LOCAL, machO, type SymbolEntry } from './macho.js'

const file = addonOrigin().path
const found = readBinary(readFileSync(file))
// A build with a sanitizer is for this machine only.
const instrumented = found.libraries.some((name) => /^lib(asan|ubsan|tsan)\.so/.test(name))

const check = (...args: string[]) =>
  spawnSync(process.execPath, ['scripts/check-addon.mjs', ...args, file], { encoding: 'utf8' })

describe.runIf(process.platform === 'linux' && !instrumented)('the addon file', () => {
  const target = targetName()
  const glibc = libc().name === 'glibc'

  test('exports nothing but what Node-API looks for', () => {
    expect([...found.exports].sort()).toEqual([
      'napi_register_module_v1',
      'node_api_module_get_api_version_v1',
    ])
  })

  test('makes no array buffer over memory of its own, which Electron refuses', () => {
    const external = /^napi_create_external_(array)?buffer$|^node_api_create_external/
    expect(found.imports.filter(({ name }) => external.test(name))).toEqual([])
  })

  test('has no function of its own left undefined', () => {
    expect(found.imports.filter(({ name }) => /lowrank/.test(name))).toEqual([])
  })

  test('brings its C++ library along, and needs no library that a plain system lacks, nor a glibc after 2.28', () => {
    expect(check('--target', target)).toMatchObject({ status: 0, stderr: '' })
  })

  test.runIf(glibc)('is refused by the check of what it needs where less is promised', () => {
    const { status, stderr } = check('--target', target, '--glibc', '2.4')
    expect(status).toBe(1)
    expect(stderr).toMatch(/it needs glibc 2\.\d+, promised is 2\.4: .*@GLIBC_2\.\d+/)
  })

  test('is refused where it asks the C library for a function whose bits differ between systems', () => {
    const bytes = readFileSync(file)
    bytes.write('tanh', bytes.indexOf('\0free\0') + 1)
    const changed = join(scratchFolder(), 'lowrank.node')
    writeFileSync(changed, bytes)
    const { stderr } = spawnSync(process.execPath, ['scripts/check-addon.mjs', '--target', target, changed], {
      encoding: 'utf8',
    })
    expect(stderr).toContain('it needs tanh of the C library, whose bits differ between systems')
  })

  test('is refused for another system, and for another C library', () => {
    const refusal = (name: string) => check('--target', name).stderr
    expect(refusal('win32-x64')).toContain('expected PE for x86_64')
    expect(refusal('darwin-arm64')).toContain('expected Mach-O for arm64')
    const [other, library] = glibc ? [`${target}-musl`, 'libc.so.6'] : [`linux-${process.arch}`, 'libc.so']
    expect(refusal(other)).toContain(`it needs ${library}, which not every system has`)
  })
})

describe('a file for macOS', () => {
  const needed: SymbolEntry[] = [
    ['napi_register_module_v1', EXPORTED],
    ['napi_create_array', IMPORTED],
  ]
  const refusal = (bytes: Buffer) => {
    const path = join(scratchFolder(), 'lowrank.node')
    writeFileSync(path, bytes)
    const args = ['scripts/check-addon.mjs', '--target', 'darwin-arm64', path]
    return spawnSync(process.execPath, args, { encoding: 'utf8' }).stderr
  }

  test('may have the names that are needed to load it', () => {
    expect(refusal(machO(needed))).toBe('')
  })

  test('may name thunks, as the linker of zig does', () => {
    expect(refusal(machO([['strlen__thunk', LOCAL], ...needed]))).toBe('')
  })

  test('is refused with names that a debugger reads', () => {
    const locals: SymbolEntry[] = [['_ZN7lowrank4Pool3runEv', LOCAL]]
    expect(refusal(machO([...locals, ...needed]))).toContain('it names 1 of its functions and variables')
  })

  test('is refused where it was changed after it was signed', () => {
    const many = Array.from({ length: 400 }, (_, i): SymbolEntry => [`napi_${i}`, IMPORTED])
    const bytes = machO([...needed, ...many])
    const at = bytes.indexOf('napi_399')
    expect(refusal(bytes)).toBe('')
    expect(at).toBeGreaterThan(4096)
    bytes.write('napi_999', at)
    expect(refusal(bytes)).toContain('it has no valid signature')
  })
})
