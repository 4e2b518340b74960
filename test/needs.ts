/** Things that tests ask of a system and that some systems do not have. */
import { statSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { TestRunner } from 'vitest'
import { scratchFolder } from './lib/scratch.js'

const ABSENT = {
  'symbolic links for every user': ['win32'],
  'file modes': ['win32'],
  SIGSTOP: ['win32'],
  'pseudo-terminals': ['win32'],
  'named pipes in folders': ['win32'],
  'POSIX shells': ['win32'],
  'files that shrink while they are mapped': ['win32'],
  'CPU times in steps below 16 ms': ['win32'],
  'file systems in memory': ['win32', 'darwin'],
  '/proc': ['win32', 'darwin'],
} as const satisfies Record<string, readonly NodeJS.Platform[]>

type Need = keyof typeof ABSENT

const NAMES: Partial<Record<NodeJS.Platform, string>> = { win32: 'Windows', darwin: 'macOS' }

/** Skips the test that calls it, itself or by a hook, where the system lacks the thing, and says so. */
export function needs(thing: Need): void {
  if (!(ABSENT[thing] as readonly NodeJS.Platform[]).includes(process.platform)) return
  skip(`${NAMES[process.platform]} has no ${thing}`)
}

/** Skips the test that calls it where a file that changes seems to be made anew, as under wine. */
export function needsTimesOfBirth(): void {
  const path = join(scratchFolder(), 'file')
  writeFileSync(path, '')
  const { birthtimeMs } = statSync(path)
  utimesSync(path, 1e9, 1e9)
  if (statSync(path).birthtimeMs !== birthtimeMs)
    skip('this system takes the time of a change for that of birth')
}

/** Skips the test that runs. */
export function skip(reason: string): void {
  const test = TestRunner.getCurrentTest()
  if (test === undefined) throw new Error(`no test runs that could be skipped: ${reason}`)
  test.context.skip(reason)
}

export function symbolicLink(target: string, path: string): void {
  needs('symbolic links for every user')
  symlinkSync(target, path)
}
