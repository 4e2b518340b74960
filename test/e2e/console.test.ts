/** Ctrl-C as Windows sends it, to a console; scripts/windows-tests.mjs makes the program that does so. */
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { jsonLines } from '../lib/cli/lowrank.js'
import { project } from './project.js'

const main = fileURLToPath(new URL('../../dist/esm/cli/main.js', import.meta.url))
const sender = process.env.LOWRANK_CTRL_C ?? ''

test.runIf(sender)('Ctrl-C in a console saves the run', async () => {
  const { config, at } = project({ max_steps: 100_000 })
  const [out, errors] = [openSync(at('stdout'), 'w'), openSync(at('stderr'), 'w')]
  // A console of its own, without a window.
  const child = spawn(process.execPath, [main, 'train', config, '--json'], {
    windowsHide: true,
    stdio: ['ignore', out, errors],
  })
  const closed = once(child, 'close')
  while (!readFileSync(at('stdout'), 'utf8').includes('"step":3,')) {
    expect(child.exitCode, readFileSync(at('stderr'), 'utf8')).toBeNull()
    await sleep(50)
  }
  execFileSync(sender, [String(child.pid)])
  const [code] = await closed
  closeSync(out)
  closeSync(errors)
  expect(code).toBe(130)
  const [{ details }] = jsonLines(readFileSync(at('stdout'), 'utf8')).slice(-1) as [
    { details: { checkpoint: string } },
  ]
  expect(existsSync(details.checkpoint)).toBe(true)
  expect(existsSync(at('out', '.lowrank.lock'))).toBe(false)
})
