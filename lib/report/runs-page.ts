/** The page of a list of runs: their states and results in a table, and their curves overlaid. */
import { drawMark, escaped, formatNumber, formatSeconds, formatSize, markOf } from './chart/index.js'
import { type MadePage, page } from './run-page.js'
import { STATES } from './run-sections.js'
import { MOST_DRAWN, runsCharts } from './runs-charts.js'
import type { ListedRun } from './runs-data.js'

/** @param name of the folder of the runs */
export function runsPage(name: string, runs: readonly ListedRun[]): MadePage {
  const sorted = [...runs].sort((a, b) => (b.began ?? 0) - (a.began ?? 0))
  return page({
    title: name,
    styles: ['run.css', 'runs.css'],
    script: 'runs-script.js',
    data: { runs: sorted.slice(0, MOST_DRAWN) },
    content: `<header class="top">
<h1>${escaped(name)}</h1>
<p class="lede">${headline(sorted)}</p>
</header>
<main id="main">
${curves(sorted)}
${listSection(sorted)}
</main>
<footer>Served by lowrank from the records of the runs.</footer>`,
  })
}

function headline(runs: readonly ListedRun[]): string {
  const count = `<b>${formatNumber(runs.length)}</b> run${runs.length === 1 ? '' : 's'}`
  const going = runs.filter(({ state }) => state === 'training' || state === 'paused').length
  const ends = [
    ...(going > 0 ? [`${formatNumber(going)} in progress or ended without a word`] : []),
    ...(['failed', 'stopped', 'done'] as const).flatMap((state) => {
      const found = runs.filter((run) => run.state === state).length
      return found > 0 ? [`${formatNumber(found)} ${state}`] : []
    }),
  ]
  return `${count}: ${ends.join(', ') || 'none has begun'}.`
}

function curves(runs: readonly ListedRun[]): string {
  const charts = runsCharts(runs)
  const figure = (name: string, title: string) => {
    const chart = charts[name]
    return chart === undefined
      ? ''
      : `<figure><figcaption><b>${title}</b></figcaption><div class="plot" data-chart="${name}">${chart.draw(chart.width)}</div></figure>`
  }
  const body = `${figure('heldOut', 'Held-out loss')}${figure('training', 'Training loss, running mean')}`
  if (body === '') return ''
  const cut = runs.length > MOST_DRAWN ? ` The ${MOST_DRAWN} newest runs are drawn.` : ''
  return `<section id="curves" aria-labelledby="curves-title"><div class="side"><h2 id="curves-title">Curves</h2><p>Nats per supervised token, or per row of a classifier; lower is better. The marks are those of the list. Losses of runs on other data or tasks do not compare.${cut}</p></div><div class="body">${body}</div></section>`
}

function listSection(runs: readonly ListedRun[]): string {
  const heads = ['run', 'state', 'method', 'steps', 'training', 'held out', 'best', 'time', 'memory']
  const numeric = new Set(['steps', 'training', 'held out', 'time', 'memory'])
  const classOf = (name: string | undefined) => (numeric.has(name ?? '') ? ' class="number"' : '')
  const rows = runs.map((run, index) => {
    const mark =
      index < MOST_DRAWN
        ? `<svg class="chart swatch" viewBox="0 0 12 12" aria-hidden="true">${drawMark(6, 6, markOf(index))}</svg>`
        : ''
    const of = run.totalSteps === null ? '' : ` of ${formatNumber(run.totalSteps)}`
    const link = `<a data-run="${escaped(run.name)}" href="run?name=${encodeURIComponent(run.name)}">${escaped(run.name)}</a>`
    const cells = [
      `<span class="state ${run.state}">${STATES[run.state]}</span>`,
      escaped(run.method),
      `${formatNumber(run.steps)}${of}`,
      formatNumber(run.loss),
      formatNumber(run.heldOutLoss),
      escaped(run.best),
      formatSeconds(run.seconds),
      formatSize(run.peakBytes ?? undefined),
    ]
    const shown = cells.map((cell, at) => `<td${classOf(heads[at + 1])}>${cell}</td>`).join('')
    return `<tr><th scope="row">${mark}${link}</th>${shown}</tr>`
  })
  const head = heads.map((name) => `<th scope="col"${classOf(name)}>${name}</th>`).join('')
  return `<section id="runs" class="wide" aria-labelledby="runs-title"><div class="side"><h2 id="runs-title">Runs</h2><p>The newest first. A name opens the report of the run.</p></div><div class="body"><div class="scroll" tabindex="0" role="region" aria-label="Runs"><table><thead><tr>${head}</tr></thead><tbody>${rows.join('')}</tbody></table></div></div></section>`
}
