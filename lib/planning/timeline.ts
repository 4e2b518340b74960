/** Memory use over the steps of a plan, as a line of text and as a chart. */

import { formatBytes } from '../core/bytes.js'
import type { MemoryReport } from './memory-report.js'

const LEVELS = '▁▂▃▄▅▆▇█'
const COLUMNS = 64

/** The step with the highest memory use. */
export function peakOf({ timeline }: MemoryReport): { index: number; liveBytes: number; what: string } {
  const index = timeline.reduce(
    (most, { liveBytes }, i) => (liveBytes > (timeline[most]?.liveBytes ?? 0) ? i : most),
    0,
  )
  const { liveBytes = 0, phase = '', kernel = '', node = '' } = timeline[index] ?? {}
  return { index, liveBytes, what: [phase, kernel, node].filter((word) => word !== '').join(' ') }
}

/** A one-line curve, with the position of the peak and of the end of the forward pass. */
export function timelineText(memory: MemoryReport): string {
  const { timeline, residentBytes } = memory
  const { index, liveBytes, what } = peakOf(memory)
  const perColumn = Math.max(1, Math.ceil(timeline.length / COLUMNS))
  const columns = Array.from({ length: Math.ceil(timeline.length / perColumn) }, (_, i) =>
    Math.max(...timeline.slice(i * perColumn, (i + 1) * perColumn).map((moment) => moment.liveBytes)),
  )
  const curve = columns.map((bytes) => LEVELS[Math.ceil((8 * bytes) / liveBytes) - 1] ?? LEVELS[0]).join('')
  const forward = timeline.findIndex(({ phase }) => phase !== 'forward')
  const mark = forward < 0 ? 'forward' : `forward${'backward'.padStart(Math.floor(forward / perColumn) + 1)}`
  return [
    `${timeline.length} steps, ${formatBytes(residentBytes)} held throughout. Other live bytes:`,
    curve,
    mark,
    `peak at step ${index + 1}, ${formatBytes(liveBytes)}: ${what}`,
  ].join('\n')
}

const [WIDTH, HEIGHT] = [860, 340]
const PLOT = { left: 74, right: 844, top: 56, bottom: 292 }
const INK = '#1f2328'
const FAINT = '#59636e'
const PHASES = {
  forward: { fill: '#ddf4ff', stroke: '#0969da' },
  recompute: { fill: '#eaeef2', stroke: '#6e7781' },
  backward: { fill: '#ffe7cc', stroke: '#bc4c00' },
}

/** @param title describes what was planned */
export function timelineSvg(memory: MemoryReport, title: string): string {
  const { timeline, residentBytes } = memory
  const peak = peakOf(memory)
  const most = residentBytes + peak.liveBytes
  const x = (step: number) => round(PLOT.left + ((PLOT.right - PLOT.left) * step) / timeline.length)
  const y = (bytes: number) => round(PLOT.bottom - ((PLOT.bottom - PLOT.top) * bytes) / most)
  const floor = y(residentBytes)
  const areas = phasesOf(memory).map(({ phase, begin, end }) => {
    const tops = timeline
      .slice(begin, end)
      .map(({ liveBytes }, i) => `V${y(residentBytes + liveBytes)}H${x(begin + i + 1)}`)
    const { fill, stroke } = PHASES[phase]
    return `<path d="M${x(begin)} ${floor}${tops.join('')}V${floor}z" fill="${fill}" stroke="${stroke}" stroke-width="0.5"/>`
  })
  const held = `<rect x="${PLOT.left}" y="${y(residentBytes)}" width="${PLOT.right - PLOT.left}" height="${round(PLOT.bottom - y(residentBytes))}" fill="#f6f8fa" stroke="#d0d7de"/>`
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((share) =>
    text(PLOT.left - 8, y(share * most) + 4, formatBytes(Math.round(share * most)), 'text-anchor="end"'),
  )
  const middle = x(peak.index + 0.5)
  const marker = [
    `<path d="M${middle} ${PLOT.top - 4}V${PLOT.bottom}" stroke="${INK}" stroke-dasharray="2 3"/>`,
    text(
      Math.min(Math.max(middle, PLOT.left + 240), PLOT.right - 240),
      PLOT.top - 10,
      `${formatBytes(most)} at ${peak.what}`,
      `text-anchor="middle" fill="${INK}"`,
    ),
  ]
  const legend = Object.entries(PHASES).map(
    ([phase, { fill, stroke }], i) =>
      `<rect x="${PLOT.left + i * 110}" y="308" width="12" height="12" fill="${fill}" stroke="${stroke}"/>${text(PLOT.left + 18 + i * 110, 318, phase)}`,
  )
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" width="${WIDTH}" height="${HEIGHT}" font-family="system-ui, sans-serif" font-size="12" role="img" aria-label="${escaped(`Live bytes through a step: ${title}`)}">`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="#ffffff"/>`,
    text(PLOT.left, 24, title, `font-size="14" font-weight="600" fill="${INK}"`),
    held,
    ...areas,
    text(PLOT.left + 8, PLOT.bottom - 8, `${formatBytes(residentBytes)} held throughout`),
    ...ticks,
    ...marker,
    ...legend,
    text(PLOT.right, 318, `${timeline.length} steps`, 'text-anchor="end"'),
    '</svg>\n',
  ].join('\n')
}

/** Consecutive steps of one phase: [begin, end). */
function phasesOf({ timeline }: MemoryReport) {
  const stretches: { phase: keyof typeof PHASES; begin: number; end: number }[] = []
  for (const [step, { phase }] of timeline.entries()) {
    const last = stretches.at(-1)
    if (last?.phase === phase) last.end = step + 1
    else stretches.push({ phase, begin: step, end: step + 1 })
  }
  return stretches
}

const round = (value: number) => Number(value.toFixed(1))
const escaped = (words: string) =>
  words.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;')

function text(x: number, y: number, words: string, rest = ''): string {
  const fill = rest.includes('fill=') ? '' : `fill="${FAINT}" `
  return `<text x="${round(x)}" y="${round(y)}" ${fill}${rest}>${escaped(words)}</text>`
}
