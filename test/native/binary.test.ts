/** What the addon asks of a machine and shows to its process, read from the ELF file. */
import { spawnSync } from 'node:child_process'
import { describe, expect, test } from 'vitest'
import { addonOrigin } from '../../lib/native/load.js'

function readelf(...args: string[]): string {
  return spawnSync('readelf', ['--wide', ...args, addonOrigin().path], {
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  }).stdout
}

const readable = spawnSync('readelf', ['--version']).status === 0
// A build with a sanitizer is for this machine only.
const instrumented = readable && /lib(asan|ubsan|tsan)\.so/.test(readelf('--dynamic'))

describe.runIf(process.platform === 'linux' && readable && !instrumented)('the addon file', () => {
  const symbols = readelf('--dyn-syms')
    .split('\n')
    .map((line) => /\d+: \S+ +\d+ \S+ +(\S+) +\S+ +(\S+) (\S+)$/.exec(line.trim()))
    .filter((match) => match !== null)
    .map(([, binding = '', section = '', name = '']) => ({ binding, section, name }))

  test('exports nothing but what Node-API looks for', () => {
    const exported = symbols.filter(({ section }) => section !== 'UND').map(({ name }) => name)
    expect(exported.sort()).toEqual(['napi_register_module_v1', 'node_api_module_get_api_version_v1'])
  })

  test('has no function of its own left undefined', () => {
    expect(symbols.filter(({ section, name }) => section === 'UND' && /lowrank/.test(name))).toEqual([])
  })

  const check = (...args: string[]) =>
    spawnSync(process.execPath, ['scripts/check-addon.mjs', ...args, addonOrigin().path], {
      encoding: 'utf8',
    })

  test('needs glibc 2.28 at most, brings its C++ library along, and no library that a plain system lacks', () => {
    expect(check()).toMatchObject({ status: 0, stderr: '' })
  })

  test('is refused by the check of what it needs where less is promised', () => {
    const { status, stderr } = check('--glibc', '2.4')
    expect(status).toBe(1)
    expect(stderr).toMatch(/it needs glibc 2\.\d+, promised is 2\.4: .*@GLIBC_2\.\d+/)
  })
})
