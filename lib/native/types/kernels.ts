/** Types of kernel timings. */
import type { Precision, StorageFormat } from '../lists.js'

/** Kernels to time on synthetic inputs. */
export type KernelStudy = KernelSubject & {
  precision: Precision
  /** In every round each kernel runs for a few milliseconds; the best round counts. */
  rounds: number
}

export type KernelSubject =
  /** `forward`, `input_gradient`, and `adapter_gradient` of a linear layer [out, in] with a low-rank term. */
  | { kind: 'linear'; tokens: number; out: number; in: number; rank: number; format: StorageFormat }
  /** `forward` and `backward` of sequences of equal length. */
  | {
      kind: 'attention'
      sequences: number
      length: number
      heads: number
      kvHeads: number
      headDim: number
      /** As in the graph's node. */
      window?: number
    }
  /** `forward_backward`: head, loss, and the gradient at the head's input. */
  | { kind: 'head_loss'; tokens: number; vocab: number; hidden: number; format: StorageFormat }

export interface KernelTimes {
  /** Operations per call, counting a multiply-add as two, and its shortest time. */
  kernels: { name: string; operations: number; seconds: number }[]
  /**
   * Operations per second of all threads in a multiply-add loop, measured between the rounds; null if the level has no
   * such loop.
   */
  peak: number | null
  /** `head_loss`: bytes that the first call made resident; absent if the system does not report it. */
  extraBytes?: number
}
