/**
 * Continuous batching: texts that are answered side by side. Each has a part of one key/value cache; a text joins at
 * any token and leaves when it ends. All of them take a step together, and each gets the tokens that it gets alone.
 */
import { type ActiveAdapter, type BaseModel, openActive } from '../../base/base.js'
import { DisposedError } from '../../core/errors.js'
import type { Drawn, NativeSession, PlanOptions, TextInput } from '../../native/addon.js'
import { answeringStep, settled } from '../../native/handles.js'
import { STATE_BLOCKS } from '../../native/lists.js'
import { closeSession } from '../../native/session.js'
import { batchPlan, PREFILL_CHUNK } from '../../planning/plans.js'
import { type AnswerSampling, type DecodeControl, type Decodes, nextChunk, reusable } from './decoder.js'

/** Tokens that a text may be ahead of its reader, who then finds that it had a stop text. */
const MOST_AHEAD = 8
/** Prompts share what they have in common from so many tokens on. */
const LEAST_SHARED = 32
/**
 * A text takes the place of an ended one, in place of a copy of what they share, if at most this share of it is lost: to
 * copy a token takes about a twentieth of the time in which it is computed.
 */
const MOST_LOST = 1 / 8

/** True if texts of a model can be continued side by side: it keeps keys and values, and no other states. */
export function continuesSideBySide(base: BaseModel): boolean {
  return base.graph.nodes.every(({ op }) => STATE_BLOCKS[op] === undefined)
}

/** True if an adapter only adds to products, so that texts with different ones can be continued together. */
export function onlyAdds({ state }: ActiveAdapter): boolean {
  const { terms, copies = [] } = state.description.spec
  return (
    copies.length === 0 && terms.every(({ kind, parameters }) => kind === 'low_rank' && !parameters.magnitude)
  )
}

/** A part of the cache: the tokens that it holds, of a text that is being answered or has been. */
interface Part {
  begin: number
  length: number
  /**
   * Prompt tokens whose keys and values are there. Those of answers are not kept: they are computed one at a time, and in a
   * prompt with others, which rounds differently.
   */
  cached: number[]
  adapters: Int32Array
  /** True with the frequencies of long texts. */
  long: boolean
  /** Texts that are not being answered have none, and give their room away. */
  text: Text | undefined
}

/** A part that begins like a prompt. */
interface Source {
  part: Part
  /** Tokens that they share. */
  shared: number
  /** True if the text can take the part over. */
  isFree: boolean
}

/** A text that is being answered. */
interface Text {
  prompt: Int32Array
  limit: number
  sampling: AnswerSampling
  control: DecodeControl
  adapters: Int32Array
  part: Part | undefined
  drawn: number[]
  /** Drawn tokens that the reader has not taken. */
  waiting: Drawn[]
  /** Called when there is a token, or an error. */
  wake: (() => void) | undefined
  error: unknown
  left: boolean
  /** Prompt tokens that were in the cache. */
  reused: number
}

export class Batch {
  readonly #base: BaseModel
  readonly #session: NativeSession
  readonly #plan: PlanOptions
  readonly #most: number
  /** Ordered by where they begin. */
  #parts: Part[] = []
  /** Texts without room, in the order in which they came. */
  readonly #queue: Text[] = []
  #running: Promise<void> | undefined
  /** Something has changed since the last step began. */
  #called = false
  #closed = false

  private constructor(base: BaseModel, session: NativeSession, plan: PlanOptions, most: number) {
    this.#base = base
    this.#session = session
    this.#plan = plan
    this.#most = most
  }

  /**
   * @param adapters that texts may use, each by its index
   * @param capacity tokens of all texts together, and of those kept for prompts that begin alike
   * @param most texts that are answered at once
   */
  static async open(
    base: BaseModel,
    adapters: readonly ActiveAdapter[],
    capacity: number,
    most: number,
  ): Promise<Batch> {
    const plan = batchPlan(capacity, base.precision, most)
    const session = await base.lifetime.use(() => openActive(base, adapters, { batch: plan }))
    return new Batch(base, session, plan, most)
  }

  /** Texts that are being answered or wait. */
  get size(): number {
    return [...this.#queue, ...this.#texts].filter(({ left }) => !left).length
  }

  get capacity(): number {
    return this.#plan.kvCapacity ?? 0
  }

  /** Answers texts with some of the adapters, one after the other. */
  decoder(adapters: readonly number[]): Decodes {
    const own = Int32Array.from(adapters)
    let reused = 0
    const batch = this
    return {
      get reused() {
        return reused
      },
      async *tokens(prompt, limit, sampling, control = {}) {
        const text = batch.#join(prompt, limit, sampling, control, own)
        try {
          for (;;) {
            while (text.waiting.length === 0) {
              if (text.error !== undefined) throw text.error
              await new Promise<void>((resolve) => {
                text.wake = resolve
              })
            }
            const { token, logProb, own: named } = text.waiting.shift() as Drawn
            batch.#go()
            reused = text.reused
            control.onToken?.(token, logProb as number, named)
            yield token
          }
        } finally {
          text.left = true
          batch.#go()
        }
      },
    }
  }

  /** Ends the answers in progress, and frees the cache. */
  async close(): Promise<void> {
    this.#closed = true
    const error = new DisposedError('The cache of an answer was closed, so that it cannot go on.')
    for (const text of [...this.#queue, ...this.#texts]) this.#end(text, error)
    await this.#running
    await closeSession(this.#session, { batch: this.#plan })
  }

  get #texts(): Text[] {
    return this.#parts.flatMap(({ text }) => text ?? [])
  }

  #join(
    prompt: Int32Array,
    limit: number,
    sampling: AnswerSampling,
    control: DecodeControl,
    adapters: Int32Array,
  ): Text {
    const text: Text = {
      ...{ prompt, limit, sampling, control, adapters },
      ...{ part: undefined, drawn: [], waiting: [], wake: undefined, error: undefined },
      ...{ left: false, reused: 0 },
    }
    control.signal?.throwIfAborted()
    control.signal?.addEventListener(
      'abort',
      () => {
        if (!text.left) this.#end(text, control.signal?.reason)
        this.#go()
      },
      { once: true },
    )
    this.#queue.push(text)
    this.#go()
    return text
  }

  /** Steps while a text can take one. */
  #go(): void {
    this.#called = true
    if (this.#running !== undefined || this.#closed) return
    this.#running = this.#steps().finally(() => {
      this.#running = undefined
      if (this.#called) this.#go()
    })
  }

  async #steps(): Promise<void> {
    for (;;) {
      this.#called = false
      this.#release()
      if (this.#closed) return
      try {
        await this.#admit()
        if (!(await this.#step())) return
      } catch (error) {
        for (const text of this.#texts) this.#end(text, error)
      }
      // Readers take their tokens, and others join, before the next step.
      await new Promise((resolve) => setImmediate(resolve))
    }
  }

  #end(text: Text, error: unknown): void {
    text.error ??= error
    text.left = true
    text.wake?.()
  }

  /** Texts that have ended give their places away; what they have cached stays until its room is needed. */
  #release(): void {
    for (const part of this.#parts) if (part.text?.left) part.text = undefined
    for (const text of this.#queue.splice(0)) if (!text.left) this.#queue.push(text)
  }

  /** Gives waiting texts a part of the cache, and the keys and values of tokens that their prompts begin with. */
  async #admit(): Promise<void> {
    for (;;) {
      const [text] = this.#queue
      if (text === undefined || this.#texts.length >= this.#most) return
      // The last token is never fed back.
      const length = text.prompt.length + text.limit - 1
      const source = this.#likest(text, length)
      const part = source?.isFree ? takenOver(source, length) : this.#newPart(text, length, source?.part)
      if (part === undefined) return
      this.#queue.shift()
      part.text = text
      text.part = part
      if (source !== undefined && part !== source.part && this.#parts.includes(source.part)) {
        const { begin: from, cached } = source.part
        const copy = () => this.#session.copyCache('batch', from, part.begin, source.shared).promise
        await this.#base.lifetime.use(copy)
        part.cached = cached.slice(0, source.shared)
      }
      text.reused = part.cached.length
      text.control.onPromptProgress?.({ tokens: text.reused, totalTokens: text.prompt.length })
    }
  }

  /** The part that has most of a prompt's first tokens, computed as this text would compute them. */
  #likest({ prompt, adapters }: Text, length: number): Source | undefined {
    let best: Source | undefined
    for (const [at, part] of this.#parts.entries()) {
      if (part.long !== this.#isLong(length) || !equal(part.adapters, adapters)) continue
      let shared = 0
      const most = Math.min(part.cached.length, prompt.length - 1)
      while (shared < most && part.cached[shared] === prompt[shared]) shared++
      shared = reusable(shared, prompt.length)
      if (shared < LEAST_SHARED) continue
      const lost = part.cached.length - shared
      const end = this.#parts[at + 1]?.begin ?? this.capacity
      const isFree = part.text === undefined && lost <= MOST_LOST * shared && part.begin + length <= end
      if (best === undefined || shared > best.shared || (shared === best.shared && isFree))
        best = { part, shared, isFree }
    }
    return best
  }

  /** A part with room for a text; undefined while there is none. */
  #newPart({ adapters }: Text, length: number, keep: Part | undefined): Part | undefined {
    const begin = this.#room(length, keep)
    if (begin === undefined) return undefined
    const part = { begin, length, cached: [], adapters, long: this.#isLong(length), text: undefined }
    this.#parts.push(part)
    this.#parts.sort((a, b) => a.begin - b.begin)
    return part
  }

  /** Where so many tokens fit; parts of ended texts make room, the oldest first and the one to `keep` last. */
  #room(length: number, keep: Part | undefined): number | undefined {
    for (;;) {
      let end = 0
      for (const part of this.#parts) {
        if (part.begin - end >= length) return end
        end = part.begin + part.length
      }
      if (this.capacity - end >= length) return end
      const idle = this.#parts.filter((part) => part.text === undefined)
      const oldest = idle.find((part) => part !== keep) ?? idle[0]
      if (oldest === undefined) return undefined
      this.#parts = this.#parts.filter((part) => part !== oldest)
    }
  }

  #isLong(reach: number): boolean {
    return this.#base.graph.ropes.some((rope) => rope.long !== undefined && reach > rope.long.above)
  }

  /** Takes a step with all texts that may. @returns false if there are none */
  async #step(): Promise<boolean> {
    const takes: { text: Text; input: TextInput }[] = []
    let filling = false
    for (const text of this.#texts) {
      const { part, prompt, drawn } = text
      if (part === undefined || text.waiting.length >= MOST_AHEAD || drawn.length >= text.limit) continue
      const last = drawn.at(-1)
      if (last !== undefined && text.control.ends?.has(last)) continue
      const left = prompt.length - part.cached.length
      // One prompt at a time is processed beside the answers.
      if (left > 0 && filling) continue
      filling ||= left > 0
      if (left > 0) {
        const past = part.cached.length
        const tokens = prompt.slice(past, past + nextChunk(left, PREFILL_CHUNK))
        takes.push({ text, input: this.#inputOf(text, tokens, past) })
      } else {
        const past = prompt.length + drawn.length - 1
        takes.push({ text, input: this.#inputOf(text, Int32Array.of(last as number), past) })
      }
    }
    if (takes.length === 0) return false
    // Rows of one token are multiplied together, and neighbors with the same adapters by these.
    const isPrompt = ({ input }: (typeof takes)[number]) => Number(input.tokens.length > 1)
    takes.sort((a, b) => isPrompt(a) - isPrompt(b) || order(a.text.adapters, b.text.adapters))
    const inputs = takes.map(({ input }) => input)
    const drawn = await this.#base.lifetime.use(() =>
      answeringStep(() => settled(() => this.#session.decode('batch', inputs), undefined)),
    )
    let next = 0
    for (const { text, input } of takes) {
      if (text.drawn.length === 0) text.part?.cached.push(...input.tokens)
      if (input.sampling === undefined) {
        text.control.onPromptProgress?.({
          tokens: text.part?.cached.length ?? 0,
          totalTokens: text.prompt.length,
        })
        continue
      }
      const one = drawn[next++] as Drawn
      text.drawn.push(one.token)
      text.waiting.push(one)
      text.wake?.()
    }
    return true
  }

  #inputOf(text: Text, tokens: Int32Array, past: number): TextInput {
    const { prompt, limit, drawn, sampling, control, adapters, part } = text
    const penalized = Boolean(sampling.frequencyPenalty || sampling.presencePenalty)
    const samples = past + tokens.length >= prompt.length
    return {
      ...{ tokens, past, reach: prompt.length + limit - 1, begin: part?.begin ?? 0, adapters },
      ...(samples
        ? {
            sampling: {
              ...sampling,
              position: drawn.length,
              ...(penalized ? { drawn: Int32Array.from(drawn) } : {}),
            },
            wantLogProb: control.onToken !== undefined,
            ...(control.topLogProbs === undefined ? {} : { topLogProbs: control.topLogProbs }),
          }
        : {}),
    }
  }
}

function takenOver({ part, shared }: Source, length: number): Part {
  part.cached.length = shared
  part.length = length
  return part
}

function equal(a: Int32Array, b: Int32Array): boolean {
  return order(a, b) === 0
}

function order(a: Int32Array, b: Int32Array): number {
  for (let i = 0; i < Math.min(a.length, b.length); i++)
    if (a[i] !== b[i]) return (a[i] as number) - (b[i] as number)
  return a.length - b.length
}
