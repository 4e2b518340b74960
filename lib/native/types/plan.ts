/** Types of the work of a step. */

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
