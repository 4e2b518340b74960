/** The live page in a browser: over logs that the tests write, and over a run of `lowrank train --live`. */
import { spawn } from 'node:child_process'
import { appendFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { BrowserContextOptions, Page } from 'playwright-core'
import { afterEach, describe, expect, test } from 'vitest'
import { type ControlledRun, ownControls } from '../../lib/report/live/controls.js'
import { livePage } from '../../lib/report/live/page.js'
import { type LiveServer, serveLive } from '../../lib/report/live/server.js'
import { needsBrowser, openPage, overflow, violations } from '../browser.js'
import { project } from '../e2e/project.js'
import { scratchFolder } from '../lib/scratch.js'
import { sweepTest, swept } from '../sweep.js'

const servers: LiveServer[] = []
afterEach(async () => {
  for (const server of servers.splice(0)) await server.close()
})

const PHONE = { viewport: { width: 390, height: 844 }, isMobile: true }
const NAME = 'orders-of-a-name-without-any-space-that-is-far-too-long-for-the-width-of-a-phone'

interface Log {
  path: string
  write(...lines: object[]): void
}

function emptyLog(): Log {
  const path = join(scratchFolder(), 'metrics.jsonl')
  writeFileSync(path, '')
  const text = (lines: object[]) => lines.map((line) => `${JSON.stringify(line)}\n`).join('')
  return { path, write: (...lines) => appendFileSync(path, text(lines)) }
}

const steps = (from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, index) => {
    const step = from + index
    const rest = { epoch: step / 100, grad_norm: 1, learning_rate: 1e-3, tokens: 100, supervised_tokens: 50 }
    return {
      ...{ event: 'step', step, total_steps: 100, loss: 3 / (1 + step / 10), ...rest },
      ...{ tokens_per_second: 1000, seconds_left: 10, time: 1000 + step },
    }
  })
const PARTS = 'weights quantization_constants adapters gradients optimizer activations loss workspace'.split(
  ' ',
)
const rows = PARTS.map((category) => ({ category, bytes: 1_234_567 }))
const plan = { event: 'plan', peak_bytes: 1_234_567 * PARTS.length, rows, time: 1000 }
const allocated = Object.fromEntries(rows.map(({ category, bytes }) => [category, bytes]))
const memory = (step: number) => {
  return { event: 'memory', step, allocated, resident_bytes: 1e8 + step, time: 1000 + step }
}
const start = {
  ...{ event: 'start', version: '0.1.0', model: { name: 'base', fingerprint: 'a'.repeat(64) } },
  ...{ strategy: { name: 'lora', r: 8 }, data: { name: 'train.jsonl', rows: 40, hash: 'b'.repeat(64) } },
  ...{ evaluation: null, device: 'cpu', level: 'amx', threads: 1, total_steps: 100, time: 1000 },
  ...{ trainable_parameters: 1000, config: { learning_rate: 0.001 }, resumed_from: null },
  command: 'npx lowrank train run.yaml',
}
const evaluated = (step: number, loss: number) => {
  return {
    event: 'eval',
    step,
    loss,
    perplexity: Math.exp(loss),
    tokens: 10,
    supervised_tokens: 5,
    time: 1000 + step,
  }
}

/** A run that says what is done to it in its log. */
function fakeRun(log: Log): ControlledRun & { asked: number } {
  return {
    asked: 0,
    pause: () => log.write({ event: 'paused', step: 40 }),
    resume: () => log.write({ event: 'resumed', step: 40 }, ...steps(41, 45)),
    stop: () => log.write({ event: 'stopped', step: 40, path: 'out/checkpoint-40' }),
    async ask(prompt, { onText }) {
      this.asked++
      onText('<b>not bold</b> & ')
      onText('</script><script>document.title="hacked"</script>')
      if (prompt.includes('fail')) throw new Error('the prompt is too long.')
      return { step: 40, finishReason: 'stop' }
    },
  }
}

async function live(
  options: BrowserContextOptions = {},
  lines: object[] = [start, plan, evaluated(0, 3), ...steps(1, 40)],
) {
  const log = emptyLog()
  log.write(...lines)
  const run = fakeRun(log)
  const controls = ownControls(() => run)
  const server = await serveLive({ log: () => log.path, page: () => livePage(NAME, log.path), controls })
  servers.push(server)
  return { log, run, server, ...(await openPage(server.url, options)) }
}

/** Busy machines take their time. */
const soon = <T>(look: () => T) => expect.poll(look, { timeout: 20_000 })

/** Moves the focus until it is there. */
async function tabTo(page: Page, selector: string, key = 'Tab'): Promise<void> {
  for (let count = 0; count < 60; count++) {
    if (await page.locator(`${selector}:focus`).count()) return
    await page.keyboard.press(key)
  }
  throw new Error(`${selector} is not reached by ${key}`)
}

const state = (page: Page) => page.locator('#state')
const path = (page: Page) => page.locator('[data-chart=loss] path').first().getAttribute('d')

describe('the page', () => {
  test('shows the whole run when it is opened, and draws on as the run goes on', async () => {
    const { page, log, complaints } = await live()
    await soon(() => page.locator('#numbers').textContent()).toContain('step 40 of 100')
    await soon(() => page.title()).toBe(`40 % · ${NAME} · lowrank`)
    const before = await path(page)
    log.write(...steps(41, 60), evaluated(60, 0.5))
    await soon(() => page.locator('#numbers').textContent()).toContain('held out 0.5')
    expect(await path(page)).not.toBe(before)
    log.write({
      event: 'done',
      output_dir: 'out',
      train_loss: 1,
      steps: 100,
      peak_rss_bytes: 1,
      tokens_per_second: 1,
    })
    await soon(() => state(page).textContent()).toBe('Done')
    expect(await page.locator('#message').textContent()).toContain('The result is in out.')
    expect(await page.locator('#pause').isVisible()).toBe(false)
    expect(complaints).toEqual([])
  })

  sweepTest('begins anew when the run is resumed', async () => {
    const { page, log } = await live()
    await soon(() => page.title()).toContain('40 %')
    const text = [start, plan, ...steps(1, 20)].map((line) => `${JSON.stringify(line)}\n`).join('')
    writeFileSync(`${log.path}.new`, text)
    renameSync(`${log.path}.new`, log.path)
    await soon(() => page.locator('#numbers').textContent()).toContain('step 20 of 100')
  })

  sweepTest('says that the server does not answer, and goes on when one does', async () => {
    const { page, server, log } = await live()
    await soon(() => state(page).textContent()).toBe('Training')
    const { port } = new URL(server.url)
    await server.close()
    servers.splice(0)
    await soon(() => state(page).textContent()).toBe('Connection lost')
    expect(await page.locator('#pause').isDisabled()).toBe(true)
    const controls = ownControls(() => fakeRun(log))
    const page2 = () => livePage(NAME, log.path)
    servers.push(await serveLive({ log: () => log.path, page: page2, controls, port: Number(port) }))
    // Its token is another one: this page is told to stay out, and says that it lost the run.
    await page.waitForTimeout(1500)
    expect(await state(page).textContent()).toBe('Connection lost')
  })

  const screens: [name: string, options: BrowserContextOptions][] = [
    ['on a phone, dark', { ...PHONE, colorScheme: 'dark' }],
    ['wide, light', {}],
    ['on the narrowest phone', { viewport: { width: 320, height: 568 } }],
  ]
  test.each(swept(screens, 1))(
    '%s, does not scroll sideways, and axe finds nothing in any state',
    async (_, options) => {
      const { page, log, complaints } = await live(options, [])
      const states: [name: string, ...lines: object[]][] = [
        ['Waiting'],
        ['Training', start, plan, evaluated(0, 3), memory(1), ...steps(1, 40), memory(40)],
        ['Paused', { event: 'paused', step: 40 }],
        ['Stopped', { event: 'stopped', step: 40, path: `out/${'long'.repeat(30)}` }],
        ['Failed', start, { event: 'error', code: 'DIVERGED', message: `Loss ${'NaN'.repeat(60)}` }],
        ['Done', { event: 'done', output_dir: `/home/${'long'.repeat(30)}` }],
      ]
      for (const [name, ...lines] of states) {
        log.write(...lines)
        await soon(() => state(page).textContent()).toBe(name)
        expect(await violations(page)).toEqual([])
        expect(await overflow(page)).toBe(0)
      }
      expect(complaints).toEqual([])
    },
  )
})

describe('controls', () => {
  sweepTest('act by keyboard alone: pause, ask, resume, and stop after a question', async () => {
    const { page, complaints } = await live()
    await soon(() => page.locator('#pause').isEnabled()).toBe(true)
    await tabTo(page, '#pause')
    await page.keyboard.press('Enter')
    await soon(() => state(page).textContent()).toBe('Paused')
    expect(await page.locator('#pause').textContent()).toBe('Resume')
    await tabTo(page, '#prompt')
    await page.keyboard.type('Where is it?')
    await page.keyboard.press('Enter')
    await soon(() => page.locator('.answer h3').first().textContent()).toBe('After step 40')
    await tabTo(page, '#pause', 'Shift+Tab')
    await page.keyboard.press('Enter')
    await soon(() => state(page).textContent()).toBe('Training')
    await soon(() => page.locator('#stop').isEnabled()).toBe(true)
    await tabTo(page, '#stop')
    await page.keyboard.press('Enter')
    expect(await page.locator('#sure').isVisible()).toBe(true)
    expect(await violations(page)).toEqual([])
    await page.keyboard.press('Escape')
    expect(await page.locator('#sure').isVisible()).toBe(false)
    expect(await state(page).textContent()).toBe('Training')
    await page.keyboard.press('Enter')
    await page.keyboard.press('Tab')
    await page.keyboard.press('Enter')
    await soon(() => state(page).textContent()).toBe('Stopped')
    expect(complaints).toEqual([])
  })

  test('show an answer as text, and an error in words', async () => {
    const { page } = await live()
    await soon(() => page.locator('#send').isEnabled()).toBe(true)
    await page.fill('#prompt', 'Hello')
    await page.click('#send')
    await soon(() => page.locator('.answer h3').count()).toBe(1)
    const text = '<b>not bold</b> & </script><script>document.title="hacked"</script>'
    expect(await page.locator('.answer .text').textContent()).toBe(text)
    expect(await page.locator('.answer b').count()).toBe(0)
    await page.fill('#prompt', 'fail')
    await page.click('#send')
    await soon(() => page.locator('#asking').textContent()).toContain('the prompt is too long.')
  })
})

sweepTest('a run of train --live is paused, asked, stopped, and watched in the browser', async () => {
  needsBrowser()
  const { config, folder } = project({ max_steps: 20_000, eval_dataset: 'dev.jsonl', eval_steps: 100 })
  const main = fileURLToPath(new URL('../../dist/esm/cli/main.js', import.meta.url))
  const run = spawn(process.execPath, [main, 'train', config, '--live', '--json'], { cwd: folder })
  let out = ''
  run.stdout.setEncoding('utf8').on('data', (text) => {
    out += text
  })
  const ended = new Promise<number | null>((resolve) => run.on('exit', resolve))
  try {
    await soon(() => out).toContain('"event":"live"')
    const { url } = JSON.parse(out.split('\n')[0] as string)
    expect((await fetch(new URL(url).origin)).status).toBe(403)
    const { page, complaints } = await openPage(url)
    await soon(() => state(page).textContent()).toBe('Training')
    await page.click('#pause')
    await soon(() => state(page).textContent()).toBe('Paused')
    const numbers = await page.locator('#numbers').textContent()
    await page.fill('#prompt', 'Hello')
    await page.click('#send')
    await soon(() => page.locator('.answer h3').textContent()).toContain('After step')
    expect(await page.locator('#numbers').textContent()).toBe(numbers)
    await page.click('#pause')
    await soon(() => state(page).textContent()).toBe('Training')
    await page.click('#stop')
    await page.click('#sure button[value=stop]')
    await soon(() => state(page).textContent()).toBe('Stopped')
    expect(await ended).toBe(130)
    expect(out).toContain('"event":"stopped"')
    expect(complaints.filter((text) => !text.includes('ERR_CONNECTION_REFUSED'))).toEqual([])
  } finally {
    run.kill('SIGKILL')
  }
})
