/** Chats with a model of this process, without a server: the same requests as those of the service get the same answers. */
import type { Model } from '../model/model.js'
import { Decoder } from '../train/decoding/decoder.js'
import { Gate } from './answers.js'
import { type ChatRequest, chatSchema, chosen } from './chat-request.js'
import { type Ended, type Piece, type Usage, usageOf } from './choices.js'
import { checked } from './errors.js'
import type { Answering } from './models.js'

export type { ChatRequest } from './chat-request.js'
export type { Ended } from './choices.js'
export { ApiError } from './errors.js'
export { modelName } from './models.js'

/** An answer of one choice, computed while it is read. */
export interface LocalAnswer {
  /** As those of the service, about the prompt. */
  headers: Record<string, string>
  pieces: AsyncGenerator<Piece | { end: Ended }, void, void>
  usage(end: Ended): Usage
}

export class LocalChat {
  readonly #gate = new Gate(Number.POSITIVE_INFINITY)

  /** @param name of the function that was given the adapters */
  constructor(
    readonly model: Model,
    readonly adapters: unknown,
    readonly name: string,
  ) {
    model.chosen(adapters, name)
  }

  /** @throws {ApiError} for a request that the model cannot answer, by the keys of the service */
  async ask(request: Omit<ChatRequest, 'model'>, signal: AbortSignal): Promise<LocalAnswer> {
    const service = { models: { asked: async () => this.#answering() }, gate: this.#gate }
    const body = checked(chatSchema, { ...request, model: this.model.path })
    const { choices, headers } = await chosen(service, body, signal)
    return { headers, pieces: choices.pieces(), usage: (end) => usageOf(choices.prompts, [end]) }
  }

  #answering(): Answering {
    const { base } = this.model
    const adapters = this.model.chosen(this.adapters, this.name)
    return {
      ...{ base, adapters, revision: null, release: () => undefined },
      decoder: (tokens) => Decoder.open(base, adapters, tokens),
    }
  }
}
