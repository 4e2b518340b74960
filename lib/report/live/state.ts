/** State of a run as a live page shows it, from the lines of its log and what is known of its process. */
import { quantile } from '../chart/series.js'
import type { RunStatus } from './protocol.js'

/** A line of metrics.jsonl, as far as the state depends on it. */
export interface LogLine {
  event: string
  /** Seconds since the epoch. */
  time?: number
  step?: number
  total_steps?: number
  loss?: number | null
  tokens?: number
  tokens_per_second?: number
  path?: string | null
  output_dir?: string | null
  command?: string
  code?: string
  message?: string
}

export type Phase = 'waiting' | 'training' | 'paused' | 'lost' | 'interrupted' | 'stopped' | 'failed' | 'done'

/** Words for each phase. */
export const PHASES: Readonly<Record<Phase, string>> = {
  waiting: 'Waiting',
  training: 'Training',
  paused: 'Paused',
  lost: 'Connection lost',
  interrupted: 'Interrupted',
  stopped: 'Stopped',
  failed: 'Failed',
  done: 'Done',
}

/** A message about a phase. */
export interface Message {
  tone: 'good' | 'bad' | 'warn' | 'plain'
  title: string
  text: string
  /** A command to copy. */
  command?: string
}

/** Steps whose times an estimate is based on. */
const RECENT = 60

export class LiveState {
  /** Steps made, and those of the whole run. */
  step = 0
  totalSteps = 0
  heldOut: number | undefined
  tokensPerSecond: number | undefined
  /** True while the server of the page answers. */
  connected = true
  /** The process of the run, as the server told last. */
  status: RunStatus = { alive: true, reachable: false }
  #phase: Phase = 'waiting'
  #heard = false
  /** The line that began the phase. */
  #cause: LogLine | undefined
  #time: number | undefined
  #checkpoint: number | undefined
  #command: string | undefined
  readonly #losses: number[] = []
  readonly #seconds: number[] = []
  readonly #evaluations: { step: number; seconds: number }[] = []

  take(line: LogLine): void {
    const earlier = this.#time
    this.#time = line.time
    this.#heard = true
    const { step = 0 } = line
    switch (line.event) {
      case 'start':
        this.#command = line.command
        this.#phase = 'waiting'
        break
      case 'plan':
      case 'resumed':
        this.#phase = 'training'
        break
      case 'step':
        this.#phase = 'training'
        this.#takeStep(line)
        break
      case 'eval':
        this.heldOut = line.loss ?? undefined
        if (line.time !== undefined && earlier !== undefined)
          this.#evaluations.push({ step, seconds: line.time - earlier })
        break
      case 'checkpoint':
        this.#checkpoint = step
        break
      case 'paused':
      case 'stopped':
      case 'done':
        this.#phase = line.event
        this.#cause = line
        break
      case 'error':
        this.#phase = 'failed'
        this.#cause = line
        break
    }
  }

  get phase(): Phase {
    if (this.over) return this.#phase
    if (!this.connected) return 'lost'
    return this.status.alive ? this.#phase : this.#heard ? 'interrupted' : 'waiting'
  }

  /** True if the log says how the run ended. */
  get over(): boolean {
    return ['stopped', 'failed', 'done'].includes(this.#phase)
  }

  /** True if the page can act on the run now. */
  get controlled(): boolean {
    return this.status.reachable && (this.phase === 'training' || this.phase === 'paused')
  }

  /** Mean loss of the last steps. */
  get loss(): number | undefined {
    const recent = this.#losses.slice(-8)
    return recent.length === 0 ? undefined : recent.reduce((sum, loss) => sum + loss, 0) / recent.length
  }

  get share(): number {
    return this.totalSteps === 0 ? 0 : this.step / this.totalSteps
  }

  /** Estimated time to the end, evaluations included: one slow step does not shake a median. */
  get secondsLeft(): number | undefined {
    if (this.#seconds.length < 3) return undefined
    const left = this.totalSteps - this.step
    const [last, earlier] = [this.#evaluations.at(-1), this.#evaluations.at(-2)]
    const every = last && earlier ? last.step - earlier.step : 0
    const evaluations = last && every > 0 ? Math.floor(left / every) * last.seconds : 0
    return quantile(this.#seconds, 0.5) * left + evaluations
  }

  /** Text of the browser's tab. */
  title(name: string): string {
    const { phase } = this
    const state = phase === 'training' ? `${Math.floor(100 * this.share)} %` : PHASES[phase]
    return `${state} · ${name} · lowrank`
  }

  /** Message about the phase; none while all goes well. */
  message(): Message | undefined {
    const cause = this.#cause
    const resume = this.#command === undefined ? {} : { command: `${this.#command} --resume` }
    const saved = this.#checkpoint === undefined ? 'no step yet' : `step ${this.#checkpoint}`
    switch (this.phase) {
      case 'waiting':
        return {
          tone: 'plain',
          title: 'Waiting for the first step.',
          text: 'The model is loaded and the data are read. The curves begin with the first step.',
        }
      case 'paused':
        return {
          tone: 'warn',
          title: `Paused after step ${this.step}.`,
          text: `The model stays in memory. The newest checkpoint is of ${saved}.`,
        }
      case 'lost':
        return {
          tone: 'warn',
          title: 'The server of this page does not answer.',
          text: 'The run may well go on. This page tries again every second and shows what it last heard.',
        }
      case 'interrupted':
        return {
          tone: 'bad',
          title: 'The process of the run has ended without a word.',
          text: `It was at step ${this.step}. The newest checkpoint is of ${saved}.`,
          ...(this.#checkpoint === undefined ? {} : resume),
        }
      case 'stopped':
        if (cause?.path == null)
          return { tone: 'warn', title: 'Stopped before the first step.', text: 'Nothing was saved.' }
        return {
          tone: 'good',
          title: `Stopped and saved at step ${cause.step}.`,
          text: 'Resumed from there, the run computes the same numbers.',
          ...resume,
        }
      case 'failed':
        return { tone: 'bad', title: cause?.code ?? 'ERROR', text: cause?.message ?? '' }
      case 'done':
        return {
          tone: 'good',
          title: 'Done.',
          text: cause?.output_dir ? `The result is in ${cause.output_dir}.` : 'The run saved nothing.',
        }
      default:
        return undefined
    }
  }

  #takeStep({ step = 0, total_steps = 0, loss, tokens, tokens_per_second }: LogLine): void {
    this.step = step
    this.totalSteps = total_steps
    this.tokensPerSecond = tokens_per_second
    if (typeof loss === 'number') this.#losses.push(loss)
    if (tokens !== undefined && tokens_per_second) this.#seconds.push(tokens / tokens_per_second)
    if (this.#seconds.length > RECENT) this.#seconds.shift()
    if (this.#losses.length > RECENT) this.#losses.shift()
  }
}
