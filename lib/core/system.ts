/**
 * Differences between operating systems. Functions take the platform as a parameter, so that each can be tested
 * anywhere.
 */
import { constants } from 'node:os'

/**
 * Signals that ask a process to stop: Ctrl-C, the end of a job, a closed terminal, Ctrl-\. Windows has no SIGTERM; it
 * maps Ctrl-Break and closing the console to these.
 */
export function stoppingSignals(platform = process.platform): readonly NodeJS.Signals[] {
  return platform === 'win32' ? ['SIGINT', 'SIGBREAK', 'SIGHUP'] : ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT']
}

/**
 * Ends this process with a signal's default action; on Windows, and as the first process of a container, which has no
 * default actions, with the exit code that stands for it.
 */
export function endBySignal(name: NodeJS.Signals, platform = process.platform, pid = process.pid): void {
  if (platform === 'win32') process.exit(130)
  else if (pid === 1) process.exit(128 + constants.signals[name])
  else process.kill(pid, name)
}

/**
 * Quotes a word for the user's shell: POSIX shells, or on Windows both PowerShell and cmd.exe, which share double
 * quotes. In double quotes PowerShell expands `$` and the backtick and treats curly quotes as straight ones, and the
 * two shells read a backslash before a quote differently; such words are quoted for PowerShell only. cmd.exe replaces
 * `%NAME%` inside any quotes.
 */
export function shellWord(word: string, platform = process.platform): string {
  if (platform !== 'win32') return /^[\w./:=,@%+-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`
  // PowerShell makes a list at a comma, splats a variable at @, and splits a flag at its first period or colon.
  if (/^[\w./\\:=+-]+$/.test(word) && !/^-.*[.:]/.test(word)) return word
  if (/[$`\u201c-\u201e]|\\"/.test(word)) return `'${word.replace(/['\u2018-\u201b]/g, '$&$&')}'`
  // A trailing backslash would escape the closing quote. Doubling it is safe: PowerShell 7.3 passes both, and paths may
  // end in two.
  return `"${word.replaceAll('"', '""').replace(/\\+$/, '$&$&')}"`
}

/** Windows errors for a file that is open or memory-mapped, and for a folder that contains one. */
const IN_USE = new Set(['EPERM', 'EBUSY', 'EACCES', 'ENOTEMPTY'])

/** True if a file could not be moved or removed because it is in use, which only Windows forbids. */
export function isInUse(error: unknown, platform = process.platform): boolean {
  return platform === 'win32' && IN_USE.has((error as NodeJS.ErrnoException).code ?? '')
}

/**
 * Platform and architecture that a native library was built for, from its first bytes; undefined if it is not a
 * library.
 */
export function libraryTarget(header: Buffer): { platform: string; arch: string } | undefined {
  return elfTarget(header) ?? peTarget(header) ?? machOTarget(header)
}

const named = (names: Readonly<Record<number, string>>, machine: number) =>
  names[machine] ?? `processor ${machine}`

const ELF_MACHINES = { 3: 'ia32', 40: 'arm', 62: 'x64', 183: 'arm64', 243: 'riscv64' }

function elfTarget(header: Buffer): { platform: string; arch: string } | undefined {
  if (header.length < 20 || header.toString('latin1', 0, 4) !== '\x7fELF') return undefined
  const machine = header[5] === 2 ? header.readUInt16BE(18) : header.readUInt16LE(18)
  return { platform: 'linux', arch: named(ELF_MACHINES, machine) }
}

const PE_MACHINES = { 332: 'ia32', 34404: 'x64', 43620: 'arm64' }

function peTarget(header: Buffer): { platform: string; arch: string } | undefined {
  if (header.length < 64 || header.toString('latin1', 0, 2) !== 'MZ') return undefined
  const at = header.readUInt32LE(60)
  if (at + 6 > header.length || header.toString('latin1', at, at + 4) !== 'PE\0\0') return undefined
  return { platform: 'win32', arch: named(PE_MACHINES, header.readUInt16LE(at + 4)) }
}

const MACH_O_64 = 0xfeedfacf
const MACH_O_MACHINES = { 16777223: 'x64', 16777228: 'arm64' }

function machOTarget(header: Buffer): { platform: string; arch: string } | undefined {
  if (header.length < 8 || header.readUInt32LE(0) !== MACH_O_64) return undefined
  return { platform: 'darwin', arch: named(MACH_O_MACHINES, header.readUInt32LE(4)) }
}

/** True for a macOS universal binary. */
export function isUniversal(header: Buffer): boolean {
  return header.length >= 4 && header.readUInt32BE(0) === 0xcafebabe
}

/** Display name of a platform. */
export function systemName(platform: string): string {
  return { linux: 'Linux', darwin: 'macOS', win32: 'Windows' }[platform] ?? platform
}
