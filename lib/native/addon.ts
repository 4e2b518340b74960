/**
 * The full list of what the addon exports: descriptions go in, numbers come out, tensors stay below. This file is the
 * contract between lib/ and native/addon/; the rest of the TypeScript never touches the addon but through it.
 */
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { packageRoot } from '../core/root.js'
import type { Graph } from '../graph/graph.js'
import type { Launch } from './launcher.js'
import type { Category, FileLock, Place, PlanOptions, Precision, StorageFormat } from './lists.js'
import { addonOrigin, loadAddon } from './load.js'
import type { AdapterSpec, OptimizerState } from './types/adapter.js'
import type { Job } from './types/job.js'
import type { KernelStudy, KernelTimes } from './types/kernels.js'
import type { NativeAdapter, NativeModel, NativeWeightFile } from './types/objects.js'
import type { PlanReport, StepCounts } from './types/plan.js'
import type { NativeSession } from './types/session.js'

export {
  type AdapterArray,
  CATEGORIES,
  type Category,
  type FileType,
  type OptimizerKind,
  type Phase,
  type PlanOptions,
  type Precision,
  type StorageFormat,
} from './lists.js'
export type * from './types/adapter.js'
export type * from './types/job.js'
export type * from './types/kernels.js'
export type * from './types/objects.js'
export type * from './types/plan.js'
export type * from './types/session.js'

export interface CpuInfo {
  /** Level in use. */
  isa: string
  /** Levels this machine can run. */
  levels: string[]
  threads: number
  cores: number
  /** bf16 operands pay on this machine. */
  prefersBf16: boolean
}

/** The device of a model and its adapters. */
export type Device = 'cpu' | `cuda:${number}`

/** Properties of a card that the workspace of its kernels depends on. */
export interface CardSizes {
  /** Compute capability, ten times. */
  sm: number
  multiprocessors: number
  /** Shared memory that a block may have. */
  sharedBytes: number
}

/** An NVIDIA GPU that the driver shows. */
export interface CudaCard extends CardSizes {
  /** As in `cuda:N`. */
  number: number
  name: string
  memoryBytes: number
  /** Why it cannot be used; empty where it can. */
  reason: string
}

export interface CudaReport {
  available: boolean
  /** Version of CUDA that the driver supports; empty where there is no driver. */
  version: string
  /** Why it is not, one for each thing that was tried. */
  reasons: string[]
  cards: CudaCard[]
}

/** Libraries of MPI. */
export interface MpiReport {
  /** Libraries that can be opened, by file name, with their version in their own words. */
  libraries: { name: string; version: string }[]
  /** Why the others cannot, in the system's words. */
  reasons: string[]
}

/** The place of this process among those that train together. */
export interface JoinedRanks {
  rank: number
  size: number
  /** With its version. */
  library: string
}

export interface NativeAddon {
  version: string
  cpu(): CpuInfo
  /** NVIDIA GPUs, or why there are none. Opens the driver. */
  cuda(): CudaReport
  /**
   * `isa` forces a level; `threads` sizes the pool. Only before or between jobs. `cudaPack` is the file with the kernels
   * for GPUs, where LOWRANK_CUDA_PACK names none.
   */
  configure(options: { threads?: number; isa?: string; cudaPack?: string }): void
  /** Bytes now allocated, by category, in one kind of memory or in all. */
  allocated(place?: Place): Record<Category, number>
  /** Resident set now and its peak, bytes (VmRSS, VmHWM). */
  residentBytes(): {
    rss: number
    peak: number
    /** The process's own part of `rss`, and the pages of files. */
    anonymous: number
    fileBacked: number
  }
  /** Resets the peak to the present value; false where the system does not allow it. */
  resetPeak(): boolean
  /** Bytes of a file that are in memory, whoever brought them there (mincore); -1 where the system does not say. */
  cachedBytes(path: string): number
  /**
   * Locks an open file until its descriptor is closed or the process dies (flock), without waiting: `held` where
   * another descriptor, of this process or another, has the lock.
   */
  lockFile(descriptor: number): FileLock
  /** Opens the libraries, and connects nothing. */
  mpi(): MpiReport
  /**
   * Joins the ranks that a launcher has started, once. Rejects with RANKS where no library of MPI understands the launcher.
   * `patience`: milliseconds that a rank may be silent before it counts as lost, and meetings reject with RANKS.
   */
  joinRanks(launch: Launch & { patience: number }): Job<JoinedRanks>
  /** Resolves with the messages of all ranks, in their order, when each has sent one. */
  meetRanks(message: Uint8Array): Job<Uint8Array[]>
  /** Resolves when all ranks have called it. Nobody may meet afterward. */
  leaveRanks(): Job<void>
  /** A rank whose process or machine has stopped; -1 where none has. */
  lostRank(): number
  /** Ends the processes of all ranks at once. */
  endRanks(exitCode: number): never
  /** Cores that this process may run on, by number. */
  allowedCores(): number[]
  createModel(graph: Graph, options?: { device?: Device }): NativeModel
  /** `trainable` adapters also hold gradients, and from their first step on optimizer state: by default AdamW's. */
  createAdapter(
    spec: AdapterSpec,
    options: { trainable: boolean; state?: OptimizerState; device?: Device },
  ): NativeAdapter
  /**
   * Plans, allocates, and makes the tables that steps look up. Throws CONFIG while weights of the model are missing.
   * `weights`: what each adapter's output counts for where they add up; default 1 for all, as training needs. `ranks`:
   * how many ranks of each are in use outside training, 0 being all; default all.
   */
  createSession(
    model: NativeModel,
    adapters: NativeAdapter[],
    plans: Record<string, PlanOptions>,
    weights?: readonly number[],
    ranks?: readonly number[],
  ): Job<NativeSession>
  /**
   * Creates a file for the weights of a model, and takes its room on the disk. `key` says what they are made of: who
   * reads the file has to name the same. `putAway`: keep no more than a weight of it in the page cache. Throws WRITE.
   */
  createWeightFile(
    model: NativeModel,
    options: {
      path: string
      key: string
      formats: Readonly<Record<string, StorageFormat>>
      putAway?: boolean
    },
  ): NativeWeightFile
  /**
   * The same plans without weights: how much memory a run would take, on the CPU with so many threads or on a card, which
   * need not be there. `formats` gives each weight's storage, and `paged` is as of `mapWeights`.
   */
  plan(
    graph: Graph,
    formats: Readonly<Record<string, StorageFormat>>,
    adapters: { spec: AdapterSpec; trainable: boolean; state?: OptimizerState }[],
    plans: Record<string, PlanOptions>,
    on?: number | CardSizes,
    paged?: number,
  ): PlanReport
  /** Launches, bytes moved and workspace of one of these plans, for training or evaluation, and of the optimizer's update. Throws as `plan`. */
  countStep(
    graph: Graph,
    formats: Readonly<Record<string, StorageFormat>>,
    adapters: { spec: AdapterSpec; trainable: boolean; state?: OptimizerState }[],
    plans: Record<string, PlanOptions>,
    on: number | CardSizes | undefined,
    plan: string,
  ): StepCounts
  /** Rejects with SHAPE for sizes that are none, or that the format cannot hold. */
  timeKernels(study: KernelStudy): Job<KernelTimes>
  /** `peak` of the kernels' times alone. */
  arithmeticPeak(options: { precision: Precision; rounds: number }): Job<number | null>
  /** Graph, plan, arena or times by kernel (so far, all plans) of a session as text, for debugging. */
  dump(session: NativeSession, plan: string, what: 'graph' | 'plan' | 'arena' | 'times'): string
  /** Warnings of the engine about work that goes on; each sentence is given once. */
  remarks(): string[]
  /** Cancels this environment's jobs and waits for them; the last environment also joins the engine thread. */
  shutdown(): void
}

/** The kernels for GPUs: beside the addon in a package of its own, else beside the folders of the prebuilt ones. */
function kernelPack(): string {
  const beside = join(dirname(addonOrigin().path), 'lowrank.cuda')
  return existsSync(beside) ? beside : join(packageRoot, 'prebuilds', 'lowrank.cuda')
}

let loaded: NativeAddon | undefined

/** The addon, loaded on first use; throws NativeLoadError with what was tried and how to mend it. */
export function addon(): NativeAddon {
  if (loaded === undefined) {
    const native = loadAddon() as NativeAddon
    process.once('exit', () => native.shutdown())
    native.configure({ cudaPack: kernelPack() })
    loaded = native
  }
  return loaded
}
