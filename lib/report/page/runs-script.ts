/** Script of a list of runs: draws its charts, hands the token on to links, and looks again while a run goes on. */
import { runsCharts } from '../runs-charts.js'
import type { ListedRun } from '../runs-data.js'
import { mountPlots } from './plots.js'

const LOOK_AGAIN_MS = 5000

const { runs } = JSON.parse(document.getElementById('data')?.textContent ?? '') as { runs: ListedRun[] }
mountPlots(runsCharts(runs))

const token = new URLSearchParams(location.search).get('token')
for (const link of document.querySelectorAll<HTMLAnchorElement>('a[data-run]'))
  if (token !== null) link.href = `run?${new URLSearchParams({ token, name: link.dataset.run ?? '' })}`

if (runs.some(({ state }) => state === 'training' || state === 'paused' || state === 'waiting'))
  setInterval(() => {
    if (!document.hidden) location.reload()
  }, LOOK_AGAIN_MS)
