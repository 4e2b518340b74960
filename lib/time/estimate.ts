/** Estimates the time of a step: its operations divided by the speed of the machine. */

/** Operations of a micro-batch. */
export interface StepWork {
  /** Tokens of the micro-batch. */
  tokens: number
  /** Multiply-adds of the transformer blocks: products with base weights, and attention, including recomputation. */
  blocks: number
  /** Multiply-adds of the head. */
  head: number
  /** Number of parameters that an update changes. */
  trained: number
}

/** Training speed of a machine in one setting. */
export interface StepRates {
  /** Multiply-adds of the blocks per second; other work in them, such as norms and adapters, lowers the rate. */
  blocks: number
  /** Multiply-adds of the head per second, including the loss. */
  head: number
  /** Seconds per token for everything outside blocks and head. */
  tokenSeconds: number
  /** Seconds per trained parameter of an update; 0 if updates are made in the backward pass. */
  updateSeconds: number
}

/** The time of a training step. */
export interface StepTime {
  /** Seconds per optimizer step. */
  secondsPerStep: number
  /** Tokens per step if every micro-batch is full. */
  tokensPerStep: number
  tokensPerSecond: number
}

/** @param accumulation micro-batches per step */
export function stepTime(work: StepWork, rates: StepRates, accumulation: number): StepTime {
  const microBatch = work.blocks / rates.blocks + work.head / rates.head + work.tokens * rates.tokenSeconds
  const secondsPerStep = accumulation * microBatch + work.trained * rates.updateSeconds
  const tokensPerStep = accumulation * work.tokens
  return { secondsPerStep, tokensPerStep, tokensPerSecond: tokensPerStep / secondsPerStep }
}

/** A timed model: the work of its step, and the shortest seconds of a micro-batch and of an update. */
export interface Timed {
  work: StepWork
  microBatch: number
  update: number
}

/**
 * Derives rates from three small models: one block with a small vocabulary, more blocks, and a larger vocabulary. Time
 * is linear in both, so differences give the cost of a block and of a row of the head.
 * @returns undefined if the larger models were not slower, which can happen on a busy machine
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
