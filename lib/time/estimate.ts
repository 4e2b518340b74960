/** Estimated time of a step: its operations divided by the speed of the machine. */

/** Operations of a micro-batch. */
export interface StepWork {
  /** Tokens of the micro-batch. */
  tokens: number
  /**
   * Multiply-adds of the transformer blocks: of products with base weights and of attention, recomputation included.
   */
  blocks: number
  /** Multiply-adds of the head. */
  head: number
  /** Parameters that an update changes. */
  trained: number
}

/** Training speed of a machine in one setting. */
export interface StepRates {
  /** Multiply-adds of the blocks per second; what else they take, such as norms and adapters, counts as slowness. */
  blocks: number
  /** Multiply-adds of the head per second, the loss included. */
  head: number
  /** Seconds per token for everything outside blocks and head. */
  tokenSeconds: number
  /** Seconds per trained parameter of an update; 0 where updates are made in the backward pass. */
  updateSeconds: number
}

/** The time of a training step. */
export interface StepTime {
  /** Seconds of an optimizer step. */
  secondsPerStep: number
  /** Tokens of a step in which every micro-batch is full. */
  tokensPerStep: number
  tokensPerSecond: number
}

/** @param accumulation micro-batches of a step */
export function stepTime(work: StepWork, rates: StepRates, accumulation: number): StepTime {
  const microBatch = work.blocks / rates.blocks + work.head / rates.head + work.tokens * rates.tokenSeconds
  const secondsPerStep = accumulation * microBatch + work.trained * rates.updateSeconds
  const tokensPerStep = accumulation * work.tokens
  return { secondsPerStep, tokensPerStep, tokensPerSecond: tokensPerStep / secondsPerStep }
}

/** A model that was timed: what its step computes, and the least seconds of a micro-batch and of an update. */
export interface Timed {
  work: StepWork
  microBatch: number
  update: number
}

/**
 * Rates from three small models: one block with a small vocabulary, more blocks, and a larger vocabulary. Time is
 * linear in either, so differences tell what a block and a row of the head take.
 * @returns undefined where the larger models were not slower, which a busy machine can bring about
 */
export function ratesOf(small: Timed, deep: Timed, wide: Timed): StepRates | undefined {
  const blocks = (deep.work.blocks - small.work.blocks) / (deep.microBatch - small.microBatch)
  const head = (wide.work.head - small.work.head) / (wide.microBatch - small.microBatch)
  const rest = small.microBatch - small.work.blocks / blocks - small.work.head / head
  const rates = {
    blocks,
    head,
    tokenSeconds: Math.max(0, rest) / small.work.tokens,
    updateSeconds: deep.update / deep.work.trained,
  }
  return [blocks, head].every((rate) => rate > 0 && Number.isFinite(rate)) ? rates : undefined
}
