/**
 * Answers of one base side by side: texts of the base and of adapters that only add to products share a batch, in which
 * each gets the tokens that it gets alone. Other texts are answered alone.
 */
import type { ActiveAdapter, BaseModel } from '../base/base.js'
import { translated } from '../native/errors.js'
import { Turns } from '../native/handles.js'
import { batchPlan } from '../planning/plans.js'
import { contextLength } from '../train/answers/generate.js'
import { Batch, continuesSideBySide, onlyAdds } from '../train/decoding/batch.js'
import { Decoder, type Decodes } from '../train/decoding/decoder.js'

/** Texts that are answered at once. */
const MOST_TEXTS = 16
/** Tokens of a text for which the cache has room, if memory and the model allow so many. */
const USUAL_TOKENS = 5120
/** The share of free memory that a cache may take. */
const SHARE = 1 / 4

/** A decoder of one text, which must be closed. */
export interface TextDecoder extends Decodes {
  close(): Promise<void>
}

/** A batch, and the texts that use it. */
interface Open {
  batch: Batch
  adapters: readonly ActiveAdapter[]
  /** Version of the values of each adapter when the batch was opened. */
  versions: readonly number[]
  users: number
  /** It takes no more texts. */
  retired: boolean
}

export class SideBySide {
  readonly #base: BaseModel
  readonly #room: () => number
  readonly #shares: boolean
  /** Batches are opened one after the other, so that two texts do not open two. */
  readonly #turns = new Turns()
  #current: Open | undefined

  /** @param room bytes of memory that are free now */
  constructor(base: BaseModel, room: () => number) {
    this.#base = base
    this.#room = room
    this.#shares = continuesSideBySide(base)
  }

  /**
   * @param attached all adapters that texts may soon ask, those of the text among them
   * @param tokens of the text with its answer
   */
  async decoder(
    adapters: readonly ActiveAdapter[],
    attached: readonly ActiveAdapter[],
    tokens: number,
  ): Promise<TextDecoder> {
    const open =
      this.#shares && adapters.every((adapter) => onlyAdds(adapter) && isWhole(adapter))
        ? await this.#turns.run(() => this.#opened(adapters, attached, tokens))
        : undefined
    if (open === undefined) return Decoder.open(this.#base, adapters, tokens)
    const numbers = adapters.map((adapter) => indexIn(open.adapters, adapter)).sort((a, b) => a - b)
    const decoder = open.batch.decoder(numbers)
    return {
      get reused() {
        return decoder.reused
      },
      tokens: decoder.tokens,
      close: () => {
        open.users--
        return this.#closeUnused(open)
      },
    }
  }

  /** Ends the use of an adapter that is about to be detached. */
  async forget(adapter: ActiveAdapter): Promise<void> {
    const open = this.#current
    if (open !== undefined && indexIn(open.adapters, adapter) >= 0)
      await this.#turns.run(() => this.#retire())
  }

  /** Frees the cache once no text uses it; later texts have a new one. */
  retire(): Promise<void> {
    return this.#turns.run(() => this.#retire())
  }

  /** Frees the cache if no text uses it. */
  closeIdle(): Promise<void> {
    return this.#turns.run(async () => {
      if (this.#current?.users === 0) await this.#retire()
    })
  }

  /** The batch for a text, with one more user; undefined if it does not fit any. */
  async #opened(
    adapters: readonly ActiveAdapter[],
    attached: readonly ActiveAdapter[],
    tokens: number,
  ): Promise<Open | undefined> {
    const fits = ({ batch, adapters: own, versions }: Open) =>
      tokens <= batch.capacity &&
      adapters.every((adapter) => versions[indexIn(own, adapter)] === adapter.state.version)
    let open = this.#current
    if (open === undefined || !fits(open)) {
      const own = attached.filter(onlyAdds)
      const capacity = this.#capacity(own)
      if (tokens > capacity) return undefined
      await this.#retire()
      const batch = await Batch.open(this.#base, own, capacity, MOST_TEXTS)
      const versions = own.map(({ state }) => state.version)
      open = { batch, adapters: own, versions, users: 0, retired: false }
      this.#current = open
    }
    open.users++
    return open
  }

  /** Tokens for which there is memory. */
  #capacity(adapters: readonly ActiveAdapter[]): number {
    const { native, precision } = this.#base
    const natives = adapters.map(({ state }) => ({ adapter: state.native }))
    const bytes = (tokens: number) =>
      translated(() => native.plan(natives, { batch: batchPlan(tokens, precision, MOST_TEXTS) })).peakBytes
    const most = MOST_TEXTS * Math.min(contextLength(this.#base), USUAL_TOKENS)
    const few = Math.min(most, 1024)
    const fixed = bytes(few)
    const perToken = Math.max(1, (bytes(2 * few) - fixed) / few)
    return Math.min(most, Math.floor((SHARE * this.#room()) / perToken))
  }

  async #retire(): Promise<void> {
    const open = this.#current
    if (open === undefined) return
    this.#current = undefined
    open.retired = true
    await this.#closeUnused(open)
  }

  async #closeUnused({ batch, retired, users }: Open): Promise<void> {
    if (retired && users === 0) await batch.close()
  }
}

/** True for an adapter with all of its ranks and at its own weight, as a batch has it. */
function isWhole({ weight, rank }: ActiveAdapter): boolean {
  return weight === 1 && rank === null
}

function indexIn(adapters: readonly ActiveAdapter[], { state }: ActiveAdapter): number {
  return adapters.findIndex((one) => one.state === state)
}
