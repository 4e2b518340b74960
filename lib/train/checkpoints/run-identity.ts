/**
 * The identity of a run. A checkpoint can only be resumed with the same identity; a difference is an error that
 * names it.
 */

import { createHash } from 'node:crypto'
import type { BaseModel } from '../../base/base.js'
import { ConfigError } from '../../core/errors.js'
import { parseOptions } from '../../core/schema.js'
import { memoryOptions } from '../../options/memory-shape.js'
import { adamWHeld, optimizerOf, optimizerSchema } from '../../options/optimizers.js'
import { fileOptions, type RunOptions } from '../../options/options.js'
import { scheduleAt } from '../../options/schedules.js'
import type { Optimizer, TrainOptions } from '../../options/types.js'
import { rulesOf } from '../../strategies/index.js'
import type { StrategyConfig } from '../../strategies/strategy.js'
import { metricName } from '../../tasks/metrics.js'
import { describeBoth } from '../../weights/quantization.js'
import type { RunData } from '../rows/data.js'
import { decides, isDue, metricOf, type RunEvaluation, standing } from '../steps/best.js'

import type { TrainingState } from '../steps/step.js'

/** The inputs of a run that a checkpoint must match. */
export interface RunIdentity {
  /** Content hash of the base model's files. */
  base: string
  /** Quantization of the base. */
  quantization: string
  /** Precision of matrix products. */
  precision: string
  /** Content hash of the training data. */
  data: string
  /** Content hash of the held-out data; null if there is none. */
  evaluation: string | null
  /** Current time as seen by chat templates, ms since 1970; stored so that templates render the same rows. */
  now: number
  /** Options keyed as in config files, with `eval_fraction`. */
  options: Readonly<Record<string, unknown>>
}

/** Options that may change when a run is resumed because they do not affect the numbers. */
const FREE = new Set<string>([
  ...([
    'evalGenerate',
    'tokenAccuracy',
    'loadBestModelAtEnd',
    'saveSteps',
    'saveTotalLimit',
  ] satisfies (keyof TrainOptions)[]),
  ...memoryOptions.filter(([, { exact }]) => exact).map(([key]) => key),
])

/** Options that may change if the steps made so far would have been the same. */
const COMPARED_BY_EFFECT = new Set([
  'num_train_epochs',
  'max_steps',
  'eval_steps',
  'metric_for_best_model',
  'greater_is_better',
  'early_stopping_patience',
  'early_stopping_threshold',
])

/** Identity of a run for its checkpoints. */
export function identityOf(
  base: BaseModel,
  options: RunOptions,
  evalFraction: number,
  { fingerprint, evaluationFingerprint, now }: RunData,
): RunIdentity {
  const kept = Object.entries(options).filter(([key]) => !FREE.has(key))
  const named = fileOptions(Object.fromEntries(kept))
  return {
    base: base.files.fingerprint,
    quantization: describeBoth(base),
    precision: base.precision,
    data: fingerprint,
    evaluation: evaluationFingerprint,
    now,
    options: { ...named, eval_fraction: evalFraction },
  }
}

/** Hash of the model and the data of a run. */
export function keyOf({ base, quantization, precision, data, evaluation }: RunIdentity): string {
  return hashOf({ base, quantization, precision, data, evaluation })
}

/** Facts that all ranks of a run must agree on, as texts. */
export function factsOf(
  { base, data, evaluation, now, ...identity }: RunIdentity,
  options: RunOptions,
): Record<string, string> {
  const named = fileOptions(options)
  const optimizer = inMemory(named.optimizer)
  return {
    'base model': base,
    'training data': data,
    'evaluation data': evaluation ?? 'none',
    time: String(now),
    quantization: identity.quantization,
    precision: identity.precision,
    ...Object.fromEntries(
      Object.entries({ ...named, ...identity.options, optimizer }).map(([key, value]) => [
        key,
        canonical(value) ?? 'null',
      ]),
    ),
  }
}

/** An error for a difference that prevents an exact continuation of a checkpoint. */
function notExact(
  path: string,
  what: string,
  there: unknown,
  here: unknown,
  how = `is ${JSON.stringify(there) ?? 'absent'} there and ${JSON.stringify(here) ?? 'absent'} here`,
): ConfigError {
  return new ConfigError(
    `${path} cannot be resumed exactly: ${what} ${how}. Restore it, train from the start in another output_dir, or continue from the checkpoint in a program: model.loadAdapter(path, { trainable: true }).`,
    { path, what, there, here },
  )
}

/** @throws {ConfigError} naming the first difference between the inputs of a checkpoint and of the run */
export function checkIdentity(path: string, there: RunIdentity, here: RunIdentity): void {
  const compare = (key: string, was: unknown, is: unknown) => {
    const compared = (value: unknown) => canonical(key === 'optimizer' ? inMemory(value) : value)
    if (compared(was) !== compared(is)) throw notExact(path, key, was, is)
  }
  for (const key of new Set([...Object.keys(there.options), ...Object.keys(here.options)]))
    if (!COMPARED_BY_EFFECT.has(key)) compare(key, there.options[key], here.options[key])
  compare('quantization', there.quantization, here.quantization)
  compare('precision', there.precision, here.precision)
  // Hashes are not shown, since they mean nothing to a reader.
  if (there.base !== here.base) throw notExact(path, 'the base model', there.base, here.base, 'has changed')
  if (there.data !== here.data) throw notExact(path, 'the training data', there.data, here.data, DATA_DIFFERS)
}

/** The optimizer settings without paging, since where the state is stored does not affect the numbers. */
function inMemory(option: unknown): Optimizer {
  const source = { name: 'training_state.json', spelling: 'snake', at: 'options.optimizer' } as const
  const optimizer = optimizerOf(parseOptions(optimizerSchema, option, source))
  return 'resident' in optimizer ? adamWHeld(optimizer, optimizer.type.endsWith('8bit')) : optimizer
}

const DATA_DIFFERS = 'has changed: rows, their order, or how they are read and tokenized'

/**
 * A run may become longer or shorter if the steps made so far do not depend on its length.
 * @param totalSteps steps of the resumed run
 * @throws {ConfigError} if they do depend on it, or more steps were already made
 */
export function checkLength(
  { path, state, identity }: Checkpoint,
  options: RunOptions,
  strategy: StrategyConfig,
  totalSteps: number,
): void {
  if (totalSteps === state.totalSteps) return
  const there = identity.options
  const [what, was, is] =
    canonical(there.max_steps) !== canonical(options.maxSteps)
      ? (['max_steps', there.max_steps, options.maxSteps] as const)
      : (['num_train_epochs', there.num_train_epochs, options.numTrainEpochs] as const)
  const differs = (why: string) =>
    notExact(
      path,
      what,
      was,
      is,
      `is ${JSON.stringify(was)} there and ${JSON.stringify(is)} here, which changes ${state.totalSteps} steps to ${totalSteps}, and ${why}`,
    )
  if (totalSteps < state.step) throw differs(`${state.step} are made`)
  if (rulesOf(strategy).steps?.(strategy)?.byLength)
    throw differs(`strategy ${strategy.name} depends on the total number of steps`)
  for (let step = 0; step < state.step; step++)
    if (scheduleAt(options, step, totalSteps) !== scheduleAt(options, step, state.totalSteps))
      throw differs(
        'the learning rates depend on the total number of steps (unless lr_scheduler_type is constant)',
      )
}

/**
 * The earlier evaluations that a resumed run continues with.
 * @throws {ConfigError} when the choice of the best step, or early stopping, would differ from an uninterrupted
 * run
 */
export function continuedEvaluations(
  { path, state, identity }: Checkpoint,
  here: RunIdentity,
  options: TrainOptions,
): RunEvaluation[] {
  const { evaluations } = state
  const there = identity.options
  if (identity.evaluation !== here.evaluation) {
    if (!decides(options)) return []
    const how = identity.evaluation === null ? 'was not there then' : 'has changed'
    throw notExact(path, 'the held-out data', identity.evaluation, here.evaluation, how)
  }
  if (!decides(options)) return evaluations
  const { evalSteps, metricForBestModel: metric, earlyStoppingPatience: patience } = options
  const made = new Set(evaluations.map(({ step }) => step))
  // The evaluation at the checkpoint's own step may not have been made yet.
  for (let step = 0; step < state.step; step++)
    if (isDue(evalSteps, step) !== made.has(step))
      throw notExact(path, 'eval_steps', there.eval_steps, evalSteps)
  if (
    evaluations.some(
      (one) => metric !== 'loss' && Number.isNaN(metricOf(metric, one)) && !Number.isNaN(one.loss),
    )
  )
    throw notExact(path, 'metric_for_best_model', there.metric_for_best_model, metricName(metric))
  const early = evaluations.find(
    (_, i) => i + 1 < evaluations.length && standing(evaluations.slice(0, i + 1), options).stops,
  )
  if (early !== undefined)
    throw notExact(
      path,
      'early_stopping_patience',
      there.early_stopping_patience,
      patience,
      `is ${JSON.stringify(there.early_stopping_patience)} there and ${patience} here, with which the run would have ended at step ${early.step}`,
    )
  return evaluations
}

/** JSON with sorted keys, so that equal options have equal text. */
export function canonical(value: unknown): string {
  return JSON.stringify(value, (_, inner: unknown) =>
    typeof inner === 'object' && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  )
}

export function hashOf(options: unknown): string {
  return createHash('sha256').update(canonical(options)).digest('hex')
}

/** Metadata of a checkpoint. */
export interface Checkpoint {
  path: string
  state: TrainingState
  identity: RunIdentity
  /** Strategy, with the keys of config files. */
  strategy: Readonly<Record<string, unknown>>
}
