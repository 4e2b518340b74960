/**
 * A key/value cache over a model and some adapters. A prompt goes in from where it first differs from what the cache
 * holds, in chunks; then tokens are drawn one by one, each becoming part of the cache.
 */
import { type ActiveAdapter, type BaseModel, openActive } from '../base/base.js'
import type { ForwardInput, NativeSession, PlanOptions, Sampling } from '../native/addon.js'
import { settled } from '../native/handles.js'
import { closeSession } from '../native/session.js'
import { decoderPlan } from '../planning/plans.js'

/** Progress of processing a prompt. */
export interface PromptProgress {
  /** Tokens in the cache, those that were there before included. */
  tokens: number
  totalTokens: number
}

export interface DecodeControl {
  signal?: AbortSignal | undefined
  /** Called before the prompt goes in and after every chunk of it. */
  onPromptProgress?: ((progress: PromptProgress) => void) | undefined
}

export class Decoder {
  readonly #base: BaseModel
  readonly #session: NativeSession
  readonly #name: string
  readonly #plan: PlanOptions
  /** True if the session was opened for it, and is closed with it. */
  readonly #owns: boolean
  /** Contents of the cache, in order. */
  #cached: number[] = []
  /** True if the cache holds keys of a text that may become long, whose frequencies can be others. */
  #long = false
  /** Tokens of the last prompt that were in the cache already. */
  reused = 0

  private constructor(
    base: BaseModel,
    session: NativeSession,
    { name, plan, owns }: { name: string; plan: PlanOptions; owns: boolean },
  ) {
    this.#base = base
    this.#session = session
    this.#name = name
    this.#plan = plan
    this.#owns = owns
  }

  /** @param capacity tokens of the cache: of prompts with their answers */
  static async open(
    base: BaseModel,
    adapters: readonly ActiveAdapter[],
    capacity: number,
    chunk?: number,
  ): Promise<Decoder> {
    const plan = decoderPlan(capacity, base.precision, chunk)
    const session = await base.lifetime.use(() => openActive(base, adapters, { forward: plan }))
    return new Decoder(base, session, { name: 'forward', plan, owns: true })
  }

  /**
   * On a session that is open, and stays so.
   * @param name of one of its plans, as `decoderPlan` makes it
   */
  static on(base: BaseModel, session: NativeSession, name: string, plan: PlanOptions): Decoder {
    return new Decoder(base, session, { name, plan, owns: false })
  }

  /** Tokens of the cache. */
  get capacity(): number {
    return this.#plan.kvCapacity ?? 0
  }

  /**
   * Tokens that go on from a prompt, without end: the caller stops asking. The prompt and what is drawn must fit.
   * @param limit most tokens that the caller asks for
   * @param sampling without `position`, which counts the tokens drawn
   */
  async *tokens(
    prompt: Int32Array,
    limit: number,
    sampling: Omit<Sampling, 'position'>,
    { signal, onPromptProgress }: DecodeControl = {},
  ): AsyncGenerator<number, void, void> {
    // The last token that is drawn is not gone on from.
    const reach = prompt.length + limit - 1
    this.#expect(reach)
    let past = this.#shared(prompt)
    this.reused = past
    this.#cached.length = past
    const progress = () => onPromptProgress?.({ tokens: past, totalTokens: prompt.length })
    progress()
    const chunk = this.#plan.tokens
    while (prompt.length - past > chunk) {
      const tokens = prompt.slice(past, past + chunk)
      await this.#forward({ tokens, past, reach, rows: new Int32Array(0) }, signal)
      past += chunk
      progress()
    }
    let input = prompt.slice(past)
    for (let position = 0; ; position++) {
      const rows = Int32Array.of(input.length - 1)
      const { token } = await this.#forward(
        { tokens: input, past, reach, rows, sampling: { ...sampling, position } },
        signal,
      )
      past += input.length
      if (position === 0) progress()
      yield token as number
      input = Int32Array.of(token as number)
    }
  }

  async close(): Promise<void> {
    if (this.#owns) await closeSession(this.#session, { [this.#name]: this.#plan })
  }

  /** Empties the cache where a text of this length has other frequencies than the keys in it. */
  #expect(reach: number): void {
    const long = this.#base.graph.ropes.some((rope) => rope.long !== undefined && reach > rope.long.above)
    if (long !== this.#long) this.#cached.length = 0
    this.#long = long
  }

  /** Tokens at the start of a prompt that need not go in again; at least its last one does, to be gone on from. */
  #shared(prompt: Int32Array): number {
    const most = Math.min(this.#cached.length, prompt.length - 1)
    let count = 0
    while (count < most && this.#cached[count] === prompt[count]) count++
    return count
  }

  async #forward(input: ForwardInput, signal: AbortSignal | undefined): Promise<{ token?: number }> {
    const result = await this.#base.lifetime.use(() =>
      settled(() => this.#session.forward(this.#name, input), signal),
    )
    this.#cached.push(...input.tokens)
    return result
  }
}
