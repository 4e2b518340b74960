/**
 * Progress of a run on stderr. On a terminal, two lines at the bottom are redrawn, and evaluations and
 * checkpoints stay above them; elsewhere, each step has a line, and fast steps one a second.
 */
import { basename } from 'node:path'
import { formatBytes } from '../core/bytes.js'
import type { MemoryReport } from '../planning/memory-report.js'
import { isNumber, smooth, usualHalfLife } from '../report/chart/index.js'
import type { SampleProgress } from '../train/objectives/policy.js'
import type { EvaluateProgress } from '../train/steps/evaluate.js'
import type { AnswersEvent, EvalEvent } from '../train/steps/events.js'
import { bar, hasUnicode, justified, sparkline } from './drawing.js'
import { counted, digits, formatDuration } from './format.js'
import { columnsOf, isScreen } from './live-lines.js'
import type { Output } from './output.js'
import { DRAW_MS, LINE_MS, StatusLine } from './progress.js'
import { answerLines } from './samples.js'
import type { TimeCheck } from './time-check.js'

/** Least time between the lines of two steps without a terminal. */
const STEP_MS = 1000
/** If no step ends for this long, a line says that the run is still going. */
const SILENT_MS = 990
/** Terminal widths from which more details are shown. */
const [MEDIUM, WIDE] = [80, 120]

/** Displayed values of a training step. */
export interface StepShown {
  step: number
  totalSteps: number
  /** null for a round of private training that sampled no clients. */
  loss: number | null
  /** Mean reward of the step's answers, with task grpo. */
  reward?: number
  gradNorm: number
  learningRate: number
  /** Tokens of the step. */
  tokens: number
  tokensPerSecond: number
  secondsLeft: number
  /** Current resident bytes. */
  residentBytes: number
}

export class TrainProgress {
  readonly #output: Output
  readonly #planned: string
  readonly #nodeBytes: number
  readonly #title: string | undefined
  readonly #screen: boolean
  /** Compares the steps with the estimated time, if it is known. */
  timeCheck: TimeCheck | undefined
  readonly #unicode = hasUnicode()
  /** The loss of each step; with task grpo the reward, since the loss is near 0 throughout. */
  readonly #curved: number[] = []
  #curvedName = 'loss'
  readonly #gradNorms: number[] = []
  #lastLine = Number.NEGATIVE_INFINITY
  #drawn = Number.NEGATIVE_INFINITY
  /** The wait for the first step. */
  #first: StatusLine | undefined
  #timer: NodeJS.Timeout | undefined
  #begun = performance.now()
  /** Time of the last displayed event. */
  #latest = 0
  /** Next activity of the run. */
  #next = ''
  #shown: StepShown | undefined
  /** Text of an activity between steps, such as an evaluation. */
  #activity: string | undefined
  /** Progress of the answers that the current step samples. */
  #sampled: string | undefined
  #heldOutLoss: number | undefined
  #pausedAt: number | undefined
  #spaced = false
  /** The step that the open line describes. */
  #open: number | undefined

  /**
   * @param memory planned memory
   * @param nodeBytes memory that the process held before, which the plan does not include
   * @param title heading that names the run
   */
  constructor(output: Output, memory: PlannedMemory, nodeBytes: number, title?: string) {
    this.#output = output
    this.#planned = plannedText(memory)
    this.#nodeBytes = nodeBytes
    this.#title = title
    this.#screen = isScreen(output.stderr)
  }

  /** Called when the steps begin; until `stop`, there is regular output. */
  begin(): void {
    if (this.#screen && this.#title !== undefined) {
      this.note(`\n${this.#head(this.#title)}\n`)
      this.#spaced = true
    }
    this.#begun = performance.now()
    this.#first = new StatusLine(this.#output, 'First step')
    this.#timer = setInterval(() => this.#tick(), 1000).unref()
  }

  update(shown: StepShown): void {
    this.#first?.clear()
    this.#first = undefined
    this.#latest = performance.now()
    this.#next = shown.step < shown.totalSteps ? `step ${shown.step + 1}` : 'finishing'
    this.#activity = this.#sampled = undefined
    this.#shown = shown
    const curved = shown.reward ?? shown.loss
    if (shown.reward !== undefined) this.#curvedName = 'reward'
    if (curved !== null) this.#curved.push(curved)
    this.#gradNorms.push(shown.gradNorm)
    const correction = this.timeCheck?.add(shown)
    if (correction !== undefined) this.note(correction)
    if (this.#screen) this.#draw(shown.step === shown.totalSteps)
    else this.#line(shown)
  }

  /** Shows the progress of an evaluation between two steps. */
  evaluating({ batches, totalBatches }: EvaluateProgress): void {
    const text = `evaluating ${batches}/${totalBatches}`
    this.#latest = performance.now()
    this.#activity = text
    if (this.#screen) this.#draw(false)
    else if (this.#latest - this.#lastLine >= LINE_MS) {
      this.#lastLine = this.#latest
      this.#output.note(text)
    }
  }

  /** Shows how many answers a step of task grpo has sampled. */
  sampling({ answers, totalAnswers }: SampleProgress): void {
    const text = `${answers} of ${totalAnswers} answers`
    this.#first?.update(text, answers / totalAnswers)
    this.#sampled = answers < totalAnswers ? text : undefined
    if (this.#screen && !this.#first) this.#draw(false)
  }

  /** The run was paused, or continues after a pause. */
  paused(paused: boolean): void {
    const now = performance.now()
    if (!paused && this.#pausedAt !== undefined) this.#latest += now - this.#pausedAt
    this.#pausedAt = paused ? now : undefined
    this.#activity = paused ? 'paused' : undefined
    this.#first?.clear()
    if (this.#screen) this.#draw(true)
    else this.note(paused ? 'Paused.' : 'Resumed.')
  }

  /** The held-out data was evaluated, before the first step or after a step. */
  evaluated(event: EvalEvent): void {
    const { step, loss, perplexity, supervisedTokens } = event
    const earlier = this.#heldOutLoss
    this.#activity = undefined
    const texts = measuredTexts(event)
    // Prompts without answers have no loss.
    if (supervisedTokens === 0) {
      this.#measured(step, texts.join(', '))
      return
    }
    this.#heldOutLoss = loss
    const measured = texts.map((text) => `, ${text}`).join('')
    const ofTokens = event.rewardsMargins === undefined && event.macroF1 === undefined
    const spread = ofTokens ? `, perplexity ${digits(perplexity)}` : ''
    if (!this.#screen) {
      this.#measured(step, `evaluation loss ${loss.toFixed(4)}${spread}${measured}`)
      return
    }
    const change = earlier === undefined ? '' : `   ${this.#change(loss - earlier)}`
    this.#measured(step, `held-out loss ${significant(loss, 4)}${change}${measured}`)
  }

  #measured(step: number, text: string): void {
    if (this.#screen) this.#append(step, text)
    else this.note(`${step === 0 ? 'before training' : `step ${step}`}: ${text}`)
  }

  /** Held-out rows were answered after an evaluation. */
  answered({ rows }: AnswersEvent): void {
    this.#activity = undefined
    const lines = answerLines(rows, columnsOf(this.#output.stderr), this.#unicode)
    if (lines.length > 0) this.note(lines.join('\n'))
  }

  /** A checkpoint was saved after a step. */
  saved(step: number, path: string): void {
    if (!this.#screen) this.note(`step ${step}: saved ${path}`)
    else this.#append(step, columnsOf(this.#output.stderr) < MEDIUM ? 'saved' : `saved ${basename(path)}`)
  }

  /** True if the last permanent line is blank. */
  get spaced(): boolean {
    return this.#spaced
  }

  /** Prints a permanent line above the redrawn ones. */
  note(text: string): void {
    this.#spaced = false
    this.#output.note(text)
  }

  stop(): void {
    clearInterval(this.#timer)
    this.#first?.clear()
    this.#first = undefined
    if (this.#screen) this.#output.live.clear()
  }

  /** Summary of the run for a terminal: the loss curve and its cost. */
  closing(steps: number, tokensPerSecond: number, peakBytes: number, columns: number): string {
    const seconds = (performance.now() - this.#begun) / 1000
    const made = this.#gradNorms.length
    if (made === 0) return `  No steps were left: the checkpoint is of step ${steps}, the last.`
    const count = made === steps ? counted(steps, 'step') : `${made} of ${counted(steps, 'step')}`
    const most = `${formatBytes(peakBytes)} resident${columns < MEDIUM ? '' : ' at peak'}`
    return [
      `  ${this.#curvedName}  ${this.#curve(columns - 32, true)}`,
      `  ${count} in ${formatDuration(seconds)}, ${digits(tokensPerSecond)} tokens/s, ${most}`,
    ].join('\n')
  }

  #head(title: string): string {
    const columns = columnsOf(this.#output.stderr)
    const planned = this.#planned
    const whole = `${planned} + Node ${formatBytes(this.#nodeBytes)}`
    return justified(title, title.length + whole.length + 3 <= columns ? whole : planned, columns)
  }

  /** Appends to the line of a step, or begins one. */
  #append(step: number, text: string): void {
    this.#spaced = false
    const { live } = this.#output
    if (live.open !== '' && this.#open === step) {
      live.open += `   ${text}`
      return
    }
    const width = String(this.#shown?.totalSteps ?? step).length
    const line = `  step ${String(step).padStart(width)}   ${text}`
    if (!live.shown) {
      this.#output.note(line)
      return
    }
    live.above(() => undefined)
    this.#open = step
    live.open = line
  }

  #change(difference: number): string {
    const size = significant(Math.abs(difference), 2)
    if (!this.#unicode) return `${difference <= 0 ? '-' : '+'}${size}`
    return `${difference <= 0 ? '↓' : '↑'} ${size}`
  }

  /** Shows how long a slow step or save has taken; on a terminal, updates the time left. */
  #tick(): void {
    const now = performance.now()
    if (this.#first || this.#pausedAt !== undefined) return
    if (this.#screen) this.#draw(true)
    else if (now - this.#latest >= SILENT_MS && now - this.#lastLine >= LINE_MS) {
      this.#lastLine = now
      const sampled = this.#sampled === undefined ? '' : `: ${this.#sampled}`
      this.#output.note(`${this.#next}${sampled}, ${formatDuration((now - this.#latest) / 1000)} so far`)
    }
  }

  /** @param now true to redraw immediately */
  #draw(now: boolean): void {
    const time = performance.now()
    if (this.#shown === undefined || (!now && time - this.#drawn < DRAW_MS)) return
    this.#drawn = time
    this.#output.live.show((columns) => {
      const shown = this.#shown as StepShown
      return ['', this.#stepLine(shown, columns), this.#lossLine(shown, columns)]
    })
  }

  #stepLine({ step, totalSteps, tokensPerSecond, residentBytes }: StepShown, columns: number): string {
    const share = step / totalSteps
    const count = `${String(step).padStart(String(totalSteps).length)}/${totalSteps}`
    const percent = `${String(Math.round(share * 100)).padStart(3)} %`
    const wide = columns >= WIDE
    const left = columns < MEDIUM ? `  ${count} ` : `  step ${count} `
    const right = wide ? this.#speed(tokensPerSecond, residentBytes) : this.#left()
    const after = wide ? ` ${percent}   ${this.#left()}` : ` ${percent}`
    const margin = wide ? 68 : columns >= MEDIUM ? 46 : 34
    const room = columns - left.length - after.length - right.length - 2
    const cells = Math.max(4, Math.min(columns - margin, room))
    return justified(`${left}${bar(share, cells, this.#unicode)}${after}`, right, columns)
  }

  #lossLine({ gradNorm, learningRate, tokensPerSecond, residentBytes }: StepShown, columns: number): string {
    const speed = digits(tokensPerSecond)
    const name = this.#curvedName
    const doing = this.#activity ?? this.#sampled
    if (columns < MEDIUM) {
      const right = doing ?? `${speed} tokens/s`
      return justified(`  ${name} ${this.#curve(columns - 36, false)}`, right, columns)
    }
    if (columns < WIDE) {
      const right = doing ?? this.#speed(tokensPerSecond, residentBytes)
      return justified(`  ${name}  ${this.#curve(columns - 50, true)}`, right, columns)
    }
    const norms = `gradient norm ${sparkline(this.#gradNorms, 16, this.#unicode)} ${significant(gradNorm, 3)}`
    const right = doing ?? `rate ${learningRate.toExponential(1)}`
    return justified(`  ${name} ${this.#curve(columns - 83, true)}   ${norms}`, right, columns)
  }

  #speed(tokensPerSecond: number, residentBytes: number): string {
    return `${digits(tokensPerSecond)} tokens/s   ${formatBytes(residentBytes)}`
  }

  /** The smoothed loss or reward, from its first value to the current one. */
  #curve(cells: number, first: boolean): string {
    const steps = [...this.#curved.keys()]
    const values = smooth(steps, this.#curved, usualHalfLife(steps.length)).filter(isNumber)
    if (values.length === 0) return 'none'
    const begin = first ? `${significant(values[0] as number, 3)} ` : ''
    return `${begin}${sparkline(values, Math.max(4, cells), this.#unicode)} ${significant(values.at(-1) as number, 3)}`
  }

  /** The time left, which decreases within a step by at most the expected duration of the step. */
  #left(): string {
    const { step, totalSteps, secondsLeft } = this.#shown as StepShown
    if (step === totalSteps) return 'finishing'
    const since = (performance.now() - this.#latest) / 1000
    const stepsAfter = totalSteps - step - 1
    const left = Math.max(secondsLeft - since, (secondsLeft * stepsAfter) / (stepsAfter + 1))
    return `${formatDuration(left)} left`
  }

  #line(shown: StepShown): void {
    const now = performance.now()
    if (now - this.#lastLine < STEP_MS && shown.step < shown.totalSteps) return
    const { step, totalSteps, loss, reward, tokensPerSecond, secondsLeft, residentBytes } = shown
    const isFirst = this.#gradNorms.length === 1
    const parts = isFirst ? ` (${this.#planned} + Node ${formatBytes(this.#nodeBytes)})` : ''
    this.#lastLine = now
    this.#output.note(
      [
        `step ${String(step).padStart(String(totalSteps).length)}/${totalSteps}`,
        `loss ${loss === null ? 'none' : loss.toFixed(4)}`,
        ...(reward === undefined ? [] : [`reward ${significant(reward, 4)}`]),
        `${digits(tokensPerSecond)} tokens/s`,
        ...(step < totalSteps ? [`${formatDuration(secondsLeft)} left`] : []),
        `memory ${formatBytes(residentBytes)}${parts}`,
      ].join('  '),
    )
  }
}

/** Planned memory of a run, and where it is. */
export interface PlannedMemory extends Pick<MemoryReport, 'peakBytes' | 'pinnedBytes'> {
  /** True if the peak is in GPU memory. */
  onCard: boolean
}

function plannedText({ peakBytes, pinnedBytes, onCard }: PlannedMemory): string {
  if (!onCard) return `plan ${formatBytes(peakBytes)}`
  const pinned = pinnedBytes > 0 ? ` + ${formatBytes(pinnedBytes)} pinned` : ''
  return `plan ${formatBytes(peakBytes)} on the GPU${pinned}`
}

/** Metrics of an evaluation other than the loss. */
function measuredTexts({
  exactMatch,
  meanTokenAccuracy,
  accuracy,
  f1,
  macroF1,
  reward,
  scores,
  ...ofPairs
}: EvalEvent): string[] {
  const { rewardsAccuracies, rewardsMargins } = ofPairs
  // Before training all margins are zero and mean nothing.
  const isPreferring = rewardsMargins !== undefined && rewardsMargins !== 0
  const values = {
    exact_match: exactMatch,
    mean_token_accuracy: meanTokenAccuracy,
    accuracy,
    f1: f1 ?? macroF1,
    reward,
    ...scores,
  }
  const named = Object.entries(values).flatMap(([name, value]) =>
    value === undefined ? [] : [metricText(name, value)],
  )
  if (!isPreferring) return named
  const preferred =
    rewardsAccuracies === undefined
      ? `margin ${significant(rewardsMargins, 4)}`
      : `${digits(100 * rewardsAccuracies)} % of pairs preferred`
  return [...named, preferred]
}

/** Formats a value of the evaluation metric. */
export function metricText(metric: string, value: number): string {
  return metric === 'exact_match'
    ? `exact match ${digits(100 * value)} %`
    : `${metric} ${significant(value, 4)}`
}

/** A number with `count` significant digits, and an exponent only if very large or small: `1.196`, `0.0030`. */
function significant(value: number, count: number): string {
  if (value !== 0 && (Math.abs(value) < 1e-4 || Math.abs(value) >= 1e6)) return value.toExponential(count - 1)
  return value.toPrecision(count).includes('e') ? value.toFixed(0) : value.toPrecision(count)
}
