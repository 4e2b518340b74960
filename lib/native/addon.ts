/**
 * The complete interface of the addon: descriptions go in, numbers come out, and tensors stay in native memory. This
 * file is the contract between lib/ and native/addon/; all other TypeScript accesses the addon through it.
 */
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { packageRoot } from '../core/root.js'
import type { Graph } from '../graph/graph.js'
import type {
  AdapterSpec,
  CardSizes,
  CpuInfo,
  CudaReport,
  GrammarTables,
  InflatedImage,
  JoinedRanks,
  MpiReport,
  NcclReport,
  PackedKernels,
  PlanOptions,
  PlanReport,
  StateSpec,
  StepCounts,
  TokenTable,
} from './boundary.js'
import type { Launch } from './launcher.js'
import type { Category, FileLock, Place, Precision, StorageFormat } from './lists.js'
import { addonOrigin, loadAddon } from './load.js'
import type { NativeGrammar, NativeMatcher, NativeVocabulary } from './types/grammar.js'
import type { Job } from './types/job.js'
import type { NativeAdapter, NativeModel, NativeWeightFile } from './types/objects.js'
import type { NativeSession } from './types/session.js'

export type * from './boundary.js'
export {
  type AdapterArray,
  CATEGORIES,
  type Category,
  type FileType,
  type OptimizerKind,
  type Phase,
  type Precision,
  type StorageFormat,
} from './lists.js'
export type * from './types/adapter.js'
export type * from './types/grammar.js'
export type * from './types/job.js'
export type * from './types/objects.js'
export type * from './types/session.js'

/** The device of a model and its adapters. */
export type Device = 'cpu' | `cuda:${number}`

export interface NativeAddon {
  version: string
  cpu(): CpuInfo
  /** Lists NVIDIA GPUs, or the reasons why there are none. Opens the driver. */
  cuda(): CudaReport
  /**
   * `isa` forces a level; `threads` sizes the pool. Call it only before or between jobs. `cudaPack` is the file with
   * the GPU kernels, unless LOWRANK_CUDA_PACK is set.
   */
  configure(options: { threads?: number; isa?: string; cudaPack?: string }): void
  /** The compressed kernels that a GPU needs and has not been given. Throws DEVICE if it cannot be used. */
  packedKernels(device: Device): PackedKernels
  /** Gives them, before the GPU is first used. */
  giveKernels(images: readonly InflatedImage[]): void
  /** Bytes currently allocated, by category, in one kind of memory or in all. */
  allocated(place?: Place): Record<Category, number>
  /** Current and peak resident set size, in bytes (VmRSS, VmHWM). */
  residentBytes(): {
    rss: number
    peak: number
    /** Private memory and file pages within `rss`. */
    anonymous: number
    fileBacked: number
  }
  /** Resets the peak to the current value; false if the system does not support it. */
  resetPeak(): boolean
  /** Bytes of a file in the page cache, whoever loaded them (mincore); -1 if the system does not report it. */
  cachedBytes(path: string): number
  /**
   * Locks an open file until its descriptor is closed or the process exits (flock), without waiting: `held` if another
   * descriptor, in this process or another, has the lock.
   */
  lockFile(descriptor: number): FileLock
  /** Opens the libraries without connecting. */
  mpi(): MpiReport
  /**
   * Joins the ranks started by a launcher; can be called once. Rejects with RANKS if no MPI library understands the
   * launcher. `patience`: milliseconds of silence after which a rank counts as lost, and meetings reject with RANKS.
   */
  joinRanks(launch: Launch & { patience: number }): Job<JoinedRanks>
  /** Resolves with the messages of all ranks, in rank order, once each has sent one. */
  meetRanks(message: Uint8Array): Job<Uint8Array[]>
  /**
   * The same beside the jobs of the engine, which may run meanwhile but not sum gradients. All ranks must meet in the same
   * way. Throws RANKS if the library does not allow calls from several threads.
   */
  meetRanksAside(message: Uint8Array): Promise<Uint8Array[]>
  /** Sends a message to one rank; resolves once it has taken it. */
  sendToRank(rank: number, message: Uint8Array): Job<void>
  /** Resolves with the next message of a rank, which has `bytes` bytes. */
  receiveFromRank(rank: number, bytes: number): Job<Uint8Array>
  /** Opens the library without connecting. */
  nccl(): NcclReport
  /** The id of a group of GPUs, which one rank makes for all. Throws DEVICE without the library. */
  ncclId(): Uint8Array
  /**
   * Connects a GPU with those of all other ranks, which must call it too; `sumGradients` then sums there. Rejects with
   * DEVICE if the library fails.
   */
  connectGpus(device: Device, id: Uint8Array): Job<void>
  /** Resolves once all ranks have called it. No rank may meet afterward. */
  leaveRanks(): Job<void>
  /** Closes the library once all ranks have left. May never resolve. */
  closeRanks(): Job<void>
  /** A rank whose process or machine has stopped; -1 if none has. */
  lostRank(): number
  /** Terminates the processes of all ranks immediately; after `leaveRanks`, only this process. */
  endRanks(exitCode: number): never
  /** CPU cores that this process may use, by number. */
  allowedCores(): number[]
  createModel(graph: Graph, options?: { device?: Device }): NativeModel
  /** `trainable` adapters also hold gradients and, from their first step on, optimizer state (AdamW's by default). */
  createAdapter(
    spec: AdapterSpec,
    options: { trainable: boolean; state?: StateSpec; device?: Device },
  ): NativeAdapter
  /**
   * Plans and allocates a session, and builds the lookup tables of its steps. Throws CONFIG while weights of the model
   * are missing. `weights`: factor on each adapter's output in their sum; default 1, as required in training. `ranks`:
   * number of ranks of each adapter in use outside training; 0 (default) is all.
   */
  createSession(
    model: NativeModel,
    adapters: NativeAdapter[],
    plans: Record<string, PlanOptions>,
    weights?: readonly number[],
    ranks?: readonly number[],
  ): Job<NativeSession>
  createVocabulary(tokens: TokenTable): NativeVocabulary
  /** Throws CONFIG for tables that point outside of themselves. */
  createGrammar(vocabulary: NativeVocabulary, tables: GrammarTables): NativeGrammar
  /** `ends`: tokens that end an answer; they come where it is whole. Throws CONFIG without one. */
  createMatcher(grammar: NativeGrammar, ends: Int32Array): NativeMatcher
  /** Tokens that may come next, of a vocabulary of this size; not while a job uses the matcher. */
  allowedTokens(matcher: NativeMatcher, vocab: number): Int32Array
  /** Moves a matcher on; sampling does it by itself. Throws CONFIG for a token that may not come next. */
  acceptToken(matcher: NativeMatcher, token: number): void
  /**
   * Creates a file for the weights of a model and reserves its disk space. `key` identifies the contents: readers must
   * pass the same key. `putAway`: keep at most one weight of it in the page cache. Throws WRITE.
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
   * Plans without weights: the memory a run would need, on the CPU with a number of threads or on a GPU that need not
   * be present. `formats` gives each weight's storage; `paged` is as in `mapWeights`.
   */
  plan(
    graph: Graph,
    formats: Readonly<Record<string, StorageFormat>>,
    adapters: { spec: AdapterSpec; trainable: boolean; state?: StateSpec }[],
    plans: Record<string, PlanOptions>,
    on?: number | CardSizes,
    paged?: number,
  ): PlanReport
  /**
   * Kernel launches, bytes moved, and workspace of a training or evaluation plan, and of the optimizer's update. Throws
   * as `plan`.
   */
  countStep(
    graph: Graph,
    formats: Readonly<Record<string, StorageFormat>>,
    adapters: { spec: AdapterSpec; trainable: boolean; state?: StateSpec }[],
    plans: Record<string, PlanOptions>,
    on: number | CardSizes | undefined,
    plan: string,
  ): StepCounts
  /**
   * Operations per second of all threads in a loop of multiply-adds, the best of some rounds; null if the level has no
   * such loop.
   */
  arithmeticPeak(options: { precision: Precision; rounds: number }): Job<number | null>
  /** Graph, plan, arena, or cumulative kernel times (over all plans) of a session as text, for debugging. */
  dump(session: NativeSession, plan: string, what: 'graph' | 'plan' | 'arena' | 'times'): string
  /** Warnings of the engine about ongoing work; each is returned once. */
  remarks(): string[]
  /** Cancels this environment's jobs and waits for them; the last environment also joins the engine thread. */
  shutdown(): void
}

/** Path of the GPU kernels: next to the addon in a separate package, else next to the folders of prebuilt addons. */
function kernelPack(): string {
  const beside = join(dirname(addonOrigin().path), 'lowrank.cuda')
  return existsSync(beside) ? beside : join(packageRoot, 'prebuilds', 'lowrank.cuda')
}

let loaded: NativeAddon | undefined

/** The addon, loaded on first use. Throws NativeLoadError with the paths tried and how to fix the problem. */
export function addon(): NativeAddon {
  if (loaded === undefined) {
    const native = loadAddon() as NativeAddon
    process.once('exit', () => native.shutdown())
    native.configure({ cudaPack: kernelPack() })
    loaded = native
  }
  return loaded
}
