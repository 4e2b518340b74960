/**
 * Data of a run for its page, from the lines of metrics.jsonl: columns of numbers, and facts. Also runs in the browser.
 */

import type { MetricsLine } from '../train/records/event-schemas.js'
import type { ConfusionMatrix } from '../train/steps/class-metrics.js'
import { type Packed, pack, unpack, type Value } from './chart/index.js'

type Line<Event extends MetricsLine['event']> = Extract<MetricsLine, { event: Event }>
type Timed = 'time' | 'event'
/** Metrics of evaluations other than the loss. */
export type Measure =
  | 'exact_match'
  | 'accuracy'
  | 'mean_token_accuracy'
  | 'f1'
  | 'macro_f1'
  | 'rewards_accuracies'
  | 'rewards_margins'
  | 'reward'

export type RunState = 'waiting' | 'training' | 'paused' | 'stopped' | 'failed' | 'done'

/** One value per step. */
export interface StepColumns {
  step: Value[]
  /** Seconds since the first line. */
  time: Value[]
  loss: Value[]
  gradNorm: Value[]
  learningRate: Value[]
  tokens: Value[]
  tokensPerSecond: Value[]
  /** Only with task grpo: mean reward of the answers. */
  reward: Value[]
  /** Only for private runs. */
  epsilon: Value[]
  cohort: Value[]
  clipped: Value[]
}

/** An evaluation, with its loss and other metrics. */
export interface RunPageEvaluation
  extends Pick<Line<'eval'>, 'step' | 'scores'>,
    Partial<Record<Measure, number | undefined>> {
  /** NaN where the held-out rows are prompts without answers. */
  loss: number
}

export interface RunPageData {
  state: RunState
  /** Times of the first and the last line, in seconds since 1970. */
  began: number | null
  ended: number | null
  start: Omit<Line<'start'>, Timed> | null
  plan: Pick<Line<'plan'>, 'peak_bytes' | 'pinned_bytes' | 'runtime_bytes' | 'rows' | 'privacy'> | null
  /** The search for the learning rate, if there was one. */
  rate: Omit<Line<'rate'>, Timed> | null
  columns: StepColumns
  evaluations: RunPageEvaluation[]
  /** Confusion matrices of a classifier. */
  confusions: { step: number; matrix: ConfusionMatrix }[]
  answers: Pick<Line<'answers'>, 'step' | 'rows'>[]
  /** Steps with a checkpoint. */
  checkpoints: number[]
  memory: { step: number; time: number; allocated: Line<'memory'>['allocated']; resident: number }[]
  ranks: { step: number; ranks: Readonly<Record<string, number>> }[]
  samples: Pick<Line<'samples'>, 'held_out' | 'rows' | 'classified'> | null
  stopped: Pick<Line<'stopped'>, 'step' | 'path'> | null
  error: Pick<Line<'error'>, 'step' | 'code' | 'message'> | null
  done: Omit<Line<'done'>, Timed> | null
}

export function emptyRun(): RunPageData {
  const columns = Object.fromEntries(COLUMNS.map((name) => [name, []])) as unknown as StepColumns
  return {
    ...{ state: 'waiting', began: null, ended: null, start: null, plan: null, rate: null, columns },
    ...{ evaluations: [], confusions: [], answers: [], checkpoints: [], memory: [], ranks: [] },
    ...{ samples: null, stopped: null, error: null, done: null },
  }
}

/** Adds a line to a run, modifying it. */
export function addLine(run: RunPageData, line: MetricsLine): void {
  const { time } = line
  run.began ??= time
  run.ended = time
  switch (line.event) {
    case 'start':
      run.start = untimed(line)
      run.state = 'training'
      dropAfter(run, line.resumed_from ?? 0)
      break
    case 'plan':
      run.plan = untimed(line)
      break
    case 'rate':
      run.rate = untimed(line)
      break
    case 'step':
      addStep(run, line)
      run.state = 'training'
      break
    case 'eval': {
      const { confusion_matrix: matrix, ...evaluation } = line
      run.evaluations.push({ ...untimed(evaluation), loss: evaluation.loss ?? Number.NaN })
      if (matrix !== undefined) run.confusions.push({ step: line.step, matrix })
      break
    }
    case 'answers':
      run.answers.push(untimed(line))
      break
    case 'checkpoint':
      run.checkpoints.push(line.step)
      break
    case 'memory': {
      const { step, allocated, resident_bytes: resident } = line
      run.memory.push({ step, time: time - run.began, allocated, resident })
      break
    }
    case 'ranks':
      run.ranks.push({ step: line.step, ranks: line.ranks })
      break
    case 'paused':
      run.state = 'paused'
      break
    case 'resumed':
      run.state = 'training'
      break
    case 'stopped':
      run.state = 'stopped'
      run.stopped = untimed(line)
      break
    case 'error':
      run.state = 'failed'
      run.error = untimed(line)
      break
    case 'done':
      run.state = 'done'
      run.done = untimed(line)
      break
    case 'samples':
      run.samples = untimed(line)
      break
  }
}

export function runFrom(lines: Iterable<MetricsLine>): RunPageData {
  const run = emptyRun()
  for (const line of lines) addLine(run, line)
  return run
}

function untimed<L extends MetricsLine>({ time: _, event: __, ...rest }: L): Omit<L, Timed> {
  return rest
}

function addStep({ columns, began }: RunPageData, line: Line<'step'>): void {
  columns.step.push(line.step)
  columns.time.push(line.time - (began ?? line.time))
  columns.loss.push(line.loss)
  columns.gradNorm.push(line.grad_norm)
  columns.learningRate.push(line.learning_rate)
  columns.tokens.push(line.tokens)
  columns.tokensPerSecond.push(line.tokens_per_second)
  if (line.reward !== undefined) columns.reward.push(line.reward)
  if (line.epsilon === undefined) return
  columns.epsilon.push(line.epsilon)
  columns.cohort.push(line.cohort ?? null)
  columns.clipped.push(line.clipped_share ?? null)
}

/** Drops steps after a checkpoint, which a resumed run repeats. */
function dropAfter(run: RunPageData, last: number): void {
  const kept = run.columns.step.filter((step) => (step as number) <= last).length
  for (const column of Object.values(run.columns) as Value[][]) column.length = Math.min(column.length, kept)
  const upTo = <T extends { step: number }>(list: T[]) => list.filter(({ step }) => step <= last)
  run.evaluations = upTo(run.evaluations)
  run.confusions = upTo(run.confusions)
  run.answers = upTo(run.answers)
  run.memory = upTo(run.memory)
  run.ranks = upTo(run.ranks)
  run.checkpoints = run.checkpoints.filter((step) => step <= last)
  run.samples = run.stopped = run.error = run.done = null
}

/** Resolution of each column, as units in the largest value; finer than a chart can show. */
const PARTS = {
  ...{ step: 1e9, time: 1e6, loss: 1e5, gradNorm: 5e4, learningRate: 1e4, tokens: 1e9 },
  ...{ tokensPerSecond: 2e3, reward: 1e4, epsilon: 1e4, cohort: 1e9, clipped: 1e3 },
} as const satisfies Record<keyof StepColumns, number>
const COLUMNS = Object.keys(PARTS) as (keyof StepColumns)[]
const WHOLE: readonly (keyof StepColumns)[] = ['step', 'tokens', 'cohort']

/** The confusion matrix of the adapter that the run ends with, or the last one so far. */
export function confusionOf({
  confusions,
  done,
}: RunPageData): RunPageData['confusions'][number] | undefined {
  const kept = done?.best?.kept_step
  return confusions.find(({ step }) => step === kept) ?? confusions.at(-1)
}

export type PackedRun = Omit<RunPageData, 'columns'> & { columns: Record<keyof StepColumns, Packed> }

/** Compresses the run's columns for embedding in a page. */
export function packRun(run: RunPageData): PackedRun {
  const packed = COLUMNS.map((name) => {
    const values = run.columns[name]
    const most = values.reduce<number>((so, value) => Math.max(so, value ?? 0), 1)
    return [name, pack(values, WHOLE.includes(name) ? most : PARTS[name])] as const
  })
  // Of many confusion matrices the page shows one.
  const confusion = confusionOf(run)
  const confusions = confusion === undefined ? [] : [confusion]
  return { ...run, confusions, columns: Object.fromEntries(packed) as PackedRun['columns'] }
}

export function unpackRun(run: PackedRun): RunPageData {
  const columns = COLUMNS.map((name) => [name, unpack(run.columns[name])] as const)
  return { ...run, columns: Object.fromEntries(columns) as unknown as StepColumns }
}
