/** A language model in native memory: adapters are attached to it, it is evaluated and generates text. */

import { basename, resolve } from 'node:path'
import * as z from 'zod'
import { type ActiveAdapter, type AdapterState, type BaseModel, withSession } from '../base/base.js'
import {
  abortSignal,
  badArgument,
  callback,
  checkedOptions,
  checkedPath,
  checkedText,
} from '../core/arguments.js'
import { breather } from '../core/breather.js'
import { ConfigError, DivergedError, FileFormatError } from '../core/errors.js'
import { once } from '../core/once.js'
import { flag, integer, nearest, text } from '../core/schema.js'
import { isRecord } from '../core/schema-shape.js'
import type { EncodeProgress } from '../data/encode-dataset.js'
import { WorkerTokenizer } from '../data/worker-tokenizer.js'
import {
  type ExportOptions,
  exportSchema,
  type SaveOptions,
  saveSchema,
  type Written,
} from '../export/options.js'
import { exportModel, saveModel } from '../export/save.js'
import { type ModelFiles, openModelFiles } from '../formats/model-files.js'
import type { PromptFormat } from '../formats/prompt-format.js'
import { readRopeFactors } from '../formats/rope-factors.js'
import type { Graph } from '../graph/graph.js'
import { type Located, locate } from '../hub/locate.js'
import { type HubOptions, hubShape } from '../hub/options.js'
import { graphOf } from '../models/index.js'
import { addon, type OptimizerState, type PlanOptions, type Precision } from '../native/addon.js'
import { translated } from '../native/errors.js'
import { Lifetime, Turns } from '../native/handles.js'
import { checkInBackward } from '../options/in-backward.js'
import { type TrainOptions, trainShape } from '../options/options.js'
import { withOwnRate } from '../options/rates.js'
import { openAdapterFolder } from '../peft/adapter-folder.js'
import { openGgufAdapter } from '../peft/gguf-adapter.js'
import { MemoryReport } from '../planning/memory-report.js'
import { EVAL_PLAN, evaluationPlans } from '../planning/plans.js'
import { describeAdapter, initialize, linearSites, weightSites } from '../strategies/describe.js'
import { readStrategy, rulesOf } from '../strategies/index.js'
import type { AdapterDescription, StrategyConfig } from '../strategies/strategy.js'
import { readTokenizerSource } from '../tokenizer/read-source.js'
import type { BatchSource } from '../train/batches.js'
import { type DataControl, prepareEvaluation } from '../train/data.js'
import { type DatasetArgument, type DatasetConfig, dataShape, datasetOf } from '../train/dataset.js'
import { type EvaluateProgress, type Evaluation, evaluateBatches } from '../train/evaluate.js'
import type { TrainStep } from '../train/events.js'
import { type ExactMatch, measureExactMatch } from '../train/exact-match.js'
import {
  checkedPrompt,
  type GenerateControl,
  type GenerateOptions,
  type Generation,
  generateText,
  type Prompt,
  textSchema,
} from '../train/generate.js'
import { type HeldOutShare, heldOutSchema } from '../train/held-out.js'
import { runProbe } from '../train/probe.js'
import { formatOf, isRecorded, type PromptOptions, rowPrompting, warnOfMismatch } from '../train/prompting.js'
import { type Answer, checkedAnswers, logLikelihoods, scoreSchema } from '../train/score.js'
import { storageChoice } from '../weights/choice.js'
import { holdWeights } from '../weights/held.js'
import {
  type PrecisionOption,
  pagedBudget,
  pagedWeightsSchema,
  precisionSchema,
  quantizationOf,
  quantizationSchema,
  threadsSchema,
} from '../weights/options.js'
import { describeQuantization, embeddingAsUsual, type Quantization } from '../weights/quantization.js'
import { type LoadProgress, matchWeights, quantizesAny, storageFormats } from '../weights/weights.js'
import { Adapter, checkedWeight, type TrainControl } from './adapter.js'
import { Chat, type ChatOptions } from './chat.js'

/** Options of `loadModel`. */
export interface LoadOptions extends HubOptions {
  /**
   * How the linears of the blocks are held: `none`, `nf4` or `fp4` (with double quantization), `int8`, or what `nf4()`,
   * `fp4()` and `int8()` return; `keep` leaves the blocks of a GGUF file as they are. Default: as the files of
   * bitsandbytes are, if they are that, else `defaultQuantization`.
   */
  quantization?: Quantization['type'] | Quantization
  /**
   * The same for embedding and head, which are one where they are tied. Default `none`, or `keep` where `quantization`
   * is that.
   */
  embeddingQuantization?: Quantization['type'] | Quantization
  /** For files that are not quantized, when `quantization` is absent. Default `none`. */
  defaultQuantization?: Quantization['type'] | Quantization
  /** Of matrix operands: `fp32`, `bf16`, or `auto` (default), which is bf16 where the CPU multiplies it faster. */
  precision?: PrecisionOption
  /**
   * Leave the weights in a file, with at most so many bytes of it in memory at a time, as in `2GiB`, so that a model may be
   * larger than memory; `true` chooses. Default false.
   */
  pagedWeights?: boolean | string
  /** Threads of the process's engine. Default `auto`: LOWRANK_THREADS, else what the process may use. */
  threads?: number | 'auto'
  /**
   * Keep the weights on the disk as they are held, where quantizing them took more than half a second, and map them from
   * there the next time. Default true; see `LOWRANK_WEIGHT_CACHE`.
   */
  cacheWeights?: boolean
  /** Called after every tensor. */
  onProgress?: (progress: LoadProgress) => void
  /**
   * Called with what is allowed and seldom meant in how the model is used, such as a chat with an adapter that was trained
   * on raw text; a sentence, each once. Default: `process.emitWarning`.
   */
  onWarning?: (message: string) => void
}

/** Of an adapter that was not trained yet. */
const NO_STATE: OptimizerState = { kind: 'sgd', momentum: false }

const MODEL = 'a folder, a .gguf file or a name on the hub'
const loadSchema = z.strictObject({
  quantization: quantizationSchema.optional(),
  embeddingQuantization: quantizationSchema.optional(),
  defaultQuantization: quantizationSchema.default('none'),
  precision: precisionSchema,
  pagedWeights: pagedWeightsSchema,
  threads: threadsSchema,
  cacheWeights: flag().default(true),
  onProgress: callback<NonNullable<LoadOptions['onProgress']>>().optional(),
  onWarning: callback<NonNullable<LoadOptions['onWarning']>>().optional(),
  ...hubShape,
})

/**
 * Loads a model. Weights go from the file into their format piece by piece; the full-precision model is never in
 * memory.
 * @param name a folder with config.json and safetensors, a .gguf file, or a name on the Hugging Face hub:
 * `owner/name`, `owner/name/file.gguf`, each also with `@revision`; what exists on disk goes first
 * @throws {FileFormatError} when files are missing, truncated or malformed
 * @throws {HubError} when the hub does not have it, does not give it, or cannot be reached
 * @throws {UnsupportedError} for an architecture or dtype that is not here
 * @example const model = await loadModel('HuggingFaceTB/SmolLM2-135M', { quantization: nf4() })
 */
export async function loadModel(name: string, options: LoadOptions = {}): Promise<Model> {
  checkedPath(name, 'loadModel()', 'name', MODEL)
  return new Model(await openBase(name, options))
}

async function openBase(name: string, options: LoadOptions): Promise<BaseModel> {
  const given = checkedOptions(loadSchema, options, 'loadModel()')
  const { onProgress, onDownload, onWarning, revision, signal } = given
  signal?.throwIfAborted()
  const located = await locate('model', name, { revision, onDownload, signal })
  const files = await openModelFiles(located.path)
  const breathe = breather()
  const graph = graphOf(files.config, await readRopeFactors(files))
  await breathe()
  const sources = matchWeights(graph, files.tensors)
  setThreads(given.threads)
  const dtypeOf = (name: string) => files.tensors.get(name)?.dtype ?? 'F32'
  const choice = storageChoice(name, graph, dtypeOf, given, quantizationOf(given.defaultQuantization))
  const { quantization, embeddingQuantization, precision } = choice
  await breathe()
  const formats = storageFormats(graph, dtypeOf, choice)
  const paged = pagedBudget(given.pagedWeights)
  const native = translated(() => addon().createModel(graph))
  try {
    const tables = embeddingAsUsual({ quantization, embeddingQuantization })
      ? ''
      : `-${embeddingQuantization.type}-embedding`
    const origin = {
      path: located.path,
      fingerprint: files.fingerprint,
      quantization: quantization.type + tables,
    }
    await holdWeights(
      { native, graph, sources, formats, origin },
      {
        // What is in the files as it is held is as good as a file of ours.
        cached: given.cacheWeights && quantizesAny(graph, dtypeOf, choice),
        kept: given.cacheWeights,
        paged,
        ...(onProgress ? { onProgress } : {}),
        ...(signal ? { signal } : {}),
      },
    )
  } catch (error) {
    await native.dispose()
    throw error
  }
  const source = once(() => readTokenizerSource(files))
  const lifetime = new Lifetime(`The model ${name}`, 'load it again with loadModel()')
  const sites = linearSites(graph)
  let made: Promise<WorkerTokenizer> | undefined
  const said = new Set<string>()
  return {
    ...originOf(located),
    files,
    graph,
    sites,
    weights: weightSites(graph),
    native,
    formats,
    quantization,
    embeddingQuantization,
    precision,
    lifetime,
    tokenizerSource: source,
    tokenizer: () => {
      made ??= openTokenizer(files, lifetime, graph)
      return made
    },
    closeTokenizer: async () => (await made?.catch(() => undefined))?.close(),
    warn: (message) => {
      if (said.has(message)) return
      said.add(message)
      if (onWarning) onWarning(message)
      else process.emitWarning(message, 'LowrankWarning')
    },
    reopen: openBase,
  }
}

/** What it is called in adapters that are trained on it. */
function originOf({ path, hub }: Located): Pick<BaseModel, 'name' | 'revision'> {
  if (hub === null) return { name: path, revision: null }
  return { name: hub.file === null ? hub.repo : `${hub.repo}/${hub.file}`, revision: hub.commit }
}

/** An adapter on a model, itself or its name, and what its output counts for: 1 where nothing is said, 0 is off. */
export type AdapterChoice = Adapter | string | { adapter: Adapter | string; weight: number }

/** Options of `Model.attach`. */
export interface AttachOptions {
  /** Unlike that of any other adapter on the model. Default: of the strategy, with a number if need be. */
  name?: string
  /** Of the random initial values. Default 42. */
  seed?: number
}

const attachSchema = z.strictObject({
  name: text('a text').optional(),
  seed: integer(0).default(42),
})

/** Options of `Model.probe`: those of the training that follows. */
export type ProbeOptions = Partial<TrainOptions> &
  Pick<TrainControl, 'evalDataset' | 'evalFraction' | 'signal' | 'onDataProgress'> & {
    /** Called after every step of the probe. */
    onStep?: (step: TrainStep) => void
  }

const probeSchema = z.strictObject({
  ...trainShape,
  ...dataShape,
  onStep: callback<NonNullable<ProbeOptions['onStep']>>().optional(),
})

/** Options of `Model.loadAdapter`. */
export interface LoadAdapterOptions extends HubOptions {
  /** Unlike that of any other adapter on the model. Default: of the folder, with a number if need be. */
  name?: string
  /** Whether it is to be trained further. Default false, which needs no memory for gradients. */
  trainable?: boolean
}

const loadAdapterSchema = z.strictObject({
  name: text('a text').optional(),
  trainable: flag().default(false),
  ...hubShape,
})

/** Options of `Model.evaluate`; names and defaults are those of training. */
export type EvaluateOptions = Partial<
  Pick<TrainOptions, 'maxSeqLength' | 'perDeviceTrainBatchSize' | 'packing' | 'trainOn' | 'logitsMemory'>
> & {
  /** Evaluate only the rows that a run with this `evalFraction` and `seed` held out. Default: all rows. */
  heldOut?: HeldOutShare
  /** Whether rows of prompt and completion go through the chat template. Default: as the adapter was trained, else true. */
  chatTemplate?: boolean
  /** Adapters to evaluate with; default all that are attached at their weights, and `[]` is the base alone. */
  adapters?: readonly AdapterChoice[]
  signal?: AbortSignal
  /** Called while the data is read. */
  onDataProgress?: (progress: EncodeProgress) => void
  /** Called after every batch. */
  onProgress?: (progress: EvaluateProgress) => void
}

/** The adapters of a call; which they are is read by the model. */
const adapters = z.unknown().optional()

/** Of evaluations of any kind. */
const evaluationShape = {
  heldOut: heldOutSchema.optional(),
  chatTemplate: flag().optional(),
  adapters,
  signal: abortSignal().optional(),
  onDataProgress: callback<NonNullable<EvaluateOptions['onDataProgress']>>().optional(),
  onProgress: callback<NonNullable<EvaluateOptions['onProgress']>>().optional(),
}
const evaluateSchema = z.strictObject({
  ...evaluationShape,
  maxSeqLength: trainShape.maxSeqLength,
  perDeviceTrainBatchSize: trainShape.perDeviceTrainBatchSize,
  packing: trainShape.packing,
  trainOn: trainShape.trainOn,
  logitsMemory: trainShape.logitsMemory,
})

/** Options of `Model.exactMatch`; names and defaults are those of training. */
export type ExactMatchOptions = Partial<Pick<TrainOptions, 'maxSeqLength' | 'trainOn'>> &
  Pick<EvaluateOptions, 'adapters' | 'signal' | 'onDataProgress' | 'onProgress' | 'chatTemplate' | 'heldOut'>

const exactMatchSchema = z.strictObject({
  ...evaluationShape,
  maxSeqLength: trainShape.maxSeqLength,
  trainOn: trainShape.trainOn,
})

/** Options of `Model.generate` and `Model.stream`. */
export type TextOptions = Partial<GenerateOptions> &
  GenerateControl &
  PromptOptions & {
    /** Adapters to generate with; default all that are attached at their weights, and `[]` is the base alone. */
    adapters?: readonly AdapterChoice[]
  }

const generationSchema = textSchema.extend({ adapters })
const likelihoodSchema = scoreSchema.extend({ adapters })
const logitsSchema = z.strictObject({ adapters })
const saveModelSchema = saveSchema.extend({ adapters })
const exportModelSchema = exportSchema.extend({ adapters })

const CHOICE = 'an adapter, its name, or { adapter, weight }'

/** A loaded model: answers, is evaluated, and takes adapters. Memory is held until `dispose()`. */
export class Model {
  /** Its path, or its name on the hub. */
  readonly path: string
  /** The commit on the hub that its files are of; null for what was named by its path. */
  readonly revision: string | null
  /** Its config.json, or the same rebuilt from GGUF. */
  readonly config: Readonly<Record<string, unknown>>
  readonly quantization: Quantization
  readonly embeddingQuantization: Quantization
  readonly precision: Precision
  readonly #base: BaseModel
  readonly #adapters = new Set<Adapter>()
  readonly #chats = new Set<Chat>()

  /** @internal */
  constructor(base: BaseModel) {
    this.path = base.name
    this.revision = base.revision
    this.config = base.files.config
    this.quantization = base.quantization
    this.embeddingQuantization = base.embeddingQuantization
    this.precision = base.precision
    this.#base = base
  }

  /** Adapters now attached, in the order in which they came. */
  get adapters(): readonly Adapter[] {
    return [...this.#adapters]
  }

  /**
   * The adapter of that name.
   * @throws {ConfigError} when there is none
   */
  adapter(name: string): Adapter {
    this.#base.lifetime.check()
    checkedText(name, 'adapter()', 'name', 'the name of an adapter')
    for (const adapter of this.#adapters) if (adapter.name === name) return adapter
    const names = this.adapters.map((adapter) => adapter.name)
    const near = nearest(name, names)
    const there = names.length === 0 ? 'it has none' : `it has ${names.join(', ')}`
    throw new ConfigError(
      `the model ${this.path} has no adapter ${name}; ${near === undefined ? there : `did you mean ${near}?`}`,
      { adapter: name, adapters: names },
    )
  }

  /**
   * Sets which adapters act from now on, by their weights: those that are named at what is given or else 1, the others
   * at 0. Without arguments that is the base alone. Nothing is loaded or freed, so switching costs nothing.
   * @throws {ConfigError} when one is not attached to this model or named twice, or a weight is no finite number
   * @example model.use('polite', { adapter: 'short', weight: 0.5 })
   */
  use(...choices: AdapterChoice[]): void {
    this.#base.lifetime.check()
    const chosen = this.#resolve(choices, 'use()', 'choices')
    for (const adapter of this.#adapters) adapter.weight = chosen.get(adapter) ?? 0
  }

  /** Bytes held now for weights and adapters, by category. */
  get memory(): MemoryReport {
    this.#base.lifetime.check()
    const adapters = this.adapters.map(({ state }) => ({
      adapter: state.native,
      state: state.optimizer ?? NO_STATE,
    }))
    return new MemoryReport(translated(() => this.#base.native.plan(adapters, {})))
  }

  /**
   * Attaches a new adapter, to be trained.
   * @throws {ConfigError} when its targets match nothing, or it stands for another quantization than the model's
   */
  async attach(strategy: StrategyConfig, options: AttachOptions = {}): Promise<Adapter> {
    this.#base.lifetime.check()
    const { seed, name } = checkedOptions(attachSchema, options, 'attach()')
    const breathe = breather()
    // Programs in plain JavaScript may have written it by hand.
    const config = readStrategy(strategy, { name: 'attach()', spelling: 'camel', at: 'strategy' })
    this.#checkName(name)
    this.#checkStandsFor(config)
    if (rulesOf(config).probe?.(config) !== undefined)
      throw new ConfigError(
        `attach(): strategy ${config.name} is not ready: it takes a look at the data first. Attach what model.probe() makes of it.`,
        { strategy: config.name },
      )
    await breathe()
    const description = describeAdapter(config, this.#base.sites, { weights: this.#base.weights })
    return this.#base.lifetime.use(async () => {
      await breathe()
      const state = createAdapter(description)
      await breathe()
      try {
        await initialize(state.native, description, this.#base, seed)
      } catch (error) {
        await state.native.dispose()
        throw error
      }
      await breathe()
      return this.#add(name ?? config.name, state)
    })
  }

  /**
   * Makes a strategy ready that takes a look at the data before it is trained, such as `loraDrop()`: trains an adapter on
   * a sample of the data, measures it, and lets it go. Others are returned as they are. Options are those of the training
   * that is to follow; what they hold out is left out here too.
   * @returns the strategy to attach
   * @throws {ConfigError} for data that is streamed, or options out of range
   * @example const adapter = await model.attach(await model.probe(loraDrop(), 'train.jsonl'))
   */
  async probe(
    strategy: StrategyConfig,
    data: DatasetArgument,
    options: ProbeOptions = {},
  ): Promise<StrategyConfig> {
    this.#base.lifetime.check()
    const config = readStrategy(strategy, { name: 'probe()', spelling: 'camel', at: 'strategy' })
    const asked = checkedOptions(probeSchema, options, 'probe()')
    const { evalDataset, evalFraction, signal, onDataProgress, onStep, ...own } = asked
    const parsed = withOwnRate(own, config)
    checkInBackward(parsed, config, { name: 'probe()', spelling: 'camel' })
    const sources = {
      dataset: datasetOf(data, 'probe()'),
      evalDataset: evalDataset == null ? null : datasetOf(evalDataset, 'probe()', 'evalDataset'),
      evalFraction,
    }
    const probe = rulesOf(config).probe?.(config)
    if (probe === undefined) return config
    return runProbe(
      this.#base,
      probe,
      sources,
      { ...parsed, optimizer: parsed.optimizer ?? 'adamw' },
      createAdapter,
      {
        ...(signal ? { signal } : {}),
        ...(onDataProgress ? { onProgress: onDataProgress } : {}),
        ...(onStep ? { onStep } : {}),
      },
    )
  }

  /**
   * Loads a PEFT adapter. It acts at once, beside those that are there; `use` and weights choose among them.
   * @param from a folder, or a name on the Hugging Face hub: `owner/name`, also with `@revision`
   * @throws {FileFormatError} when the folder is damaged or does not belong to this model
   * @throws {HubError} when the hub does not have it, does not give it, or cannot be reached
   * @throws {UnsupportedError} for kinds of adapters and settings that are not here
   */
  async loadAdapter(from: string, options: LoadAdapterOptions = {}): Promise<Adapter> {
    this.#base.lifetime.check()
    const given = checkedOptions(loadAdapterSchema, options, 'loadAdapter()')
    const { name, trainable, ...hubOptions } = given
    checkedPath(from, 'loadAdapter()', 'from', 'a folder, a .gguf file or a name on the hub')
    this.#checkName(name)
    const { path, hub } = await locate('adapter', from, hubOptions)
    const { graph, sites, weights } = this.#base
    const folder = path.endsWith('.gguf')
      ? await openGgufAdapter(path, graph, sites)
      : await openAdapterFolder(path, sites, weights)
    return this.#base.lifetime.use(async () => {
      const state = createAdapter(folder.description, {
        trainable,
        trainedOn: folder.baseFingerprint,
        format: folder.format ?? 'unrecorded',
        privacy: folder.privacy,
      })
      try {
        const unsaved = folder.description.factors.filter(({ tensor }) => tensor === undefined)
        await initialize(state.native, { factors: unsaved, starts: [] }, this.#base, 0)
        for await (const { name, values } of folder.parameters()) state.native.write(name, 'value', values)
      } catch (error) {
        await state.native.dispose()
        throw error
      }
      return this.#add(name ?? basename(hub?.repo ?? resolve(path)), state)
    })
  }

  /** How prompts are put to it by default: as the adapters that act were trained, else the model; null: nothing says so. */
  get promptFormat(): PromptFormat | null {
    const format = formatOf(this.#base, this.#acting())
    return isRecorded(format) ? format : null
  }

  /** Whether it can be given messages: its files hold a chat template. */
  async hasChatTemplate(): Promise<boolean> {
    return (await this.#base.tokenizer()).about.source.chatTemplate !== undefined
  }

  /**
   * Loss and perplexity over a dataset, with the attached adapters.
   * @throws {DivergedError} when the loss is no finite number
   */
  async evaluate(data: DatasetArgument, options: EvaluateOptions = {}): Promise<Evaluation> {
    this.#base.lifetime.check()
    const given = checkedOptions(evaluateSchema, options, 'evaluate()')
    const { adapters, signal, onDataProgress, onProgress, chatTemplate, heldOut, ...parsed } = given
    const config = datasetOf(data, 'evaluate()')
    const control = {
      ...(signal ? { signal } : {}),
      ...(onDataProgress ? { onProgress: onDataProgress } : {}),
    }
    const chosen = this.#chosen(adapters, 'evaluate()')
    const source = await this.#read(config, chosen, { ...parsed, chatTemplate, heldOut }, control)
    const plans = evaluationPlans(parsed, this.precision)
    const found = await withSession(this.#base, chosen, plans, (session) =>
      evaluateBatches(session, EVAL_PLAN, source, { signal, onProgress }),
    )
    if (Number.isFinite(found.loss)) return found
    throw new DivergedError(
      `the loss of ${this.#base.name} on ${config.path} is ${found.loss}: the weights or an adapter hold values that are not finite, or so large that sums of them overflow.`,
      { model: this.#base.name, dataset: config.path, loss: String(found.loss) },
    )
  }

  /**
   * The share of a dataset's rows that the model answers word for word by greedy generation, and the share of its
   * supervised tokens that it predicts, with the attached adapters.
   * It takes one forward pass for each row.
   * @example (await model.exactMatch('test.jsonl')).exactMatch
   */
  async exactMatch(data: DatasetArgument, options: ExactMatchOptions = {}): Promise<ExactMatch> {
    this.#base.lifetime.check()
    const given = checkedOptions(exactMatchSchema, options, 'exactMatch()')
    const { adapters, signal, onDataProgress, onProgress, chatTemplate, heldOut, ...parsed } = given
    const shape = { ...parsed, perDeviceTrainBatchSize: 1, packing: false, chatTemplate, heldOut }
    const control = {
      ...(signal ? { signal } : {}),
      ...(onDataProgress ? { onProgress: onDataProgress } : {}),
    }
    const config = datasetOf(data, 'exactMatch()')
    const chosen = this.#chosen(adapters, 'exactMatch()')
    const source = await this.#read(config, chosen, shape, control)
    return measureExactMatch(this.#base, chosen, source, parsed.maxSeqLength, {
      signal,
      onProgress,
    })
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
    this.#base.lifetime.check()
    const { adapters, ...given } = checkedOptions(generationSchema, options, 'generate()')
    checkedPrompt(prompt, 'generate()')
    return yield* generateText(this.#base, this.#chosen(adapters, 'generate()'), prompt, given)
  }

  /**
   * Starts a conversation, which keeps its turns and what was computed for them. Its answers are given with the adapters
   * that act when they begin.
   * @throws {ConfigError} for an option out of range
   * @example const chat = await model.chat({ system: 'Be brief.' })
   */
  async chat(options: ChatOptions = {}): Promise<Chat> {
    this.#base.lifetime.check()
    const chat = await Chat.open(
      this.#base,
      () => this.#acting(),
      options,
      (closed) => this.#chats.delete(closed),
    )
    this.#chats.add(chat)
    return chat
  }

  /**
   * How likely answers are: of each the logarithm of the probability of its completion, and of the end after it, given
   * its prompt, in nats. The likeliest of several label words is what a model classifies as.
   * @throws {DataError} for an answer without tokens, or one longer than `maxSeqLength` (default 512)
   * @example const [yes, no] = await model.logLikelihoods([' yes', ' no'].map((completion) => ({ prompt, completion })))
   */
  async logLikelihoods(
    answers: readonly Answer[],
    options: Pick<TextOptions, 'adapters' | 'chatTemplate'> & {
      maxSeqLength?: number
      signal?: AbortSignal | undefined
    } = {},
  ): Promise<number[]> {
    this.#base.lifetime.check()
    const name = 'logLikelihoods()'
    const { adapters, ...given } = checkedOptions(likelihoodSchema, options, name)
    checkedAnswers(answers, name)
    return logLikelihoods(this.#base, this.#chosen(adapters, name), answers, given)
  }

  /**
   * Logits of every position of one sequence, with the attached adapters: row-major [tokens, vocabulary].
   * @throws {DataError} for an id outside the vocabulary
   */
  async logits(tokens: Int32Array, options: Pick<TextOptions, 'adapters'> = {}): Promise<Float32Array> {
    this.#base.lifetime.check()
    const { adapters } = checkedOptions(logitsSchema, options, 'logits()')
    if (!(tokens instanceof Int32Array))
      throw badArgument(tokens, 'logits()', 'tokens', 'an Int32Array of token ids')
    const length = Math.max(tokens.length, 1)
    const plan: PlanOptions = {
      mode: 'forward',
      tokens: length,
      sequences: 1,
      headRows: length,
      kvCapacity: length,
      precision: this.precision,
    }
    return withSession(this.#base, this.#chosen(adapters, 'logits()'), { forward: plan }, async (session) => {
      const rows = Int32Array.from(tokens, (_, row) => row)
      const result = await session.forward('forward', { tokens, past: 0, rows, wantLogits: true }).promise
      return result.logits as Float32Array
    })
  }

  /**
   * Writes the model, with what its adapters add merged in, as a Hugging Face folder; the adapters stay as they are.
   * Then it loads what it wrote and says how far that is from the model, unless `check` is false.
   * @throws {ConfigError} when the place is taken, or a number does not fit the dtype
   * @throws {WriteError} when the disk refuses; nothing is left half written
   * @example const { check } = await model.save('merged', { dtype: 'bf16' })
   */
  async save(
    folder: string,
    options: SaveOptions & { adapters?: readonly AdapterChoice[] } = {},
  ): Promise<Written> {
    this.#base.lifetime.check()
    const { adapters, ...given } = checkedOptions(saveModelSchema, options, 'save()')
    const chosen = this.#chosen(adapters, 'save()')
    return saveModel({ base: this.#base, adapters: chosen }, folder, given, 'save()')
  }

  /**
   * Writes the model with what its adapters add, or its adapter alone, in a form that other programs read. Then it loads
   * what it wrote and says how far that is from the model, unless `check` is false.
   * @throws {ConfigError} when the place is taken, or options do not go together
   * @throws {UnsupportedError} for a model, tokenizer or adapter that the format cannot say
   * @throws {WriteError} when the disk refuses; nothing is left half written
   * @example await model.export('model.gguf', { format: 'gguf', dtype: 'q8_0' })
   */
  async export(
    path: string,
    options: ExportOptions & { adapters?: readonly AdapterChoice[] },
  ): Promise<Written> {
    this.#base.lifetime.check()
    const { adapters, ...given } = checkedOptions(exportModelSchema, options, 'export()')
    const chosen = this.#chosen(adapters, 'export()')
    return exportModel({ base: this.#base, adapters: chosen }, path, given, 'export()')
  }

  /** Frees the model with its adapters and chats, after work in flight. Anything later throws DisposedError. */
  async dispose(): Promise<void> {
    await Promise.all([...this.#chats].map((chat) => chat.dispose()))
    await Promise.all(this.adapters.map((adapter) => adapter.detach()))
    await this.#base.lifetime.dispose(async () => {
      await this.#base.closeTokenizer()
      await this.#base.native.dispose()
    })
  }

  /** The same as `dispose`, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose()
  }

  /** Data for an evaluation, put as the adapters were trained. */
  async #read(
    data: DatasetConfig,
    adapters: readonly ActiveAdapter[],
    {
      chatTemplate,
      ...shape
    }: Parameters<typeof prepareEvaluation>[2] & {
      chatTemplate?: boolean | undefined
    },
    control: DataControl,
  ): Promise<BatchSource> {
    const format = formatOf(this.#base, adapters)
    const prompting = rowPrompting(format, { chatTemplate })
    const read = await prepareEvaluation(this.#base, data, { ...shape, prompting }, control)
    // Plain text is no prompt, whatever the adapter was trained on.
    if (read.format?.form === 'chat' || chatTemplate === false)
      warnOfMismatch(this.#base, format, read.format?.form ?? 'raw')
    return read.source
  }

  /** Another may have taken the name while this one was being read: then it gets a number, as without a name. */
  #add(wanted: string, state: AdapterState): Adapter {
    const taken = new Set(this.adapters.map(({ name }) => name))
    let name = wanted
    for (let number = 2; taken.has(name); number++) name = `${wanted}-${number}`
    const adapter = new Adapter(name, this.#base, state, (gone) => {
      this.#adapters.delete(gone)
      for (const chat of this.#chats) chat.releaseCache()
    })
    this.#adapters.add(adapter)
    return adapter
  }

  #checkName(name: string | undefined): void {
    if (this.adapters.some((adapter) => adapter.name === name))
      throw new ConfigError(
        `the model ${this.path} has an adapter ${name} already; give this one another name, or detach that one.`,
        { adapter: name },
      )
  }

  /** @throws {ConfigError} when the strategy stands for another quantization than the model's */
  #checkStandsFor(strategy: StrategyConfig): void {
    const defaults = rulesOf(strategy).defaults(strategy)
    for (const key of ['quantization', 'embeddingQuantization'] as const) {
      const wanted = defaults[key]
      if (wanted === undefined || wanted.type === this[key].type) continue
      throw new ConfigError(
        `attach(): strategy ${strategy.name} stands for ${key} ${describeQuantization(wanted)}, and the model was loaded with ${describeQuantization(this[key])}; load it with the former, or attach ${key === 'quantization' ? 'the inner adapter' : 'another strategy'}.`,
        { strategy: strategy.name },
      )
    }
  }

  /** The adapters of a choice with their weights. */
  #resolve(choices: unknown, name: string, argument: string): Map<Adapter, number> {
    if (!Array.isArray(choices)) throw badArgument(choices, name, argument, `a list, each item ${CHOICE}`)
    const chosen = new Map<Adapter, number>()
    for (const [index, choice] of choices.entries()) {
      const weighted = isRecord(choice) && 'adapter' in choice
      const named = weighted ? choice.adapter : choice
      const adapter = typeof named === 'string' ? this.adapter(named) : named
      if (!(adapter instanceof Adapter)) throw badArgument(choice, name, `${argument}.${index}`, CHOICE)
      if (!this.#adapters.has(adapter)) {
        void adapter.state // throws if it was detached, which says more
        throw new ConfigError(
          `the adapter ${adapter.name} is not attached to the model ${this.path}; load it there with loadAdapter().`,
        )
      }
      if (chosen.has(adapter))
        throw new ConfigError(`the adapter ${adapter.name} is named twice; name it once, with one weight.`)
      chosen.set(adapter, weighted ? checkedWeight(choice.weight, adapter.name) : 1)
    }
    return chosen
  }

  /** Those that act, by their weights. */
  #acting(): ActiveAdapter[] {
    return this.#active(this.adapters.map((adapter) => [adapter, adapter.weight]))
  }

  /** Those of the option `adapters` of a function, else those that act. */
  #chosen(choices: unknown, name: string): ActiveAdapter[] {
    return choices === undefined ? this.#acting() : this.#active(this.#resolve(choices, name, 'adapters'))
  }

  #active(chosen: Iterable<readonly [Adapter, number]>): ActiveAdapter[] {
    return [...chosen].flatMap(([adapter, weight]) =>
      weight === 0 ? [] : [{ state: adapter.state, weight, rank: adapter.rank }],
    )
  }
}

function createAdapter(
  description: AdapterDescription,
  about: Pick<AdapterState, 'trainable' | 'trainedOn' | 'privacy' | 'format'> = {
    trainable: true,
    trainedOn: null,
    format: null,
    privacy: [],
  },
): AdapterState {
  const native = addon().createAdapter(description.spec, { trainable: about.trainable })
  return { description, ...about, optimizer: null, native, version: 0, turns: new Turns() }
}

function setThreads(threads: number | 'auto'): void {
  const asked = threads === 'auto' ? process.env.LOWRANK_THREADS : threads
  if (asked === undefined || asked === '') return
  const count = Number(asked)
  if (!Number.isInteger(count) || count < 1)
    throw new ConfigError(`LOWRANK_THREADS is ${JSON.stringify(asked)}, expected a positive integer.`, {
      asked,
    })
  translated(() => addon().configure({ threads: count }))
}

async function openTokenizer(
  { kind, path }: ModelFiles,
  lifetime: Lifetime,
  { vocabSize: rows }: Graph,
): Promise<WorkerTokenizer> {
  const tokenizer = await WorkerTokenizer.open({ kind, path }, lifetime)
  const { vocabSize: tokens } = tokenizer.about
  if (tokens <= rows) return tokenizer
  await tokenizer.close()
  throw new FileFormatError(
    `the tokenizer has ${tokens} tokens and the model's embedding only ${rows} rows; they do not belong together.`,
    { tokens, rows },
  )
}
