/**
 * training_state.json of a checkpoint: the position of the run and its inputs. The tensors are in a separate
 * file, handled by `checkpoint-file.ts`.
 */
import { existsSync } from 'node:fs'
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { ConfigError, FileFormatError } from '../../core/errors.js'
import { camelKey, isRecord, snakeKey } from '../../core/schema-shape.js'
import { PRIVATE, writeFileWhole } from '../../io/atomic.js'
import { placeOf } from '../../io/atomic-folder.js'
import { readJsonObject } from '../../io/input.js'
import { fileInside } from '../../io/inside.js'
import { damageIn, SUMS } from '../../io/sums.js'
import { readStrategy, strategyToFile } from '../../strategies/index.js'
import type { StrategyConfig } from '../../strategies/strategy.js'
import type { RunEvaluation } from '../steps/best.js'
import type { TrainingState } from '../steps/step.js'
import { type Checkpoint, canonical, hashOf, type RunIdentity } from './run-identity.js'

const VERSION = 2
const STATE = 'training_state.json'
export const TENSORS = 'training_state.safetensors'
const STATE_LIMIT = 64 << 20

/** Writes training_state.json into the folder of a checkpoint. */
export async function writeState(
  folder: string,
  strategy: StrategyConfig,
  { run, step, totalSteps, cursor, evaluations, totals, ranks, rules }: TrainingState,
  identity: RunIdentity,
): Promise<void> {
  const about = {
    version: VERSION,
    run,
    strategy: strategyToFile(strategy),
    ...(rules === undefined ? {} : { rules }),
    ...(ranks === 1 ? {} : { ranks }),
    step,
    total_steps: totalSteps,
    evaluations: evaluations.map((evaluation) =>
      Object.fromEntries(Object.entries(evaluation).map(([key, value]) => [snakeKey(key), value])),
    ),
    cursor: {
      epoch: cursor.epoch,
      micro_batch: cursor.microBatch,
      ...(cursor.digest === undefined ? {} : { digest: cursor.digest }),
    },
    totals: {
      tokens: totals.tokens,
      supervised_tokens: totals.supervisedTokens,
      loss_sum: totals.lossSum,
      seconds: totals.seconds,
    },
    seed: identity.options.seed,
    base: identity.base,
    quantization: identity.quantization,
    precision: identity.precision,
    data: identity.data,
    evaluation: identity.evaluation,
    now: identity.now,
    config: hashOf(identity.options),
    options: identity.options,
  }
  // Private file mode, because it may contain the key of private training.
  await writeFileWhole(join(folder, STATE), `${JSON.stringify(about, null, 2)}\n`, PRIVATE)
}

/**
 * Reads a checkpoint's state and inputs after verifying the hashes of all its files.
 * @throws {FileFormatError} when it is missing, incomplete, damaged, or of another version
 */
export async function readCheckpoint(named: string): Promise<Checkpoint> {
  const path = placeOf(named)
  if (!(await stat(path).catch(() => undefined))?.isDirectory())
    throw new FileFormatError(`there is no checkpoint at ${path}.`, { path })
  const damage = await damageOf(path)
  if (damage !== undefined)
    throw new FileFormatError(`the checkpoint ${path} cannot be used: ${damage}. Resume from another one.`, {
      path,
      damage,
    })
  const file = await fileInside(path, STATE)
  const about = await readJsonObject(file, STATE_LIMIT)
  if (about.version !== VERSION)
    throw new FileFormatError(
      `${file}: version is ${JSON.stringify(about.version)}, but this version of lowrank reads version ${VERSION}; resume with the version that wrote it.`,
      { path: file, version: about.version },
    )
  const numbers = (key: string, names: readonly string[]): number[] => {
    const object = key === '' ? about : ((about[key] ?? {}) as Record<string, unknown>)
    return names.map((name) => {
      const value = object[name]
      // The loss of task grpo is negative as often as positive.
      const isSigned = name === 'loss_sum'
      if (typeof value === 'number' && Number.isFinite(value) && (isSigned || value >= 0)) return value
      const at = [key, name].filter(Boolean).join('.')
      const expected = isSigned ? 'a number' : 'a number from 0'
      throw new FileFormatError(`${file}: ${at} is ${JSON.stringify(value)}, expected ${expected}.`, {
        path: file,
        key: at,
        value,
      })
    })
  }
  const [step = 0, totalSteps = 0, now = 0] = numbers('', ['step', 'total_steps', 'now'])
  const [epoch = 0, microBatch = 0] = numbers('cursor', ['epoch', 'micro_batch'])
  const { digest } = about.cursor as { digest?: unknown }
  const names = ['tokens', 'supervised_tokens', 'loss_sum', 'seconds']
  const [tokens = 0, supervisedTokens = 0, lossSum = 0, seconds = 0] = numbers('totals', names)
  const [ranks = 1] = about.ranks === undefined ? [] : numbers('', ['ranks'])
  const options = (about.options ?? {}) as Record<string, unknown>
  if (hashOf(options) !== about.config)
    throw new FileFormatError(
      `${file}: options and their hash do not agree; the file was changed or damaged.`,
      { path: file },
    )
  return {
    path,
    state: {
      run: String(about.run),
      step,
      totalSteps,
      evaluations: evaluationsOf(about.evaluations),
      cursor: { epoch, microBatch, ...(typeof digest === 'string' ? { digest } : {}) },
      totals: { tokens, supervisedTokens, lossSum, seconds },
      ranks,
      ...(about.rules === undefined ? {} : { rules: about.rules }),
    },
    strategy: (about.strategy ?? {}) as Readonly<Record<string, unknown>>,
    identity: {
      base: String(about.base),
      quantization: String(about.quantization),
      precision: String(about.precision),
      data: String(about.data),
      evaluation: typeof about.evaluation === 'string' ? about.evaluation : null,
      now,
      options,
    },
  }
}

function evaluationsOf(list: unknown): RunEvaluation[] {
  // JSON cannot represent a non-finite loss; it is stored as null.
  const number = (value: unknown) => (typeof value === 'number' ? value : Number.NaN)
  return ((Array.isArray(list) ? list : []) as Record<string, unknown>[]).map(({ scores, ...one }) => ({
    ...Object.fromEntries(Object.entries(one).map(([key, value]) => [camelKey(key), number(value)])),
    step: number(one.step),
    loss: number(one.loss),
    perplexity: number(one.perplexity),
    tokens: number(one.tokens),
    supervisedTokens: number(one.supervised_tokens),
    ...(isRecord(scores)
      ? { scores: Object.fromEntries(Object.entries(scores).map(([name, value]) => [name, number(value)])) }
      : {}),
  }))
}

/** The run that a checkpoint belongs to; undefined if it is not recorded. */
export async function runOf(path: string): Promise<string | undefined> {
  const about = await fileInside(path, STATE)
    .then((file) => readJsonObject(file, STATE_LIMIT))
    .catch(() => undefined)
  return typeof about?.run === 'string' ? about.run : undefined
}

/** The first file missing from a checkpoint; undefined if it is complete. */
export function missingFile(path: string): string | undefined {
  return requiredFiles(path).find((name) => !existsSync(join(path, name)))
}

/** Describes a missing or modified file; undefined if the checkpoint is intact. */
export async function damageOf(path: string): Promise<string | undefined> {
  const missing = missingFile(path)
  if (missing !== undefined) return `it has no ${missing}`
  return damageIn(
    path,
    requiredFiles(path).filter((name) => name !== SUMS),
  )
}

function requiredFiles(path: string): string[] {
  const whole = existsSync(join(path, 'config.json'))
  return [...(whole ? [] : ['adapter_config.json', 'adapter_model.safetensors']), TENSORS, STATE, SUMS]
}

/**
 * The strategy of a checkpoint, for a strategy that leaves (as null) the values found by its probe open.
 * @throws {ConfigError} when the two differ in anything else
 */
export function resumedStrategy(asked: StrategyConfig, { path, strategy }: Checkpoint): StrategyConfig {
  const here = strategyToFile(asked)
  if (!agrees(here, strategy)) throw anotherAdapter(path, strategy, here)
  return readStrategy(strategy, { name: path, spelling: 'snake' })
}

function agrees(asked: unknown, found: unknown): boolean {
  if (asked === null) return true
  if (typeof asked !== 'object' || typeof found !== 'object' || found === null || Array.isArray(asked))
    return canonical(asked) === canonical(found)
  const [here, there] = [asked as Record<string, unknown>, found as Record<string, unknown>]
  return [...new Set([...Object.keys(here), ...Object.keys(there)])].every((key) =>
    agrees(here[key], there[key]),
  )
}

/** Names the options of the strategy that differ, with their keys in config files. */
export function anotherAdapter(
  path: string,
  there: Readonly<Record<string, unknown>>,
  here: Readonly<Record<string, unknown>>,
): ConfigError {
  const differ = (key: string) => canonical(there[key]) !== canonical(here[key])
  const keys = differ('name') ? ['name'] : Object.keys({ ...there, ...here }).filter(differ)
  const shown = (value: unknown) => JSON.stringify(value) ?? 'absent'
  const differences = keys.map(
    (key) => `strategy.${key} is ${shown(there[key])} there and ${shown(here[key])} here`,
  )
  return new ConfigError(
    `${path} does not hold the adapter that is to be trained: ${differences.join(', ') || 'its tensors have other names or shapes'}. Restore it, or start a new run in another output_dir.`,
    { path, there, here },
  )
}
