/** Jobs of a service as runs of a list, from what its API tells. Also runs in the browser. */
import { isNumber, smooth, thin, usualHalfLife, type Value } from './chart/index.js'
import type { RunState } from './run-data.js'
import type { ListedRun } from './runs-data.js'

/** A fine-tuning job, as far as the page reads it. */
export interface ServiceJob {
  id: string
  created_at: number
  finished_at: number | null
  model: string
  fine_tuned_model: string | null
  status: string
  error: { message: string } | null
  method: { type: string }
  lowrank: {
    state: string
    step?: number
    total_steps?: number
    seconds_left?: number
    planned_bytes: number | null
  }
}

/** An event of a job, as far as the page reads it. */
export interface ServiceEvent {
  id: string
  message: string
  type: string
  data: Record<string, unknown> | null
}

/** Losses of a job by step, in ascending order. */
export interface JobCurves {
  training: { x: number[]; y: Value[] }
  heldOut: { x: number[]; y: Value[] }
  /** null before the first step. */
  totalSteps: number | null
}

/** Points of a curve that the page draws. */
const POINTS = 300

const STATES: Readonly<Record<string, RunState>> = {
  ...{ validating_files: 'waiting', queued: 'waiting', running: 'training', paused: 'paused' },
  ...{ succeeded: 'done', failed: 'failed', cancelled: 'stopped' },
}

export const emptyCurves = (): JobCurves => ({
  training: { x: [], y: [] },
  heldOut: { x: [], y: [] },
  totalSteps: null,
})

/** Adds what an event tells of the losses. */
export function addEvent(curves: JobCurves, { type, data }: ServiceEvent): void {
  const { training, heldOut } = curves
  const { step, train_loss: loss, full_valid_loss: valid } = data ?? {}
  if (type !== 'metrics' || typeof step !== 'number') return
  if (valid !== undefined) add(heldOut, step, valid)
  if (loss !== undefined) add(training, step, loss)
  if (typeof data?.total_steps === 'number') curves.totalSteps = data.total_steps
}

/** A step is told once; one that is told again, as beside an evaluation, is the same. */
function add({ x, y }: JobCurves['training'], step: number, value: unknown): void {
  if (step <= (x.at(-1) ?? 0)) return
  x.push(step)
  y.push(typeof value === 'number' ? value : null)
}

export function stateOf({ status, lowrank }: ServiceJob): RunState {
  return STATES[lowrank.state] ?? STATES[status] ?? 'waiting'
}

export function isOver(job: ServiceJob): boolean {
  return ['succeeded', 'failed', 'cancelled'].includes(job.status)
}

/** The job as a run of a list, for its charts. */
export function listedJob(job: ServiceJob, { training, heldOut, totalSteps }: JobCurves): ListedRun {
  const { x, y } = training
  const smoothed = smooth(x, y, usualHalfLife(x.length))
  const kept = thin(x, smoothed, [x[0] ?? 0, x.at(-1) ?? 0], POINTS)
  const { step, total_steps: total, planned_bytes: bytes } = job.lowrank
  const numbers = y.filter(isNumber)
  return {
    ...{
      name: shortName(job),
      state: stateOf(job),
      method: job.method.type,
      model: job.model,
    },
    ...{ steps: step ?? x.at(-1) ?? 0, totalSteps: total ?? totalSteps, heldOut, best: '' },
    training: { x: kept.map((at) => x[at] as number), y: kept.map((at) => smoothed[at] ?? null) },
    ...{ loss: numbers.at(-1) ?? null, heldOutLoss: heldOut.y.at(-1) ?? null },
    seconds: job.finished_at === null ? null : job.finished_at - job.created_at,
    ...{ peakBytes: bytes, began: job.created_at },
  }
}

/** A short name of a job for charts: the end of its model's name, or its id. */
function shortName({ id, fine_tuned_model: model }: ServiceJob): string {
  return model?.split(':').slice(-2).filter(Boolean).join(':') ?? id
}

/** The base that a fine-tuned model was trained on, from its name; undefined for other names. */
export function baseOf(model: string): string | undefined {
  return /^ft:(.+):local:[^:]*:[^:]{8}(?::ckpt-step-\d+)?$/.exec(model)?.[1]
}
