/** The section of a run's page about its memory: a chart, and a table of what was planned and allocated. */
import { formatSize } from './chart/index.js'
import type { RunChart } from './run-chart.js'
import type { RunPageData } from './run-data.js'
import {
  blockLast,
  CATEGORY_COLORS,
  categoryName,
  inOneBlock,
  isInBlock,
  mostAllocated,
} from './run-memory.js'
import { figure, section } from './section.js'

export function memorySection(run: RunPageData, charts: Record<string, RunChart>): string {
  const { plan } = run
  if (plan === null) return ''
  const held = mostAllocated(run)?.allocated
  const planned = blockLast(plan.rows)
  const total = planned.reduce((sum, { bytes }) => sum + bytes, 0)
  const share = (bytes: number) => (total > 0 ? `${Math.round((bytes / total) * 100)}%` : '')
  const block = inOneBlock(run) ? planned.filter(({ category }) => isInBlock(category)) : []
  const allocatedIn = (category: string) => {
    if (held === undefined) return ''
    if (!block.some((row) => row.category === category))
      return `<td class="number">${formatSize(held[category as keyof typeof held] ?? 0)}</td>`
    if (block[0]?.category !== category) return ''
    const bytes = block.reduce((sum, row) => sum + (held[row.category] ?? 0), 0)
    return `<td class="number block" rowspan="${block.length}">${formatSize(bytes)}<br><span class="fine">in one block</span></td>`
  }
  const rows = planned.map(({ category, bytes }) => {
    const swatch = `<svg class="chart swatch" viewBox="0 0 10 10" aria-hidden="true"><rect class="m${CATEGORY_COLORS[category] ?? 8}" width="10" height="10" rx="2"/></svg>`
    return `<tr><th scope="row">${swatch}${categoryName(category)}</th><td class="number">${formatSize(bytes)}</td>${allocatedIn(category)}<td class="number share">${share(bytes)}</td></tr>`
  })
  const allocated = held && Object.values(held).reduce((sum, bytes) => sum + bytes, 0)
  const sum = `<tr class="sum"><th scope="row">together</th><td class="number">${formatSize(total)}</td>${held ? `<td class="number">${formatSize(allocated)}</td>` : ''}<td class="share"></td></tr>`
  const head = ['planned', ...(held ? ['allocated'] : []), 'share']
    .map((name) => `<th scope="col" class="number${name === 'share' ? ' share' : ''}">${name}</th>`)
    .join('')
  const table = `<table class="tight"><thead><tr><th scope="col">category</th>${head}</tr></thead><tbody>${rows.join('')}${sum}</tbody></table>`
  const resident = charts.resident
    ? `<div>${figure('resident', 'Resident over time', charts)}<p class="fine">Planned and resident both count the whole process, with Node.js. Resident also has pages of the model's file that the system keeps in memory.</p></div>`
    : ''
  return section(
    'memory',
    'Memory',
    `Blue: the base, which does not change. Orange: what trains. Green: what a step needs and returns. ${comparison(total, allocated)}`,
    `${figure('memory', held ? 'Planned and allocated' : 'Planned at the peak', charts)}<div class="row two"><div>${table}</div>${resident}</div>`,
  )
}

/** Says whether the run stayed within its planned memory. */
function comparison(planned: number, allocated: number | undefined): string {
  if (allocated === undefined) return ''
  if (allocated <= planned)
    return planned - allocated <= planned * 0.002
      ? 'The run allocated what was planned.'
      : `The run allocated ${formatSize(planned - allocated)} less than planned.`
  return `The process held ${formatSize(allocated - planned)} more than planned for this run, in other models or adapters.`
}
