/**
 * Errors of the operating system in words. Where a call is not expected to fail, its error is converted at the edge of
 * the program instead: it is a fact about the machine, not a defect.
 */
import { constants } from 'node:os'
import { LowrankError, SystemError } from './errors.js'

const PROCESSES =
  'the limit on processes or threads is reached; raise it (`ulimit -u`, or the pids limit of a container)'
const FILES = 'too many files are open; raise the limit with `ulimit -n`'
const SPACE = 'no space is left on the device; free some or choose another place'

/** Meaning of each error, and how to mend it, by the error's name. */
const WORDS: Record<string, string> = {
  ENOSPC: SPACE,
  EDQUOT: 'the disk quota is used up; free some space or choose another place',
  EFBIG: 'the file is larger than the file system or the process limit allows',
  EMFILE: FILES,
  ENFILE: 'too many files are open on this machine; close some programs',
  EACCES: 'this user may not do that; check the permissions',
  EPERM: 'this user may not do that; check the permissions',
  EROFS: 'the file system is read-only',
  ENOENT: 'it does not exist',
  EEXIST: 'something of that name exists',
  ENOTDIR: 'a part of the path is not a folder',
  EISDIR: 'it is a folder, not a file',
  ELOOP: 'its symbolic links lead in a circle, or are too many; name the file itself',
  ENAMETOOLONG: 'the path is too long for the file system',
  ENOTEMPTY: 'the folder is not empty',
  EBUSY: 'it is in use',
  ETXTBSY: 'it is in use',
  EXDEV: 'it is on another file system',
  EIO: 'the device reports an error; check the disk',
  ENXIO: 'the device is not there',
  ENODEV: 'the device is not there',
  ESTALE: 'the network file system has lost it; try again',
  ETIMEDOUT: 'there was no answer in time; try again',
  ENOMEM:
    'the system gives no more memory; close other programs, or raise the limit (`ulimit -v`, or that of a container)',
  EAGAIN: 'a resource of the system is used up for now; try again',
}

/** Name of a system error, such as ENOSPC. */
export function errnoOf(error: unknown): string {
  return (error as NodeJS.ErrnoException | undefined)?.code ?? 'unknown error'
}

/** A system error in words; its own message if it is an unusual one. */
export function errnoWords(error: unknown): string {
  const { code = '', syscall = '', message } = error as NodeJS.ErrnoException
  if (syscall.startsWith('spawn')) return code === 'EAGAIN' ? PROCESSES : (WORDS[code] ?? message)
  return WORDS[code] ?? message
}

/** An error that the operating system gave to Node.js, as one of this package; any other one unchanged. */
export function fromSystem(error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof LowrankError) return error
  const { code = '', syscall, path } = error as NodeJS.ErrnoException
  if (syscall === undefined || !Object.hasOwn(constants.errno, code)) return error
  const subject = path === undefined ? `the system refused ${syscall}` : `${path}: ${syscall} failed`
  return new SystemError(
    `${subject}: ${errnoWords(error)} (${code}).`,
    { syscall, reason: code, ...(path === undefined ? {} : { path }) },
    { cause: error },
  )
}

/** Code of an error, for those who read lines of JSON; `INTERNAL` for a defect. */
export const codeOf = (error: unknown): string => (error instanceof LowrankError ? error.code : 'INTERNAL')
