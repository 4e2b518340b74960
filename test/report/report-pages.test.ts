/** The report of a run, the page of a compare, and that of a migration in a browser, as files. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { BrowserContextOptions } from 'playwright-core'
import { expect, test } from 'vitest'
import { pageOf } from '../../lib/compare/page.js'
import type { CompareResults } from '../../lib/compare/results.js'
import { migratePage } from '../../lib/report/migrate-page.js'
import { runFrom } from '../../lib/report/run-data.js'
import { runPage } from '../../lib/report/run-page.js'
import { openPage, overflow, violations } from '../browser.js'
import { done, evaluation, memory, plan, samples, start, step, wholeRun } from '../lib/report/lines.js'
import { scratchFolder } from '../lib/scratch.js'
import { sweepTest, swept } from '../sweep.js'

const NAME = 'orders-of-a-name-without-any-space-that-is-far-too-long-for-the-width-of-a-phone'
const SCREENS: readonly (readonly [name: string, options: BrowserContextOptions])[] = [
  ['on a phone, dark', { viewport: { width: 390, height: 844 }, isMobile: true, colorScheme: 'dark' }],
  ['wide, light', {}],
  ['on the narrowest phone', { viewport: { width: 320, height: 568 } }],
  ['wide, dark', { colorScheme: 'dark' }],
]

async function open(html: string, options: BrowserContextOptions = {}) {
  const path = join(scratchFolder(), 'page.html')
  writeFileSync(path, html)
  const opened = await openPage(pathToFileURL(path).href, options)
  // Everything that a reader may open.
  await opened.page.evaluate('for (const one of document.querySelectorAll("details")) one.open = true')
  return opened
}

const ranks = (step: number) => ({
  ...{ event: 'ranks' as const, time: start.time + step, step },
  ranks: Object.fromEntries(
    [0, 1].flatMap((layer) =>
      ['q_proj', 'down_proj'].map((type) => [`model.layers.${layer}.${type}`, layer + 3]),
    ),
  ),
})

const report = () =>
  runPage(
    runFrom([
      ...wholeRun(60).slice(0, -1),
      ranks(10),
      ranks(50),
      done(60),
      samples({ prompt: 'How?', expected: 'So.', base: 'x'.repeat(400), tuned: 'So.' }),
    ]),
    { name: NAME, config: 'r: 16' },
  )

const compared = () => JSON.parse(readFileSync('docs/results/compare-demo.json', 'utf8')) as CompareResults

const share = { right: 7, interval: [0.2, 0.6] } as const
const difference = { onlyFirst: 2, onlySecond: 9, p: 0.0654 }
const migrated = () =>
  migratePage({
    ...{ title: NAME, model: NAME, method: 'lora', plan: { peakBytes: 1 << 30, seconds: 90 } },
    counts: { rows: 100, repeated: 3, train: 77, heldOut: 20 },
    compared: {
      by: 'right answers',
      models: ['Base model', 'Tuned model', 'Old model'].map((label, index) => ({
        ...{ label, answered: index < 2 ? 20 : 0, exact: share, normalized: share, f1: 0.4 },
      })),
      pairs: [
        { first: 'Base model', second: 'Tuned model', rows: 20, exact: difference, normalized: difference },
        {
          first: 'Tuned model',
          second: 'Old model',
          rows: 0,
          exact: { ...difference, p: 1e-9 },
          normalized: difference,
        },
      ],
    },
    rows: [
      {
        ...{ prompt: 'x'.repeat(400), expected: '<b>So.</b>' },
        answers: [
          { label: 'Base model', text: '<script>1</script>' },
          { label: 'Tuned model', text: '<b>So.</b>' },
          { label: 'Old model', text: null },
        ],
      },
    ],
    change: [`npx lowrank serve ${NAME}/config.yaml --port 8000`, "baseURL: 'x',", 'apiKey: y,', 'model: z,'],
    remarks: ['Result files are plain <CSV>.'],
  })

const graded = () =>
  migratePage({
    ...{ title: NAME, model: NAME, method: 'lora', plan: { peakBytes: 1 << 30, seconds: null } },
    counts: { rows: 100, repeated: 0, train: 80, heldOut: 20 },
    compared: {
      by: 'scores',
      models: [
        { label: 'Base model', answered: 20, mean: -0.5, interval: [-1.25, 0.25] },
        { label: 'Tuned model', answered: 20, mean: 1.75, interval: [1.5, 2] },
        { label: 'Old model', answered: 0, mean: 0, interval: null },
      ],
      pairs: [
        { first: 'Base model', second: 'Tuned model', rows: 20, mean: 2.25, interval: [2, 2.5], p: 1e-9 },
        { first: 'Tuned model', second: 'Old model', rows: 0, mean: 0, interval: null, p: 1 },
      ],
    },
    rows: [
      {
        prompt: 'x'.repeat(400),
        answers: [
          { label: 'Base model', text: '<script>1</script>', score: -1 },
          { label: 'Tuned model', text: '<b>So.</b>', score: 0.5 },
          { label: 'Old model', text: null },
        ],
      },
    ],
    change: [`npx lowrank serve ${NAME}/config.yaml --port 8000`, "baseURL: 'x',", 'apiKey: y,', 'model: z,'],
    remarks: [],
  })

const PAGES = [
  ['report.html', report],
  ['compare.html', () => pageOf(compared(), NAME)],
  ['the page of a migration', migrated],
  ['the page of a migration with a grader', graded],
] as const

test.each(
  PAGES.flatMap(([page, html]) =>
    swept(SCREENS, 1).map(([screen, options]) => [page, screen, html, options] as const),
  ),
)(
  '%s %s: axe finds nothing, nothing scrolls sideways or is asked for',
  async (_page, _screen, html, options) => {
    const { page, complaints } = await open(html(), options)
    expect(await violations(page)).toEqual([])
    expect(await overflow(page)).toBeLessThanOrEqual(0)
    expect(complaints).toEqual([])
  },
)

test('the page of a compare shows the answers that flip with the entry that is chosen', async () => {
  const { page } = await open(pageOf(compared(), NAME))
  const shown = () =>
    page
      .locator('[data-flips]:visible')
      .evaluateAll((all) => all.map((one) => one.getAttribute('data-flips')))
  const [first] = await shown()
  expect(await shown()).toEqual([first])
  const names = await page
    .locator('#flips option')
    .evaluateAll((all) => all.map((one) => one.getAttribute('value')))
  expect(names[0]).toBe(first)
  expect(names.length).toBeGreaterThan(2)
  await page.selectOption('#flips', 'dora')
  expect(await shown()).toEqual(['dora'])
})

sweepTest('a report that tells of a failure has no fault either', async () => {
  const failed = [start, plan, memory(0), evaluation(0, 7), step(1), step(2, { loss: null })]
  const error = {
    event: 'error' as const,
    time: start.time + 3,
    step: 2,
    code: 'DIVERGED',
    message: 'loss is NaN',
  }
  const html = runPage(runFrom([...failed, error]), { name: NAME, config: null })
  for (const [, options] of SCREENS) {
    const { page, complaints } = await open(html, options)
    expect(await violations(page)).toEqual([])
    expect(await overflow(page)).toBeLessThanOrEqual(0)
    expect(complaints).toEqual([])
  }
})
