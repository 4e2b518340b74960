/** The lists of a service's page as HTML. Also runs in the browser. */
import { drawMark, escaped, formatNumber, formatSeconds, formatSize, markOf } from './chart/index.js'
import { MOST_DRAWN, runsCharts } from './runs-charts.js'
import type { ListedRun } from './runs-data.js'
import { region } from './section.js'
import { isOver, type ServiceJob, stateOf } from './service-data.js'

const WORDS = {
  ...{ waiting: 'Waiting', training: 'Running', paused: 'Paused' },
  ...{ stopped: 'Canceled', failed: 'Failed', done: 'Succeeded' },
}
const HEADS = ['job', 'state', 'base', 'method', 'steps', 'loss', 'held out', 'time', 'memory']
const NUMERIC = ['steps', 'loss', 'held out', 'time', 'memory']

/** @param runs the jobs as runs, in the same order */
export function jobsHtml(jobs: readonly ServiceJob[], runs: readonly ListedRun[]): string {
  if (jobs.length === 0) return '<p>There are no jobs yet. Clients create them.</p>'
  const charts = runsCharts(runs)
  const figure = (name: string, title: string) =>
    charts[name] === undefined
      ? ''
      : `<figure id="chart-${name}"><figcaption><b>${title}</b></figcaption><div class="plot" data-chart="${name}"></div></figure>`
  const numeric = (head: string | undefined) => (NUMERIC.includes(head ?? '') ? ' class="number"' : '')
  const heads = HEADS.map((head) => `<th scope="col"${numeric(head)}>${head}</th>`).join('')
  const rows = jobs.map((job, index) => jobRow(job, runs[index] as ListedRun, index, numeric))
  const table = `<table><thead><tr>${heads}</tr></thead><tbody>${rows.join('')}</tbody></table>`
  return `${figure('heldOut', 'Held-out loss')}${figure('training', 'Training loss, running mean')}${region('List of jobs', table)}`
}

function jobRow(
  job: ServiceJob,
  run: ListedRun,
  index: number,
  numeric: (head: string | undefined) => string,
): string {
  const state = stateOf(job)
  const mark =
    index < MOST_DRAWN
      ? `<svg class="chart swatch" viewBox="0 0 12 12" aria-hidden="true">${drawMark(6, 6, markOf(index))}</svg>`
      : ''
  const why = job.error === null ? '' : `<span class="why">${escaped(job.error.message)}</span>`
  const left = job.lowrank.seconds_left
  const time = isOver(job)
    ? formatSeconds(run.seconds)
    : left === undefined
      ? ''
      : `${formatSeconds(left)} left`
  const cells = [
    `<span class="state ${state}">${WORDS[state]}</span>${why}`,
    ...[escaped(job.model), escaped(run.method)],
    `${formatNumber(run.steps)}${run.totalSteps === null ? '' : ` of ${formatNumber(run.totalSteps)}`}`,
    ...[formatNumber(run.loss), formatNumber(run.heldOutLoss), time, formatSize(run.peakBytes ?? undefined)],
  ]
  const shown = cells.map((cell, at) => `<td${numeric(HEADS[at + 1])}>${cell}</td>`).join('')
  return `<tr><th scope="row">${mark}${escaped(job.fine_tuned_model ?? job.id)}</th>${shown}</tr>`
}

export function modelsHtml(names: readonly string[]): string {
  return `<ul>${names.map((name) => `<li><code>${escaped(name)}</code></li>`).join('')}</ul>`
}
