/** Types of plans: bytes by category, and the work of a step. */
import type { Category, Phase } from '../lists.js'

/** Bytes of one category. */
export interface PlanRow {
  category: Category
  /** In the memory of the computing device. */
  bytes: number
  /** In pinned host memory, alongside a GPU; absent if zero. */
  pinnedBytes?: number
}

/** A step of a plan: its kernel, the memory in use, and its work. */
export interface PlanMoment {
  phase: Phase
  kernel: string
  /** Path of the node in the model; empty if it belongs to none. */
  node: string
  /** Arena bytes in use. */
  liveBytes: number
  /** Multiply-adds of products with base weights at full capacity, excluding those of adapters and attention. */
  multiplyAdds: number
}

/** Planned bytes. The rows are the bytes in use at the peak and add up to `peakBytes`. */
export interface PlanReport {
  peakBytes: number
  /** Pinned host memory used alongside a GPU, in bytes; the sum of the rows' `pinnedBytes`. */
  pinnedBytes: number
  rows: PlanRow[]
  /**
   * Exact size of the arena (activations, loss, workspace, and gradients of updates in the backward pass), in bytes.
   */
  arenaBytes: number
  /** Path and phase of the step with the highest memory use, e.g. `backward model.layers.29.mlp`. */
  peakAt: string
  /** The steps of the plan with the largest arena, in order; computed on each access. */
  timeline: PlanMoment[]
  trainableParameters: number
  totalParameters: number
  /**
   * Bytes of a paged base that each call of the plan with the largest arena reads from disk, or on a GPU from pinned
   * memory.
   */
  pagedReadBytes: number
  /** Bytes of activations on disk or in pinned memory that each call of a training plan writes and reads. */
  offloadedBytes: number
  /** Bytes of paged optimizer state on disk or in pinned memory that each update reads and writes. */
  pagedStateBytes: number
  /** Whether file pages are released as soon as they are dropped, as on Linux; elsewhere the system decides when. */
  dropsPages: boolean
}

/** Totals over the launches of one kernel. */
export interface KernelCounts {
  kernel: string
  launches: number
  /** Bytes read and written, counting each operand once per launch. */
  bytesMoved: number
  /** Maximum workspace of a launch. */
  workspaceBytes: number
  /** Multiply-adds of products; 0 for memory-bound kernels. */
  multiplyAdds: number
}

/** Work counted on a device that does not compute. */
export interface WorkCounts {
  /** All kernels, launched or not. */
  kernels: KernelCounts[]
  uploadedBytes: number
  /** By the purpose of the read. */
  downloadedBytes: Record<string, number>
  /** Bytes of activations offloaded, and fetched back. */
  stashedBytes: number
  fetchedBytes: number
}

/** The work of a full micro-batch. */
export interface StepCounts extends WorkCounts {
  /** The optimizer's update after the last micro-batch; absent if updates are made in the backward pass. */
  update?: WorkCounts
}
