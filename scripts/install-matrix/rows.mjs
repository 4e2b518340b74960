// The matrix: every way to install the package that is promised, and those that must fail, with what they must say.
//
// A row installs one `package` (whole; bare, without prebuilt addons; broken, with one that is no addon) by
// `manager` with `flags` under `node`, with a compiler on PATH or not, and perhaps gives a `command`
// afterwards. `addon` says where the addon must come from; where the package is to be refused instead, `refused` is
// what `npm install` or, with `at: 'use'`, the first use must say. Rows that are `short` are part of the tests.

const mend = 'node node_modules/lowrank/scripts/native.mjs install --build-from-source'

/** Message of an install that would have to build and cannot. */
const cannotBuild = [
  'lowrank: cannot build the native addon from source. Missing:',
  'CMake 3.22 or newer (no "cmake" on PATH)',
  'a C++20 compiler',
  'apt-get install g++ make cmake',
]

/** Message of the first use without an addon: the paths tried, the existing addons, and the command that builds one. */
const noAddon = [
  'NATIVE_LOAD: The native addon could not be loaded on',
  'lowrank/build/Release/lowrank.node: no such file',
  /lowrank\/prebuilds\/.*: no such file/,
  'Prebuilt addons in this package: none.',
  `Build it with "${mend}"`,
]

export const rows = [
  // Every way, with the Node and npm at hand.
  { flags: [], addon: 'prebuild', short: true },
  { flags: ['--ignore-scripts'], addon: 'prebuild', short: true },
  { flags: [], compiler: true, addon: 'prebuild' },
  { flags: ['--build-from-source'], compiler: true, addon: 'build' },
  { flags: ['--ignore-scripts'], compiler: true, command: mend, addon: 'build' },
  { package: 'bare', flags: [], compiler: true, addon: 'build', short: true },
  { package: 'bare', flags: [], refused: cannotBuild, short: true },
  { package: 'bare', flags: ['--ignore-scripts'], at: 'use', refused: noAddon, short: true },
  {
    package: 'broken',
    flags: [],
    refused: [
      /no prebuilt addon loads on .*, building from source/,
      'it is not a Linux library',
      ...cannotBuild,
    ],
    short: true,
  },

  // Versions of Node, each with an npm of its time. From version 12 on, npm runs no script of a dependency unasked.
  { node: '20.19.0', manager: 'npm@10', flags: [], addon: 'prebuild' },
  { node: '22', manager: 'npm@10', flags: [], addon: 'prebuild' },
  { node: '24', manager: 'npm@11', flags: [], addon: 'prebuild' },
  { node: '26', manager: 'npm@12', flags: [], addon: 'prebuild' },
  { node: '26', manager: 'npm@12', flags: [], package: 'bare', compiler: true, at: 'use', refused: noAddon },
  {
    node: '26',
    manager: 'npm@12',
    flags: [],
    package: 'bare',
    compiler: true,
    command: mend,
    addon: 'build',
  },

  // Other package managers. pnpm ends with an error where it was not told what to do about scripts.
  { node: '24', manager: 'pnpm@11', flags: ['--ignore-scripts'], addon: 'prebuild' },
  { node: '24', manager: 'pnpm@12', flags: ['--ignore-scripts'], addon: 'prebuild' },
  { node: '24', manager: 'yarn@1', flags: [], addon: 'prebuild' },
  { node: '24', manager: 'yarn@4', flags: [], addon: 'prebuild' },

  // Other processors and C libraries.
  { system: 'arm64', node: '22', flags: ['--ignore-scripts'], addon: 'prebuild' },
  {
    system: 'musl',
    flags: ['--ignore-scripts'],
    at: 'use',
    refused: [
      /could not be loaded on linux-\w+ musl/,
      /lowrank\.musl\.node: no such file/,
      'None of them is for musl (Alpine).',
      `Build it with "${mend}" (after "apk add g++ make cmake").`,
    ],
  },
]

/** Versions of TypeScript that programs which use the package are checked with. */
export const typescripts = ['5.9', '6.0', '7.0']
