/** State of a run for a live page, from its record and the state of its process. */
import { isNumber, quantile, type Value } from '../chart/index.js'
import type { RunPageData } from '../run-data.js'
import { stepName } from '../run-words.js'
import type { RunStatus } from './protocol.js'

/** A run and the connection to it. */
export interface LiveRun {
  run: RunPageData
  /** True while the page's server responds. */
  connected: boolean
  /** Last reported status of the run's process. */
  status: RunStatus
}

export type Phase = 'waiting' | 'training' | 'paused' | 'lost' | 'interrupted' | 'stopped' | 'failed' | 'done'

/** Label of each phase. */
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

/** Number of recent steps used for estimates. */
const RECENT = 60

/** True if the record says how the run ended. */
export function isOver({ state }: RunPageData): boolean {
  return state === 'stopped' || state === 'failed' || state === 'done'
}

export function phaseOf({ run, connected, status }: LiveRun): Phase {
  if (isOver(run)) return run.state
  if (!connected) return 'lost'
  if (!status.alive && run.began !== null) return 'interrupted'
  return run.plan === null ? 'waiting' : run.state
}

/** True if the page can control the run now. */
export function isControlled(live: LiveRun): boolean {
  const phase = phaseOf(live)
  return live.status.reachable && (phase === 'training' || phase === 'paused')
}

/** Completed steps and total steps of the run. */
export function progressOf({ columns, start }: RunPageData): { step: number; totalSteps: number } {
  const step = columns.step.at(-1) ?? start?.resumed_from ?? 0
  return { step, totalSteps: Math.max(start?.total_steps ?? 0, step) }
}

/** Mean over recent steps, in tokens per second. */
export function speedOf({ columns }: RunPageData): number | undefined {
  const seconds = stepSeconds(columns).reduce((sum, value) => sum + value, 0)
  const tokens = columns.tokens.slice(-RECENT).reduce<number>((sum, value) => sum + (value ?? 0), 0)
  return seconds > 0 ? tokens / seconds : undefined
}

/**
 * Estimated remaining time, including evaluations. Uses the median step time, which is robust to a single slow step.
 */
export function secondsLeft(run: RunPageData): number | undefined {
  const { step, totalSteps } = progressOf(run)
  const seconds = stepSeconds(run.columns)
  if (seconds.length < 3) return undefined
  const usual = quantile(seconds, 0.5)
  const [last, earlier] = [run.evaluations.at(-1), run.evaluations.at(-2)]
  const every = last && earlier ? last.step - earlier.step : 0
  const evaluations = every > 0 ? Math.floor((totalSteps - step) / every) : 0
  return usual * (totalSteps - step) + evaluations * evaluationSeconds(run, usual)
}

/** Duration of the last evaluation, estimated from the delay of the next step. */
function evaluationSeconds({ columns, evaluations }: RunPageData, usual: number): number {
  const steps = columns.step
  const evaluated = evaluations.findLast(({ step }) => step < (steps.at(-1) ?? 0))
  const after = evaluated ? steps.lastIndexOf(evaluated.step) + 1 : 0
  const [before, then] = [columns.time[after - 1], columns.time[after]]
  return isNumber(before) && isNumber(then) ? Math.max(0, then - before - usual) : 0
}

function stepSeconds({ tokens, tokensPerSecond }: RunPageData['columns']): number[] {
  const speeds: Value[] = tokensPerSecond.slice(-RECENT)
  return tokens.slice(-RECENT).flatMap((count, index) => {
    const speed = speeds[index]
    return isNumber(count) && isNumber(speed) && speed > 0 ? [count / speed] : []
  })
}

/** Title of the browser tab. */
export function titleOf(live: LiveRun, name: string): string {
  const phase = phaseOf(live)
  const { step, totalSteps } = progressOf(live.run)
  const share = totalSteps === 0 ? 0 : step / totalSteps
  return `${phase === 'training' ? `${Math.floor(100 * share)} %` : PHASES[phase]} · ${name} · lowrank`
}

/** Message about the phase; undefined while all is well. */
export function messageOf(live: LiveRun): Message | undefined {
  const { run } = live
  const { start, stopped, error, done, checkpoints } = run
  const unit = stepName(run)
  const { step } = progressOf(run)
  const command = start?.command ?? null
  const resume = command === null ? {} : { command: resumed(command) }
  const newest = checkpoints.at(-1)
  const saved =
    newest === undefined ? 'There is no checkpoint yet.' : `The newest checkpoint is of ${unit} ${newest}.`
  switch (phaseOf(live)) {
    case 'waiting':
      return {
        tone: 'plain',
        title: `Waiting for the first ${unit}.`,
        text: 'The model is being loaded, or the data are being read.',
      }
    case 'paused':
      return {
        tone: 'warn',
        title: `Paused after ${unit} ${step}.`,
        text: `The model stays in memory. ${saved}`,
      }
    case 'lost':
      return {
        tone: 'warn',
        title: 'The server of this page does not answer.',
        text: 'The run may be in progress all the same. This page tries again every second; below is the latest that it received.',
      }
    case 'interrupted':
      return {
        tone: 'bad',
        title: 'The process of the run is gone.',
        text: `It did not say why. It was at ${unit} ${step}. ${saved}`,
        ...(newest === undefined ? {} : resume),
      }
    case 'stopped':
      if (stopped === null || stopped.path === null)
        return { tone: 'warn', title: `Stopped before the first ${unit}.`, text: 'Nothing was saved.' }
      return {
        tone: 'good',
        title: `Stopped and saved at ${unit} ${stopped.step}.`,
        text: 'Resumed from there, the run computes the same numbers.',
        ...resume,
      }
    case 'failed':
      return { tone: 'bad', title: error?.code ?? 'ERROR', text: error?.message ?? '' }
    case 'done':
      return {
        tone: 'good',
        title: 'Done.',
        text: done?.output_dir ? `The result is in ${done.output_dir}.` : 'The run saved nothing.',
      }
    default:
      return undefined
  }
}

/** The command that resumes a run started with `command`. */
function resumed(command: string): string {
  return /\s--resume(\s|$)/.test(command) ? command : `${command} --resume`
}
