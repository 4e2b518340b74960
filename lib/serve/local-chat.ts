/** Chats with a model of this process, without a server: the same requests as those of the service get the same answers. */
import type { Model } from '../model/model.js'
import { addon } from '../native/addon.js'
import { cardOf } from '../native/device.js'
import { ownBytes } from '../planning/cards.js'
import { Gate } from './answers.js'
import { type ChatRequest, chatSchema, chosen } from './chat-request.js'
import { type Ended, type Piece, type Usage, usageOf } from './choices.js'
import { checked } from './errors.js'
import type { Answering } from './models.js'
import { SideBySide } from './side-by-side.js'

export type { ChatRequest } from './chat-request.js'
export type { Ended } from './choices.js'
export { ApiError } from './errors.js'
export { modelName } from './models.js'

/** How long a cache waits for an answer that begins like the last ones. */
const IDLE_MS = 60_000

/** An answer of one choice, computed while it is read. */
export interface LocalAnswer {
  /** As those of the service, about the prompt. */
  headers: Record<string, string>
  pieces: AsyncGenerator<Piece | { end: Ended }, void, void>
  usage(end: Ended): Usage
}

export class LocalChat {
  readonly #answers: LocalAnswers

  /** @param name of the function that was given the adapters */
  constructor(
    readonly model: Model,
    readonly adapters: unknown,
    readonly name: string,
  ) {
    model.chosen(adapters, name)
    this.#answers = answersOf(model)
  }

  /** @throws {ApiError} for a request that the model cannot answer, by the keys of the service */
  async ask(request: Omit<ChatRequest, 'model'>, signal: AbortSignal): Promise<LocalAnswer> {
    const answering = () => this.#answers.answering(this.model.chosen(this.adapters, this.name))
    const service = { models: { asked: async () => answering() }, gate: this.#answers.gate }
    const body = checked(chatSchema, { ...request, model: this.model.path })
    const { choices, headers } = await chosen(service, body, signal)
    return { headers, pieces: choices.pieces(), usage: (end) => usageOf(choices.prompts, [end]) }
  }
}

/** The answers of one model, whoever asks for them. */
class LocalAnswers {
  readonly gate = new Gate(Number.POSITIVE_INFINITY)
  readonly #model: Model
  readonly #sideBySide: SideBySide
  #idle: NodeJS.Timeout | undefined

  constructor(model: Model) {
    this.#model = model
    this.#sideBySide = new SideBySide(model.base, () => roomFor(model))
    model.hold({
      releaseCache: () => void this.#sideBySide.retire(),
      dispose: () => {
        clearTimeout(this.#idle)
        return this.#sideBySide.retire()
      },
    })
  }

  answering(adapters: Answering['adapters']): Answering {
    const { base } = this.#model
    const attached = this.#model.adapters.map(({ state }) => ({ state, weight: 1, rank: null }))
    return {
      ...{ base, adapters, revision: null },
      decoder: (tokens) => this.#sideBySide.decoder(adapters, attached, tokens),
      release: () => {
        clearTimeout(this.#idle)
        this.#idle = setTimeout(() => void this.#sideBySide.closeIdle(), IDLE_MS).unref()
      },
    }
  }
}

const known = new WeakMap<Model, LocalAnswers>()

function answersOf(model: Model): LocalAnswers {
  const answers = known.get(model) ?? new LocalAnswers(model)
  known.set(model, answers)
  return answers
}

/** Bytes that are free for caches of a model. */
function roomFor({ device }: Model): number {
  const card = cardOf(device)
  if (card === undefined) return process.availableMemory()
  const held = Object.values(addon().allocated('device')).reduce((sum, bytes) => sum + bytes, 0)
  return Math.max(0, card.memoryBytes - ownBytes(card) - held)
}
