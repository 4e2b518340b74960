/** The sections of a run's page, as HTML. Sections without data are omitted. */

import { classScores } from '../train/steps/class-metrics.js'
import { classifiedCards, sampleCards, shortened, stepCards } from './answer-cards.js'
import { escaped, formatNumber, formatShare } from './chart/index.js'
import { memorySection } from './memory-section.js'
import type { RunChart } from './run-chart.js'
import { confusionOf, type RunPageData } from './run-data.js'
import {
  adapterOf,
  chosenMetric,
  classifies,
  hasHeldOutLoss,
  headline,
  importancesOf,
  keyFigures,
  measuresOf,
  methodOf,
  ranksLeft,
  risenFrom,
  stepName,
  type Words,
} from './run-words.js'
import { capital, definitions, figure, note, region, section } from './section.js'

/** Information for a page beyond the record of the run. */
export interface RunNames {
  /** Name of the run: its folder. */
  name: string
  /** The complete config file, if there is one. */
  config: string | null
  /** True for a page that shows the run's state elsewhere. */
  live?: boolean
}

export const STATES = {
  ...{ waiting: 'Waiting for the run', training: 'In progress', paused: 'Paused' },
  ...{ stopped: 'Stopped, can be resumed', failed: 'Failed', done: 'Done' },
}

export function runHead(run: RunPageData, { name, live = false }: RunNames): string {
  const { start } = run
  const facts = start
    ? [
        methodOf(run),
        `${lastName(start.model.name)}${quantizationOf(start)}`,
        start.data.name === null ? 'data of a program' : dataName(start.data),
      ]
    : []
  const when =
    run.began === null ? [] : [new Date(run.began * 1000).toISOString().slice(0, 16).replace('T', ' ')]
  const crumbs = [...facts, ...when.map((time) => `${time} UTC`)].map(
    (fact) => `<span>${escaped(fact)}</span>`,
  )
  const figures = keyFigures(run).map(
    ({ name, value, note }) =>
      `<div><dt>${escaped(name)}</dt><dd class="value">${escaped(value)}</dd><dd class="aside">${escaped(note)}</dd></div>`,
  )
  const state = live ? '' : `<span class="state ${run.state}">${STATES[run.state]}</span>`
  return `<header class="top">
<div class="crumbs">${state}${crumbs.join('')}</div>
<h1>${escaped(name)}</h1>
<p class="lede">${headline(run, live).map(marked).join(' ')}</p>
<dl class="keys">${figures.join('')}</dl>
</header>`
}

function quantizationOf({ config }: NonNullable<RunPageData['start']>): string {
  const { quantization } = config
  return typeof quantization === 'string' ? ` in ${quantization.toUpperCase()}` : ''
}

function dataName({ name, rows }: { name: string | null; rows: number | null }): string {
  const short = (name ?? '').split(', ').map(lastName).join(', ')
  return rows === null ? short : `${short}, ${formatNumber(rows)} rows`
}

function lastName(path: string): string {
  return path.split(/[\\/]/).filter(Boolean).at(-1) ?? path
}

function marked(words: Words): string {
  return words
    .map((word) => (typeof word === 'string' ? escaped(word) : `<b>${escaped(word.strong)}</b>`))
    .join('')
}

/** All sections with data, starting with the loss, with charts drawn at their initial width. */
export function runSections(run: RunPageData, names: RunNames, charts: Record<string, RunChart>): string[] {
  return [
    lossSection(run, names, charts),
    privacySection(run, charts),
    ranksSection(run, charts),
    importancesSection(run, charts),
    classesSection(run, charts),
    answersSection(run),
    evaluationAnswersSection(run),
    memorySection(run, charts),
    configSection(run, names),
    againSection(run),
  ].filter((html) => html !== '')
}

function lossSection(run: RunPageData, { live = false }: RunNames, charts: Record<string, RunChart>): string {
  if (charts.loss === undefined) return ''
  const { evaluations, checkpoints, error, columns } = run
  const unit = stepName(run)
  const best = risenFrom(run)
  const kept = run.done?.best
  const saved =
    kept && kept.kept_step === kept.step
      ? `The run ends with the adapter of ${unit} ${kept.step}.`
      : `The run ends with the adapter of its last ${unit}${checkpoints.length > 0 ? `; there are checkpoints of ${checkpoints.slice(-3).join(', ')}` : ''}.`
  const warnings = [
    ...(best
      ? [
          note(
            'warn',
            `<b>Held-out loss has risen since ${unit} ${best.step}</b>, from ${formatNumber(best.loss)} to ${formatNumber(evaluations.at(-1)?.loss)}. ${saved}`,
          ),
        ]
      : []),
    ...(error && !live ? [note('bad', `<b>${escaped(error.code)}</b>: ${escaped(error.message)}`)] : []),
    ...(run.stopped && !live
      ? [
          note(
            'warn',
            run.stopped.path === null
              ? '<b>Stopped</b> before there was anything to save.'
              : `<b>Stopped</b> after ${unit} ${run.stopped.step}. <code>--resume</code> continues from <code>${escaped(run.stopped.path)}</code> with the same numbers.`,
          ),
        ]
      : []),
  ]
  const small = [
    figure('reward', 'Mean reward', charts),
    figure('rate', 'Learning rate', charts),
    figure('norm', 'Gradient norm', charts),
    figure('speed', 'Tokens per second', charts),
  ].join('')
  const last = columns.step.length - 1
  const isOfClasses = classifies(run)
  const metric = figure('metric', isOfClasses ? 'Accuracy and F1' : capital(chosenMetric(run).label), charts)
  const dots = hasHeldOutLoss(run)
    ? ' Dots: held-out data. If the dots rise while the line falls, the adapter is memorizing its rows.'
    : ''
  const scrub = `<div class="scrub script" hidden><input type="range" min="0" max="${last}" value="${last}" aria-label="${unit} whose values are shown"></div>`
  return section(
    'loss',
    'Loss',
    `Nats per ${isOfClasses ? 'row' : 'supervised token'}; lower is better. Faint: every step. Line: the running mean.${dots}`,
    `${warnings.join('')}<div class="hero">${tools}${figure('loss', isOfClasses ? 'Nats per row' : 'Nats per token', charts)}${scrub}</div>${metric}<div class="row">${small}</div>${evaluationTable(run)}`,
  )
}

const choice = (name: string, options: readonly string[]) =>
  `<span class="choice" role="group" aria-label="${name}">${options
    .map((option) => {
      const [value = '', words = value] = option.split('=')
      return `<button type="button" data-set="${name}" data-value="${value}" aria-pressed="false">${words}</button>`
    })
    .join('')}</span>`

const tools = `<div class="tools script" hidden>
<label>Smooth <input type="range" data-smooth min="0" max="12" step="1" aria-label="Half-life of the running mean"> <output></output></label>
<span>Over ${choice('over', ['step=steps', 'time', 'tokens'])}</span>
<span>Scale ${choice('scale', ['linear', 'log'])}</span>
<span>Show ${choice('range', ['all', 'half=last half', 'tenth=last tenth'])}</span>
</div>`

function evaluationTable(run: RunPageData): string {
  const { evaluations } = run
  if (evaluations.length === 0) return ''
  const hasLoss = hasHeldOutLoss(run)
  const isOfTokens = hasLoss && !classifies(run)
  const measures = [...new Set(evaluations.flatMap((one) => measuresOf(one).map(([name]) => name)))]
  const cell = (text: string) => `<td class="number">${text}</td>`
  const rows = evaluations.map((evaluation, index) => {
    const { step, loss } = evaluation
    const measured = new Map(measuresOf(evaluation))
    const before = evaluations[index - 1]?.loss
    const cells = [
      ...(hasLoss ? [formatNumber(loss, 4)] : []),
      ...(isOfTokens ? [formatNumber(Math.exp(loss), 4)] : []),
      ...(hasLoss ? [before === undefined ? '' : formatNumber(loss - before)] : []),
      ...measures.map((name) => measured.get(name) ?? ''),
    ]
    return `<tr><th scope="row" class="number">${step}</th>${cells.map(cell).join('')}</tr>`
  })
  const heads = [
    ...(hasLoss ? ['step', 'held-out loss'] : ['step']),
    ...(isOfTokens ? ['perplexity'] : []),
    ...(hasLoss ? ['change'] : []),
    ...measures,
  ]
  const head = heads.map((name) => `<th scope="col" class="number">${escaped(name)}</th>`).join('')
  return `<details><summary>All evaluations as a table</summary>${region('Evaluations', `<table><thead><tr>${head}</tr></thead><tbody>${rows.join('')}</tbody></table>`)}</details>`
}

function privacySection(run: RunPageData, charts: Record<string, RunChart>): string {
  const privacy = run.done?.privacy ?? run.plan?.privacy
  if (!privacy) return ''
  const simulated = privacy.private
    ? ''
    : note(
        'warn',
        '<b>Not private.</b> The noise is simulated, its key is known, or clients were dealt out by a partition.',
      )
  const facts = definitions([
    ['Promise', escaped(privacy.promise)],
    [
      'Noise',
      `${formatNumber(privacy.noise_multiplier, 4)} × clipping norm ${formatNumber(privacy.clipping_norm)}; Poisson sampling at ${formatNumber(privacy.sampling_rate)}; accountant ${escaped(privacy.accountant.toUpperCase())}`,
    ],
    ['Rounds', `${formatNumber(privacy.rounds)} of ${formatNumber(privacy.total_rounds)}`],
  ])
  const private_ = note(
    'warn',
    '<b>Keep this page to yourself.</b> The promise covers the adapter alone. The losses and cohorts on this page come from the private data, without noise.',
  )
  return section(
    'privacy',
    'Privacy',
    'ε bounds what the adapter reveals about any one client: smaller is more private. It only grows.',
    `${private_}${simulated}<div class="row">${figure('epsilon', 'ε spent', charts)}${figure('cohort', privacy.unit === 'user' ? 'Clients in the round' : 'Examples in the round', charts)}${figure('clipped', 'Share that was clipped', charts)}</div>${facts}`,
  )
}

function ranksSection(run: RunPageData, charts: Record<string, RunChart>): string {
  const ranks = ranksLeft(run)
  if (ranks === undefined || charts.ranks === undefined) return ''
  const initial = adapterOf(run).init_r
  return section(
    'ranks',
    'Ranks',
    `The ranks that each linear kept of its ${initial}. More color: the task needs it more. Zero: it could be left out.`,
    `${figure('ranks', `Ranks left, of ${initial}`, charts)}${figure('rankHistory', 'Ranks left over the run', charts)}`,
  )
}

function importancesSection(run: RunPageData, charts: Record<string, RunChart>): string {
  if (importancesOf(run) === undefined) return ''
  const { threshold, scope } = adapterOf(run)
  const group = scope === 'layer' ? 'all linears' : 'the linears of its kind'
  return section(
    'importances',
    'Importances',
    `The share of each linear in what the probe's adapter added to the outputs of ${group}. The most important, with ${formatShare(Number(threshold))} of it together, keep a pair of factors of their own; the others of a kind share one.`,
    `${figure('importances', 'Importance by the probe', charts)}${figure('keptPairs', 'Pairs of factors', charts)}`,
  )
}

/** Scores of each class and the confusion matrix. */
function classesSection(run: RunPageData, charts: Record<string, RunChart>): string {
  const found = confusionOf(run)
  if (found === undefined) return ''
  const { step, matrix } = found
  const cell = (text: string) => `<td class="number">${text}</td>`
  const rows = classScores(matrix).map(({ precision, recall, f1, support }, id) => {
    const name = escaped(shortened(run.start?.labels?.[id] ?? String(id)))
    const shares = [precision, recall, f1].map(formatShare)
    return `<tr><th scope="row">${name}</th>${[...shares, formatNumber(support)].map(cell).join('')}</tr>`
  })
  const heads = ['precision', 'recall', 'F1', 'rows']
  const head = heads.map((name) => `<th scope="col" class="number">${name}</th>`).join('')
  const table = `<table><thead><tr><th scope="col">class</th>${head}</tr></thead><tbody>${rows.join('')}</tbody></table>`
  const whose = run.done?.best?.kept_step === step ? 'the adapter that the run ends with' : 'the adapter'
  return section(
    'classes',
    'Classes',
    `Held-out rows at ${stepName(run)} ${formatNumber(step)}, by ${whose}. Precision: how many of the rows predicted as a class are of it. Recall: how many rows of a class are found. F1: their harmonic mean.`,
    `${region('Scores of each class', table)}<div class="row">${figure('confusion', 'Rows: the class. Columns: the prediction. Darker: a larger share of the class', charts)}</div>`,
  )
}

function answersSection({ samples }: RunPageData): string {
  if (samples?.classified !== undefined && samples.classified.length > 0)
    return section(
      'answers',
      'Rows',
      `${samples.held_out ? 'Held-out rows' : 'Rows of the training data'}, and the class that the adapter predicts, with its probability.`,
      classifiedCards(samples.classified),
    )
  if (samples === null || samples.rows.length === 0) return ''
  return section(
    'answers',
    'Answers',
    `${samples.held_out ? 'Held-out rows' : 'Rows of the training data'}, answered before and after training. An answer is right if it equals the expected one, apart from space around it.`,
    sampleCards(samples.rows),
  )
}

function evaluationAnswersSection(run: RunPageData): string {
  if (run.answers.length === 0) return ''
  return section(
    'evaluation-answers',
    'Answers at evaluations',
    `Held-out rows, answered by the adapter of each evaluation. An answer that stayed the same stands once, with the ${stepName(run)}s that gave it.`,
    stepCards(run.answers, stepName(run)),
  )
}

function configSection({ start }: RunPageData, { config }: RunNames): string {
  if (start === null) return ''
  const { name, ...strategy } = start.strategy
  const entries = [
    ['strategy.name', name],
    ...Object.entries(strategy).map(([key, value]) => [`strategy.${key}`, value] as const),
  ] as const
  const row = ([key, value]: readonly [string, unknown]) =>
    `<tr><th scope="row"><code>${escaped(key)}</code></th><td><code>${escaped(shortened(typeof value === 'string' ? value : JSON.stringify(value)))}</code></td></tr>`
  const changed = Object.entries(start.config).map(row)
  const table = (label: string, rows: string[]) =>
    region(
      label,
      `<table class="pairs"><thead><tr><th scope="col">key</th><th scope="col">value</th></tr></thead><tbody>${rows.join('')}</tbody></table>`,
    )
  const whole =
    config === null
      ? ''
      : `<details><summary>config.yaml</summary><pre tabindex="0">${escaped(config)}</pre></details>`
  return section(
    'config',
    'Configuration',
    'Options that differ from their defaults. Below: the options of the strategy, and the whole config.',
    `${changed.length > 0 ? table('Options that differ from their defaults', changed) : '<p>All options have their default values.</p>'}<details><summary>The strategy</summary>${table('Options of the strategy', entries.map(row))}</details>${whole}`,
  )
}

function againSection(run: RunPageData): string {
  const { start } = run
  if (start === null) return ''
  const command =
    start.command === null
      ? ''
      : `<div class="command"><pre tabindex="0" id="command">${escaped(start.command)}</pre><button type="button" class="b script" data-copy="command" hidden>Copy</button></div>`
  const file = ({ name, rows, hash }: { name: string | null; rows: number | null; hash: string }) =>
    `${escaped(name ?? 'rows')}${rows === null ? '' : `, ${formatNumber(rows)} rows`}<br><code>${escaped(hash)}</code>`
  const { evaluation } = start
  const facts = definitions([
    ['Model', `${escaped(start.model.name)}<br><code>${escaped(start.model.fingerprint)}</code>`],
    ['Data', file(start.data)],
    ...(evaluation
      ? [['Held out', file({ ...evaluation, name: evaluation.name ?? 'a share of the data' })] as const]
      : []),
    [
      'Machine',
      `${escaped(start.device)}, ${escaped(start.level)}, ${start.threads} thread${start.threads === 1 ? '' : 's'}`,
    ],
    ['lowrank', escaped(start.version)],
    ...(start.resumed_from === null
      ? []
      : [['Resumed', `from step ${formatNumber(start.resumed_from)}`] as const]),
  ])
  const text = run.plan?.privacy?.private
    ? 'The command repeats the run with new draws and new noise: their key is secret, and must be.'
    : 'The same command with the same files gives the same numbers, bit for bit, on a processor with the same instruction set.'
  return section('again', 'Repeat', text, `${command}${facts}`)
}

/** Values are HTML. */
