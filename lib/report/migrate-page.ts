/** The page of a migration: one self-contained HTML file without network access and without a script. */
import { answeredCards } from './answer-cards.js'
import { escaped, formatNumber, formatSeconds, formatSize } from './chart/index.js'
import type { ComparedParts } from './migrate-parts.js'
import { type ComparedRight, rightParts } from './migrate-right.js'
import { type ComparedScores, scoreParts } from './migrate-scores.js'
import { page } from './run-page.js'
import { definitions, section } from './section.js'

export interface MigratePageData {
  title: string
  model: string
  method: string
  counts: { rows: number; repeated: number; train: number; heldOut: number }
  /** Seconds are null if they could not be estimated. */
  plan: { peakBytes: number; seconds: number | null }
  compared: ComparedRight | ComparedScores
  /** The rows that are shown; without an expected answer, where answers have scores. */
  rows: readonly {
    prompt: string
    expected?: string
    answers: readonly { label: string; text: string | null; score?: number | null }[]
  }[]
  /** The command that serves the tuned model, and the lines of code that ask it. */
  change: readonly string[]
  /** Remarks about the change, in plain text. */
  remarks: readonly string[]
}

export function migratePage(data: MigratePageData): string {
  const { compared } = data
  const parts = compared.by === 'scores' ? scoreParts(compared) : rightParts(compared)
  return page({
    title: data.title,
    styles: ['run.css', 'migrate.css'],
    skip: 'the results',
    content: `${head(data, parts)}
<main id="main">
${[...parts.sections, rows(data), change(data)].join('\n')}
</main>
<footer>Made by lowrank from results.json. This file loads nothing from any network.</footer>`,
  }).html
}

function head(data: MigratePageData, { figures, sentences }: ComparedParts): string {
  const { counts, plan } = data
  const crumbs = [data.method, data.model].map((words) => `<span>${escaped(words)}</span>`)
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
<p class="lede">${verdict(data.compared, sentences)}</p>
<dl class="keys">${[...figures, ...facts].map(([name = '', value = '', aside = '']) => `<div><dt>${escaped(name)}</dt><dd class="value">${escaped(value)}</dd><dd class="aside">${escaped(aside)}</dd></div>`).join('')}</dl>
</header>`
}

/** The tuned model against the others, in words. */
function verdict({ models }: MigratePageData['compared'], sentences: readonly string[]): string {
  const tuned = models[1]?.label ?? ''
  return `<b>The ${escaped(tuned.toLowerCase())} on rows that it was not trained on.</b> ${sentences.join(' ')}`
}

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
