import { expect, test } from 'vitest'
import { runFrom } from '../../../lib/report/run-data.js'
import { listedRun } from '../../../lib/report/runs-data.js'
import { runsPage } from '../../../lib/report/runs-page.js'
import { evaluation, plan, start, step, wholeRun } from './lines.js'

const begun = [start, plan, evaluation(0, 7), step(1), step(2)]
const listed = [
  listedRun('old <b>', runFrom(wholeRun(60))),
  listedRun('new', runFrom(begun.map((line) => ({ ...line, time: line.time + 1000 })))),
]

test('a list of runs has the newest first, with what came of each, and curves with the same marks', () => {
  const { html, policy } = runsPage('runs', listed)
  const rows = [...html.matchAll(/<tr><th scope="row">(.*?)<\/tr>/gs)].map(([, row = '']) => row)
  const cells = rows.map((row) => row.replace(/<\/t[hd]>/g, '|').replace(/<[^>]*>/g, ''))
  expect(cells).toEqual([
    'new|In progress|LoRA, rank 16|2 of 10|6.99|7|held-out loss 7 at 0|2.0 s|30.0 MiB|',
    'old &lt;b&gt;|Done|LoRA, rank 16|60 of 60|4.68|1.20|held-out loss 1.20 at 60|60 s|150 MiB|',
  ])
  expect(html).toContain('<b>2</b> runs: 1 in progress or ended without a word, 1 done.')
  const charts = [...html.matchAll(/data-chart="(\w+)"><svg.*?<\/svg>/gs)]
  expect(charts.map(([, name]) => name)).toEqual(['heldOut', 'training'])
  // The newest run has the first hue in the list and in the curves.
  expect(rows[0]).toContain('class="k0 ')
  expect(rows[1]).toContain('class="k1 ')
  for (const [chart] of charts) for (const hue of ['k0 st', 'k1 st']) expect(chart).toContain(hue)
  expect(policy).not.toMatch(/unsafe|https?:/)
})

test('a list of runs that have not begun is a list', () => {
  const { html } = runsPage('runs', [listedRun('empty', runFrom([]))])
  expect(html).toContain('<b>1</b> run: none has begun.')
  expect(html).not.toContain('data-chart="heldOut"')
})

test('runs whose held-out rows are prompts alone have no curve of held-out loss', () => {
  const rewarded = [start, plan, { ...evaluation(0, 7, { reward: 0.5 }), loss: null }, step(1), step(2)]
  const { html } = runsPage('runs', [listedRun('rewarded', runFrom(rewarded))])
  expect([...html.matchAll(/data-chart="(\w+)"/g)].map(([, name]) => name)).toEqual(['training'])
})
