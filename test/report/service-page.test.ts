/** The page of a service in a browser, on the model of the demo. */
import type { BrowserContextOptions, Page } from 'playwright-core'
import { afterEach, expect, test } from 'vitest'
import { needsBrowser, openPage, overflow, violations } from '../browser.js'
import { scratchFolder } from '../lib/scratch.js'
import { type Asked, begun, ended, rowsOf, supervised, upload, withConfig } from '../lib/serve/service.js'

const HOSTILE = '<img src=x onerror="document.title=1">'

const services: Asked['service'][] = []
afterEach(async () => {
  for (const service of services.splice(0)) await service.close()
})

async function opened(options: BrowserContextOptions = {}) {
  needsBrowser()
  const asked = await begun(scratchFolder(), { aliases: new Map([[HOSTILE, 'base']]) })
  services.push(asked.service)
  return { ...asked, ...(await openPage(asked.service.page, options)) }
}

/** A job of two epochs, to its end. */
async function trained({ client }: Pick<Asked, 'client'>) {
  const training_file = await upload(client, rowsOf(12))
  const method = supervised({ n_epochs: 2, batch_size: 2 })
  const request = { model: 'base', training_file, validation_file: training_file, suffix: 'counts', method }
  const { id } = await client.fineTuning.jobs.create(withConfig(request))
  const job = await ended(client, id)
  expect(job.status, job.error?.message).toBe('succeeded')
  return job.fine_tuned_model as string
}

/** Busy machines take their time. */
const soon = <T>(look: () => T) => expect.poll(look, { timeout: 20_000 })
const state = (page: Page) => page.locator('#state').textContent()

test('lists models and jobs, draws the curves of a job, and asks a model and its base', async () => {
  const { page, client, complaints, service } = await opened()
  await soon(() => state(page)).toContain('0 jobs')
  // The key is neither in the address nor where other tabs or later sessions find it.
  expect(page.url()).toBe(new URL('/', service.url).href)
  expect(await page.evaluate('localStorage.length + document.cookie.length')).toBe(0)
  const tuned = await trained({ client })
  await soon(() => page.locator('#jobs tbody th').allTextContents()).toEqual([tuned])
  await soon(() => page.locator('#jobs .state').textContent()).toBe('Succeeded')
  await soon(() => page.locator('[data-chart=training] path').count()).toBeGreaterThan(0)
  await soon(() => page.locator('[data-chart=heldOut] svg').count()).toBe(1)
  expect(await page.locator('#jobs tbody td').allTextContents()).toContain('12 of 12')
  expect(await page.locator('#models-body').textContent()).toContain(tuned)

  await page.locator('#model').selectOption(tuned)
  expect(await page.locator('#beside').inputValue()).toBe('base')
  await page.locator('#prompt').fill('Say the number 3')
  await page.locator('#prompt').press('Enter')
  await soon(() => page.locator('#asking').textContent()).toBe('Answered.')
  const answers = await page.locator('#answers .text').allTextContents()
  expect(await page.locator('#answers h3').allTextContents()).toEqual([tuned, 'base'])
  for (const [at, model] of [tuned, 'base'].entries()) {
    const { choices } = await client.chat.completions.create({
      ...{ model, temperature: 0, max_completion_tokens: 512 },
      messages: [{ role: 'user', content: 'Say the number 3' }],
    })
    expect(answers[at]?.replace(/…$/, '')).toBe(choices[0]?.message.content)
  }
  expect(complaints).toEqual([])
  expect(await violations(page)).toEqual([])
}, 120_000)

test.each([
  ['wide', {}],
  ['on the narrowest phone, dark', { viewport: { width: 320, height: 568 }, colorScheme: 'dark' as const }],
])('%s: axe finds nothing, nothing scrolls sideways, and names are text', async (_screen, options) => {
  const { page, complaints } = await opened(options)
  await soon(() => page.locator('#models-body').textContent()).toContain(HOSTILE)
  expect(await page.locator('main img').count()).toBe(0)
  expect(await page.title()).not.toBe('1')
  expect(await violations(page)).toEqual([])
  expect(await overflow(page)).toBeLessThanOrEqual(0)
  expect(complaints).toEqual([])
})

test('without a key, or with a wrong one, the page asks for it; one that is entered opens it', async () => {
  const { page, service } = await opened()
  await soon(() => state(page)).toContain('model')
  await page.evaluate('sessionStorage.clear()')
  await page.reload()
  await soon(() => state(page)).toContain('Enter the API key')
  expect(await page.locator('main').isVisible()).toBe(false)
  await page.locator('#key').fill('sk-wrong')
  await page.locator('#key').press('Enter')
  await soon(() => state(page)).toContain('The API key is wrong.')
  expect(await page.evaluate('sessionStorage.length')).toBe(0)
  await page.locator('#key').fill(service.token)
  await page.locator('#key').press('Enter')
  await soon(() => page.locator('main').isVisible()).toBe(true)
  expect(await violations(page)).toEqual([])
})

test('an error of the model is told beside it', async () => {
  const { page } = await opened()
  await soon(() => page.locator('#model option').count()).toBeGreaterThan(0)
  await page.locator('#prompt').fill('word '.repeat(3000))
  await page.locator('#send').click()
  await soon(() => page.locator('#answers .note').textContent()).toContain('No answer: ')
  expect(await page.locator('#send').textContent()).toBe('Ask')
})
