/** The outcome of a run in sentences and key figures, including bad news. */
import {
  extent,
  formatNumber,
  formatSeconds,
  formatShare,
  formatSize,
  isNumber,
  smooth,
  type Value,
} from './chart/index.js'
import type { Measure, RunPageData, RunPageEvaluation } from './run-data.js'
import { STRATEGY_LABELS } from './strategy-labels.js'

/** Text with some words emphasized. */
export type Words = readonly (string | { strong: string })[]

const strong = (value: string | number | null) => ({
  strong: typeof value === 'string' ? value : formatNumber(value),
})
/** Ratio to the lowest held-out loss above which the loss counts as risen. */
const RISEN = 1.03

export type Evaluation = RunPageData['evaluations'][number]

export function bestOf({ evaluations }: Pick<RunPageData, 'evaluations'>): Evaluation | undefined {
  return evaluations.reduce<Evaluation | undefined>(
    (best, one) => (isNumber(one.loss) && (best === undefined || one.loss < best.loss) ? one : best),
    undefined,
  )
}

/** The lowest evaluation, if the last one is clearly above it. */
export function risenFrom(run: RunPageData): Evaluation | undefined {
  const [best, last] = [bestOf(run), run.evaluations.at(-1)]
  return best && last && last.loss > best.loss * RISEN ? best : undefined
}

/** Mean loss of the last steps, in nats. */
export function lastLoss({ columns: { step, loss } }: RunPageData): Value {
  return smooth(step as number[], loss, 8).at(-1) ?? null
}

/** The strategy of a run and its rank. */
export function methodOf({ start }: RunPageData): string {
  const strategy = start?.strategy ?? {}
  const inner = strategy.adapter
  const rank =
    strategy.r ??
    strategy.init_r ??
    (typeof inner === 'object' && inner !== null && 'r' in inner ? inner.r : undefined)
  const own = String(strategy.name)
  const name = start?.strategy_label ?? STRATEGY_LABELS[own] ?? own
  const target = typeof strategy.target_r === 'number' ? ` to ${strategy.target_r}` : ''
  return typeof rank === 'number' ? `${name}, rank ${rank}${target}` : name
}

/** The unit of a step: private runs have rounds. */
export function stepName({ plan }: RunPageData): 'step' | 'round' {
  return plan?.privacy ? 'round' : 'step'
}

/** @param live omit the state of the run */
export function headline(run: RunPageData, live = false): Words[] {
  const { evaluations, columns, plan, start } = run
  const sentences: Words[] = []
  const [first, last] = [evaluations[0], evaluations.at(-1)]
  const made = columns.step.length
  const unit = stepName(run)
  if (run.error && !live)
    sentences.push([
      strong('The run failed'),
      ` after ${unit} ${formatNumber(run.error.step)}: ${sentence(run.error.message)}`,
    ])
  else if (run.stopped && !live)
    sentences.push([
      `The run was stopped after ${unit} ${formatNumber(run.stopped.step)} of ${formatNumber(start?.total_steps ?? null)}.`,
    ])
  else if (run.state === 'training' && made > 0 && !live)
    sentences.push([`The run is at ${unit} ${formatNumber(made)}, or ended there without a word.`])
  if (first && last && first !== last && hasHeldOutLoss(run)) {
    const from = first.step === 0 ? 'before training' : `at ${unit} ${formatNumber(first.step)}`
    const verb = last.loss < first.loss ? 'fell' : last.loss > first.loss ? 'rose' : 'went'
    sentences.push([
      `Held-out loss ${verb} from `,
      strong(first.loss),
      ` ${from} to `,
      strong(last.loss),
      '.',
    ])
  } else if (made > 1 && isNumber(columns.loss[0]))
    sentences.push(['Training loss went from ', strong(columns.loss[0]), ' to ', strong(lastLoss(run)), '.'])
  const lost = columns.loss.filter((value) => !isNumber(value)).length
  if (lost > 0 && !plan?.privacy)
    sentences.push([strong(formatNumber(lost)), ` ${lost === 1 ? 'step has' : 'steps have'} no finite loss.`])
  const best = risenFrom(run)
  if (best)
    sentences.push([
      `It was lowest ${best.step === 0 ? 'before training' : `at ${unit} ${formatNumber(best.step)}`}, `,
      strong(best.loss),
      ', and has risen since.',
    ])
  const [matched, matches] = [first?.exact_match, last?.exact_match]
  if (matched !== undefined && matches !== undefined)
    sentences.push([
      'Held-out rows answered word for word: ',
      strong(formatShare(matched)),
      ' before, ',
      strong(formatShare(matches)),
      ' after.',
    ])
  const privacy = run.done?.privacy ?? plan?.privacy
  if (privacy?.private)
    sentences.push([
      `The adapter promises every ${privacy.unit === 'user' ? 'client' : 'example'} `,
      strong(`ε ≤ ${formatNumber(privacy.final_epsilon)}`),
      ` at δ = ${formatNumber(privacy.delta)}.`,
    ])
  if (run.rate && run.rate.reason === null)
    sentences.push([
      'The learning rate, ',
      strong(run.rate.learning_rate),
      `, was found by a search of ${formatNumber(run.rate.steps)} steps.`,
    ])
  const ranks = ranksLeft(run)
  if (ranks) sentences.push([strong(ranks.left), ' of ', strong(ranks.from), ' ranks are left.'])
  const found = importancesOf(run)
  if (found)
    sentences.push([
      strong(found.kept.size),
      ' of ',
      strong(Object.keys(found.importances).length),
      ' linears keep a pair of their own.',
    ])
  return sentences.length > 0 || made > 0 ? sentences : [['The run has not made a step yet.']]
}

/** The innermost strategy, which describes the adapter, inside wrappers such as qlora. */
export function adapterOf({ start }: RunPageData): Readonly<Record<string, unknown>> {
  let strategy: Readonly<Record<string, unknown>> = start?.strategy ?? {}
  while (typeof strategy.adapter === 'object' && strategy.adapter !== null)
    strategy = strategy.adapter as Record<string, unknown>
  return strategy
}

/** Total ranks of all layers, initially and at the end. */
export function ranksLeft(run: RunPageData): { from: number; left: number } | undefined {
  const last = run.ranks.at(-1)
  const initial = adapterOf(run).init_r
  if (last === undefined || typeof initial !== 'number') return undefined
  const values = Object.values(last.ranks)
  return { from: initial * values.length, left: values.reduce((sum, rank) => sum + rank, 0) }
}

/** Importances by layer path, as measured by LoRA-drop's probe, and the layers that keep their own pair. */
export function importancesOf(
  run: RunPageData,
): { importances: Readonly<Record<string, number>>; kept: ReadonlySet<string> } | undefined {
  const { importances, keep } = adapterOf(run)
  if (!importances || typeof importances !== 'object' || !Array.isArray(keep)) return undefined
  return { importances: importances as Record<string, number>, kept: new Set(keep) }
}

const MEASURES: readonly [Measure, name: string, text: (value: number) => string][] = [
  ['exact_match', 'exact match', formatShare],
  ['accuracy', 'accuracy', formatShare],
  ['mean_token_accuracy', 'mean token accuracy', formatShare],
  ['f1', 'F1', formatShare],
  ['macro_f1', 'F1', formatShare],
  ['rewards_accuracies', 'pairs preferred', formatShare],
  ['rewards_margins', 'margin', formatNumber],
  ['reward', 'reward', formatNumber],
]

/** Metrics of an evaluation other than the loss, formatted, by name. */
export function measuresOf(evaluation: RunPageEvaluation): [name: string, text: string][] {
  const own = Object.entries(evaluation.scores ?? {}).map(([name, value]): [string, string] => [
    name,
    formatNumber(value),
  ])
  const named = MEASURES.flatMap(([key, name, text]): [string, string][] => {
    const value = evaluation[key]
    return value === undefined ? [] : [[name, text(value)]]
  })
  return [...named, ...own]
}

/** The metric that chooses the best step of a run. */
export interface ChosenMetric {
  name: string
  /** As `measuresOf` names it. */
  label: string
  read: (evaluation: RunPageEvaluation) => Value
  format: (value: number) => string
}

/** Other names of metrics in the record. */
const FIELDS: Readonly<Record<string, readonly Measure[]>> = { f1: ['f1', 'macro_f1'] }

export function chosenMetric({ start, done }: RunPageData): ChosenMetric {
  const asked = start?.config.metric_for_best_model
  const name = done?.best?.metric ?? (typeof asked === 'string' ? asked : 'loss')
  if (name === 'loss') return { name, label: 'held-out loss', read: ({ loss }) => loss, format: formatNumber }
  if (name === 'perplexity')
    return { name, label: name, read: ({ loss }) => Math.exp(loss), format: formatNumber }
  const fields = FIELDS[name] ?? [name as Measure]
  const [, label = name, format = formatNumber] = MEASURES.find(([field]) => fields.includes(field)) ?? []
  const read = (evaluation: RunPageEvaluation) =>
    fields.map((field) => evaluation[field]).find(isNumber) ?? evaluation.scores?.[name] ?? null
  return { name, label, read, format }
}

/** The step with the best value so far; undefined where nothing tells whether more is better. */
export function bestStep(run: RunPageData): Evaluation | undefined {
  const { done, evaluations } = run
  if (done?.best !== undefined) return evaluations.find(({ step }) => step === done.best?.step)
  const { name, read } = chosenMetric(run)
  const measured = evaluations.filter((one) => isNumber(read(one)))
  if (measured.some(({ scores }) => scores !== undefined && name in scores)) return undefined
  const sign = name === 'loss' || name === 'perplexity' ? -1 : 1
  const gain = (one: Evaluation) => sign * (read(one) as number)
  return measured.reduce<Evaluation | undefined>(
    (best, one) => (best === undefined || gain(one) > gain(best) ? one : best),
    undefined,
  )
}

/** False without evaluations, and where held-out rows are prompts without answers. */
export function hasHeldOutLoss({ evaluations }: RunPageData): boolean {
  return evaluations.some(({ loss }) => isNumber(loss))
}

/** True for a classifier, whose loss is over classes of rows. */
export function classifies({ start, evaluations }: RunPageData): boolean {
  return start?.labels !== undefined || evaluations.some(({ macro_f1 }) => macro_f1 !== undefined)
}

export interface Figure {
  name: string
  value: string
  note: string
}

export function keyFigures(run: RunPageData): Figure[] {
  const { evaluations, columns, plan, start, done } = run
  const figures: Figure[] = []
  const [best, last] = [bestOf(run), evaluations.at(-1)]
  const made = columns.step.length
  if (last && hasHeldOutLoss(run)) {
    const count = evaluations.length
    const lowest = `lowest ${formatNumber(best?.loss)} at ${stepName(run)} ${formatNumber(best?.step)}`
    const note =
      best === last
        ? `the lowest of ${count}${classifies(run) ? '' : `; perplexity ${formatNumber(Math.exp(last.loss))}`}`
        : lowest
    figures.push({ name: 'Held-out loss', value: formatNumber(last.loss), note })
  } else if (made > 0)
    figures.push({
      name: 'Training loss',
      value: formatNumber(lastLoss(run)),
      note: 'mean of the last steps',
    })
  const before = evaluations.length < 2 ? undefined : evaluations[0]
  for (const [name, value] of last ? measuresOf(last) : []) {
    const earlier = before && new Map(measuresOf(before)).get(name)
    const note = earlier === undefined ? 'of held-out rows' : `${earlier} at first`
    figures.push({ name: `${name[0]?.toUpperCase()}${name.slice(1)}`, value, note })
  }
  const privacy = done?.privacy ?? plan?.privacy
  if (privacy)
    figures.push({
      name: 'Privacy spent',
      value: `ε ${formatNumber(columns.epsilon.at(-1) ?? privacy.epsilon)}`,
      note: privacy.private ? `of ${formatNumber(privacy.final_epsilon)} promised` : 'not private',
    })
  const speed = done?.tokens_per_second ?? meanSpeed(run)
  const unit = stepName(run)
  figures.push({
    name: 'Time',
    value: formatSeconds(run.began === null || run.ended === null ? null : run.ended - run.began),
    note: `${formatNumber(made)} ${unit}${made === 1 ? '' : 's'}, ${formatNumber(Math.round(speed))} tokens/s`,
  })
  const resident = done?.peak_rss_bytes ?? extent(run.memory.map(({ resident }) => resident))?.[1]
  figures.push(memoryFigure(run, resident))
  if (start)
    figures.push({ name: 'Trained', value: formatNumber(start.trainable_parameters), note: 'parameters' })
  return figures
}

/** What the process was planned to hold in memory of the host, with Node.js; null if the record does not say. */
export function plannedProcess({ plan, start }: RunPageData): number | null {
  if (plan?.runtime_bytes === undefined) return null
  const planned = start?.device.startsWith('cuda') ? (plan.pinned_bytes ?? 0) : plan.peak_bytes
  return planned + plan.runtime_bytes
}

/** Compares the resident memory with the plan and Node.js together, since it counts both. */
function memoryFigure(run: RunPageData, resident: number | undefined): Figure {
  const planned = plannedProcess(run)
  if (planned === null || resident === undefined)
    return {
      name: 'Memory planned',
      value: formatSize(run.plan?.peak_bytes),
      note: resident === undefined ? 'without Node.js' : `${formatSize(resident)} resident with Node.js`,
    }
  return {
    name: 'Memory of the process',
    value: formatSize(resident),
    note: `planned ${formatSize(planned)}, of it ${formatSize(run.plan?.runtime_bytes)} Node.js`,
  }
}

function meanSpeed({ columns: { tokens, tokensPerSecond } }: RunPageData): number {
  let [sum, seconds] = [0, 0]
  for (const [index, count] of tokens.entries()) {
    sum += count ?? 0
    seconds += (count ?? 0) / (tokensPerSecond[index] || 1)
  }
  return seconds > 0 ? sum / seconds : 0
}

function sentence(words: string): string {
  return /[.!?]$/.test(words) ? words : `${words}.`
}
