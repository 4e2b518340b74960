/**
 * Checkpoints: `checkpoint-<step>/` is an adapter folder that PEFT loads, with training_state.safetensors (the
 * optimiser's state) and training_state.json (where the run stands and what it was made from). A run resumed from one
 * goes on bit for bit as if it had never stopped; what would keep it from that is refused.
 */
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { readdir, rm, stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { type AdapterState, type BaseModel, saveAdapter, savedForm, savesModel } from '../base.js'
import { breather } from '../breather.js'
import { ConfigError, FileFormatError, ShapeError } from '../errors.js'
import { PRIVATE, writeFileWhole } from '../files/atomic.js'
import { cleanUp } from '../files/cleanup.js'
import { readInto, readJsonObject, withInputFile } from '../files/input.js'
import { openModelFiles } from '../files/model-files.js'
import {
  readSafetensorsHeader,
  readTensor,
  type SafetensorsHeader,
  type SafetensorsInput,
  tensorSize,
  writeSafetensors,
} from '../files/safetensors.js'
import type { AdapterArray } from '../native/addon.js'
import { ArrayPieces } from '../native/pieces.js'
import { openAdapterFolder } from '../peft/adapter-folder.js'
import { piecesInBytes, toFloat32 } from '../peft/floats.js'
import { strategyFrom, strategyToFile } from '../strategies/index.js'
import { describeBoth } from '../strategies/quantization.js'
import type { Factor, ReadFactor, StrategyConfig } from '../strategies/strategy.js'

const VERSION = 1
const STATE = 'training_state.json'
const TENSORS = 'training_state.safetensors'
const PREFIX = 'checkpoint-'
const STATE_LIMIT = 16 << 20
/** Arrays of trained factors that are kept beside the optimiser's state, while steps follow them. */
const IMPORTANCES = ['sensitivity', 'uncertainty'] as const

/** Where a run stands between two steps. */
export interface TrainingState {
  /** Completed optimiser steps. */
  step: number
  /** The next micro-batch. */
  cursor: DataCursor
  /** Sums over the run so far. */
  totals: { tokens: number; supervisedTokens: number; lossSum: number; seconds: number }
  /** What the strategy's rules remember between steps (`StepRules.state`). */
  rules?: unknown
}

/** A place in the data: micro-batches of earlier epochs and of this one that are done. */
export interface DataCursor {
  epoch: number
  microBatch: number
  /** Of data that is streamed: hash of this epoch's micro-batches up to here. */
  digest?: string
}

/** What a run is made from; a checkpoint fits only a run of the same. */
export interface RunIdentity {
  /** Content hash of the base model, with the format it is held in. */
  base: string
  /** Content hash of the training data. */
  data: string
  /** What chat templates took for the time, ms since 1970; the same value gives the same data again. */
  now: number
  /** Every option that shapes the numbers. */
  options: Readonly<Record<string, unknown>>
}

/** Says what the base is, as a checkpoint has to find it again. */
export function baseIdentity(base: BaseModel): string {
  return `${base.files.fingerprint} ${describeBoth(base)} ${base.precision}`
}

/**
 * Writes `checkpoint-<step>` into the output folder, whole or not at all.
 * @returns its path
 */
export async function saveCheckpoint(
  outputDir: string,
  base: BaseModel,
  adapter: AdapterState,
  state: TrainingState,
  identity: RunIdentity,
): Promise<string> {
  const path = join(outputDir, `${PREFIX}${state.step}`)
  const breathe = breather()
  const pieces = new ArrayPieces(adapter.native)
  const arrayOf = ({ name, rows, cols }: Factor, array: AdapterArray, called: string): SafetensorsInput => ({
    name: called,
    dtype: 'F32',
    shape: [rows, cols],
    data: () => piecesInBytes('F32', pieces.values(name, array, rows * cols)),
  })
  const tensors: SafetensorsInput[] = []
  for (const factor of adapter.description.factors.filter(({ trained }) => trained)) {
    await breathe()
    for (const { name, dtype, shape } of adapter.native.state(factor.name)) {
      const tensor = { name: stateName(factor, name), dtype, shape }
      const bytes = tensorSize(tensor)
      tensors.push({ ...tensor, data: () => pieces.state(factor.name, name, bytes) })
    }
    for (const array of followed(adapter, factor.name))
      tensors.push(arrayOf(factor, array, stateName(factor, array)))
  }
  // A folder in the form of another strategy does not hold the factors that train.
  const reads: ReadFactor = (name) => adapter.native.read(name, 'value')
  if (!savesModel(adapter.description) && savedForm(adapter.description, reads) !== undefined)
    for (const factor of adapter.description.factors)
      tensors.push(arrayOf(factor, 'value', valueName(factor.name)))
  const about = {
    version: VERSION,
    strategy: strategyToFile(adapter.description.strategy),
    ...(state.rules === undefined ? {} : { rules: state.rules }),
    step: state.step,
    cursor: {
      epoch: state.cursor.epoch,
      micro_batch: state.cursor.microBatch,
      ...(state.cursor.digest === undefined ? {} : { digest: state.cursor.digest }),
    },
    totals: {
      tokens: state.totals.tokens,
      supervised_tokens: state.totals.supervisedTokens,
      loss_sum: state.totals.lossSum,
      seconds: state.totals.seconds,
    },
    seed: identity.options.seed,
    base: identity.base,
    data: identity.data,
    now: identity.now,
    saved_at: Date.now(),
    config: hashOf(identity.options),
    options: identity.options,
  }
  await saveAdapter(path, base, adapter, {
    exact: true,
    more: async (folder) => {
      await breathe()
      await writeSafetensors(join(folder, TENSORS), tensors)
      // It may hold the key of private training.
      await writeFileWhole(join(folder, STATE), `${JSON.stringify(about, null, 2)}\n`, PRIVATE)
    },
  })
  return path
}

/** Removes all but the newest `limit` checkpoints of an output folder. */
export async function pruneCheckpoints(outputDir: string, limit: number): Promise<void> {
  for (const path of (await listCheckpoints(outputDir)).slice(limit))
    await cleanUp(path, () => rm(path, { recursive: true, force: true }))
}

/**
 * Paths of the checkpoints of an output folder, the last saved first. Steps alone do not tell: those of an earlier run
 * in the same folder may be higher, and must neither be resumed nor outlive those of the run that goes on now.
 */
export async function listCheckpoints(outputDir: string): Promise<string[]> {
  const names = await readdir(outputDir).catch(() => [])
  const found = await Promise.all(
    names.flatMap((name) => {
      const step = /^checkpoint-(\d+)$/.exec(name)?.[1]
      const path = join(outputDir, name)
      return step === undefined ? [] : [savedAt(path).then((saved) => ({ path, step: Number(step), saved }))]
    }),
  )
  return found.sort((a, b) => b.saved - a.saved || b.step - a.step).map(({ path }) => path)
}

/** When a checkpoint was saved, ms since 1970; 0 when it does not say. */
async function savedAt(path: string): Promise<number> {
  const about = await readJsonObject(join(path, STATE), STATE_LIMIT).catch(() => ({ saved_at: 0 }))
  return typeof about.saved_at === 'number' ? about.saved_at : 0
}

/**
 * The newest checkpoint of an output folder that is whole.
 * @throws {ConfigError} when there is none
 */
export async function latestCheckpoint(outputDir: string): Promise<string> {
  const paths = await listCheckpoints(outputDir)
  for (const path of paths) if (missingFile(path) === undefined) return path
  const found = paths.length > 0 ? `; ${paths.map((path) => basename(path)).join(', ')} lack files` : ''
  throw new ConfigError(`${outputDir} holds no checkpoint to resume from${found}.`, {
    outputDir,
    found: paths,
  })
}

/**
 * Brings an adapter, restarted with the run's optimiser, to the state of a checkpoint.
 * @throws {FileFormatError} when the checkpoint's tensors are damaged
 * @throws {ConfigError} when it belongs to another base, other data, another adapter or other options, naming which
 */
export async function restoreCheckpoint(
  checkpoint: Checkpoint,
  base: BaseModel,
  adapter: AdapterState,
  identity: RunIdentity,
): Promise<TrainingState> {
  const { path } = checkpoint
  checkIdentity(path, checkpoint.identity, identity)
  const strategy = strategyToFile(adapter.description.strategy)
  if (canonical(checkpoint.strategy) !== canonical(strategy))
    throw anotherAdapter(path, checkpoint.strategy, strategy)
  const header = await readSafetensorsHeader(join(path, TENSORS))
  if (savesModel(adapter.description)) await restoreModel(path, adapter)
  else if ([...header.tensors.keys()].some((name) => name.startsWith(valueName(''))))
    await restoreFactors(header, adapter)
  else await restoreAdapter(path, base, adapter)
  const { native } = adapter
  const room = reusedRoom()
  for (const factor of adapter.description.factors.filter((f) => f.trained)) {
    for (const { name, dtype, shape } of native.state(factor.name)) {
      const bytes = await stateTensor(header, stateName(factor, name), dtype, shape, room)
      native.writeState(factor.name, name, bytes)
    }
    for (const array of followed(adapter, factor.name)) {
      const name = stateName(factor, array)
      if (!header.tensors.has(name)) continue
      const bytes = await stateTensor(header, name, 'F32', [factor.rows, factor.cols], room)
      native.write(factor.name, array, toFloat32('F32', bytes, name))
    }
  }
  return checkpoint.state
}

async function stateTensor(
  header: SafetensorsHeader,
  name: string,
  dtype: 'F32' | 'U8',
  shape: readonly number[],
  room: (bytes: number) => Uint8Array<ArrayBuffer>,
): Promise<Uint8Array> {
  const tensor = header.tensors.get(name)
  if (tensor?.dtype !== dtype || tensor.shape.join() !== shape.join())
    throw new ShapeError(
      `${header.path}: ${name} is ${tensor ? `${tensor.dtype} [${tensor.shape.join(', ')}]` : 'missing'}, expected ${dtype} [${shape.join(', ')}].`,
      { path: header.path, name },
    )
  return readTensor(header, name, room)
}

/** One buffer for tensors that are read one after the other: an array for each would soon be garbage by the megabyte. */
function reusedRoom(): (bytes: number) => Uint8Array<ArrayBuffer> {
  let buffer = new Uint8Array()
  return (bytes) => {
    if (buffer.length < bytes) buffer = new Uint8Array(bytes)
    return buffer.subarray(0, bytes)
  }
}

async function restoreAdapter(path: string, base: BaseModel, adapter: AdapterState): Promise<void> {
  const folder = await openAdapterFolder(path, base.sites, base.weights)
  if (JSON.stringify(folder.description.spec) !== JSON.stringify(adapter.description.spec))
    throw anotherAdapter(
      path,
      strategyToFile(folder.description.strategy),
      strategyToFile(adapter.description.strategy),
    )
  for await (const { name, values } of folder.parameters()) adapter.native.write(name, 'value', values)
}

/** From the factors beside a folder that holds the adapter in another form. */
async function restoreFactors(
  header: SafetensorsHeader,
  { native, description }: AdapterState,
): Promise<void> {
  const room = reusedRoom()
  for (const { name, rows, cols } of description.factors) {
    const bytes = await stateTensor(header, valueName(name), 'F32', [rows, cols], room)
    native.write(name, 'value', toFloat32('F32', bytes, name))
  }
}

async function restoreModel(path: string, adapter: AdapterState): Promise<void> {
  const { tensors } = await openModelFiles(path)
  for (const { name, tensor } of adapter.description.factors) {
    const source = tensors.get(name)
    if (source?.dtype !== 'F32' || source.shape.join() !== tensor?.shape.join())
      throw new ShapeError(
        `${path}: ${name} is ${source ? `${source.dtype} [${source.shape}]` : 'missing'}, expected F32 [${tensor?.shape}].`,
        { path, name },
      )
    const bytes = new Uint8Array(source.bytes)
    await withInputFile(source.file, (file) => readInto(file, bytes, source.offset))
    adapter.native.write(name, 'value', toFloat32(source.dtype, bytes, name))
  }
}

/** What a checkpoint says about itself. */
export interface Checkpoint {
  path: string
  state: TrainingState
  identity: RunIdentity
  /** What was trained, with the keys of config files. */
  strategy: Readonly<Record<string, unknown>>
}

/**
 * Reads where a checkpoint stands and what it was made from; its tensors are left alone.
 * @throws {FileFormatError} when it is not there, incomplete, damaged or of a newer version
 */
export async function readCheckpoint(path: string): Promise<Checkpoint> {
  if (!(await stat(path).catch(() => undefined))?.isDirectory())
    throw new FileFormatError(`there is no checkpoint at ${path}.`, { path })
  const missing = missingFile(path)
  if (missing !== undefined)
    throw new FileFormatError(
      `the checkpoint ${path} is incomplete: it has no ${missing}. Resume from an older one.`,
      { path, missing },
    )
  const file = join(path, STATE)
  const about = await readJsonObject(file, STATE_LIMIT)
  if (about.version !== VERSION)
    throw new FileFormatError(
      `${file}: version is ${JSON.stringify(about.version)}, and this lowrank reads version ${VERSION}; update lowrank.`,
      { path: file, version: about.version },
    )
  const numbers = (key: string, names: readonly string[]): number[] => {
    const object = key === '' ? about : ((about[key] ?? {}) as Record<string, unknown>)
    return names.map((name) => {
      const value = object[name]
      if (typeof value === 'number' && Number.isFinite(value) && value >= 0) return value
      const at = [key, name].filter(Boolean).join('.')
      throw new FileFormatError(`${file}: ${at} is ${JSON.stringify(value)}, expected a number from 0.`, {
        path: file,
        key: at,
        value,
      })
    })
  }
  const [step = 0, now = 0] = numbers('', ['step', 'now'])
  const [epoch = 0, microBatch = 0] = numbers('cursor', ['epoch', 'micro_batch'])
  const { digest } = about.cursor as { digest?: unknown }
  const names = ['tokens', 'supervised_tokens', 'loss_sum', 'seconds']
  const [tokens = 0, supervisedTokens = 0, lossSum = 0, seconds = 0] = numbers('totals', names)
  const options = (about.options ?? {}) as Record<string, unknown>
  if (hashOf(options) !== about.config)
    throw new FileFormatError(
      `${file}: options and their hash do not agree; the file was changed or damaged.`,
      {
        path: file,
      },
    )
  return {
    path,
    state: {
      step,
      cursor: { epoch, microBatch, ...(typeof digest === 'string' ? { digest } : {}) },
      totals: { tokens, supervisedTokens, lossSum, seconds },
      ...(about.rules === undefined ? {} : { rules: about.rules }),
    },
    strategy: (about.strategy ?? {}) as Readonly<Record<string, unknown>>,
    identity: { base: String(about.base), data: String(about.data), now, options },
  }
}

function checkIdentity(path: string, about: RunIdentity, identity: RunIdentity): void {
  const differ = (what: string, there: unknown, here: unknown, how: string) =>
    new ConfigError(`${path} cannot be resumed exactly: ${what} ${how}. ${remedy}`, {
      path,
      what,
      there,
      here,
    })
  const remedy = 'Restore it, or start a new run (from this checkpoint as an adapter, if you like).'
  for (const key of new Set([...Object.keys(about.options), ...Object.keys(identity.options)])) {
    const [there, here] = [about.options[key], identity.options[key]]
    if (canonical(there) !== canonical(here))
      throw differ(key, there, here, `is ${JSON.stringify(there)} there and ${JSON.stringify(here)} here`)
  }
  // Hashes, which tell nobody anything.
  for (const [what, key] of [
    ['the base model', 'base'],
    ['the training data', 'data'],
  ] as const)
    if (about[key] !== identity[key]) throw differ(what, about[key], identity[key], 'is not the same as then')
}

/**
 * The strategy of a checkpoint, in place of one that leaves open (as null) what its probe found out.
 * @throws {ConfigError} when the two differ in anything else
 */
export function resumedStrategy(asked: StrategyConfig, { path, strategy }: Checkpoint): StrategyConfig {
  const here = strategyToFile(asked)
  if (!agrees(here, strategy)) throw anotherAdapter(path, strategy, here)
  return strategyFrom(strategy, { name: path, spelling: 'snake' })
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

/** Names the options of the strategy that differ, as config files spell them. */
function anotherAdapter(
  path: string,
  there: Readonly<Record<string, unknown>>,
  here: Readonly<Record<string, unknown>>,
): ConfigError {
  const keys = Object.keys({ ...there, ...here }).filter(
    (key) => canonical(there[key]) !== canonical(here[key]),
  )
  const shown = (value: unknown) => JSON.stringify(value) ?? 'absent'
  const differences = keys.map(
    (key) => `strategy.${key} is ${shown(there[key])} there and ${shown(here[key])} here`,
  )
  return new ConfigError(
    `${path} holds another adapter than the one to be trained: ${differences.join(', ') || 'its tensors have other names or shapes'}.`,
    { path, there, here },
  )
}

/** The first file that a checkpoint lacks; undefined when it is whole. */
export function missingFile(path: string): string | undefined {
  const whole = existsSync(join(path, 'config.json'))
  const saved = whole ? [] : ['adapter_config.json', 'adapter_model.safetensors']
  return [...saved, TENSORS, STATE].find((name) => !existsSync(join(path, name)))
}

const followed = ({ native }: AdapterState, factor: string) => {
  const arrays = native.arrays(factor)
  return IMPORTANCES.filter((array) => arrays.includes(array))
}

const stateName = (factor: { name: string; tensor?: { name: string } }, array: string) =>
  `${array}.${factor.tensor?.name ?? factor.name}`

const valueName = (name: string) => `value.${name}`

/** JSON with sorted keys, so that equal options have equal text. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_, inner: unknown) =>
    typeof inner === 'object' && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  )
}

function hashOf(options: unknown): string {
  return createHash('sha256').update(canonical(options)).digest('hex')
}
