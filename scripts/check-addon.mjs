// Checks prebuilt addons and fails where one asks more of a system than its target promises (scripts/targets.mjs):
//
//   check-addon.mjs [--target NAME] [--glibc VERSION] FILE...
//
// The target is found by the file's place in prebuilds/ where it is left out. --glibc promises another version than it does.
//
// Checked in each file: format and processor, size, libraries (parts of the system alone), imports (Node-API, and of those
// libraries, but no elementary functions), exports (the addon's entry points), symbol versions of glibc, oldest macOS, the
// names of functions that only a debugger needs, and Apple's signature.
import { readFileSync, statSync } from 'node:fs'
import { basename, dirname } from 'node:path'
import { parseArgs } from 'node:util'
import { readBinary } from './binary.mjs'
import { TARGETS } from './targets.mjs'

const ENTRY_POINT = 'napi_register_module_v1'
const ENTRY_POINTS = [ENTRY_POINT, 'node_api_module_get_api_version_v1']
/** Linkers for macOS leave operators new and delete visible, since programs may replace them, and two names of their own. */
const OF_MACOS = /^(_Z(n[wa]|d[la])|_mh_dylib_header$|__dso_handle$)/
/** zig's linker names these whatever it is told. */
const OF_A_THUNK = /__thunk$/
const NODE_API = /^(napi|node_api)_/
const MOST_MIB = 8
/** Functions whose last bits differ between C libraries: native/core/math.h has those that the addon needs. */
const ELEMENTARY =
  /^((exp|log)(2|10)?|expm1|log1p|pow|cbrt|hypot|sincos|a?(sin|cos|tan)h?|atan2|erfc?|[lt]gamma)[fl]?$/

/** Orders versions such as 2.9 and 2.28. */
function compare(a, b) {
  const [x, y] = [a, b].map((version) => version.split('.').map(Number))
  for (let i = 0; i < Math.max(x.length, y.length); ++i) {
    if ((x[i] ?? 0) !== (y[i] ?? 0)) return (x[i] ?? 0) - (y[i] ?? 0)
  }
  return 0
}

function* problems(file, target) {
  const size = statSync(file).size
  if (size > MOST_MIB << 20) yield `it has ${size} bytes; expected ${MOST_MIB} MiB at most`
  const found = readBinary(readFileSync(file))
  const processor = target.processor === 'aarch64' ? 'arm64' : target.processor
  if (found.format !== target.format || found.processor !== processor) {
    yield `it is ${found.format} for ${found.processor}; expected ${target.format} for ${processor}`
    return
  }
  for (const name of found.libraries)
    if (!target.libraries.test(name)) yield `it needs ${name}, which not every system has`
  for (const name of found.delayed)
    if (!target.delayed?.test(name)) yield `it needs ${name}, once it is called`
  for (const { name, library } of found.imports)
    if (library && target.delayed?.test(library) && !NODE_API.test(name))
      yield `it needs ${name} of ${library}, which is no part of Node-API`
  if (!found.imports.some(({ name }) => NODE_API.test(name))) yield 'it calls nothing of Node-API'
  const elementary = found.imports.filter(({ name }) => ELEMENTARY.test(name)).map(({ name }) => name)
  if (elementary.length > 0)
    yield `it needs ${elementary.join(', ')} of the C library, whose bits differ between systems`
  if (!found.exports.includes(ENTRY_POINT)) yield `it does not export ${ENTRY_POINT}`
  const strangers = found.exports.filter(
    (name) => !ENTRY_POINTS.includes(name) && !(target.macos && OF_MACOS.test(name)),
  )
  if (strangers.length > 0)
    yield `it exports ${strangers.length} names more: ${strangers.slice(0, 5).join(', ')}`
  if (target.glibc) yield* tooNew(found, target.glibc)
  if (target.macos) {
    if (!found.signed && processor === 'arm64')
      yield 'it has no valid signature, which Apple processors ask for'
    const named = found.locals.filter((name) => !OF_A_THUNK.test(name))
    if (named.length > 0)
      yield `it names ${named.length} of its functions and variables for debuggers: ${named.slice(0, 2).join(', ')}`
    if (found.macos === undefined || compare(found.macos, target.macos) > 0)
      yield `it needs macOS ${found.macos ?? 'of a version that it does not name'}; expected ${target.macos}`
  }
  const facts = [...found.libraries, ...found.delayed.map((name) => `${name} when called`)]
  if (target.glibc) facts.push(`glibc ${highest(found.versions)}`)
  if (found.macos) facts.push(`macOS ${found.macos}`)
  console.log(`${file}: ${found.format} for ${found.processor}, ${size} bytes; ${facts.join(', ')}`)
}

function glibc(version = '') {
  return /^GLIBC_([\d.]+)$/.exec(version)?.[1]
}

function highest(versions) {
  return versions.map(glibc).filter(Boolean).sort(compare).at(-1)
}

function* tooNew({ imports, versions }, promised) {
  const needed = highest(versions)
  if (needed === undefined) yield 'it names no version of glibc'
  else if (compare(needed, promised) > 0) {
    const newer = imports.filter(({ version }) => compare(glibc(version) ?? '0', promised) > 0)
    const names = newer.map(({ name, version }) => `${name}@${version}`).join(', ')
    yield `it needs glibc ${needed}, promised is ${promised}: ${names}`
  }
  for (const version of versions)
    if (/^(GLIBCXX|CXXABI)_/.test(version)) yield `it needs ${version} of a libstdc++ outside`
}

/** The target whose file has this name in this folder. */
function targetOf(file) {
  const place = `${basename(dirname(file))}/${basename(file)}`
  return Object.keys(TARGETS).find((name) => TARGETS[name].file === place)
}

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { target: { type: 'string' }, glibc: { type: 'string' } },
})
if (positionals.length === 0) {
  console.error('check-addon: name the files to check')
  process.exit(2)
}
for (const file of positionals) {
  const name = values.target ?? targetOf(file)
  const target = TARGETS[name] && { ...TARGETS[name], ...(values.glibc && { glibc: values.glibc }) }
  if (target === undefined) {
    console.error(
      `check-addon: ${file}: no target is known for it; expected --target with one of ${Object.keys(TARGETS).join(', ')}`,
    )
    process.exit(2)
  }
  try {
    for (const problem of problems(file, target)) {
      console.error(`check-addon: ${file}: ${problem}`)
      process.exitCode = 1
    }
  } catch (error) {
    console.error(`check-addon: ${file}: ${error.message}`)
    process.exitCode = 1
  }
}
