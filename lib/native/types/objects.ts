/** Types of native objects: models, weight files and adapters, with the options of their methods. */
import type { TensorSource } from '../../formats/model-files.js'
import type { AdapterArray, FactorForm, FileType, PlanOptions, StorageFormat } from '../lists.js'
import type { Fill, OptimizerState, OptimizerStep, Release, StateTensor, TrainedRanks } from './adapter.js'
import type { Job } from './job.js'
import type { PlanReport } from './plan.js'

export interface ReadWeightOptions {
  type: FileType
  /** First row and number of rows. */
  begin: number
  count: number
  /**
   * Adapters whose delta at the node `target` is added: weight * scale * B A, of the first `rank` ranks (0 and by
   * default all), summed in fp32 and rounded once.
   */
  adapters: { adapter: NativeAdapter; weight?: number; rank?: number }[]
  target?: string
  /**
   * Writes rows (of a bias: elements) in the order that GGUF files of the llama architecture have, for as many heads.
   */
  permutedHeads?: number
  /** Added to every element, as GGUF files hold some vectors; see `TensorSource`. */
  shift?: number
}

export interface MergeWeightOptions {
  /** Location of the weight to which the adapters are added: the same as `held`, or its unquantized source. */
  from: NativeModel
  /** Location of the weight without the adapters, in the format of the merged result. */
  held: NativeModel
  adapters: ReadWeightOptions['adapters']
  target: string
}

/**
 * The part of a weight change that survives quantization: sums over its elements, where d is the adapters' change
 * and q what is changed in the quantized weight.
 */
export interface MergeSums {
  /** |d|^2 */
  change: number
  /** <q, d> */
  kept: number
  /** |q - d|^2 */
  error: number
}

/** Options of `NativeModel.decompose`. */
export interface DecomposeOptions {
  /** `svd`: A and B have the roots of the largest singular values; `qr`: B has orthonormal columns. */
  form: FactorForm
  rank: number
  /** `svd`: products with this many blocks of vectors; default as many as it takes. */
  blocks?: number
  /** `svd`: seed of the vectors that it begins with. Default 0. */
  seed?: number
  /** Source of the weight: the difference between the source and the weight is decomposed. */
  source?: TensorSource
  /** Taken apart is what these change of the weight at node `target`. */
  adapters: ReadWeightOptions['adapters']
  target?: string
}

/** Factors of a matrix. */
export interface Decomposition {
  /** `[rank, in]` */
  a: Float32Array
  /** `[out, rank]` */
  b: Float32Array
  /** Sum of the squares of the matrix's elements. */
  square: number
  /** The same of B A, which is nearest to the matrix. */
  kept: number
}

/** A weight as bitsandbytes stores it: bytes of codes and of scales, little-endian. */
export interface PackedWeight {
  /** `[ceil(elements / 2)]`, element 2j in the high nibble; of int8 `[elements]`, signed. */
  codes: Uint8Array
  /** fp32 `[blocks]`, of int8 `[rows]`; with double quantization one code a block. */
  absmax: Uint8Array
  /** fp32 `[ceil(blocks / 256)]`. */
  nestedAbsmax?: Uint8Array
  absmaxOffset?: number
}

/**
 * Handles are of no use from the moment `dispose` is called. What they hold goes when jobs in flight have ended, on the
 * engine's thread, since giving memory back takes a while; the promise resolves then.
 */
export interface NativeModel {
  /** Reads one weight from its file into `format`, in chunks and once; never holds a full-precision copy beside it. */
  loadWeight(name: string, source: TensorSource, format: StorageFormat): Job<void>
  /**
   * Takes all weights from a weight file, where they stay. Rejects with FILE_FORMAT for a file that cannot be read, or
   * is not of these formats and this key. With `paged` they are in memory within a budget of so many bytes only, 0
   * standing for one that is chosen; rejects with CONFIG for one that is too small. On a GPU the budget is of its memory.
   */
  mapWeights(
    path: string,
    key: string,
    formats: Readonly<Record<string, StorageFormat>>,
    paged?: number,
  ): Job<{
    /** The file system keeps its files in memory, so nothing is saved by paging. */
    livesInMemory: boolean
    /** The paged weights of a model on a GPU now lie in pinned memory, and no longer in the file. */
    pinned: boolean
  }>
  /**
   * Bytes of a paged base that are in memory now, the page cache included, as the system counts them; -1 if it does
   * not.
   */
  pagedBytes(): number
  /**
   * Rows of a loaded weight in a file's type; quantized weights are dequantized first. Rejects with CONFIG for numbers
   * that the type cannot hold.
   */
  readWeight(name: string, options: ReadWeightOptions): Job<Uint8Array>
  /** Makes a weight of another model with adapters in it, quantized as it is held there; once, like `loadWeight`. */
  mergeWeight(name: string, options: MergeWeightOptions): Job<MergeSums>
  /** Factors whose product comes near a loaded weight, what its format lost of it, or what an adapter changes of it. */
  decompose(name: string, options: DecomposeOptions): Job<Decomposition>
  /** A quantized weight. */
  packed(name: string): Job<PackedWeight>
  /** Names of declared weights that have not been loaded. */
  missing(): string[]
  /**
   * Memory of a session over the loaded model, with adapters whose optimizer keeps `state`, by default AdamW's.
   * Throws CONFIG while weights are missing, and what `createSession` rejects with for plans that cannot be.
   */
  plan(
    adapters: { adapter: NativeAdapter; state?: OptimizerState }[],
    plans: Record<string, PlanOptions>,
  ): PlanReport
  dispose(): Promise<void>
}

/**
 * A weight file in the making: a model's weights as they are held in memory. Rejects with WRITE when the disk refuses.
 */
export interface NativeWeightFile {
  /** Reads one weight from its file, as `loadWeight` does, and writes it; it is not kept in memory. */
  store(name: string, source: TensorSource): Job<void>
  /** Writes a loaded weight of the model. */
  copy(name: string): Job<void>
  /** Ends the file, which counts for nothing before, and brings it to the disk. */
  finish(): Job<void>
  dispose(): Promise<void>
}

/** Its arrays cannot be reached while a job writes them: that throws CONFIG until the job's promise settles. */
export interface NativeAdapter {
  fill(name: string, fill: Fill): void
  /** Fills a parameter with the values of a loaded base weight. */
  copyWeight(name: string, model: NativeModel, weight: string): Job<void>
  /** Fills a magnitude with the norms of the rows that it stands for, the other values being as they are. */
  fillRowNorms(name: string, model: NativeModel): Job<void>
  /** Arrays of a parameter: all but `value` if it trains, those of importance if it is in a triplet. */
  arrays(name: string): AdapterArray[]
  /** Copies an array out, or as much of it as goes into `out`, from element `begin` on, and returns that. */
  read(name: string, array: AdapterArray, out?: Float32Array, begin?: number): Float32Array
  write(name: string, array: AdapterArray, values: Float32Array): void
  zeroGradients(): Job<void>
  /** Multiplies the gradients that have added up. */
  scaleGradients(factor: number): Job<void>
  /** Adds up the gradients of all ranks, in the order of ranks; all of them have to call it. */
  sumGradients(): Job<void>
  /** Hash of all values. */
  digest(): Job<string>
  /** Optimizer state of a parameter; empty if it is not trained. All values are zero before the first step. */
  state(name: string): StateTensor[]
  /** Copies bytes of it out, little-endian; as `read`. */
  readState(name: string, tensor: string, out?: Uint8Array, begin?: number): Uint8Array
  writeState(name: string, tensor: string, bytes: Uint8Array): void
  /**
   * Back to before the first step: gradients, state and importances are zero, and the latter are followed again.
   * @param state of the optimizer that goes on; default: as before
   */
  restart(state?: OptimizerState): Job<void>
  /** Frees the importances; steps no longer follow them. */
  dropImportances(): void
  /**
   * Scores of all triplets, one linear after the other: sensitivity * uncertainty of d_i, with its mean over row i of A
   * and over column i of B. Rejects with CONFIG once the importances were dropped.
   */
  tripletScores(): Job<Float64Array>
  /** Sets `d` to 0 in the triplets where `keep`, in the order of the scores, is 0. */
  pruneTriplets(keep: Uint8Array): Job<void>
  /** An empty sum of private training; of clients, what they start from and the server's moments are kept. */
  beginRound(): Job<void>
  /** Back to what the round began with, and to an optimizer that has made no step. */
  beginClient(): Job<void>
  /**
   * Adds what a client changed, clipped; the norm before clipping, of which one that is not finite counts for nothing.
   */
  addClient(options: TrainedRanks & { clippingNorm: number }): Job<number>
  /**
   * Adds up the sums of all ranks, in the order of ranks; all of them have to call it.
   * @param isLast the last time in a round, when all ranks keep the result and not the first one alone
   */
  sumContributions(isLast: boolean): Job<void>
  /** Brings back what the round began with, and makes (sum + noise) / cohort the gradient of the next step. */
  release(options: Release): Job<void>
  /** Regularizes, clips, updates the trained parameters, follows importances and zeroes the gradients. */
  optimizerStep(options: OptimizerStep): Job<{ gradNorm: number }>
  dispose(): Promise<void>
}
