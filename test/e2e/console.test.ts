/** Ctrl-C as Windows sends it, to a console; scripts/windows-tests.mjs makes the program that does so. */
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { jsonLines } from '../lib/cli/lowrank.js'
import { project } from './project.js'

const main = fileURLToPath(new URL('../../dist/esm/cli/main.js', import.meta.url))
const sender = process.env.LOWRANK_CTRL_C ?? ''

test.runIf(sender)('Ctrl-C in a console saves the run', async () => {
  const { config, at } = project({ max_steps: 100_000 })
  // A console of its own, without a window.
  const child = spawn(process.execPath, [main, 'train', config, '--json'], { windowsHide: true })
  let [stdout, stderr, sent] = ['', '', false]
  child.stderr.on('data', (text) => {
    stderr += text
  })
  child.stdout.on('data', (text) => {
    stdout += text
    if (sent || !stdout.includes('"step":3,')) return
    sent = true
    execFileSync(sender, [String(child.pid)])
  })
  const [code] = await once(child, 'close')
  expect(code, stderr).toBe(130)
  const [{ details }] = jsonLines(stdout).slice(-1) as [{ details: { checkpoint: string } }]
  expect(existsSync(details.checkpoint)).toBe(true)
  expect(existsSync(at('out', '.lowrank.lock'))).toBe(false)
})
