/** A language model in native memory: adapters are attached to it, it is evaluated and generates text. */

import * as z from 'zod'
import { Adapter } from './adapter.js'
import { type AdapterState, type BaseModel, withSession } from './base.js'
import { ConfigError, FileFormatError } from './errors.js'
import type { EncodeProgress } from './files/encode-dataset.js'
import { openModelFiles } from './files/model-files.js'
import { readRopeFactors } from './files/rope-factors.js'
import { loadTokenizer, type TokenizerSource } from './files/tokenizer.js'
import { readTokenizerSource } from './files/tokenizer-source.js'
import type { Graph } from './graph/graph.js'
import { MemoryReport } from './memory.js'
import { graphOf } from './models/index.js'
import { addon, type PlanOptions, type Precision } from './native/addon.js'
import { translated } from './native/errors.js'
import { Lifetime } from './native/handles.js'
import { openAdapterFolder } from './peft/adapter-folder.js'
import { parseOptions } from './schema.js'
import { type AdapterDescription, describeAdapter, fillOf, linearSites } from './strategies/describe.js'
import { rulesOf } from './strategies/index.js'
import { describeQuantization, type Quantization, sameQuantization } from './strategies/quantization.js'
import type { StrategyConfig } from './strategies/strategy.js'
import {
  type PrecisionOption,
  precisionSchema,
  quantizationOf,
  quantizationSchema,
  threadsSchema,
} from './train/config.js'
import { type DatasetConfig, dataset, prepareEvaluation } from './train/data.js'
import { type Evaluation, evaluateBatches } from './train/evaluate.js'
import { type GenerateOptions, type Generation, generateText, type Prompt } from './train/generate.js'
import { type TrainOptions, trainShape } from './train/options.js'
import { EVAL_PLAN, evaluationPlans } from './train/plans.js'
import { type LoadProgress, loadWeights, matchWeights, storageFormats } from './weights.js'

/** Options of `loadModel`. */
export interface LoadOptions {
  /** How the linears of the blocks are held: `none` (default), `nf4` (with double quantisation) or what `nf4()` returns. */
  quantization?: 'none' | 'nf4' | Quantization
  /** Of matrix operands: `fp32`, `bf16`, or `auto` (default), which is bf16 where the CPU multiplies it faster. */
  precision?: PrecisionOption
  /** Threads of the process's engine. Default `auto`: LOWRANK_THREADS, else what the process may use. */
  threads?: number | 'auto'
  /** Called after every tensor. */
  onProgress?: (progress: LoadProgress) => void
  /** Stops loading; the promise then rejects with the signal's reason. */
  signal?: AbortSignal
}

const loadSchema = z.strictObject({
  quantization: quantizationSchema.default('none'),
  precision: precisionSchema,
  threads: threadsSchema,
})

/**
 * Loads a model. Weights go from the file into their format piece by piece; the full-precision model is never in
 * memory.
 * @param path a folder with config.json and safetensors, or a .gguf file
 * @throws {FileFormatError} when files are missing, truncated or malformed
 * @throws {UnsupportedError} for an architecture or dtype that is not here
 * @example const model = await loadModel('models/SmolLM2-135M', { quantization: nf4() })
 */
export async function loadModel(path: string, options: LoadOptions = {}): Promise<Model> {
  const { onProgress, signal, ...rest } = options
  const given = parseOptions(loadSchema, rest, { name: 'loadModel()', spelling: 'camel' })
  signal?.throwIfAborted()
  const files = await openModelFiles(path)
  const graph = graphOf(files.config, await readRopeFactors(files))
  const sources = matchWeights(graph, files.tensors)
  setThreads(given.threads)
  const quantization = quantizationOf(given.quantization)
  const precision = resolvePrecision(given.precision)
  const exact = given.precision === 'fp32' && quantization.type === 'none'
  const dtypeOf = (name: string) => files.tensors.get(name)?.dtype ?? 'F32'
  const formats = storageFormats(graph, dtypeOf, { quantization, precision, exact })
  const native = translated(() => addon().createModel(graph))
  try {
    await loadWeights(native, sources, formats, {
      ...(onProgress ? { onProgress } : {}),
      ...(signal ? { signal } : {}),
    })
  } catch (error) {
    native.dispose()
    throw error
  }
  const source = once(() => readTokenizerSource(files))
  const lifetime = new Lifetime(`The model ${path}`, 'load it again with loadModel()')
  const sites = linearSites(graph)
  const tokenizer = once(async () => checkedTokenizer(await source(), graph))
  return new Model({
    name: path,
    files,
    graph,
    sites,
    native,
    formats,
    quantization,
    precision,
    lifetime,
    tokenizerSource: source,
    tokenizer,
  })
}

/** Options of `Model.attach`. */
export interface AttachOptions {
  /** Of the random initial values. Default 42. */
  seed?: number
}

/** Options of `Model.evaluate`; names and defaults are those of training. */
export type EvaluateOptions = Partial<
  Pick<TrainOptions, 'maxSeqLength' | 'perDeviceTrainBatchSize' | 'packing' | 'trainOn'>
> & {
  /** Adapters to evaluate with; default all that are attached, and `[]` is the base alone. */
  adapters?: readonly Adapter[]
  signal?: AbortSignal
  onDataProgress?: (progress: EncodeProgress) => void
}

const evaluateSchema = z.strictObject({
  maxSeqLength: trainShape.maxSeqLength,
  perDeviceTrainBatchSize: trainShape.perDeviceTrainBatchSize,
  packing: trainShape.packing,
  trainOn: trainShape.trainOn,
})

/** Options of `Model.generate` and `Model.stream`. */
export type TextOptions = Partial<GenerateOptions> & {
  /** Adapters to generate with; default all that are attached, and `[]` is the base alone. */
  adapters?: readonly Adapter[]
  signal?: AbortSignal
}

export class Model {
  /** As it was named when loaded. */
  readonly path: string
  /** Its config.json, or the same rebuilt from GGUF. */
  readonly config: Readonly<Record<string, unknown>>
  readonly quantization: Quantization
  readonly precision: Precision
  readonly #base: BaseModel
  readonly #adapters = new Set<Adapter>()

  /** @internal */
  constructor(base: BaseModel) {
    this.path = base.name
    this.config = base.files.config
    this.quantization = base.quantization
    this.precision = base.precision
    this.#base = base
  }

  /** Adapters now attached, in the order in which they came. */
  get adapters(): readonly Adapter[] {
    return [...this.#adapters]
  }

  /** Bytes held now for weights and adapters, by category. */
  get memory(): MemoryReport {
    this.#base.lifetime.check()
    const { graph, formats } = this.#base
    const adapters = this.adapters.map(({ state }) => ({
      spec: state.description.spec,
      trainable: state.trainable,
    }))
    return new MemoryReport(translated(() => addon().plan(graph, formats, adapters, {})))
  }

  /**
   * Attaches a new adapter, to be trained.
   * @throws {ConfigError} when its targets match nothing, or it stands for another quantisation than the model's
   */
  async attach(strategy: StrategyConfig, options: AttachOptions = {}): Promise<Adapter> {
    const { seed = 42 } = options
    const wanted = rulesOf(strategy).defaults(strategy).quantization
    if (wanted !== undefined && !sameQuantization(wanted, this.quantization))
      throw new ConfigError(
        `attach(): strategy ${strategy.name} stands for quantization ${describeQuantization(wanted)}, and the model was loaded with ${describeQuantization(this.quantization)}; load it with the former, or attach the inner adapter.`,
        { strategy: strategy.name },
      )
    const description = describeAdapter(strategy, this.#base.sites)
    return this.#base.lifetime.use(async () => {
      const state = createAdapter(description, true)
      for (const factor of description.factors) state.native.fill(factor.name, fillOf(factor, seed))
      return this.#add(state)
    })
  }

  /**
   * Loads a PEFT adapter folder.
   * @param options.trainable whether it is to be trained further; default false, which needs no memory for gradients
   * @throws {FileFormatError} when the folder is damaged or does not belong to this model
   * @throws {UnsupportedError} for kinds of adapters and settings that are not here
   */
  async loadAdapter(path: string, options: { trainable?: boolean } = {}): Promise<Adapter> {
    const folder = await openAdapterFolder(path, this.#base.sites)
    return this.#base.lifetime.use(async () => {
      const state = createAdapter(folder.description, options.trainable ?? false)
      try {
        for await (const { name, values } of folder.parameters()) state.native.write(name, 'value', values)
      } catch (error) {
        state.native.dispose()
        throw error
      }
      return this.#add(state)
    })
  }

  /** Whether it can be given messages: its files hold a chat template. */
  async hasChatTemplate(): Promise<boolean> {
    return (await this.#base.tokenizerSource()).chatTemplate !== undefined
  }

  /** Loss and perplexity over a dataset, with the attached adapters. */
  async evaluate(data: DatasetConfig | string, options: EvaluateOptions = {}): Promise<Evaluation> {
    const { adapters, signal, onDataProgress: onProgress, ...rest } = options
    const parsed = parseOptions(evaluateSchema, rest, { name: 'evaluate()', spelling: 'camel' })
    const config = typeof data === 'string' ? dataset(data) : data
    const control = { ...(signal ? { signal } : {}), ...(onProgress ? { onProgress } : {}) }
    const source = await prepareEvaluation(this.#base, config, parsed, control)
    const plans = evaluationPlans(parsed, this.precision)
    return withSession(this.#base, this.#chosen(adapters), plans, (session) =>
      evaluateBatches(session, EVAL_PLAN, source, signal),
    )
  }

  /**
   * Continues a text, or answers messages by the model's chat template, with the attached adapters.
   * @example (await model.generate([{ role: 'user', content: 'Hello' }], { maxNewTokens: 64 })).text
   */
  async generate(prompt: Prompt, options: TextOptions = {}): Promise<Generation> {
    const text = this.stream(prompt, options)
    for (;;) {
      const { done, value } = await text.next()
      if (done) return value
    }
  }

  /** The same, yielding text as it comes and returning the whole. */
  async *stream(prompt: Prompt, options: TextOptions = {}): AsyncGenerator<string, Generation, void> {
    const { adapters, ...rest } = options
    this.#base.lifetime.check()
    return yield* generateText(this.#base, this.#chosen(adapters), prompt, rest)
  }

  /**
   * Logits of every position of one sequence, with the attached adapters: row-major [tokens, vocabulary].
   * @throws {DataError} for an id outside the vocabulary
   */
  async logits(tokens: Int32Array, options: Pick<TextOptions, 'adapters'> = {}): Promise<Float32Array> {
    const length = Math.max(tokens.length, 1)
    const plan: PlanOptions = {
      mode: 'forward',
      tokens: length,
      sequences: 1,
      headRows: length,
      kvCapacity: length,
      precision: this.precision,
    }
    return withSession(this.#base, this.#chosen(options.adapters), { forward: plan }, async (session) => {
      const rows = Int32Array.from(tokens, (_, row) => row)
      const result = await session.forward('forward', { tokens, past: 0, rows, wantLogits: true }).promise
      return result.logits as Float32Array
    })
  }

  /** Frees the model and its adapters, after work in flight. Anything later throws DisposedError. */
  async dispose(): Promise<void> {
    await Promise.all(this.adapters.map((adapter) => adapter.detach()))
    await this.#base.lifetime.dispose(() => this.#base.native.dispose())
  }

  /** The same as `dispose`, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose()
  }

  #add(state: AdapterState): Adapter {
    const adapter = new Adapter(this.#base, state, (gone) => this.#adapters.delete(gone))
    this.#adapters.add(adapter)
    return adapter
  }

  #chosen(adapters: readonly Adapter[] | undefined): AdapterState[] {
    for (const adapter of adapters ?? [])
      if (!this.#adapters.has(adapter))
        throw new ConfigError(`an adapter that is not attached to the model ${this.path} was named for it.`)
    return (adapters ?? this.adapters).map((adapter) => adapter.state)
  }
}

/** The precision that `auto` stands for on this machine. */
export function resolvePrecision(option: PrecisionOption): Precision {
  if (option === 'fp32') return 'f32'
  return option === 'bf16' || addon().cpu().prefersBf16 ? 'bf16' : 'f32'
}

function createAdapter(description: AdapterDescription, trainable: boolean): AdapterState {
  return { description, trainable, native: addon().createAdapter(description.spec, { trainable }) }
}

function setThreads(threads: number | 'auto'): void {
  const asked = threads === 'auto' ? process.env.LOWRANK_THREADS : threads
  if (asked === undefined || asked === '') return
  const count = Number(asked)
  if (!Number.isInteger(count) || count < 1)
    throw new ConfigError(`LOWRANK_THREADS is ${JSON.stringify(asked)}, expected a positive integer.`, {
      asked,
    })
  addon().configure({ threads: count })
}

function checkedTokenizer(source: TokenizerSource, graph: Graph) {
  const tokenizer = loadTokenizer(source)
  if (tokenizer.vocabSize > graph.vocabSize)
    throw new FileFormatError(
      `the tokenizer has ${tokenizer.vocabSize} tokens and the model's embedding only ${graph.vocabSize} rows; they do not belong together.`,
      { tokens: tokenizer.vocabSize, rows: graph.vocabSize },
    )
  return tokenizer
}

function once<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined
  return () => {
    made ??= make()
    return made
  }
}
