/**
 * Learning-rate schedules with the semantics of transformers: a factor on the base rate, computed from the number of
 * optimizer steps already completed.
 */

import * as z from 'zod'
import { checkedOptions } from '../core/arguments.js'
import { once } from '../core/once.js'
import { cosPi } from '../core/portable-math.js'
import { deepFreeze, integer, numberWithin, word } from '../core/schema.js'
import { named } from '../core/type-names.js'
import type { CosineSchedule, Schedule, WarmupStableDecaySchedule } from './types.js'

const share = () => numberWithin(0, 1, 'a number from 0 to 1')
const cosineSchema = named(
  z.strictObject({
    type: z.literal('cosine'),
    minLrRate: share().default(0).describe('Final learning rate as a share of the peak.'),
  }),
  { type: 'CosineSchedule', about: 'Half a cosine from the peak rate down.' },
)
const stableSchema = named(
  z.strictObject({
    type: z.literal('warmup_stable_decay'),
    numDecaySteps: integer(1).describe('Steps of the decay at the end.'),
    decayType: word(['cosine', 'linear', '1-sqrt']).default('cosine').describe('Shape of the decay.'),
    minLrRatio: share()
      .default(0)
      .describe('Learning rate at the start and the end, as a share of the peak.'),
  }),
  { type: 'WarmupStableDecaySchedule', about: 'Warm-up, a constant rate, and a decay at the end.' },
)
const names = ['constant', 'constant_with_warmup', 'linear', 'cosine'] as const

/** Settings of all schedules. */
export const scheduleSettings = [
  z.strictObject({ type: z.literal('constant') }),
  z.strictObject({ type: z.literal('constant_with_warmup') }),
  z.strictObject({ type: z.literal('linear') }),
  cosineSchema,
  stableSchema,
] as const

/** Schema of the `lrSchedulerType` option: a name, or a schedule with settings. */
export const scheduleSchema = z.union(
  [
    z.enum(names),
    named(z.discriminatedUnion('type', scheduleSettings), { type: 'Schedule', from: 'options/types' }),
  ],
  { error: `one of ${names.join(', ')}, or {type: warmup_stable_decay, num_decay_steps: …}` },
)

/** Cosine decay from the base rate to `minLrRate` of it. */
export function cosine(options: { minLrRate?: number } = {}): CosineSchedule {
  return deepFreeze(checkedOptions(cosineSchema, options, 'cosine()', { type: 'cosine' }))
}

/** Warm-up, a constant rate, then a decay over the last steps. */
export function warmupStableDecay(
  options: Partial<Omit<WarmupStableDecaySchedule, 'type'>> & { numDecaySteps: number },
): WarmupStableDecaySchedule {
  return deepFreeze(
    checkedOptions(stableSchema, options, 'warmupStableDecay()', { type: 'warmup_stable_decay' }),
  )
}

/** Cached because every step looks it up. */
const usualCosine = once(() => cosine())

/** Resolves the option's value to a schedule. */
export function scheduleOf(value: (typeof names)[number] | Schedule): Schedule {
  if (typeof value !== 'string') return value
  return value === 'cosine' ? usualCosine() : { type: value }
}

/** Length of a run, in optimizer steps. */
export interface ScheduleSpan {
  warmupSteps: number
  totalSteps: number
}

/** Learning rate after `completed` steps, as a fraction of its peak. */
export function scheduleAt(
  {
    lrSchedulerType,
    warmupSteps,
    warmupRatio,
  }: {
    lrSchedulerType: (typeof names)[number] | Schedule
    warmupSteps: number | null
    warmupRatio: number
  },
  completed: number,
  totalSteps: number,
): number {
  // With few steps, rounding up could make all of them warm-up, and nothing would be learned.
  const share = Math.min(Math.ceil(warmupRatio * totalSteps), totalSteps - 1)
  const span = { warmupSteps: warmupSteps ?? share, totalSteps }
  return scheduleFactor(scheduleOf(lrSchedulerType), span, completed)
}

/** The schedule of a run of `of` steps in the same shape over fewer. */
export function shortened<
  T extends { lrSchedulerType: (typeof names)[number] | Schedule; warmupSteps: number | null },
>({ lrSchedulerType: type, warmupSteps, ...rest }: T, steps: number, of: number) {
  const share = (count: number) => Math.round((count * steps) / of)
  const isStable = typeof type === 'object' && type.type === 'warmup_stable_decay'
  return {
    ...rest,
    lrSchedulerType: isStable ? { ...type, numDecaySteps: Math.max(1, share(type.numDecaySteps)) } : type,
    warmupSteps: warmupSteps === null ? null : share(warmupSteps),
  }
}

/**
 * Factor on the base rate for the step that follows `completed` others. The first warm-up step has factor 0, as in
 * transformers.
 */
export function scheduleFactor(schedule: Schedule, span: ScheduleSpan, completed: number): number {
  if (schedule.type === 'constant') return 1
  const { warmupSteps, totalSteps } = span
  if (schedule.type === 'warmup_stable_decay') return stableDecayFactor(schedule, span, completed)
  if (completed < warmupSteps) return completed / Math.max(1, warmupSteps)
  if (schedule.type === 'constant_with_warmup') return 1
  const rest = Math.max(1, totalSteps - warmupSteps)
  if (schedule.type === 'linear') return Math.max(0, (totalSteps - completed) / rest)
  const wave = 0.5 * (1 + cosPi((completed - warmupSteps) / rest))
  return Math.max(0, schedule.minLrRate + (1 - schedule.minLrRate) * wave)
}

function stableDecayFactor(
  schedule: WarmupStableDecaySchedule,
  span: ScheduleSpan,
  completed: number,
): number {
  const { numDecaySteps, minLrRatio: floor } = schedule
  const { warmupSteps, totalSteps } = span
  const above = (share: number) => floor + (1 - floor) * share
  if (completed < warmupSteps) return above(completed / Math.max(1, warmupSteps))
  const decayStart = Math.max(warmupSteps, totalSteps - numDecaySteps)
  if (completed < decayStart) return 1
  const x = (completed - decayStart) / numDecaySteps
  if (x >= 1) return floor
  const shapes = { cosine: 0.5 * (1 + cosPi(x)), linear: 1 - x, '1-sqrt': 1 - Math.sqrt(x) }
  return above(shapes[schedule.decayType])
}
