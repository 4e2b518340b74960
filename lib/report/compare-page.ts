/** The page of a compare: one self-contained HTML file without network access. Its main table doubles as a chart. */
import {
  drawMark,
  escaped,
  formatNumber,
  formatSeconds,
  formatShare,
  formatSize,
  formatTick,
} from './chart/index.js'
import { type CompareChart, compareCharts, valueFormat } from './compare-charts.js'
import type { ComparedEntry, ComparePageData } from './compare-data.js'
import { difference, metricTables, pairMatrix, section, toldWords, verdict } from './compare-verdict.js'
import { page } from './run-page.js'

export type { ComparedEntry, ComparePageData } from './compare-data.js'

export function comparePage(data: ComparePageData): string {
  const charts = compareCharts(data)
  return page({
    title: data.title,
    styles: ['run.css', 'compare.css'],
    script: 'compare-script.js',
    // Examples are already in the HTML, and the script only draws charts.
    data: { ...data, entries: data.entries.map((entry) => ({ ...entry, flips: null })) },
    content: `${head(data)}
<main id="main">
${[result(data, charts), pairMatrix(data), metricTables(data), costs(charts), curves(data, charts), rates(data, charts), items(data, charts), again(data)].join('\n')}
</main>
<footer>Made by lowrank from results.json. This file loads nothing from any network.</footer>`,
  }).html
}

/** The lowest and the highest of the rates that seeds chose. */
function formatRates(chosen: readonly number[]): string {
  if (chosen.length === 0) return 'none'
  const [low, high] = [Math.min(...chosen), Math.max(...chosen)]
  return low === high ? formatTick(low) : `${formatTick(low)} to ${formatTick(high)}`
}

function head(data: ComparePageData): string {
  const { entries, seeds, base, rows, equal } = data
  const format = valueFormat(data)
  const own = entries.filter(({ controlOf }) => controlOf === null)
  const cells = entries.reduce((sum, entry) => sum + entry.cells.length, 0)
  const figures = [
    [
      'Best',
      format(own[0]?.mean ?? null),
      `${own[0] ? own[0].label : ''}${base ? `; base ${format(base.value)}` : ''}`,
    ],
    ['Test rows', formatNumber(rows.test), 'read once, at the end'],
    ['Cells', formatNumber(cells), `${formatSeconds(data.cellSeconds)} of training`],
    ['Search of rates', formatSeconds(data.searchSeconds), 'the same rates and steps for all'],
    ...(data.power === null
      ? []
      : [['Power', formatShare(data.power), 'of such compares find a difference of two spreads']]),
  ] as const
  const crumbs = [
    `${own.length} strategies × ${seeds.length} seed${seeds.length === 1 ? '' : 's'}`,
    data.model,
    `equal ${equal}`,
    data.when,
  ].map((words) => `<span>${escaped(words)}</span>`)
  const state = data.finished ? 'done' : 'stopped'
  const remarks = data.remarks.map((remark) => `<p class="note warn">${escaped(remark)}</p>`)
  const left = data.leftOut.map(
    ({ name, reason }) => `<p class="note">${escaped(name)} was left out: ${escaped(reason)}</p>`,
  )
  return `<header class="top">
<div class="crumbs"><span class="state ${state}">${data.finished ? 'Done' : 'Not finished'}</span>${crumbs.join('')}</div>
<h1>${escaped(data.title)}</h1>
<p class="lede">${verdict(data).join(' ')}</p>
<dl class="keys">${figures.map(([name, value, aside]) => `<div><dt>${name}</dt><dd class="value">${escaped(value)}</dd><dd class="aside">${escaped(aside)}</dd></div>`).join('')}</dl>
${[...remarks, ...left].join('\n')}
</header>`
}

function plot(name: string, charts: Record<string, CompareChart>): string {
  const chart = charts[name]
  return chart ? `<div class="plot" data-chart="${name}">${chart.draw(chart.width)}</div>` : ''
}

function icon(entry: ComparedEntry): string {
  return `<svg class="chart icon" viewBox="0 0 12 12" aria-hidden="true">${drawMark(6, 6, entry.mark, 4.5)}</svg>`
}

function result(data: ComparePageData, charts: Record<string, CompareChart>): string {
  const { metric, entries } = data
  const format = valueFormat(data)
  const number = (label: string, value: string, kind = '') =>
    `<td role="cell" class="number ${kind}" data-label="${label}">${value}</td>`
  const rows = entries.map((entry, index) => {
    const gap = entry.difference
    const against =
      entry.name === 'lora'
        ? '<span class="quiet">reference</span>'
        : gap === null
          ? ''
          : `<b class="told">${toldWords(gap.verdict)}</b> ${difference(data.metric, gap.value, true)}${gap.interval ? ` <span class="quiet">[${gap.interval.map((value) => difference(data.metric, value, true)).join(', ')}]</span>` : ''}`
    const hint =
      entry.controlOf === null
        ? ''
        : `<span class="quiet control">control of ${escaped(entry.controlLabel ?? '')}</span>`
    return `<tr role="row"><th role="rowheader" scope="row">${icon(entry)}${escaped(entry.label)}${hint}</th><td role="cell" class="dots">${plot(`dots-${index}`, charts)}</td>${[
      number(metric.name, format(entry.mean), 'big'),
      number('to LoRA', against, 'against'),
      ...(metric.name === 'loss' ? [] : [number('loss', formatNumber(entry.loss), 'cost')]),
      number('forgotten', entry.forgotten === null ? '–' : formatNumber(entry.forgotten), 'cost'),
      number('trained', formatTick(Number(entry.parameters.toPrecision(3))), 'cost'),
      number('memory', formatSize(entry.plannedBytes), 'cost'),
      number(
        'tokens/s',
        formatNumber(entry.tokensPerSecond === null ? null : Math.round(entry.tokensPerSecond)),
        'cost',
      ),
      number('file', formatSize(entry.fileBytes), 'cost'),
    ].join('')}</tr>`
  })
  const column = (name: string, kind = 'number') =>
    `<th role="columnheader" scope="col" class="${kind}">${name}</th>`
  const columns = [
    metric.name,
    'to LoRA',
    ...(metric.name === 'loss' ? [] : ['loss']),
    'forgotten',
    'trained',
    'memory',
    'tokens/s',
    'file',
  ]
  const header = `<tr role="row">${column('strategy', '')}<th role="columnheader" scope="col" class="dots"><span class="hidden">mean with its interval</span>${plot('axis', charts)}</th>${columns.map((name) => column(escaped(name))).join('')}</tr>`
  const points = metric.isShare ? ' in percentage points' : ''
  return section(
    'result',
    'Result',
    `${metric.name === 'loss' ? 'Loss' : `Mean ${escaped(metric.name)}`} on ${formatNumber(data.rows.test)} test rows; ${metric.higherIsBetter ? 'higher' : 'lower'} is better. Large mark and line: the mean and its 95% interval over seeds and rows. Small marks: seeds. Dotted: LoRA. Differences to LoRA are of the same seeds and rows${points}; a question mark: cannot be told. Forgotten: how much the loss on a general text rose.`,
    `<table class="compared" role="table"><thead role="rowgroup">${header}</thead><tbody role="rowgroup">${rows.join('')}</tbody></table>`,
    ' class="wide"',
  )
}

function costs(charts: Record<string, CompareChart>): string {
  const one = (title: string, name: string) =>
    `<figure><figcaption><b>${title}</b></figcaption>${plot(name, charts)}</figure>`
  return section(
    'costs',
    'Quality and cost',
    'Further left is cheaper. The dotted step joins those that no other beats in both.',
    `<div class="row two">${one('Against trained parameters', 'parameters')}${one('Against planned memory', 'memory')}</div>`,
  )
}

function panels(
  data: ComparePageData,
  charts: Record<string, CompareChart>,
  kind: string,
  read: (entry: ComparedEntry) => string,
) {
  const all = data.entries.map((entry, index) => {
    const chart = plot(`${kind}-${index}`, charts)
    if (chart === '') return ''
    return `<figure><figcaption><b>${icon(entry)}${escaped(entry.label)}</b><span class="read">${read(entry)}</span></figcaption>${chart}</figure>`
  })
  return all.some(Boolean) ? `<div class="panels">${all.join('')}</div>` : ''
}

function curves(data: ComparePageData, charts: Record<string, CompareChart>): string {
  const drawn = panels(data, charts, 'curve', ({ loss }) => formatNumber(loss))
  if (drawn === '') return ''
  return section(
    'curves',
    'Curves',
    'Validation loss, one line a seed, over the means of all others in gray. All panels have the same axes.',
    drawn,
  )
}

function rates(data: ComparePageData, charts: Record<string, CompareChart>): string {
  const read = ({ chosen, atEdge, isFlat }: ComparedEntry) =>
    `${atEdge ? '<span class="wrong">at an edge</span> ' : isFlat ? '<span class="quiet">flat</span> ' : ''}${formatRates(chosen)}`
  const drawn = panels(data, charts, 'rate', read)
  if (drawn === '') return ''
  return section(
    'rates',
    'Learning rates',
    'Each strategy got its own rates by the same search, one with each seed: validation loss of the longest run at each rate. Rings are the chosen ones. Flat: their neighbors differ by less than the seeds do.',
    drawn,
  )
}

function items(data: ComparePageData, charts: Record<string, CompareChart>): string {
  if (charts.items === undefined) return ''
  const rows = data.entries.flatMap((entry) => {
    const { flips } = entry
    if (flips === null) return []
    const words = flips.gained + flips.lost === 0 ? '' : formatNumber(flips.p, 2)
    return [
      `<tr><th scope="row">${icon(entry)}${escaped(entry.label)}</th><td class="number">${flips.gained}</td><td class="number">${flips.lost}</td><td class="number">${words}</td></tr>`,
    ]
  })
  const table = `<table class="tight"><thead><tr><th scope="col">against LoRA, seed ${data.seeds[0]}</th><th scope="col" class="number">now right</th><th scope="col" class="number">now wrong</th><th scope="col" class="number">McNemar’s p</th></tr></thead><tbody>${rows.join('')}</tbody></table>`
  return section(
    'items',
    'Rows',
    'A column is a test row, the easiest on the left; the fuller the color, the more seeds answer it. The table counts rows that flip from LoRA with the same seed; p speaks of these two adapters, not of the strategies.',
    `${plot('items', charts)}<div class="after scroll" tabindex="0" role="region" aria-label="Rows that flip">${table}</div>${flippedAnswers(data)}`,
  )
}

/** Answers that flip compared with LoRA, one entry at a time; the script lets readers choose which. */
function flippedAnswers({ entries }: ComparePageData): string {
  const flipping = entries.filter(({ flips }) => (flips?.examples.length ?? 0) > 0)
  if (flipping.length === 0) return ''
  const options = flipping.map(
    (entry) => `<option value="${escaped(entry.name)}">${escaped(entry.label)}</option>`,
  )
  const tables = flipping.map((entry, index) => {
    const label = escaped(entry.label)
    const rows = (entry.flips?.examples ?? []).map(
      ({ item, gained, before, after }) =>
        `<tr><th scope="row" class="number">${item}</th><td>${gained ? '<span class="right">✓ now right</span>' : '<span class="wrong">✗ now wrong</span>'}</td><td dir="auto">${escaped(before.slice(0, 300))}</td><td dir="auto">${escaped(after.slice(0, 300))}</td></tr>`,
    )
    return `<div class="scroll" data-flips="${escaped(entry.name)}"${index > 0 ? ' hidden' : ''} tabindex="0" role="region" aria-label="Answers that flip from LoRA to ${label}"><table><thead><tr><th scope="col" class="number">row</th><th scope="col">change</th><th scope="col">LoRA</th><th scope="col">${label}</th></tr></thead><tbody>${rows.join('')}</tbody></table></div>`
  })
  const picker =
    flipping.length > 1
      ? `<label class="pick" hidden>from LoRA to <select id="flips">${options.join('')}</select></label>`
      : ''
  return `<details><summary>Answers that flip</summary>${picker}${tables.join('')}</details>`
}

function again(data: ComparePageData): string {
  const cells = data.entries.flatMap((entry) =>
    entry.cells.map(
      ({ seed, rate, value, seconds, hash }) =>
        `<tr><th scope="row">${escaped(entry.label)}</th><td class="number">${seed}</td><td class="number">${formatTick(rate)}</td><td class="number">${valueFormat(data)(value)}</td><td class="number">${formatSeconds(seconds)}</td><td><code>${escaped(hash.slice(0, 16))}</code></td></tr>`,
    ),
  )
  const facts = [
    ...data.hashes.map(([name, hash]) => [name, `<code>${escaped(hash)}</code>`] as const),
    ['Machine', escaped(data.machine)] as const,
    ['lowrank', escaped(data.version)] as const,
  ]
  const command = data.command === null ? '' : `<pre tabindex="0">${escaped(data.command)}</pre>`
  return section(
    'again',
    'Repeat',
    'Any cell can be trained again, and must give the same hash on the same instruction set: <code>lowrank compare verify results.json</code>.',
    `<p id="verified">${escaped(data.verified)}</p>${command}<dl class="facts">${facts.map(([name, html]) => `<dt>${escaped(name)}</dt><dd>${html}</dd>`).join('')}</dl>
<details><summary>All cells</summary><div class="scroll" tabindex="0" role="region" aria-label="Cells"><table><thead><tr><th scope="col">strategy</th><th scope="col" class="number">seed</th><th scope="col" class="number">rate</th><th scope="col" class="number">${escaped(data.metric.name)}</th><th scope="col" class="number">time</th><th scope="col">hash</th></tr></thead><tbody>${cells.join('')}</tbody></table></div></details>`,
  )
}
