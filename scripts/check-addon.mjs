// Checks what addon files ask of the machine they will run on, and fails when it is more than the package promises:
//
//   check-addon.mjs [--glibc VERSION] FILE...
//
// Linux only: the symbol versions that the file needs of glibc are at most VERSION (2.28, as Node's own binaries),
// libstdc++ is inside, and only libraries that every system has are named.
import { spawnSync } from 'node:child_process'
import { parseArgs } from 'node:util'

// glibc's own parts, and libgcc's unwinder, which Node itself needs.
const systemLibraries = /^(lib(c|m|dl|pthread|rt|gcc_s)\.so\.\d+|ld-linux.*)$/

function readelf(...args) {
  const run = spawnSync('readelf', ['--wide', ...args], { encoding: 'utf8', maxBuffer: 1 << 28 })
  if (run.status === 0) return run.stdout
  console.error(`check-addon: readelf ${args.join(' ')}: ${run.error?.message ?? run.stderr.trim()}`)
  process.exit(1)
}

/** Orders versions such as 2.9 and 2.28. */
function compare(a, b) {
  const [x, y] = [a, b].map((version) => version.split('.').map(Number))
  for (let i = 0; i < Math.max(x.length, y.length); ++i) {
    if ((x[i] ?? 0) !== (y[i] ?? 0)) return (x[i] ?? 0) - (y[i] ?? 0)
  }
  return 0
}

/** The highest version needed of each family (GLIBC, GLIBCXX, CXXABI…). */
function needs(file) {
  const highest = new Map()
  for (const [, family, version] of readelf('--version-info', file).matchAll(/Name: ([A-Z]+)_([\d.]+)/g)) {
    if (compare(version, highest.get(family) ?? '0') > 0) highest.set(family, version)
  }
  return highest
}

function problems(file, glibc) {
  const highest = needs(file)
  const found = []
  const needed = highest.get('GLIBC')
  if (needed === undefined) found.push('it names no version of glibc: is it a dynamic library for Linux?')
  else if (compare(needed, glibc) > 0) {
    const newer = [...readelf('--dyn-syms', file).matchAll(/ UND (\S+@GLIBC_([\d.]+))/g)]
      .filter(([, , version]) => compare(version, glibc) > 0)
      .map(([, symbol]) => symbol)
    found.push(`it needs glibc ${needed}, promised is ${glibc}: ${newer.join(', ')}`)
  }
  for (const family of ['GLIBCXX', 'CXXABI']) {
    if (highest.has(family)) found.push(`it needs ${family}_${highest.get(family)} of a libstdc++ outside`)
  }
  for (const [, name] of readelf('--dynamic', file).matchAll(/\(NEEDED\).*\[(.*)\]/g)) {
    if (!systemLibraries.test(name)) found.push(`it needs ${name}, which not every system has`)
  }
  console.log(`${file}: ${[...highest].map(([family, version]) => `${family}_${version}`).join(', ')}`)
  return found.map((problem) => `check-addon: ${file}: ${problem}`)
}

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { glibc: { type: 'string', default: '2.28' } },
})
if (positionals.length === 0) {
  console.error('check-addon: name the files to check')
  process.exit(2)
}
const found = positionals.flatMap((file) => problems(file, values.glibc))
if (found.length > 0) {
  console.error(found.join('\n'))
  process.exit(1)
}
