// Writes THIRD-PARTY-NOTICES.md: the code of others that prebuilt addons and programs have inside, where it is, and its
// license, copied from where it was found on this machine. Other JavaScript has none inside: its dependencies are installed
// beside it.
//
//   notices.mjs [--check]
//
// A license whose compiler is not on this machine stays as the page has it. --check writes nothing and fails where the page
// differs.
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { zigFolder } from './compilers.mjs'
import { TARGETS } from './targets.mjs'

const root = resolve(import.meta.dirname, '..')
const page = join(root, 'THIRD-PARTY-NOTICES.md')

const read = (path) => (existsSync(path) ? readFileSync(path, 'utf8').trim() : undefined)
const inModules = (path) => () => read(join(root, 'node_modules', path))
const inZig = (path) => () => read(join(zigFolder, 'ziglang', path))

/** The lines of a text from one that begins with some words to before another. */
function part(text, from, to) {
  const begin = text?.indexOf(`\n${from}`)
  if (text === undefined) return undefined
  if (begin < 0) throw new Error(`a license no longer has the line "${from}"`)
  const end = to === undefined ? text.length : text.indexOf(`\n${to}`, begin + 1)
  return text.slice(begin, end < 0 ? text.length : end).trim()
}

/** Paragraphs of a Debian copyright file about some files, and the licenses that they name. */
function paragraphs(text, files, licenses) {
  if (text === undefined) return undefined
  const all = text.split(/\n\n+/)
  const about = files.map((name) => all.find((each) => each.startsWith(`Files: ${name}\n`)))
  const named = licenses.map((name) => all.find((each) => each.startsWith(`License: ${name}\n`)))
  if ([...about, ...named].includes(undefined))
    throw new Error('a copyright file no longer has its paragraphs')
  return [...about, ...named].join('\n\n')
}

/** GCC's own, and what its library of templates took from others. */
function gcc() {
  const exception = part(
    read('/usr/share/doc/gcc-12-base/copyright'),
    'GCC RUNTIME LIBRARY EXCEPTION',
    '\nlibquadmath',
  )
  const templates = read('/usr/include/c++/12/bits/stl_vector.h')
  const notices = templates?.match(/\/\*\n \*\n \* Copyright \(c\) 1994[\s\S]*?\*\//)?.[0]
  if (!exception || !notices) return undefined
  return `${exception}\n\n${notices.replaceAll(/^ ?\/?\*+\/? ?/gm, '').trim()}`
}

const COMPONENTS = [
  {
    name: 'node-addon-api',
    compilers: ['gcc', 'mingw', 'zig'],
    license: 'MIT',
    find: inModules('node-addon-api/LICENSE.md'),
  },
  {
    name: 'node-api-headers',
    compilers: ['gcc', 'mingw', 'zig'],
    license: 'MIT',
    find: inModules('node-api-headers/LICENSE'),
  },
  {
    name: 'libstdc++ and libgcc (GCC 12)',
    compilers: ['gcc', 'mingw'],
    license: 'GPL-3.0-or-later WITH GCC-exception-3.1, which allows programs under any license',
    find: gcc,
  },
  {
    name: 'MinGW-w64 runtime and winpthreads',
    compilers: ['mingw'],
    license: 'ZPL-2.1, MIT, BSD-3-Clause, and the public domain',
    find: () =>
      paragraphs(
        read('/usr/share/doc/mingw-w64-common/copyright'),
        [
          '*',
          'mingw-w64-crt/gdtoa/*',
          'mingw-w64-libraries/winpthreads/*',
          'mingw-w64-libraries/winpthreads/include/pthread.h',
        ],
        ['expat'],
      ),
  },
  {
    name: 'libc++, libc++abi, and libunwind (LLVM)',
    compilers: ['zig'],
    license: 'Apache-2.0 WITH LLVM-exception (the text of Apache-2.0 is in the file LICENSE)',
    find: () => part(inZig('lib/libcxx/LICENSE.TXT')(), '---- LLVM Exceptions', undefined),
  },
  { name: 'compiler-rt of Zig', compilers: ['zig'], license: 'MIT', find: inZig('LICENSE') },
  {
    name: 'Startup code of musl',
    compilers: ['zig'],
    only: (target) => target.endsWith('-musl'),
    license: 'MIT',
    find: () => inZig('lib/libc/musl/COPYRIGHT')()?.split('Authors/contributors')[0].trim(),
  },
  {
    name: '@modelcontextprotocol/sdk',
    where: 'the program `lowrank mcp`',
    license: 'MIT',
    find: inModules('@modelcontextprotocol/sdk/LICENSE'),
  },
]

const head = `# Third-party notices

lowrank is licensed under [Apache-2.0](LICENSE). Its prebuilt addons and one of its programs have code of others inside, listed here with where it is and the license of each. Other JavaScript of the package has none: its dependencies are packages of their own, each with its license.

\`node scripts/notices.mjs\` makes this page from the licenses of the compilers and headers.
`

const sections = (text) =>
  new Map(
    [...text.matchAll(/^## (.*)\n\n[\s\S]*?~~~text\n([\s\S]*?)\n~~~$/gm)].map(([, name, body]) => [
      name,
      body,
    ]),
  )

function section({ name, compilers, only = () => true, where, license, find }, before) {
  const text = find() ?? before.get(name)
  if (text === undefined) throw new Error(`the license of ${name} is neither on this machine nor in the page`)
  const targets = Object.keys(TARGETS).filter(
    (target) => compilers?.includes(TARGETS[target].compiler) && only(target),
  )
  return `## ${name}\n\nIn ${where ?? `the addons for ${targets.join(', ')}`}. License: ${license}.\n\n~~~text\n${text}\n~~~\n`
}

const present = existsSync(page) ? readFileSync(page, 'utf8') : ''
const text = [head, ...COMPONENTS.map((each) => section(each, sections(present)))].join('\n')
if (!process.argv.includes('--check')) writeFileSync(page, text)
else if (text !== present) {
  console.error('THIRD-PARTY-NOTICES.md differs from what scripts/notices.mjs finds: run it')
  process.exitCode = 1
}
