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

  test('needs glibc 2.34 at most and brings its C++ library along', () => {
    const versions = [...readelf('--version-info').matchAll(/Name: (GLIBC|GLIBCXX|CXXABI)_([\d.]+)/g)]
    const newer = versions.filter(([, library, version = '']) => {
      const [major = 0, minor = 0] = version.split('.').map(Number)
      return library !== 'GLIBC' || major > 2 || minor > 34
    })
    expect(newer.map(([text]) => text)).toEqual([])
    expect(versions.length).toBeGreaterThan(0)
  })

  test('needs no library that a plain system lacks', () => {
    const needed = [...readelf('--dynamic').matchAll(/\(NEEDED\).*\[(.*)\]/g)].map(([, name = '']) => name)
    expect(needed).toContain('libc.so.6')
    for (const name of needed) expect(name).toMatch(/^(lib(c|m|dl|pthread|gcc_s)\.so\.\d+|ld-linux.*)$/)
  })
})
