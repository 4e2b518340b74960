/** A language model in native memory, to which adapters are attached; it can be evaluated and generates text. */

import { basename, resolve } from 'node:path'
import { type ActiveAdapter, type BaseModel, checkWritesText, withSession } from '../base/base.js'
import { badArgument, checkedOptions, checkedPath, checkedText } from '../core/arguments.js'
import { breather } from '../core/breather.js'
import { ConfigError, DivergedError } from '../core/errors.js'
import type { ExportOptions, SaveOptions, Written } from '../export/options.js'
import { exportModel, saveModel } from '../export/save.js'
import type { PromptFormat } from '../formats/prompt-format.js'
import { locate } from '../hub/locate.js'
import type { Pair, Row } from '../losses/token-rows.js'
import type { Device, OptimizerState, PlanOptions, Precision } from '../native/addon.js'
import { translated } from '../native/errors.js'
import { checkInBackward } from '../options/in-backward.js'
import { withOwnRate } from '../options/rates.js'
import { MemoryReport } from '../planning/memory-report.js'
import { EVAL_PLAN, evaluationPlans } from '../planning/plans.js'
import { readStrategy, rulesOf } from '../strategies/index.js'
import type { StrategyConfig } from '../strategies/strategy.js'
import type { Task } from '../tasks/index.js'
import { type Classified, checkHead, classifyTexts } from '../train/answers/classify.js'
import { checkedPrompt, type Generation, generateText, type Prompt } from '../train/answers/generate.js'
import { type Sample, sampleAnswers } from '../train/answers/sampled-answers.js'
import { type Answer, checkedAnswers, logLikelihoods } from '../train/answers/score.js'
import { type ExactMatch, measureExactMatch } from '../train/measures/exact-match.js'
import { type AnswerF1, measureWordF1 } from '../train/measures/word-f1.js'
import { evaluateClasses } from '../train/objectives/classification.js'
import { presentRanks } from '../train/processes/processes.js'
import { type DataControl, encodeFile, prepareEvaluation } from '../train/rows/data.js'
import { formatOf, isRecorded, rowPrompting, warnOfMismatch } from '../train/rows/prompting.js'
import { agreeToEvaluate, sharedWith } from '../train/run/agreement.js'
import { runProbe } from '../train/run/probe.js'
import {
  checkTaskData,
  type DatasetArgument,
  type DatasetConfig,
  datasetOf,
} from '../train/sources/data-sources.js'
import { type Evaluation, evaluateBatches } from '../train/steps/evaluate.js'
import type { Quantization } from '../weights/quantization.js'
import type { Adapter } from './adapter.js'
import { attachedState, checkStandsFor, createAdapter, newState, openAdapter } from './attach.js'
import { AttachedAdapters } from './attached.js'
import { Chat, type ChatOptions } from './chat.js'
import { EncodedRows } from './encoded-rows.js'
import {
  type AdapterChoice,
  type AttachOptions,
  attachSchema,
  type ClassifyOptions,
  classifySchema,
  type EncodeRowsOptions,
  type EvaluateOptions,
  type ExactMatchOptions,
  encodeRowsSchema,
  evaluateSchema,
  exactMatchSchema,
  exportModelSchema,
  generationSchema,
  type LoadAdapterOptions,
  likelihoodSchema,
  loadAdapterSchema,
  logitsSchema,
  type ProbeOptions,
  probeSchema,
  type SampleOptions,
  sampleSchema,
  saveModelSchema,
  type TextOptions,
} from './options.js'
import { ModelTokenizer } from './tokenizer.js'

/** Optimizer state of an adapter that has not been trained yet. */
const NO_STATE: OptimizerState = { kind: 'sgd', momentum: false }

/** A loaded model: generates text, can be evaluated, and accepts adapters. Holds memory until `dispose()`. */
export class Model {
  /** Local path of the model, or its name on the Hub. */
  readonly path: string
  /** Commit of the model's files on the Hub; null for a local path. */
  readonly revision: string | null
  /** The model's config.json; for GGUF files, an equivalent rebuilt from their metadata. */
  readonly config: Readonly<Record<string, unknown>>
  /** Class names of a classifier; null for a language model. */
  readonly labels: readonly string[] | null
  readonly quantization: Quantization
  readonly embeddingQuantization: Quantization
  readonly precision: Precision
  /** Device the model runs on: `cpu`, or `cuda:N`. */
  readonly device: Device
  readonly #base: BaseModel
  readonly #adapters: AttachedAdapters
  readonly #tokenizer: ModelTokenizer
  readonly #chats = new Set<Chat>()

  /** @internal */
  constructor(base: BaseModel) {
    this.path = base.name
    this.revision = base.revision
    this.config = base.files.config
    this.labels = base.labels
    this.quantization = base.quantization
    this.embeddingQuantization = base.embeddingQuantization
    this.precision = base.precision
    this.device = base.device
    this.#base = base
    this.#tokenizer = new ModelTokenizer(base)
    this.#adapters = new AttachedAdapters(base, () => {
      for (const chat of this.#chats) chat.releaseCache()
    })
  }

  /** State shared with the adapters. @internal */
  get base(): BaseModel {
    this.#base.lifetime.check()
    return this.#base
  }

  /** Attached adapters, in the order in which they were attached. */
  get adapters(): readonly Adapter[] {
    return this.#adapters.all
  }

  /**
   * Returns the adapter with the given name.
   * @throws {ConfigError} when there is none
   */
  adapter(name: string): Adapter {
    this.#base.lifetime.check()
    checkedText(name, 'adapter()', 'name', 'the name of an adapter')
    return this.#adapters.named(name)
  }

  /**
   * Activates the given adapters, each at its given weight or at 1, and turns all others off. Without arguments, the
   * base model runs alone. Nothing is loaded or freed, so switching is free.
   * @throws {ConfigError} when an adapter is not attached to this model or is given twice, or a weight is not finite
   * @example model.use('polite', { adapter: 'short', weight: 0.5 })
   */
  use(...choices: AdapterChoice[]): void {
    this.#base.lifetime.check()
    this.#adapters.use(choices)
  }

  /** Memory now held for weights and adapters, in bytes by category. */
  get memory(): MemoryReport {
    this.#base.lifetime.check()
    const adapters = this.adapters.map(({ state }) => ({
      adapter: state.native,
      state: state.optimizer ?? NO_STATE,
    }))
    return new MemoryReport(translated(() => this.#base.native.plan(adapters, {})))
  }

  /**
   * Attaches a new, trainable adapter.
   * @throws {ConfigError} when the targets match no layer, or the strategy requires a different quantization than the
   * model's
   */
  async attach(strategy: StrategyConfig, options: AttachOptions = {}): Promise<Adapter> {
    this.#base.lifetime.check()
    const { seed, name } = checkedOptions(attachSchema, options, 'attach()')
    const breathe = breather()
    // Plain JavaScript callers may have written the strategy by hand, so it is validated here.
    const config = readStrategy(strategy, { name: 'attach()', spelling: 'camel', at: 'strategy' })
    this.#adapters.checkName(name)
    checkStandsFor(this.#base, config)
    if (rulesOf(config).probe?.(config) !== undefined)
      throw new ConfigError(
        `attach(): strategy ${config.name} needs a probe of the data first; attach the strategy that model.probe() returns.`,
        { strategy: config.name },
      )
    await breathe()
    return this.#base.lifetime.use(async () => {
      const state = await newState(this.#base, config, seed)
      return this.#adapters.add(name ?? config.name, state)
    })
  }

  /**
   * Prepares a strategy that inspects the data before training, such as `loraDrop()`: trains an adapter on a sample of
   * the data, measures it, and discards it. Other strategies are returned unchanged. Pass the same options as for the
   * training that follows, so that the same rows are held out.
   * @returns the strategy to attach
   * @throws {ConfigError} for streamed data, or options out of range
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
    checkTaskData({ ...sources, task: parsed.task, strategy: config }, { name: 'probe()', spelling: 'camel' })
    const probe = rulesOf(config).probe?.(config)
    if (probe === undefined) return config
    return runProbe(
      this.#base,
      probe,
      sources,
      { ...parsed, optimizer: parsed.optimizer ?? 'adamw' },
      (description) => createAdapter(description, undefined, this.#base.device),
      {
        ...(signal ? { signal } : {}),
        ...(onDataProgress ? { onProgress: onDataProgress } : {}),
        ...(onStep ? { onStep } : {}),
      },
    )
  }

  /**
   * Loads an adapter of PEFT or mlx-lm. It is active at once, along with the adapters already attached; choose among them with `use`
   * or `weight`.
   * @param from a folder, a .safetensors or .gguf file, or a name on the Hugging Face Hub: `owner/name`, optionally with `@revision`
   * @throws {FileFormatError} when the folder is damaged or does not match this model
   * @throws {HubError} when the adapter is not on the Hub, access is denied, or the Hub cannot be reached
   * @throws {UnsupportedError} for unsupported adapter types and settings
   */
  async loadAdapter(from: string, options: LoadAdapterOptions = {}): Promise<Adapter> {
    this.#base.lifetime.check()
    const given = checkedOptions(loadAdapterSchema, options, 'loadAdapter()')
    const { name, trainable, ...hubOptions } = given
    checkedPath(from, 'loadAdapter()', 'from', 'a folder, a .safetensors or .gguf file, or a name on the hub')
    this.#adapters.checkName(name)
    const { path, hub } = await locate('adapter', from, hubOptions)
    const folder = await openAdapter(path, this.#base)
    return this.#base.lifetime.use(async () => {
      const state = await attachedState(this.#base, folder, trainable)
      return this.#adapters.add(name ?? basename(hub?.repo ?? resolve(path)), state)
    })
  }

  /** Default prompt format: that of the active adapters, else that of the model; null if unknown. */
  get promptFormat(): PromptFormat | null {
    const format = formatOf(this.#base, this.#adapters.acting())
    return isRecorded(format) ? format : null
  }

  /** Token ids of texts and chats, and texts of token ids. */
  get tokenizer(): ModelTokenizer {
    this.#base.lifetime.check()
    return this.#tokenizer
  }

  /**
   * Tokenizes a dataset as `train` does, for a custom training loop.
   * @returns the rows; for the tasks `dpo` and `orpo`, the pairs
   * @throws {DataError} when a row is invalid, naming file and line
   * @example
   * for (const window of (await model.encodeRows('train.jsonl')).windows())
   *   await adapter.forwardBackward(window, 'cross_entropy')
   */
  async encodeRows(
    data: DatasetArgument,
    options: EncodeRowsOptions & { task: 'dpo' | 'orpo' },
  ): Promise<EncodedRows<Pair>>
  async encodeRows(
    data: DatasetArgument,
    options?: EncodeRowsOptions & { task?: Exclude<Task, 'dpo' | 'orpo' | 'classification'> },
  ): Promise<EncodedRows>
  async encodeRows(data: DatasetArgument, options: EncodeRowsOptions = {}): Promise<EncodedRows<Row | Pair>> {
    this.#base.lifetime.check()
    const name = 'encodeRows()'
    const { signal, onDataProgress: onProgress, ...how } = checkedOptions(encodeRowsSchema, options, name)
    checkWritesText(this.#base, name)
    const config = datasetOf(data, name)
    if (config.streaming)
      throw badArgument(true, name, 'data.streaming', 'false: the data is read as a whole')
    const control = { ...(signal ? { signal } : {}), ...(onProgress ? { onProgress } : {}) }
    const encoded = await this.#base.lifetime.use(() =>
      encodeFile(this.#base, config, how, { ...control, now: Date.now() }),
    )
    return new EncodedRows(encoded, how.maxSeqLength)
  }

  /** True if the model accepts messages, i.e. its files include a chat template. */
  async hasChatTemplate(): Promise<boolean> {
    return (await this.#base.tokenizer()).about.source.chatTemplate !== undefined
  }

  /**
   * Measures loss and perplexity on a dataset, with the active adapters; for a classifier, loss, accuracy, F1, and the
   * correlation between true and predicted classes.
   * @throws {ConfigError} for a classifier without the adapter that holds its head
   * @throws {DivergedError} when the loss is not finite
   */
  async evaluate(data: DatasetArgument, options: EvaluateOptions = {}): Promise<Evaluation> {
    this.#base.lifetime.check()
    const given = checkedOptions(evaluateSchema, options, 'evaluate()')
    const { adapters, signal, onDataProgress, onProgress, ...read } = given
    const { chatTemplate, trainingTemplate, heldOut, ...shape } = read
    const { labels } = this.#base
    const parsed = labels === null ? shape : { ...shape, packing: false }
    const config = datasetOf(data, 'evaluate()')
    const control = {
      ...(signal ? { signal } : {}),
      ...(onDataProgress ? { onProgress: onDataProgress } : {}),
    }
    const chosen = this.#adapters.chosen(adapters, 'evaluate()')
    if (labels !== null) checkHead(this.#base, chosen, 'evaluate()')
    const how = { ...parsed, chatTemplate, trainingTemplate, heldOut }
    const { source } = await this.#read(config, chosen, how, control)
    const plans = evaluationPlans(parsed, this, labels !== null)
    const shared = sharedWith(presentRanks(), { signal, onProgress })
    const found = await withSession(this.#base, chosen, plans, (session) =>
      labels === null
        ? evaluateBatches(session, EVAL_PLAN, source, shared)
        : evaluateClasses(session, EVAL_PLAN, source, labels.length, shared),
    )
    if (Number.isFinite(found.loss)) return found
    throw new DivergedError(
      `the loss of ${this.#base.name} on ${config.path} is ${found.loss}: the weights or an adapter have values that are not finite, or so large that their sums overflow.`,
      { model: this.#base.name, dataset: config.path, loss: String(found.loss) },
    )
  }

  /**
   * Measures the fraction of rows that the model reproduces exactly by greedy generation, and the fraction of
   * supervised tokens that it predicts, with the active adapters. Takes one forward pass per row.
   * @example (await model.exactMatch('test.jsonl')).exactMatch
   */
  async exactMatch(data: DatasetArgument, options: ExactMatchOptions = {}): Promise<ExactMatch> {
    const { chosen, read, maxSeqLength, shared } = await this.#readRows(data, options, 'exactMatch()')
    return measureExactMatch(this.#base, chosen, read.source, maxSeqLength, shared)
  }

  /**
   * Measures the words that greedy answers share with those of the data: the mean F1 over the rows, ignoring case and
   * punctuation, with the active adapters. Generates an answer to every row that is not answered word for word.
   * @throws {DataError} when no row has a prompt and an answer
   * @example (await model.answerF1('test.jsonl')).f1
   */
  async answerF1(data: DatasetArgument, options: ExactMatchOptions = {}): Promise<AnswerF1> {
    const { chosen, read, maxSeqLength, shared } = await this.#readRows(data, options, 'answerF1()')
    return measureWordF1(this.#base, chosen, read.examples, maxSeqLength, shared)
  }

  /** Reads data for a measurement row by row. */
  async #readRows(data: DatasetArgument, options: ExactMatchOptions, name: string) {
    this.#base.lifetime.check()
    const given = checkedOptions(exactMatchSchema, options, name)
    checkWritesText(this.#base, name)
    const { adapters, signal, onDataProgress, onProgress, ...parsed } = given
    const shape = { ...parsed, perDeviceTrainBatchSize: 1, packing: false }
    const control = {
      ...(signal ? { signal } : {}),
      ...(onDataProgress ? { onProgress: onDataProgress } : {}),
    }
    const chosen = this.#adapters.chosen(adapters, name)
    const read = await this.#read(datasetOf(data, name), chosen, shape, control)
    const shared = sharedWith(presentRanks(), { signal, onProgress })
    return { chosen, read, maxSeqLength: parsed.maxSeqLength, shared }
  }

  /**
   * Classifies texts, using a model that was loaded with labels and the adapter that holds its head.
   * @returns for each text, the most probable class and the probability of every class
   * @throws {ConfigError} for a model without labels, or without that adapter
   * @throws {DataError} for an empty text
   * @example const [{ label }] = await model.classify(['A gripping film.'])
   */
  async classify(texts: readonly string[], options: ClassifyOptions = {}): Promise<Classified[]> {
    this.#base.lifetime.check()
    const { adapters, ...given } = checkedOptions(classifySchema, options, 'classify()')
    if (!Array.isArray(texts) || !texts.every((one) => typeof one === 'string'))
      throw badArgument(texts, 'classify()', 'texts', 'a list of texts')
    const chosen = this.#adapters.chosen(adapters, 'classify()')
    return classifyTexts(this.#base, chosen, texts, given)
  }

  /**
   * Continues a text, or answers messages using the model's chat template, with the active adapters.
   * @example (await model.generate([{ role: 'user', content: 'Hello' }], { maxNewTokens: 64 })).text
   */
  async generate(prompt: Prompt, options: TextOptions = {}): Promise<Generation> {
    const text = this.stream(prompt, options)
    for (;;) {
      const { done, value } = await text.next()
      if (done) return value
    }
  }

  /** Like `generate`, but yields the text as it is generated and returns the complete result. */
  async *stream(prompt: Prompt, options: TextOptions = {}): AsyncGenerator<string, Generation, void> {
    this.#base.lifetime.check()
    const { adapters, ...given } = checkedOptions(generationSchema, options, 'generate()')
    checkedPrompt(prompt, 'generate()')
    return yield* generateText(this.#base, this.#adapters.chosen(adapters, 'generate()'), prompt, given)
  }

  /**
   * Samples `n` answers to each prompt, with the log-probability of each token under the distribution that it was drawn
   * from. An answer is also a row for `Adapter.forwardBackward`. The same seed gives the same answers.
   * @returns the answers to each prompt
   * @throws {ConfigError} for an option out of range, `topK` or `topP` with log-probabilities, or a prompt that is empty
   * or too long
   * @example const [answers] = await model.sample(['2 + 2 ='], { n: 8, maxNewTokens: 4 })
   */
  async sample(prompts: readonly Prompt[], options: SampleOptions = {}): Promise<Sample[][]> {
    this.#base.lifetime.check()
    const name = 'sample()'
    const { adapters, ...given } = checkedOptions(sampleSchema, options, name)
    if (!Array.isArray(prompts)) throw badArgument(prompts, name, 'prompts', 'a list of prompts')
    for (const [index, prompt] of prompts.entries()) checkedPrompt(prompt, name, `prompts.${index}`)
    return sampleAnswers(this.#base, this.#adapters.chosen(adapters, name), prompts, given)
  }

  /**
   * Starts a conversation, which keeps its messages and the key/value cache between answers. Each answer uses the
   * adapters that are active when it starts.
   * @throws {ConfigError} for an option out of range
   * @example const chat = await model.chat({ system: 'Be brief.' })
   */
  async chat(options: ChatOptions = {}): Promise<Chat> {
    this.#base.lifetime.check()
    const chat = await Chat.open(
      this.#base,
      () => this.#adapters.acting(),
      options,
      (closed) => this.#chats.delete(closed),
    )
    this.#chats.add(chat)
    return chat
  }

  /**
   * Log-likelihood of each answer, in nats: the log-probability of its completion, including the end-of-sequence token,
   * given its prompt. To classify with a language model, compare the log-likelihoods of the label words.
   * @throws {DataError} for an answer without tokens, or one longer than `maxSeqLength` (default 512)
   * @example const [yes, no] = await model.logLikelihoods([' yes', ' no'].map((completion) => ({ prompt, completion
   * })))
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
    checkWritesText(this.#base, name)
    return logLikelihoods(this.#base, this.#adapters.chosen(adapters, name), answers, given)
  }

  /**
   * Logits at every position of one sequence, with the active adapters: row-major [tokens, vocabulary].
   * @throws {DataError} for an id outside the vocabulary
   */
  async logits(tokens: Int32Array, options: Pick<TextOptions, 'adapters'> = {}): Promise<Float32Array> {
    this.#base.lifetime.check()
    const { adapters } = checkedOptions(logitsSchema, options, 'logits()')
    checkWritesText(this.#base, 'logits()')
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
    return withSession(
      this.#base,
      this.#adapters.chosen(adapters, 'logits()'),
      { forward: plan },
      async (session) => {
        const rows = Int32Array.from(tokens, (_, row) => row)
        const result = await session.forward('forward', { tokens, past: 0, rows, wantLogits: true }).promise
        return result.logits as Float32Array
      },
    )
  }

  /**
   * Merges the adapters into a copy of the weights and writes it as a Hugging Face folder; the loaded model and its
   * adapters are unchanged. Unless `check` is false, it then loads the folder and reports how far it deviates from the
   * model.
   * @throws {ConfigError} when the destination exists, or a value does not fit the dtype
   * @throws {WriteError} when the disk is full or refuses the write; no partial file is left behind
   * @example const { check } = await model.save('merged', { dtype: 'bf16' })
   */
  async save(
    folder: string,
    options: SaveOptions & { adapters?: readonly AdapterChoice[] } = {},
  ): Promise<Written> {
    this.#base.lifetime.check()
    const { adapters, ...given } = checkedOptions(saveModelSchema, options, 'save()')
    const chosen = this.#adapters.chosen(adapters, 'save()')
    return saveModel({ base: this.#base, adapters: chosen }, folder, given, 'save()')
  }

  /**
   * Exports the model with its adapters merged, or its adapter alone, in a format for other programs. Unless `check` is
   * false, it then loads the file and reports how far it deviates from the model.
   * @throws {ConfigError} when the destination exists, or options conflict
   * @throws {UnsupportedError} for a model, tokenizer, or adapter that the format cannot represent
   * @throws {WriteError} when the disk is full or refuses the write; no partial file is left behind
   * @example await model.export('model.gguf', { format: 'gguf', dtype: 'q8_0' })
   */
  async export(
    path: string,
    options: ExportOptions & { adapters?: readonly AdapterChoice[] },
  ): Promise<Written> {
    this.#base.lifetime.check()
    const { adapters, ...given } = checkedOptions(exportModelSchema, options, 'export()')
    const chosen = this.#adapters.chosen(adapters, 'export()')
    return exportModel({ base: this.#base, adapters: chosen }, path, given, 'export()')
  }

  /** Frees the model, its adapters, and its chats, after pending work has finished. Later calls throw DisposedError. */
  async dispose(): Promise<void> {
    await Promise.all([...this.#chats].map((chat) => chat.dispose()))
    await Promise.all(this.adapters.map((adapter) => adapter.detach()))
    await this.#base.lifetime.dispose(async () => {
      await this.#base.closeTokenizer()
      await this.#base.native.dispose()
    })
  }

  /** Same as `dispose`, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose()
  }

  /** Reads evaluation data in the prompt format the adapters were trained on. */
  async #read(
    data: DatasetConfig,
    adapters: readonly ActiveAdapter[],
    {
      chatTemplate,
      trainingTemplate,
      ...shape
    }: Parameters<typeof prepareEvaluation>[2] & Parameters<typeof rowPrompting>[1],
    control: DataControl,
  ): ReturnType<typeof prepareEvaluation> {
    const format = formatOf(this.#base, adapters)
    const prompting = rowPrompting(format, { chatTemplate, trainingTemplate })
    const ranks = presentRanks()
    const now = await ranks.firsts('time of an evaluation', async () => Date.now())
    const read = await prepareEvaluation(this.#base, data, { ...shape, prompting }, { ...control, now })
    if (!ranks.isAlone)
      await agreeToEvaluate(ranks, this.#base, adapters, await read.fingerprint(), { ...shape, chatTemplate })
    // Raw text has no prompt, so its format cannot mismatch the adapter's.
    if (read.format?.form === 'chat' || chatTemplate === false)
      warnOfMismatch(this.#base, format, read.format?.form ?? 'raw')
    return read
  }
}
