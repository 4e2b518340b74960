/** The page of a migration: one self-contained HTML file without network access and without a script. */
import { answeredCards } from './answer-cards.js'
import {
  dotRow,
  escaped,
  formatNumber,
  formatSeconds,
  formatShare,
  formatSize,
  markOf,
  scaleOf,
  svg,
} from './chart/index.js'
import { page } from './run-page.js'
import { definitions, region, section } from './section.js'

interface PageShare {
  right: number
  /** 95 % interval of the share. */
  interval: readonly [number, number]
}

interface PageTest {
  onlyFirst: number
  onlySecond: number
  p: number
}

export interface MigratePageData {
  title: string
  model: string
  method: string
  counts: { rows: number; repeated: number; train: number; heldOut: number }
  /** Seconds are null if they could not be estimated. */
  plan: { peakBytes: number; seconds: number | null }
  /** The tuned model is the second. */
  models: readonly { label: string; answered: number; exact: PageShare; normalized: PageShare; f1: number }[]
  /** Every two of the models, by their labels. */
  pairs: readonly { first: string; second: string; rows: number; exact: PageTest; normalized: PageTest }[]
  /** The rows that are shown. */
  rows: readonly {
    prompt: string
    expected: string
    answers: readonly { label: string; text: string | null }[]
  }[]
  /** The command that serves the tuned model, and the lines of code that ask it. */
  change: readonly string[]
  /** Remarks about the change, in plain text. */
  remarks: readonly string[]
}

/** p from which a difference is called one. */
const SIGNIFICANT = 0.05

export function migratePage(data: MigratePageData): string {
  return page({
    title: data.title,
    styles: ['run.css', 'migrate.css'],
    skip: 'the results',
    content: `${head(data)}
<main id="main">
${[result(data), tests(data), rows(data), change(data)].join('\n')}
</main>
<footer>Made by lowrank from results.json. This file loads nothing from any network.</footer>`,
  }).html
}

function head(data: MigratePageData): string {
  const { counts, models, plan } = data
  const crumbs = [data.method, data.model].map((words) => `<span>${escaped(words)}</span>`)
  const figures = models.map(({ label, answered, exact }) => [
    label,
    formatShare(answered === 0 ? null : exact.right / answered),
    `${formatNumber(exact.right)} of ${formatNumber(answered)} word for word`,
  ])
  const repeated = counts.repeated > 0 ? `; ${formatNumber(counts.repeated)} repeat others` : ''
  const facts = [
    [
      'Rows',
      formatNumber(counts.rows),
      `${formatNumber(counts.train)} trained, ${formatNumber(counts.heldOut)} held out${repeated}`,
    ],
    [
      'Memory',
      formatSize(plan.peakBytes),
      plan.seconds === null ? 'planned' : `planned, and ${formatSeconds(plan.seconds)}`,
    ],
  ]
  return `<header class="top">
<div class="crumbs"><span class="state done">Done</span>${crumbs.join('')}</div>
<h1>${escaped(data.title)}</h1>
<p class="lede">${verdict(data)}</p>
<dl class="keys">${[...figures, ...facts].map(([name = '', value = '', aside = '']) => `<div><dt>${escaped(name)}</dt><dd class="value">${escaped(value)}</dd><dd class="aside">${escaped(aside)}</dd></div>`).join('')}</dl>
</header>`
}

/** The tuned model against the others, in words. */
function verdict({ models, pairs }: MigratePageData): string {
  const tuned = models[1]?.label ?? ''
  const said = pairs.flatMap(({ first, second, exact }) => {
    if (first !== tuned && second !== tuned) return []
    const [other, better, worse] =
      first === tuned
        ? [second, exact.onlyFirst, exact.onlySecond]
        : [first, exact.onlySecond, exact.onlyFirst]
    const name = escaped(other.toLowerCase())
    if (exact.p >= SIGNIFICANT) return [`These rows cannot tell it from the ${name} (p ${formatP(exact.p)}).`]
    const words = better > worse ? 'more' : '<b>fewer</b>'
    return [`It answers ${words} rows word for word than the ${name} (p ${formatP(exact.p)}).`]
  })
  return `<b>The ${escaped(tuned.toLowerCase())} on rows that it was not trained on.</b> ${said.join(' ')}`
}

function formatP(p: number): string {
  return p < 0.001 ? p.toExponential(1) : p.toFixed(3)
}

const [DOT_WIDTH, DOT_HEIGHT, DOT_MARGIN] = [240, 24, 8]

function result({ models }: MigratePageData): string {
  const scale = scaleOf('linear', [0, 1], [DOT_MARGIN, DOT_WIDTH - DOT_MARGIN])
  const cell = (answered: number, { right, interval }: PageShare, label: string, hue: number) => {
    const share = answered === 0 ? null : right / answered
    const range = `${formatShare(interval[0])} to ${formatShare(interval[1])}`
    const title = `${label}: ${formatShare(share)}, interval ${range}`
    const row = { name: label, mark: markOf(hue), mean: share, interval }
    const drawn = svg(DOT_WIDTH, DOT_HEIGHT, { title }, dotRow(row, scale, DOT_HEIGHT / 2))
    return `<td class="number">${formatShare(share)} <span class="quiet">${range}</span></td><td class="dots"><div class="plot">${drawn}</div></td>`
  }
  const body = models.map(
    ({ label, answered, exact, normalized, f1 }, hue) =>
      `<tr><th scope="row">${escaped(label)}</th><td class="number">${formatNumber(answered)}</td>${cell(answered, exact, `${label}, word for word`, hue)}<td class="number">${formatShare(answered === 0 ? null : normalized.right / answered)}</td><td class="number">${answered === 0 ? '–' : f1.toFixed(2)}</td></tr>`,
  )
  const heads = `<th scope="col">model</th><th scope="col" class="number">rows</th><th scope="col" class="number">word for word</th><th scope="col" class="dots"><span class="hidden">share with its interval, from 0% to 100%</span></th><th scope="col" class="number">normalized</th><th scope="col" class="number">F1</th>`
  return section(
    'result',
    'Result',
    'Shares of held-out rows with the expected answer, with 95% intervals by Wilson. Normalized: JSON by its value, other text without regard to case, spacing, and punctuation at its end. F1: mean over words.',
    region(
      'Shares of right answers',
      `<table class="shares"><thead><tr>${heads}</tr></thead><tbody>${body.join('')}</tbody></table>`,
    ),
  )
}

function tests({ pairs }: MigratePageData): string {
  const body = pairs.map(({ first, second, rows: both, exact, normalized }) => {
    const numbers = [both, exact.onlyFirst, exact.onlySecond].map(formatCell)
    const p = [formatP(exact.p), formatP(normalized.p)].map((one) => `<td class="number">${one}</td>`)
    return `<tr><th scope="row">${escaped(first)}, ${escaped(second.toLowerCase())}</th>${numbers.join('')}${p.join('')}</tr>`
  })
  const names = ['rows', 'only the first', 'only the second', 'p', 'p, normalized']
  const heads = names.map((name) => `<th scope="col" class="number">${name}</th>`).join('')
  return section(
    'tests',
    'Test',
    'Rows that only one of two models answers word for word, and McNemar’s exact p. It tells of these models on such rows. Numbers of tokens are not compared, since each model counts its own.',
    region(
      'Pairs of models',
      `<table><thead><tr><th scope="col">models</th>${heads}</tr></thead><tbody>${body.join('')}</tbody></table>`,
    ),
  )
}

const formatCell = (value: number) => `<td class="number">${formatNumber(value)}</td>`

function rows(data: MigratePageData): string {
  const { heldOut } = data.counts
  const some =
    data.rows.length < heldOut
      ? ` ${formatNumber(data.rows.length)} of ${formatNumber(heldOut)} are shown, those on which models differ first; results.json has all.`
      : ''
  return section('rows', 'Rows', `Held-out rows with every answer.${some}`, answeredCards(data.rows))
}

function change({ change: [command = '', ...lines], remarks }: MigratePageData): string {
  const facts = remarks.map((remark) => `<p class="note">${escaped(remark)}</p>`).join('')
  return section(
    'change',
    'Your code',
    'The command serves the tuned model; the three lines are what changes in code that uses OpenAI’s client.',
    `${definitions([
      ['Serve', `<pre tabindex="0">${escaped(command)}</pre>`],
      ['Change', `<pre tabindex="0">${lines.map(escaped).join('\n')}</pre>`],
    ])}${facts}`,
  )
}
