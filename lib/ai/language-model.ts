/** A loaded model as a language model of the AI SDK, which answers in this process. */
import * as z from 'zod'
import { badArgument, checkedOptions } from '../core/arguments.js'
import { text } from '../core/schema.js'
import type { Model } from '../model/model.js'
import type { AdapterChoice } from '../model/options.js'
import { newId } from '../serve/ids.js'
import { type LocalAnswer, LocalChat, modelName } from '../serve/local-chat.js'
import { FAILED, partsOf, streamOf, wholeOf } from './parts.js'
import { errorOfCall, requestOf } from './request.js'
import type { CallOptions, LanguageModelV3, StreamPart, Warning } from './sdk.js'

/** Options of `languageModel`. */
export interface LanguageModelOptions {
  /** Adapters to answer with. Default: all attached adapters at their weights; `[]` is the base model alone. */
  adapters?: readonly AdapterChoice[]
  /** Name of the model in results and telemetry. Default: the name of its file or folder. */
  modelId?: string
}

const NAME = 'languageModel()'
const schema = z.strictObject({ adapters: z.unknown().optional(), modelId: text().optional() })

/**
 * A loaded model as a language model of the AI SDK: `generateText`, `streamText`, structured output, and tools. It answers
 * in this process, with the answers that `lowrank serve` gives to the same requests, and can be used until the model is disposed.
 * @throws {ConfigError} for an option out of range, or an adapter that the model does not have
 * @example const { text } = await generateText({ model: languageModel(await loadModel('model.gguf')), prompt: 'Hello' })
 */
export function languageModel(model: Model, options: LanguageModelOptions = {}): LanguageModelV3 {
  // A model of the package's other module system is a model too.
  if (typeof (model as Partial<Model> | null | undefined)?.chosen !== 'function')
    throw badArgument(model, NAME, 'model', 'a model, as loadModel() returns it')
  const { adapters, modelId = modelName(model.path) } = checkedOptions(schema, options, NAME)
  return new LocalModel(new LocalChat(model, adapters, NAME), modelId)
}

interface Asked {
  answer: LocalAnswer
  warnings: Warning[]
  signal: AbortSignal
}

class LocalModel implements LanguageModelV3 {
  readonly specificationVersion = 'v3'
  readonly provider = 'lowrank'
  /** Files are refused, so that none needs to be downloaded. */
  readonly supportedUrls = { '*/*': [/^/] }
  readonly #chat: LocalChat

  constructor(
    chat: LocalChat,
    readonly modelId: string,
  ) {
    this.#chat = chat
  }

  async doGenerate(options: CallOptions) {
    const { answer, warnings } = await this.#ask(options, new AbortController())
    try {
      const whole = await wholeOf(partsOf(answer))
      return { ...whole, warnings, response: { ...this.#about(), headers: answer.headers } }
    } catch (error) {
      throw errorOfCall(error)
    }
  }

  async doStream(options: CallOptions) {
    const stop = new AbortController()
    const asked = await this.#ask(options, stop)
    return { stream: streamOf(this.#parts(asked), stop), response: { headers: asked.answer.headers } }
  }

  async *#parts({ answer, warnings, signal }: Asked): AsyncGenerator<StreamPart, void, void> {
    yield { type: 'stream-start', warnings }
    yield { type: 'response-metadata', ...this.#about() }
    try {
      yield* partsOf(answer)
    } catch (error) {
      if (signal.aborted) throw error
      yield { type: 'error', error: errorOfCall(error) }
      yield FAILED
    }
  }

  #about() {
    return { id: newId('chatcmpl-'), timestamp: new Date(), modelId: this.modelId }
  }

  async #ask(options: CallOptions, stop: AbortController): Promise<Asked> {
    const { abortSignal } = options
    const signal = abortSignal ? AbortSignal.any([abortSignal, stop.signal]) : stop.signal
    try {
      const { request, warnings } = requestOf(options)
      return { answer: await this.#chat.ask(request, signal), warnings, signal }
    } catch (error) {
      throw errorOfCall(error)
    }
  }
}
