import { spawn } from 'node:child_process'
import { existsSync, utimesSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { BusyError } from '../../../../lib/core/errors.js'
import { checkRunLock, lockRun, runAtWork } from '../../../../lib/train/folders/run-lock.js'
import { scratchFolder } from '../../scratch.js'

const NAME = '.lowrank.lock'

function lockOf(holder: { pid: number; host: string; boot: string }, secondsAgo = 0): string {
  const folder = scratchFolder()
  const then = Date.now() / 1000 - secondsAgo
  writeFileSync(join(folder, NAME), JSON.stringify(holder))
  utimesSync(join(folder, NAME), then, then)
  return folder
}

test('a folder has one run at a time, and nothing is left behind', async () => {
  const folder = scratchFolder()
  const first = await lockRun(folder)
  const error = await lockRun(folder).catch((caught: unknown) => caught)
  expect(error).toBeInstanceOf(BusyError)
  expect(error).toMatchObject({
    message: `another run is in progress in ${folder}: process ${process.pid} on ${hostname()}. Wait for it, stop it, or choose another output_dir.`,
    details: { path: folder, pid: process.pid, host: hostname() },
  })
  await expect(checkRunLock(folder)).rejects.toThrow(BusyError)
  first.release()
  expect(existsSync(join(folder, NAME))).toBe(false)
  await checkRunLock(folder)
  const second = await lockRun(folder)
  second.release()
})

test('of many that want it at once, one gets it', async () => {
  const folder = scratchFolder()
  const results = await Promise.allSettled(Array.from({ length: 20 }, () => lockRun(folder)))
  const taken = results.filter((result) => result.status === 'fulfilled')
  expect(taken).toHaveLength(1)
  for (const { value } of taken) value.release()
})

test('the lock of a killed process blocks nobody, and a process that is started does not keep it', async () => {
  const folder = lockOf({ pid: process.pid, host: hostname(), boot: 'the one before' })
  const lock = await lockRun(folder)
  const child = spawn(process.execPath, ['-e', 'setTimeout(() => {}, 60_000)'])
  try {
    lock.release()
    const next = await lockRun(folder)
    next.release()
  } finally {
    child.kill()
  }
})

test('a run on another host, whose lock this system cannot see, is named for as long as it gives signs of life', async () => {
  const there = { pid: 12, host: 'another.example', boot: 'another' }
  const folder = lockOf(there, 8)
  await expect(lockRun(folder)).rejects.toThrow(
    `another run is in progress in ${folder}: process 12 on another.example (last seen 8 s ago; if it was killed, the folder is free after 30 s).`,
  )
  expect(existsSync(join(folder, NAME))).toBe(true)
  const later = lockOf(there, 40)
  const lock = await lockRun(later)
  lock.release()
})

test('a lock file with anything else in it is taken', async () => {
  for (const text of ['', '{', 'null', '[]', '{"pid":"x"}', 'x'.repeat(100_000)]) {
    const folder = scratchFolder()
    writeFileSync(join(folder, NAME), text)
    const lock = await lockRun(folder)
    lock.release()
  }
})

test('where a run is at work is told without touching the lock', async () => {
  const folder = scratchFolder()
  expect(runAtWork(folder)).toBe(undefined)
  const lock = await lockRun(folder)
  expect(runAtWork(folder)).toBe('here')
  lock.release()
  expect(runAtWork(folder)).toBe(undefined)
  const gone = { pid: 2 ** 22 + 1, host: hostname(), boot: '' }
  expect(runAtWork(lockOf(gone))).toBe(undefined)
  expect(runAtWork(lockOf({ ...gone, host: 'elsewhere' }))).toBe('elsewhere')
  expect(runAtWork(lockOf({ ...gone, host: 'elsewhere' }, 60))).toBe(undefined)
})
