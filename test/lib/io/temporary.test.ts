import { spawn, spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { finished, removeLeftovers, temporaryBeside, temporaryName } from '../../../lib/io/temporary.js'
import { scratchFolder } from '../scratch.js'

/** The name that a process with this number would give, here or elsewhere. */
function nameOf(pid: number | undefined, where?: string): string {
  const parts = temporaryName().split('-')
  parts[1] = String(pid)
  if (where !== undefined) parts[2] = where
  return parts.join('-')
}

function leave(folder: string, name: string, secondsAgo = 0): string {
  const path = join(folder, name)
  mkdirSync(path)
  const inside = join(path, 'training_state.json')
  writeFileSync(inside, 'secret')
  const then = Date.now() / 1000 - secondsAgo
  for (const each of [inside, path]) utimesSync(each, then, then)
  return name
}

test('names differ', () => {
  expect(new Set(Array.from({ length: 100 }, temporaryName)).size).toBe(100)
})

test('what a process that is gone was writing is removed, and nothing else', async () => {
  const folder = scratchFolder()
  const gone = spawnSync(process.execPath, ['-e', '']).pid
  const other = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'])
  try {
    const days = 24 * 3600
    leave(folder, nameOf(gone))
    // An earlier process had the number of this one, as in containers, where they start from 1.
    leave(folder, nameOf(process.pid), days)
    leave(folder, nameOf(1, '0123456789ab'), 2 * days)
    const stays = [
      leave(folder, nameOf(other.pid)),
      leave(folder, nameOf(other.pid), 2 * days),
      leave(folder, nameOf(process.pid)),
      leave(folder, nameOf(gone, '0123456789ab'), days / 2),
      leave(folder, '.lowrank-notes.tmp', 2 * days),
      leave(folder, 'checkpoint-3', 2 * days),
    ]
    writeFileSync(join(folder, `x${nameOf(gone)}`), '')
    // Of an engine that was killed, also where its number is taken again.
    for (const pid of [1, gone, process.pid]) {
      const path = join(folder, `.paged-${pid}-0`)
      writeFileSync(path, 'state')
      if (pid !== gone) utimesSync(path, 1, 1)
    }
    const making = `.paged-${other.pid}-3`
    writeFileSync(join(folder, making), 'state')
    stays.push(making)
    const own = temporaryBeside(join(folder, 'target'))
    writeFileSync(own, '')
    await removeLeftovers(folder)
    const left = readdirSync(folder)
    expect(left).toHaveLength(stays.length + 2)
    expect(left).toEqual(expect.arrayContaining(stays))
    finished(own)
    await removeLeftovers(join(folder, 'missing'))
  } finally {
    other.kill('SIGKILL')
  }
})
