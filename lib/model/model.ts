/** A language model in native memory, to which adapters are attached; it can be evaluated and generates text. */

import type * as z from 'zod'
import { type ActiveAdapter, type BaseModel, checkWritesText } from '../base/base.js'
import { badArgument, checkedOptions, checkedText } from '../core/arguments.js'
import type { ExportOptions, SaveOptions, Written } from '../export/options.js'
import { exportModel, saveModel } from '../export/save.js'
import type { PromptFormat } from '../formats/prompt-format.js'
import type { Pair, Row } from '../losses/token-rows.js'
import type { Device, Precision, StateSpec } from '../native/addon.js'
import { translated } from '../native/errors.js'
import { MemoryReport } from '../planning/memory-report.js'
import type { StrategyConfig } from '../strategies/strategy.js'
import type { Task } from '../tasks/index.js'
import { type Classified, classifyTexts } from '../train/answers/classify.js'
import { checkedPrompt, type Generation, generateText, type Prompt } from '../train/answers/generate.js'
import { type Sample, sampleAnswers } from '../train/answers/sampled-answers.js'
import { type Answer, checkedAnswers, logLikelihoods } from '../train/answers/score.js'
import { type ExactMatch, measureExactMatch } from '../train/measures/exact-match.js'
import { type AnswerF1, measureWordF1 } from '../train/measures/word-f1.js'
import { formatOf, isRecorded } from '../train/rows/prompting.js'
import type { DatasetArgument } from '../train/sources/data-sources.js'
import type { Evaluation } from '../train/steps/evaluate.js'
import type { Quantization } from '../weights/quantization.js'
import type { Adapter } from './adapter.js'
import { AttachedAdapters } from './attached.js'
import { Chat, type ChatOptions } from './chat.js'
import { type EncodedRows, encodedRows } from './encoded-rows.js'
import { type Asked, checkedLogits, evaluated, readRows } from './measurements.js'
import {
  type AdapterChoice,
  type AttachOptions,
  type ClassifyOptions,
  classifySchema,
  type EncodeRowsOptions,
  type EvaluateOptions,
  type ExactMatchOptions,
  evaluateSchema,
  exactMatchSchema,
  exportModelSchema,
  generationSchema,
  type LoadAdapterOptions,
  likelihoodSchema,
  logitsSchema,
  type ProbeOptions,
  type SampleOptions,
  sampleSchema,
  saveModelSchema,
  type TextOptions,
} from './options.js'
import { probedStrategy } from './probing.js'
import { openStart } from './start.js'
import { ModelTokenizer } from './tokenizer.js'

/** Optimizer state of an adapter that has not been trained yet. */
const NO_STATE: StateSpec = { kind: 'sgd', momentum: false }

/** Memory that answers keep for those that follow. @internal */
export interface AnswerCache {
  /** Called when an adapter is detached, or begins to be trained. */
  releaseCache(): void
  dispose(): Promise<void>
}

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
  readonly #caches = new Set<AnswerCache>()

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
      for (const cache of this.#caches) cache.releaseCache()
    })
  }

  /** State shared with the adapters. @internal */
  get base(): BaseModel {
    this.#base.lifetime.check()
    return this.#base
  }

  /** The adapters of an `adapters` option of a function; without it, the active ones. @internal */
  chosen(choices: unknown, name: string): ActiveAdapter[] {
    return this.#adapters.chosen(choices, name)
  }

  /** Keeps a cache until the model is disposed. @internal */
  hold(cache: AnswerCache): void {
    this.#caches.add(cache)
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
    const adapters = this.adapters.map(({ state: { native: adapter, optimizer } }) => ({
      adapter,
      state: optimizer ?? NO_STATE,
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
    return this.#adapters.attach(strategy, options)
  }

  /** @throws what `attach` would for a strategy that cannot start from an adapter @internal */
  async checkStart(strategy: StrategyConfig, from: string): Promise<void> {
    await openStart(from, strategy, this.base)
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
    return probedStrategy(this.#base, strategy, data, options)
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
    return this.#adapters.load(from, options)
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
    return encodedRows(this.#base, data, options)
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
    return evaluated(this.#base, data, this.#asked(evaluateSchema, options, 'evaluate()'))
  }

  /**
   * Measures the fraction of rows that the model reproduces exactly by greedy generation, and the fraction of
   * supervised tokens that it predicts, with the active adapters. Takes one forward pass per row.
   * @example (await model.exactMatch('test.jsonl')).exactMatch
   */
  async exactMatch(data: DatasetArgument, options: ExactMatchOptions = {}): Promise<ExactMatch> {
    const asked = this.#asked(exactMatchSchema, options, 'exactMatch()')
    const { read, rest } = await readRows(this.#base, data, asked, 'exactMatch()')
    return measureExactMatch(this.#base, asked.chosen, read.source, ...rest)
  }

  /**
   * Measures the words that greedy answers share with those of the data: the mean F1 over the rows, ignoring case and
   * punctuation, with the active adapters. Generates an answer to every row that is not answered word for word.
   * @throws {DataError} when no row has a prompt and an answer
   * @example (await model.answerF1('test.jsonl')).f1
   */
  async answerF1(data: DatasetArgument, options: ExactMatchOptions = {}): Promise<AnswerF1> {
    const asked = this.#asked(exactMatchSchema, options, 'answerF1()')
    const { read, rest } = await readRows(this.#base, data, asked, 'answerF1()')
    return measureWordF1(this.#base, asked.chosen, read.examples, ...rest)
  }

  /**
   * Classifies texts, using a model that was loaded with labels and the adapter that holds its head.
   * @returns for each text, the most probable class and the probability of every class
   * @throws {ConfigError} for a model without labels, or without that adapter
   * @throws {DataError} for an empty text
   * @example const [{ label }] = await model.classify(['A gripping film.'])
   */
  async classify(texts: readonly string[], options: ClassifyOptions = {}): Promise<Classified[]> {
    const { chosen, given } = this.#asked(classifySchema, options, 'classify()')
    if (!Array.isArray(texts) || !texts.every((one) => typeof one === 'string'))
      throw badArgument(texts, 'classify()', 'texts', 'a list of texts')
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
    const { chosen, given } = this.#asked(generationSchema, options, 'generate()')
    checkedPrompt(prompt, 'generate()')
    return yield* generateText(this.#base, chosen, prompt, given)
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
    const name = 'sample()'
    const { chosen, given } = this.#asked(sampleSchema, options, name)
    if (!Array.isArray(prompts)) throw badArgument(prompts, name, 'prompts', 'a list of prompts')
    for (const [index, prompt] of prompts.entries()) checkedPrompt(prompt, name, `prompts.${index}`)
    return sampleAnswers(this.#base, chosen, prompts, given)
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
      (closed) => this.#caches.delete(closed),
    )
    this.#caches.add(chat)
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
    const name = 'logLikelihoods()'
    const { chosen, given } = this.#asked(likelihoodSchema, options, name)
    checkedAnswers(answers, name)
    checkWritesText(this.#base, name)
    return logLikelihoods(this.#base, chosen, answers, given)
  }

  /**
   * Logits at every position of one sequence, with the active adapters: row-major [tokens, vocabulary].
   * @throws {DataError} for an id outside the vocabulary
   */
  async logits(tokens: Int32Array, options: Pick<TextOptions, 'adapters'> = {}): Promise<Float32Array> {
    const { chosen } = this.#asked(logitsSchema, options, 'logits()')
    return checkedLogits(this.#base, chosen, tokens)
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
    const { chosen, given } = this.#asked(saveModelSchema, options, 'save()')
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
    const { chosen, given } = this.#asked(exportModelSchema, options, 'export()')
    return exportModel({ base: this.#base, adapters: chosen }, path, given, 'export()')
  }

  /** Frees the model, its adapters, and its chats, after pending work has finished. Later calls throw DisposedError. */
  async dispose(): Promise<void> {
    await Promise.all([...this.#caches].map((cache) => cache.dispose()))
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

  /** The options of a call, checked, and the adapters that take part in it. */
  #asked<Given extends { adapters?: unknown }>(
    schema: z.ZodType<Given>,
    options: object,
    name: string,
  ): Asked<Omit<Given, 'adapters'>> {
    this.#base.lifetime.check()
    const { adapters, ...given } = checkedOptions(schema, options, name)
    return { chosen: this.#adapters.chosen(adapters, name), given }
  }
}
