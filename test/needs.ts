/** Things that tests ask of a system and that some systems do not have. */
import { symlinkSync } from 'node:fs'
import { TestRunner } from 'vitest'

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
  const test = TestRunner.getCurrentTest()
  if (test === undefined) throw new Error(`no test needs ${thing}`)
  test.context.skip(`${NAMES[process.platform]} has no ${thing}`)
}

export function symbolicLink(target: string, path: string): void {
  needs('symbolic links for every user')
  symlinkSync(target, path)
}
