/** Types of plans: bytes by category, and the work of a step. */
import type { Category, Phase } from '../lists.js'

/** Bytes of one category. */
export interface PlanRow {
  category: Category
  /** In the memory of the device that computes. */
  bytes: number
  /** In pinned memory of the host, beside a GPU; absent if there are none. */
  pinnedBytes?: number
}

/** A step of a plan: what it is, what is live meanwhile, and what it multiplies. */
export interface PlanMoment {
  phase: Phase
  kernel: string
  /** Path of the node in the model; empty for what belongs to none. */
  node: string
  /** Bytes of the arena that are live. */
  liveBytes: number
  /** Multiply-adds of products with base weights, at capacity; those of adapters and of attention are not in it. */
  multiplyAdds: number
}

/** Planned bytes. The rows are what is live at the peak and add up to `peakBytes`. */
export interface PlanReport {
  peakBytes: number
  /** Bytes of pinned memory of the host, beside a GPU; the `pinnedBytes` of the rows add up to it. */
  pinnedBytes: number
  rows: PlanRow[]
  /** Bytes of the one arena (activations, loss, workspace, and gradients of updates in the backward pass), exact. */
  arenaBytes: number
  /** Path and phase of the step with the highest live bytes, e.g. `backward model.layers.29.mlp`. */
  peakAt: string
  /** The steps of the plan with the largest arena, in order; made at every look. */
  timeline: PlanMoment[]
  trainableParameters: number
  totalParameters: number
  /**
   * Bytes of a paged base that each call of the plan with the largest arena reads from the disk, or on a GPU fetches from
   * pinned memory.
   */
  pagedReadBytes: number
  /** Bytes of activations on the disk, or in pinned memory, which each call of a training plan writes and reads. */
  offloadedBytes: number
  /** Bytes of paged optimizer state on the disk, or in pinned memory, which each update reads and writes. */
  pagedStateBytes: number
  /** Pages of files leave memory when they are dropped, as on Linux; elsewhere the system decides when. */
  dropsPages: boolean
}

/** Totals over the launches of one kernel. */
export interface KernelCounts {
  kernel: string
  launches: number
  /** Read from memory and written to it, each operand once a launch. */
  bytesMoved: number
  /** The most that a launch needs. */
  workspaceBytes: number
  /** Multiply-adds of products; 0 for kernels whose time is that of their memory. */
  multiplyAdds: number
}

/** Work on a device that computes nothing. */
export interface WorkCounts {
  /** Every kernel there is, launched or not. */
  kernels: KernelCounts[]
  uploadedBytes: number
  /** By what the host reads. */
  downloadedBytes: Record<string, number>
  /** Activations that are offloaded, and that come back. */
  stashedBytes: number
  fetchedBytes: number
}

/** The work of a micro-batch of full size. */
export interface StepCounts extends WorkCounts {
  /** The optimizer's update after the last micro-batch; absent if gradients are used up in the backward pass. */
  update?: WorkCounts
}
