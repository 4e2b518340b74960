/** The session of `forwardBackward`, `optimStep` and `forward`, with capacity for the largest micro-batch so far. */
import type { AdapterState, BaseModel } from '../../base/base.js'
import { inMicroBatches } from '../../losses/micro-batches.js'
import type { Split, TokenRow } from '../../losses/token-rows.js'
import type { NativeSession, PlanOptions } from '../../native/addon.js'
import { closeSession, openSession } from '../../native/session.js'

/** Plans of a pass whose weights are known before it, and of one whose weights depend on log-probabilities. */
export const PLANS = { once: 'pass', twice: 'two_passes' } as const
export const EVALUATE = 'evaluate'

export class RowSession {
  readonly #base: BaseModel
  readonly #adapter: AdapterState
  #open: { session: NativeSession; plans: Record<string, PlanOptions>; capacity: number } | undefined

  constructor(base: BaseModel, adapter: AdapterState) {
    this.#base = base
    this.#adapter = adapter
  }

  /** The session that computed the gradients so far. */
  get current(): NativeSession {
    return this.#open?.session as NativeSession
  }

  /** @param begin called before a session is opened */
  async of(
    groups: readonly (readonly TokenRow[])[],
    split: Split,
    begin: () => Promise<void>,
  ): Promise<NativeSession> {
    const capacity = capacityOf(groups, split)
    if (this.#open !== undefined && this.#open.capacity >= capacity) return this.#open.session
    await this.close()
    await begin()
    const { precision } = this.#base
    const size = { tokens: capacity, sequences: Math.ceil(capacity / 2), headRows: capacity, precision }
    const plans: Record<string, PlanOptions> = {
      [PLANS.once]: { mode: 'train', ...size, rowWeights: true },
      [PLANS.twice]: { mode: 'train', ...size, rowWeights: true, twoPasses: true },
      [EVALUATE]: { mode: 'evaluate', ...size },
    }
    const session = await openSession(this.#base.native, [this.#adapter.native], plans)
    this.#open = { session, plans, capacity }
    return session
  }

  async close(): Promise<void> {
    const open = this.#open
    this.#open = undefined
    if (open) await closeSession(open.session, open.plans)
  }
}

/** Tokens of the largest micro-batch, of rows or of mismatched rows. */
function capacityOf(groups: readonly (readonly TokenRow[])[], split: Split): number {
  const mismatched = groups.flat().flatMap(({ kl }) => (kl === undefined ? [] : [[kl]]))
  const batches = [groups, mismatched].flatMap((each) =>
    each.length === 0 ? [] : inMicroBatches(each, split),
  )
  return Math.max(...batches.map(({ batch }) => batch.tokens.length))
}
