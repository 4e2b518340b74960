/**
 * A process that times training steps of small models with synthetic weights: it reads the models as JSON from stdin
 * and writes the times to stdout. A separate process returns all its memory, and its CPU time covers only the steps.
 */
import { closeSync, openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { GGML_TYPES_BY_NAME } from '../formats/ggml-types.js'
import { isBlockDtype, type TensorSource } from '../formats/tensor-source.js'
import type { Graph, GraphWeight } from '../graph/graph.js'
import {
  type AdapterSpec,
  addon,
  type NativeAdapter,
  type NativeModel,
  type NativeSession,
  type OptimizerStep,
  type PlanOptions,
  type StateSpec,
  type StorageFormat,
} from '../native/addon.js'
import { initialize } from '../strategies/describe.js'
import type { Factor } from '../strategies/strategy.js'

/** A model to time, serializable as JSON. */
export interface Trial {
  graph: Graph
  formats: Record<string, StorageFormat>
  spec: AdapterSpec
  factors: Factor[]
  plan: PlanOptions
  state: StateSpec
  /** Tokens per sequence. */
  length: number
  update: Omit<OptimizerStep, 'step'>
}

export interface TrialRequest {
  threads: number
  trials: Trial[]
  /** Folder for temporary files. */
  folder: string
  /** Time after which no further round starts. */
  seconds: number
}

/** Seconds per micro-batch and per update. */
export type TrialTimes = { microBatch: number; update: number }[]

/** Minimum number of rounds, however long they take. */
const LEAST_ROUNDS = 3
const PLAN = 'train'

/** Windows measures CPU time in units of 16 ms, too coarse for an update. */
const CPU_TIME_IS_FINE = process.platform !== 'win32'

/** Elapsed time, or CPU time per thread if lower: other processes can inflate either, but not reduce them. */
async function secondsOf(threads: number, work: () => Promise<unknown>): Promise<number> {
  const begin = performance.now()
  const before = process.cpuUsage()
  await work()
  const { user, system } = process.cpuUsage(before)
  const seconds = (performance.now() - begin) / 1e3
  return CPU_TIME_IS_FINE ? Math.min(seconds, (user + system) / 1e6 / threads) : seconds
}

/** Period of the random data in a file of synthetic weights. */
const NOISE_BYTES = 1 << 20

/** Random weights: files of numbers with magnitudes typical of weights, shared by all weights. */
class Noise {
  readonly #folder: string

  constructor(folder: string, trials: readonly Trial[]) {
    this.#folder = folder
    const sources = trials.flatMap(({ graph, formats }) =>
      graph.weights.map((weight) => this.sourceOf(weight, formats[weight.name] as StorageFormat)),
    )
    for (const file of new Set(sources.map((source) => source.file))) {
      const largest = Math.max(...sources.map((source) => (source.file === file ? source.bytes : 0)))
      const handle = openSync(file, 'w')
      const noise = file.endsWith('.blocks') ? noiseOf(0x1f, 0) : noiseOf(0x3c, 0x80)
      for (let done = 0; done < largest; done += NOISE_BYTES)
        writeSync(handle, noise, 0, Math.min(NOISE_BYTES, largest - done))
      closeSync(handle)
    }
  }

  sourceOf({ name, rows, cols, kind }: GraphWeight, format: StorageFormat): TensorSource {
    const dtype = format.toUpperCase()
    const block = isBlockDtype(dtype) ? GGML_TYPES_BY_NAME.get(dtype) : undefined
    const bytes = block ? (rows * cols * block.blockBytes) / block.blockElements : 2 * rows * cols
    return {
      ...{ name, file: join(this.#folder, block ? 'weights.blocks' : 'weights.bf16'), offset: 0, bytes },
      dtype: block && isBlockDtype(dtype) ? dtype : 'BF16',
      shape: kind === 'vector' ? [rows * cols] : [rows, cols],
    }
  }
}

/**
 * Bytes that alternate between random and nearly constant: the constant ones are the upper bytes of bf16 values near
 * 0.01, or of anything in a block that may be an f16 scale.
 */
function noiseOf(upper: number, sign: number): Uint8Array {
  const bytes = new Uint8Array(NOISE_BYTES)
  let state = 1
  for (let i = 0; i < bytes.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    bytes[i] = i % 2 === 0 ? state >>> 24 : upper | ((state >>> 20) & sign)
  }
  return bytes
}

class Runner {
  readonly #trial: Trial
  readonly #adapter: NativeAdapter
  readonly #session: NativeSession
  readonly #tokens: Int32Array
  #step = 0

  private constructor(trial: Trial, adapter: NativeAdapter, session: NativeSession) {
    this.#trial = trial
    this.#adapter = adapter
    this.#session = session
    this.#tokens = Int32Array.from(
      { length: trial.plan.tokens },
      (_, i) => (Math.imul(i, 2654435761) >>> 0) % trial.graph.vocabSize,
    )
  }

  static async open(trial: Trial, noise: Noise): Promise<Runner> {
    const { graph, formats, spec, factors, plan, state } = trial
    const model: NativeModel = addon().createModel(graph)
    for (const weight of graph.weights) {
      const format = formats[weight.name] as StorageFormat
      await model.loadWeight(weight.name, noise.sourceOf(weight, format), format).promise
    }
    const adapter = addon().createAdapter(spec, { trainable: true, state })
    const base = {
      native: model,
      graph,
      files: { tensors: new Map() },
      quantization: { type: 'none' } as const,
    }
    await initialize(adapter, { factors, starts: [] }, base, 0)
    return new Runner(trial, adapter, await addon().createSession(model, [adapter], { [PLAN]: plan }).promise)
  }

  /** Runs one step with one micro-batch. */
  async step(threads: number): Promise<TrialTimes[number]> {
    const { plan, length, update, state } = this.#trial
    const tokens = this.#tokens
    const made = { ...update, step: ++this.#step }
    const input = {
      ...{ tokens, labels: tokens, seed: 0, step: this.#step, microStep: 0 },
      cuSeqlens: Int32Array.from({ length: plan.tokens / length + 1 }, (_, i) => i * length),
      lossScale: 1 / tokens.length,
      ...(state.inBackward ? { update: made } : {}),
    }
    const microBatch = await secondsOf(threads, () => this.#session.trainStep(PLAN, input).promise)
    if (state.inBackward) return { microBatch, update: 0 }
    return { microBatch, update: await secondsOf(threads, () => this.#adapter.optimizerStep(made).promise) }
  }
}

/** The shortest times over all rounds. */
async function timesOf({ threads, trials, folder, seconds }: TrialRequest): Promise<TrialTimes> {
  addon().configure({ threads })
  const noise = new Noise(folder, trials)
  const runners: Runner[] = []
  for (const trial of trials) runners.push(await Runner.open(trial, noise))
  // A warm-up step, since it touches memory for the first time.
  for (const runner of runners) await runner.step(threads)
  const best: TrialTimes = trials.map(() => ({ microBatch: Infinity, update: Infinity }))
  const begin = performance.now()
  for (let round = 0; round < LEAST_ROUNDS || performance.now() - begin < 1e3 * seconds; round++)
    // Alternate between models, so that temporary load slows all of them.
    for (const [i, runner] of runners.entries()) {
      const { microBatch, update } = await runner.step(threads)
      const least = best[i] as TrialTimes[number]
      least.microBatch = Math.min(least.microBatch, microBatch)
      least.update = Math.min(least.update, update)
    }
  return best
}

async function main(): Promise<void> {
  const request = JSON.parse(await text(process.stdin)) as TrialRequest
  process.stdout.write(JSON.stringify(await timesOf(request)))
}

void main()
