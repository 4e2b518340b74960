/**
 * The passes of a rank that holds a part of the layers. Hidden states go from rank to rank, and their gradients back,
 * one forward and one backward in turn once the pipe is full. A rank that fails still exchanges what the others wait
 * for, so that all of them reach the next point where they meet.
 */
import type { AdapterState } from '../../base/base.js'
import { InternalError, RanksError } from '../../core/errors.js'
import type { NativeSession } from '../../native/addon.js'
import { translatedAsync } from '../../native/errors.js'
import type { LayerPart } from '../../strategies/part.js'
import type { Processes } from './processes.js'

/** A pass of a rank over a micro-batch; the last rank makes both at once. */
export interface Pass {
  kind: 'forward' | 'backward' | 'both'
  microBatch: number
}

/**
 * The passes of a rank over some micro-batches, in order.
 * @param behind ranks behind this one, each of which has a micro-batch at a time
 */
export function orderOfPasses(behind: number, count: number): Pass[] {
  if (behind === 0) return Array.from({ length: count }, (_, microBatch) => ({ kind: 'both', microBatch }))
  const ahead = Math.min(behind, count)
  const passes: Pass[] = []
  for (let i = 0; i < count + ahead; i++) {
    if (i < count) passes.push({ kind: 'forward', microBatch: i })
    if (i >= ahead) passes.push({ kind: 'backward', microBatch: i - ahead })
  }
  return passes
}

export class LayerPipe {
  readonly #ranks: Processes
  readonly #part: LayerPart
  #session: NativeSession | undefined
  #forwards = 0
  #backwards = 0
  /** The error of a pass that ended because another rank failed. */
  #elsewhere: unknown

  constructor(ranks: Processes, part: LayerPart) {
    this.#ranks = ranks
    this.#part = part
  }

  /** True for the rank with the head, which alone knows the loss. */
  get isLast(): boolean {
    return this.#part.index === this.#part.count - 1
  }

  passes(count: number): Pass[] {
    return orderOfPasses(this.#part.count - 1 - this.#part.index, count)
  }

  /** Sets the session that makes the passes; all ranks open theirs at the same point of the run. */
  open(session: NativeSession): void {
    this.#session = session
  }

  /**
   * Makes passes. After a failure on this rank, it rejects once the others have what they wait for; after one on another,
   * it resolves, and the others' next meeting rejects with that failure.
   */
  async run(passes: readonly Pass[], work: (pass: Pass) => Promise<void>): Promise<void> {
    const session = this.#session as NativeSession
    // A rank that failed before the passes is found here, and no rank waits for its messages.
    await this.#ranks.meet('passes', null)
    let failure: unknown
    for (const pass of passes) {
      if (pass.kind !== 'backward') this.#forwards++
      if (pass.kind !== 'forward') this.#backwards++
      if (failure === undefined)
        try {
          await translatedAsync(() => work(pass))
          continue
        } catch (error) {
          failure = error
        }
      if (this.#ranks.isBroken) throw failure
      await translatedAsync(() => session.skipPasses(this.#forwards, this.#backwards).promise)
    }
    if (failure === undefined) return
    if (!(failure instanceof RanksError)) throw failure
    this.#elsewhere = failure
  }

  /** @throws {InternalError} if another rank failed, and the meeting after the passes did not reject with its error */
  expectWhole(): void {
    if (this.#elsewhere !== undefined)
      throw new InternalError('a rank failed and did not report its error', {}, { cause: this.#elsewhere })
  }

  /**
   * Measures batches, by their indices, one after the other through all ranks.
   * @returns the results of the last rank
   */
  async measured<Found>(
    batches: readonly number[],
    measure: (index: number) => Promise<Found>,
  ): Promise<Found[]> {
    const passes = batches.map((microBatch) => ({ kind: 'forward' as const, microBatch }))
    const all = await this.#ranks.together('batches of an evaluation', async () => {
      const own: Found[] = []
      await this.run(passes, async ({ microBatch }) => {
        own.push(await measure(microBatch))
      })
      return own
    })
    this.expectWhole()
    return all.at(-1) as Found[]
  }

  /** Norm of the gradients of all ranks, added up in the order of the whole adapter's parameters. */
  async gradNorm({ description, whole, native }: AdapterState): Promise<number> {
    const all = await this.#ranks.together('gradient norm', async () => {
      const squares = await translatedAsync(() => native.gradientSquares().promise)
      return { names: trainedNames(description), squares }
    })
    const squareOf = new Map(
      all.flatMap(({ names, squares }) => names.map((name, i) => [name, squares[i] as number] as const)),
    )
    let sum = 0
    for (const name of trainedNames(whole ?? description)) sum += squareOf.get(name) as number
    return Math.sqrt(sum)
  }
}

function trainedNames({ spec }: AdapterState['description']): string[] {
  return spec.parameters.filter(({ trained }) => trained).map(({ name }) => name)
}
