// The matrix: every way to install the package that is promised, and those that must fail, with what they must say.
//
// A row installs one `package` by `manager` with `flags` under `node`, with a compiler on PATH or not, and perhaps gives a
// `command` afterwards. `addon` says where the addon must come from; where the package is to be refused instead, `refused`
// is what the command or, where there is none, the first use must say. Rows that are `short` are part of the tests.
// `linker` is Yarn's: `pnp`, its default, has no node_modules.
//
//   published   lowrank, and a package with an addon for each platform; the default
//   elsewhere   the same with an addon for another platform alone
//   carried     packed from a checkout, with the addons in prebuilds/
//   bare        the same without addons
//   foreign     the same with an addon for another platform alone
//   broken      the same with a file that is no addon

import { readFileSync } from 'node:fs'
import { packageOf } from '../packages.mjs'

const mend = 'node node_modules/lowrank/scripts/native.mjs install'

/** Message of a build on a machine that cannot. */
const cannotBuild = [
  'lowrank: cannot build the native addon from source. Missing:',
  'CMake 3.22 or newer (no "cmake" on PATH)',
  'a C++20 compiler',
  'apt-get install g++ make cmake',
]

/** Installs the package with the addon that `npm install --omit=optional` left out. */
const version = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')).version
const own = packageOf(`${process.platform}-${process.arch}`)
const fetch = `npm install --save-optional ${own}@${version}`

/** Message of the first use without that package. */
const leftOut = [
  'NATIVE_LOAD: The native addon could not be loaded on',
  `${own}: not installed`,
  `Install the missing package with "${fetch}", or build it with "${mend}"`,
]

/** Message of the first use without an addon: the paths tried, the existing addons, and the command that builds one. */
const noAddon = [
  'NATIVE_LOAD: The native addon could not be loaded on',
  'lowrank/build/Release/lowrank.node: no such file',
  /lowrank\/prebuilds\/.*: no such file/,
  'Prebuilt addons in this package: none.',
  `Build it with "${mend}"`,
]

/** Message of the first use of a release that has no addon for this platform. */
const noPackage = [
  'NATIVE_LOAD: The native addon could not be loaded on',
  /Packages with prebuilt addons: @lowrank\/\S+\. None of them is for /,
  `Build it with "${mend}"`,
]

export const rows = [
  // Every way, with the Node and npm at hand.
  { flags: [], addon: 'prebuild', short: true },
  { flags: ['--ignore-scripts'], addon: 'prebuild', short: true },
  { flags: [], compiler: true, command: mend, addon: 'build' },
  { flags: ['--omit=optional'], compiler: true, command: mend, addon: 'build' },
  { flags: ['--omit=optional'], refused: leftOut, short: true },
  { flags: ['--omit=optional'], command: fetch, addon: 'prebuild', short: true },
  { package: 'elsewhere', flags: [], refused: noPackage, short: true },
  { package: 'carried', flags: [], addon: 'prebuild', short: true },
  { package: 'bare', flags: [], compiler: true, command: mend, addon: 'build', short: true },
  { package: 'bare', flags: [], command: mend, refused: cannotBuild, short: true },
  { package: 'bare', flags: [], refused: noAddon, short: true },
  {
    package: 'foreign',
    flags: [],
    refused: [
      ...noAddon.slice(0, 3),
      /Prebuilt addons in this package: \w+-\w+\/lowrank\.node\./,
      `"${mend}"`,
    ],
    short: true,
  },
  {
    package: 'broken',
    flags: [],
    refused: [noAddon[0], 'it is not a Linux library', `"${mend}"`],
    short: true,
  },

  // Versions of Node, each with an npm of its time.
  { node: '20.19.0', manager: 'npm@10', flags: [], addon: 'prebuild' },
  { node: '22', manager: 'npm@10', flags: [], addon: 'prebuild' },
  { node: '24', manager: 'npm@11', flags: [], addon: 'prebuild' },
  { node: '26', manager: 'npm@12', flags: [], addon: 'prebuild' },
  {
    node: '26',
    manager: 'npm@12',
    flags: [],
    package: 'bare',
    compiler: true,
    command: mend,
    addon: 'build',
  },

  // Other package managers; what they install runs under Node.
  { node: '24', manager: 'pnpm@11', flags: [], addon: 'prebuild' },
  { node: '24', manager: 'pnpm@12', flags: [], addon: 'prebuild' },
  { node: '24', manager: 'bun@1', flags: [], addon: 'prebuild' },
  { node: '24', manager: 'yarn@1', flags: [], addon: 'prebuild' },
  { node: '24', manager: 'yarn@4', linker: 'node-modules', flags: [], addon: 'prebuild' },
  { manager: 'yarn@4', linker: 'pnp', flags: [], addon: 'prebuild', short: true },
  { node: '26', manager: 'yarn@4', linker: 'pnp', flags: [], addon: 'prebuild' },

  // Other processors and C libraries.
  { system: 'arm64', node: '22', flags: ['--cpu=arm64'], addon: 'prebuild' },
  { system: 'musl', flags: ['--libc=musl'], addon: 'prebuild' },
  {
    package: 'bare',
    system: 'musl',
    flags: [],
    refused: [
      /could not be loaded on linux-\w+ musl/,
      /lowrank\.musl\.node: no such file/,
      `Build it with "${mend}" (after "apk add g++ make cmake").`,
    ],
  },
]

/** Versions of TypeScript that programs which use the package are checked with. */
export const typescripts = ['5.9', '6.0', '7.0']
