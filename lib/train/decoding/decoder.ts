/**
 * A key/value cache for a model with adapters. A prompt is processed in chunks, starting where it first differs
 * from the cache; then tokens are sampled one at a time and appended to the cache.
 */
import { type ActiveAdapter, type BaseModel, openActive } from '../../base/base.js'
import type {
  ForwardInput,
  ForwardResult,
  NativeSession,
  OwnLogProbs,
  PlanOptions,
  Sampling,
} from '../../native/addon.js'
import { answeringStep, settled } from '../../native/handles.js'
import { STATE_BLOCKS } from '../../native/lists.js'
import { closeSession } from '../../native/session.js'
import { decoderPlan } from '../../planning/plans.js'

/** Progress of processing a prompt. */
export interface PromptProgress {
  /** Tokens in the cache, including tokens reused from earlier prompts. */
  tokens: number
  totalTokens: number
}

export interface DecodeControl {
  /** Tokens after which no more are requested. */
  ends?: ReadonlySet<number> | undefined
  signal?: AbortSignal | undefined
  /** Called before the prompt is processed and after each chunk. */
  onPromptProgress?: ((progress: PromptProgress) => void) | undefined
  /**
   * Called with each sampled token and its log-probability, in nats, among all tokens at the sampling
   * temperature.
   */
  onToken?: ((token: number, logProb: number, own: OwnLogProbs | undefined) => void) | undefined
  /** Also give `onToken` the log-probability in the model's own distribution, and those of this many tokens. */
  topLogProbs?: number | undefined
}

/** How tokens are sampled; `position` and `drawn` follow from the answer. */
export type AnswerSampling = Omit<Sampling, 'position' | 'drawn'>

/** Rows from which on products are made alike. */
const MANY_ROWS = 8

/**
 * Tokens of the next chunk of a prompt. A few rows are multiplied in another order than many, so the last chunk has
 * many wherever the chunks before it ended, unless the prompt is short.
 * @param left tokens that are not in the cache
 */
export function nextChunk(left: number, chunk: number): number {
  if (left <= chunk) return left
  return left - chunk < MANY_ROWS && chunk >= 2 * MANY_ROWS ? chunk - MANY_ROWS : chunk
}

/** The most of `shared` tokens in the cache that leave a chunk of many rows to a prompt. */
export function reusable(shared: number, length: number): number {
  return Math.max(0, Math.min(shared, length - MANY_ROWS))
}

/** Answers prompts token by token. */
export interface Decodes {
  /** Tokens of the last prompt that were already in the cache. */
  readonly reused: number
  /**
   * Yields tokens after a prompt, without end; the caller stops iterating. Prompt and answer must fit in the cache.
   * @param limit the most tokens that the caller will request
   */
  tokens(
    prompt: Int32Array,
    limit: number,
    sampling: AnswerSampling,
    control?: DecodeControl,
  ): AsyncGenerator<number, void, void>
}

export class Decoder implements Decodes {
  readonly #base: BaseModel
  readonly #session: NativeSession
  readonly #name: string
  readonly #plan: PlanOptions
  /** True if the decoder opened the session and must close it. */
  readonly #owns: boolean
  /** Tokens in the cache, in order. */
  #cached: number[] = []
  /** Length of the cached text after which states can continue, besides multiples of their blocks. */
  #stated = 0
  /** True if the cached keys use the RoPE frequencies of long texts, which can differ from those of short ones. */
  #long = false
  /** Tokens of the last prompt that were already in the cache. */
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

  /** @param capacity cache size in tokens: prompts plus answers */
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
   * A decoder on an open session, which it does not close.
   * @param name name of one of the session's plans, made by `decoderPlan`
   */
  static on(base: BaseModel, session: NativeSession, name: string, plan: PlanOptions): Decoder {
    return new Decoder(base, session, { name, plan, owns: false })
  }

  /** Cache size in tokens. */
  get capacity(): number {
    return this.#plan.kvCapacity ?? 0
  }

  async *tokens(
    prompt: Int32Array,
    limit: number,
    sampling: AnswerSampling,
    { signal, onPromptProgress, onToken, topLogProbs }: DecodeControl = {},
  ): AsyncGenerator<number, void, void> {
    // The last sampled token is never fed back.
    const reach = prompt.length + limit - 1
    this.#expect(reach)
    let past = this.#shared(prompt)
    this.reused = past
    this.#cached.length = past
    const progress = () => onPromptProgress?.({ tokens: past, totalTokens: prompt.length })
    progress()
    const chunk = this.#plan.tokens
    while (prompt.length - past > chunk) {
      const tokens = prompt.slice(past, past + nextChunk(prompt.length - past, chunk))
      await this.#forward({ tokens, past, reach, rows: new Int32Array(0) }, signal)
      past += tokens.length
      progress()
    }
    let input = prompt.slice(past)
    const penalized = Boolean(sampling.frequencyPenalty || sampling.presencePenalty)
    const answer: number[] = []
    for (let position = 0; ; position++) {
      const rows = Int32Array.of(input.length - 1)
      const drawn = penalized ? { drawn: Int32Array.from(answer) } : {}
      const wanted = {
        wantLogProb: onToken !== undefined,
        ...(topLogProbs === undefined ? {} : { topLogProbs }),
      }
      const { token, logProb, own } = (await this.#forward(
        { tokens: input, past, reach, rows, sampling: { ...sampling, position, ...drawn }, ...wanted },
        signal,
      )) as ForwardResult & { token: number }
      past += input.length
      if (position === 0) progress()
      onToken?.(token, logProb as number, own)
      if (penalized) answer.push(token)
      yield token
      input = Int32Array.of(token)
    }
  }

  async close(): Promise<void> {
    if (this.#owns) await closeSession(this.#session, { [this.#name]: this.#plan })
  }

  /** Clears the cache if a text of this length needs other RoPE frequencies than the cached keys have. */
  #expect(reach: number): void {
    const long = this.#base.graph.ropes.some((rope) => rope.long !== undefined && reach > rope.long.above)
    if (long !== this.#long) this.#cached.length = 0
    this.#long = long
  }

  /**
   * Length of the prompt prefix that is already cached. The last token is always processed again, to predict
   * the next one.
   */
  #shared(prompt: Int32Array): number {
    const most = Math.min(this.#cached.length, prompt.length - 1)
    let count = 0
    while (count < most && this.#cached[count] === prompt[count]) count++
    if (count === this.#stated) return count
    const block = Math.max(1, ...this.#base.graph.nodes.map(({ op }) => STATE_BLOCKS[op] ?? 1))
    return count - (count % block)
  }

  async #forward(input: ForwardInput, signal: AbortSignal | undefined): Promise<ForwardResult> {
    this.#stated = 0 // unless the call succeeds
    const result = await this.#base.lifetime.use(() =>
      answeringStep(() => settled(() => this.#session.forward(this.#name, input), signal)),
    )
    this.#cached.push(...input.tokens)
    this.#stated = this.#cached.length
    return result
  }
}
