/** Differences between operating systems. Functions take the system as a value, so that each can be tested anywhere. */

/** Signals that ask a process to stop. Windows has no SIGTERM; Ctrl-Break and a closed console arrive there as these. */
export function stoppingSignals(platform = process.platform): readonly NodeJS.Signals[] {
  return platform === 'win32' ? ['SIGINT', 'SIGBREAK', 'SIGHUP'] : ['SIGINT', 'SIGTERM', 'SIGHUP']
}

/** Ends this process by a signal, as its default action would; on Windows with the exit code of an interruption. */
export function endBySignal(name: NodeJS.Signals, platform = process.platform): void {
  if (platform === 'win32') process.exit(130)
  else process.kill(process.pid, name)
}

/**
 * A word of a command line as the user's shell takes it: POSIX shells; on Windows PowerShell and cmd.exe, which both
 * know double quotes. PowerShell expands `$` and the backtick in those and takes curly quotes for straight ones, and both
 * read a backslash before a quote differently; such words are for PowerShell alone. cmd.exe replaces `%NAME%` in any quotes.
 */
export function shellWord(word: string, platform = process.platform): string {
  if (platform !== 'win32') return /^[\w./:=,@%+-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`
  // PowerShell makes a list at a comma, takes a variable apart at @, and splits a flag at its first period or colon.
  if (/^[\w./\\:=+-]+$/.test(word) && !/^-.*[.:]/.test(word)) return word
  if (/[$`\u201c-\u201e]|\\"/.test(word)) return `'${word.replace(/['\u2018-\u201b]/g, '$&$&')}'`
  // One backslash would escape the closing quote; PowerShell 7.3 passes two, which a path may have at its end.
  return `"${word.replaceAll('"', '""').replace(/\\+$/, '$&$&')}"`
}

/** Errors of Windows for a file that somebody has open or mapped, and for a folder with one. */
const IN_USE = new Set(['EPERM', 'EBUSY', 'EACCES', 'ENOTEMPTY'])

/** True if a file could not be moved or removed because it is in use, which only Windows refuses. */
export function isInUse(error: unknown, platform = process.platform): boolean {
  return platform === 'win32' && IN_USE.has((error as NodeJS.ErrnoException).code ?? '')
}

/** System and processor that a library was built for, from its first bytes; undefined for no library. */
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

/** True if a library of macOS is for several processors. */
export function isUniversal(header: Buffer): boolean {
  return header.length >= 4 && header.readUInt32BE(0) === 0xcafebabe
}

/** Name of a system in messages. */
export function systemName(platform: string): string {
  return { linux: 'Linux', darwin: 'macOS', win32: 'Windows' }[platform] ?? platform
}
