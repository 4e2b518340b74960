/**
 * Platforms that prebuilt addons are made for: the compiler of each, and what its file may ask of a system.
 *
 *   file       below prebuilds/, as lib/native/prebuilt.ts looks for it
 *   compiler   gcc: Debian's for the processor. mingw: Debian's for Windows, with POSIX threads. zig: clang and the C
 *              libraries of many systems, from PyPI.
 *   libraries  those that the addon may need, each a part of every such system
 */
import { join, resolve } from 'node:path'

const GLIBC = /^(lib(c|m|dl|pthread|rt|gcc_s)\.so\.\d+|ld-linux.*)$/

export const TARGETS = {
  'linux-x64': {
    file: 'linux-x64/lowrank.glibc.node',
    compiler: 'gcc',
    system: 'Linux',
    processor: 'x86_64',
    format: 'ELF',
    libraries: GLIBC,
    glibc: '2.28',
  },
  'linux-arm64': {
    file: 'linux-arm64/lowrank.glibc.node',
    compiler: 'gcc',
    system: 'Linux',
    processor: 'aarch64',
    format: 'ELF',
    libraries: GLIBC,
    glibc: '2.28',
  },
  'linux-x64-musl': {
    file: 'linux-x64/lowrank.musl.node',
    compiler: 'zig',
    triple: 'x86_64-linux-musl',
    system: 'Linux',
    processor: 'x86_64',
    format: 'ELF',
    libraries: /^libc\.so$/,
  },
  'linux-arm64-musl': {
    file: 'linux-arm64/lowrank.musl.node',
    compiler: 'zig',
    triple: 'aarch64-linux-musl',
    system: 'Linux',
    processor: 'aarch64',
    format: 'ELF',
    libraries: /^libc\.so$/,
  },
  'win32-x64': {
    file: 'win32-x64/lowrank.node',
    compiler: 'mingw',
    system: 'Windows',
    processor: 'x86_64',
    format: 'PE',
    libraries: /^(kernel32|msvcrt|api-ms-win-core-synch-l1-2-0)\.dll$/i,
    /** Bound at the first call, to the program that loaded the addon. */
    delayed: /^node\.exe$/i,
  },
  'darwin-arm64': {
    file: 'darwin-arm64/lowrank.node',
    compiler: 'zig',
    triple: 'aarch64-macos.11.0',
    system: 'Darwin',
    processor: 'arm64',
    format: 'Mach-O',
    libraries: /^\/usr\/lib\/libSystem\.B\.dylib$/,
    macos: '11.0',
  },
  'darwin-x64': {
    file: 'darwin-x64/lowrank.node',
    compiler: 'zig',
    triple: 'x86_64-macos.11.0',
    system: 'Darwin',
    processor: 'x86_64',
    format: 'Mach-O',
    libraries: /^\/usr\/lib\/libSystem\.B\.dylib$/,
    macos: '11.0',
  },
}

const root = resolve(import.meta.dirname, '..')

/** The file in prebuilds/ with the addon for a target. */
export const prebuiltFile = (target) => join(root, 'prebuilds', TARGETS[target].file)

/** The file in out/tests with the native tests for a target. */
export const testsFile = (target) =>
  join(root, 'out', 'tests', TARGETS[target].system === 'Windows' ? `${target}.exe` : target)
