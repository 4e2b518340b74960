/** Pages in Chromium without a window; tests of pages are skipped, with a reason, where there is none. */
import { existsSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { source as axe } from 'axe-core'
import type { Browser, BrowserContextOptions, Page } from 'playwright-core'
import { chromium } from 'playwright-core'
import { afterAll, afterEach } from 'vitest'
import { skip } from './needs.js'

const PROGRAMS = ['chromium', 'chromium-browser', 'google-chrome']

const program = PROGRAMS.flatMap((name) =>
  (process.env.PATH ?? '').split(delimiter).map((folder) => join(folder, name)),
).find((path) => existsSync(path))

/** A page, and all that it said or asked for beyond itself. */
export interface Opened {
  page: Page
  /** Messages of its console, errors, and requests to other servers. */
  complaints: string[]
}

let browser: Promise<Browser> | undefined
const opened: Page[] = []

afterEach(async () => {
  for (const page of opened.splice(0)) await page.context().close()
})
afterAll(async () => (await browser)?.close())

/** Skips the test that calls it without Chromium. */
export function needsBrowser(): void {
  if (program === undefined) skip(`none of ${PROGRAMS.join(', ')} is installed`)
}

/** Opens a page at 1280 × 900 unless more is said; the test that calls it is skipped without Chromium. */
export async function openPage(url: string, options: BrowserContextOptions = {}): Promise<Opened> {
  needsBrowser()
  // Chromium does not run as root inside of its sandbox.
  browser ??= chromium.launch({ executablePath: program as string, args: ['--no-sandbox'] })
  const context = await (await browser).newContext({ viewport: { width: 1280, height: 900 }, ...options })
  const page = await context.newPage()
  opened.push(page)
  const complaints: string[] = []
  const { origin } = new URL(url)
  page.on('console', (message) => complaints.push(message.text()))
  page.on('pageerror', (error) => complaints.push(error.message))
  page.on('request', (request) => {
    const asked = request.url()
    // A file has no origin: it may ask for itself alone.
    const own = origin === 'null' ? asked === url : asked.startsWith(origin)
    if (!own && !asked.startsWith('data:')) complaints.push(`request of ${asked}`)
  })
  await page.goto(url)
  return { page, complaints }
}

/** Violations of accessibility that axe finds, each with its elements. */
export async function violations(page: Page): Promise<string[]> {
  // A policy that allows only the script of the page does not allow another element; evaluation is outside of it.
  await page.evaluate(axe)
  const found = (await page.evaluate('axe.run(document, { resultTypes: ["violations"] })')) as {
    violations: { id: string; nodes: { html: string; failureSummary: string }[] }[]
  }
  return found.violations.flatMap(({ id, nodes }) =>
    nodes.map(({ html, failureSummary }) => `${id}: ${html} ${failureSummary}`),
  )
}

/** Pixels that a page is wider than its window. */
export async function overflow(page: Page): Promise<number> {
  return (await page.evaluate('document.documentElement.scrollWidth - innerWidth')) as number
}
