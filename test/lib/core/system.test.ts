import { spawnSync } from 'node:child_process'
import fc from 'fast-check'
import { describe, expect, it, vi } from 'vitest'
import {
  endBySignal,
  isInUse,
  isUniversal,
  libraryTarget,
  shellWord,
  stoppingSignals,
  systemName,
} from '../../../lib/core/system.js'
import { cmdWords, powershellWords } from './windows-shells.js'

describe('a word of a command line', () => {
  it.each([
    ['run.yaml', 'run.yaml', 'run.yaml'],
    ['out/config.yaml', 'out/config.yaml', 'out/config.yaml'],
    ['C:\\runs\\a.yaml', "'C:\\runs\\a.yaml'", 'C:\\runs\\a.yaml'],
    ['C:\\my runs\\', "'C:\\my runs\\'", '"C:\\my runs\\\\"'],
    ['learning_rate=1e-4', 'learning_rate=1e-4', 'learning_rate=1e-4'],
    ['a,b', 'a,b', '"a,b"'],
    ['@file', '@file', '"@file"'],
    ['Why is it?', "'Why is it?'", '"Why is it?"'],
    ["it's", "'it'\\''s'", '"it\'s"'],
    ['say "x"', '\'say "x"\'', '"say ""x"""'],
    ["it's $5", "'it'\\''s $5'", "'it''s $5'"],
    ['100%', '100%', '"100%"'],
    ['', "''", '""'],
  ])('%j is %s in a POSIX shell and %s on Windows', (word, posix, windows) => {
    expect(shellWord(word, 'linux')).toBe(posix)
    expect(shellWord(word, 'darwin')).toBe(posix)
    expect(shellWord(word, 'win32')).toBe(windows)
  })
})

describe('a word on Windows', () => {
  const piece = fc.constantFrom(...'aß .:/\\-+=_,;@#%^&|<>(){}[]*?!~\'"$`\u2018\u2019\u201c\u201d')
  const words = fc.array(piece, { maxLength: 12 }).map((pieces) => pieces.join(''))

  /** A word as PowerShell passes it: in double quotes, backslashes at the end are two. */
  const passed = (word: string) =>
    shellWord(word, 'win32').startsWith('"') ? word.replace(/\\+$/, '$&$&') : word

  it('is read by PowerShell as it was', () => {
    fc.assert(
      fc.property(words, words, (one, other) => {
        const line = `npx lowrank ${shellWord(one, 'win32')} ${shellWord(other, 'win32')}`
        expect(powershellWords(line)).toEqual(['npx', 'lowrank', passed(one), passed(other)])
      }),
      { numRuns: 2000 },
    )
  })

  it('is read by cmd.exe as it was, but for those that only PowerShell can have', () => {
    const plain = words.filter((word) => !/[$`\u201c-\u201e]|\\"|%.*%/.test(word))
    fc.assert(
      fc.property(plain, plain, (one, other) => {
        fc.pre(!/%.*%/.test(one + other))
        const line = `npx lowrank ${shellWord(one, 'win32')} ${shellWord(other, 'win32')}`
        expect(cmdWords(line)).toEqual(['npx', 'lowrank', one, other])
      }),
      { numRuns: 2000 },
    )
  })

  it.runIf(process.platform === 'win32')('reaches a program from cmd.exe as it was', () => {
    for (const word of ['C:\\my runs\\ü\\', 'a & b', 'x^y', 'say "x"', '100%', '-a.b', '(1)', 'q=1,2']) {
      const line = `"${process.execPath}" -p "JSON.stringify(process.argv[1])" -- ${shellWord(word, 'win32')}`
      const options = { windowsVerbatimArguments: true, encoding: 'utf8' } as const
      const { stdout } = spawnSync('cmd.exe', ['/d', '/s', '/c', `"${line}"`], options)
      expect(stdout.trim()).toBe(JSON.stringify(word))
    }
  })
})

describe('signals', () => {
  it('that stop a process are those that a system sends', () => {
    expect(stoppingSignals('linux')).toEqual(['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'])
    expect(stoppingSignals('win32')).toEqual(['SIGINT', 'SIGBREAK', 'SIGHUP'])
  })

  it('end the process by their default action, or where it has none with the code of an interruption', () => {
    const kill = vi.spyOn(process, 'kill').mockReturnValue(true)
    const exit = vi.spyOn(process, 'exit').mockReturnValue(undefined as never)
    endBySignal('SIGHUP', 'linux')
    expect(kill).toHaveBeenCalledWith(process.pid, 'SIGHUP')
    expect(exit).not.toHaveBeenCalled()
    endBySignal('SIGBREAK', 'win32')
    expect(exit).toHaveBeenCalledWith(130)
    endBySignal('SIGTERM', 'linux', 1)
    expect(exit).toHaveBeenCalledWith(143)
    expect(kill).toHaveBeenCalledTimes(1)
    vi.restoreAllMocks()
  })
})

it('a file in use is an obstacle on Windows alone', () => {
  const busy = Object.assign(new Error('busy'), { code: 'EBUSY' })
  expect(isInUse(busy, 'win32')).toBe(true)
  expect(isInUse(busy, 'linux')).toBe(false)
  expect(isInUse(Object.assign(new Error('full'), { code: 'ENOSPC' }), 'win32')).toBe(false)
  expect(isInUse(new Error('other'), 'win32')).toBe(false)
})

describe('the target of a library', () => {
  const bytes = (length: number, write: (buffer: Buffer) => void) => {
    const buffer = Buffer.alloc(length)
    write(buffer)
    return buffer
  }
  const elf = (machine: number) =>
    bytes(64, (b) => {
      b.write('\x7fELF', 'latin1')
      b[5] = 1
      b.writeUInt16LE(machine, 18)
    })
  const pe = (machine: number) =>
    bytes(256, (b) => {
      b.write('MZ', 'latin1')
      b.writeUInt32LE(128, 60)
      b.write('PE\0\0', 128, 'latin1')
      b.writeUInt16LE(machine, 132)
    })
  const machO = (machine: number) =>
    bytes(32, (b) => {
      b.writeUInt32LE(0xfeedfacf)
      b.writeUInt32LE(machine, 4)
    })

  it.each([
    [elf(62), 'linux', 'x64'],
    [elf(183), 'linux', 'arm64'],
    [elf(999), 'linux', 'processor 999'],
    [pe(0x8664), 'win32', 'x64'],
    [pe(0xaa64), 'win32', 'arm64'],
    [machO(0x1000007), 'darwin', 'x64'],
    [machO(0x100000c), 'darwin', 'arm64'],
  ])('is read from its header (%#)', (header, platform, arch) => {
    expect(libraryTarget(header)).toEqual({ platform, arch })
  })

  it('is unknown for anything else, however short', () => {
    for (const text of ['', 'MZ', 'MZ and so on', '\x7fELF', '<html>'.repeat(20)])
      expect(libraryTarget(Buffer.from(text, 'latin1'))).toBeUndefined()
    const far = pe(0x8664)
    far.writeUInt32LE(0xfffffff0, 60)
    expect(libraryTarget(far)).toBeUndefined()
    const universal = Buffer.from('cafebabe00000002', 'hex')
    expect([libraryTarget(universal), isUniversal(universal)]).toEqual([undefined, true])
  })

  it('has a system that people know by name', () => {
    expect(['linux', 'darwin', 'win32', 'aix'].map(systemName)).toEqual(['Linux', 'macOS', 'Windows', 'aix'])
  })
})
