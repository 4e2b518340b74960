// Draws docs/images/demo.svg from the events of a demo: the loss of every step, and how many held-out answers were
// right before and after.
//
//   npx lowrank demo --json > demo.jsonl && node scripts/demo/picture.mjs demo.jsonl
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'

const root = resolve(import.meta.dirname, '../..')
const events = readFileSync(process.argv[2], 'utf8').trim().split('\n').map(JSON.parse)
const steps = events.filter(({ event }) => event === 'step')
const plan = events.find(({ event }) => event === 'plan')
const { before, after } = events.find(({ event }) => event === 'demo')

const [width, height] = [760, 330]
const plot = { left: 64, right: 436, top: 74, bottom: 250 }
const bars = { left: 512, right: 728, top: 96, bottom: 250 }

const most = Math.max(...steps.map(({ loss }) => loss))
const spacing = most > 3 ? 2 : 0.5
const top = Math.ceil(most / spacing) * spacing
const x = (step) => plot.left + ((step - 1) / (steps.length - 1)) * (plot.right - plot.left)
const y = (loss) => plot.bottom - (loss / top) * (plot.bottom - plot.top)
const round = (value) => Number(value.toFixed(1))
const percent = (share) => `${round(100 * share)} %`

const text = (at, up, words, rest = '') => `<text x="${round(at)}" y="${round(up)}" ${rest}>${words}</text>`
const line = (x1, y1, x2, y2, color) =>
  `<line x1="${round(x1)}" y1="${round(y1)}" x2="${round(x2)}" y2="${round(y2)}" stroke="${color}"/>`

const grid = Array.from({ length: top / spacing + 1 }, (_, i) => i * spacing)
const path = steps.map(({ step, loss }) => `${round(x(step))},${round(y(loss))}`).join(' ')
const bar = (index, label, share, color) => {
  const [wide, gap] = [72, 48]
  const left = bars.left + 24 + index * (wide + gap)
  const tall = Math.max(2, share * (bars.bottom - bars.top))
  return [
    `<rect x="${left}" y="${round(bars.bottom - tall)}" width="${wide}" height="${round(tall)}" rx="3" fill="${color}"/>`,
    text(
      left + wide / 2,
      bars.bottom - tall - 8,
      percent(share),
      'text-anchor="middle" font-weight="600" fill="#1f2328"',
    ),
    text(left + wide / 2, bars.bottom + 20, label, 'text-anchor="middle"'),
  ]
}

const svg = [
  `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img" aria-labelledby="title" font-family="system-ui, sans-serif" font-size="13" fill="#59636e">`,
  `<title id="title">lowrank demo: the loss falls over ${steps.length} steps; exact answers go from ${percent(before.exact_match)} to ${percent(after.exact_match)}</title>`,
  `<rect width="${width}" height="${height}" rx="8" fill="#ffffff"/>`,
  text(24, 34, 'lowrank demo', 'font-size="17" font-weight="600" fill="#1f2328"'),
  text(plot.left, 58, 'loss, nats per token'),
  text(bars.left, 58, 'held-out answers exactly right'),
  ...grid.flatMap((loss) => [
    line(plot.left, y(loss), plot.right, y(loss), '#e6e8eb'),
    text(plot.left - 10, y(loss) + 4, loss, 'text-anchor="end"'),
  ]),
  `<polyline points="${path}" fill="none" stroke="#0969da" stroke-width="2" stroke-linejoin="round"/>`,
  text(plot.left, plot.bottom + 20, 'step 1'),
  text(plot.right, plot.bottom + 20, `step ${steps.length}`, 'text-anchor="end"'),
  line(bars.left, bars.bottom, bars.right, bars.bottom, '#d1d5da'),
  ...bar(0, 'base', before.exact_match, '#afb8c1'),
  ...bar(1, 'tuned', after.exact_match, '#1a7f37'),
  text(
    plot.left,
    height - 22,
    `QLoRA over a 4-bit base, ${(plan.peak_bytes / 2 ** 20).toFixed(1)} MiB planned before the first step`,
  ),
  '</svg>',
]

mkdirSync(join(root, 'docs/images'), { recursive: true })
writeFileSync(join(root, 'docs/images/demo.svg'), `${svg.join('\n')}\n`)
