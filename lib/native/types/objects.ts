/** Types of native objects: models, weight files, and adapters, with the options of their methods. */
import type { HeadOrder } from '../../formats/head-order.js'
import type { TensorSource } from '../../formats/model-files.js'
import type {
  Decomposition,
  MergeSums,
  OptimizerStep,
  PackedWeight,
  PlanOptions,
  PlanReport,
  Release,
  StateSpec,
  TrainedRanks,
} from '../boundary.js'
import type { AdapterArray, FactorForm, FileType, StorageFormat } from '../lists.js'
import type { Fill, StateTensor } from './adapter.js'
import type { Job } from './job.js'

export interface ReadWeightOptions {
  type: FileType
  /** First row and number of rows. */
  begin: number
  count: number
  /**
   * Adapters whose update at node `target` is added: weight * scale * B A over the first `rank` ranks (default 0: all),
   * summed in fp32 and rounded once.
   */
  adapters: { adapter: NativeAdapter; weight?: number; rank?: number }[]
  target?: string
  /** Writes rows (for a bias: elements) in the order of GGUF files of the llama architecture, for this many heads. */
  permutedHeads?: number
  /** Writes value heads in the order of GGUF files of Qwen3.5. */
  headOrder?: HeadOrder
  /** Writes -exp of every element. */
  negatedExp?: true
  /** Added to every element, as GGUF files store some vectors; see `TensorSource`. */
  shift?: number
}

export interface MergeWeightOptions {
  /** The model whose weight the adapters are added to: the same as `held`, or one with its unquantized source. */
  from: NativeModel
  /** The model with the weight without adapters, in the format of the merged result. */
  held: NativeModel
  adapters: ReadWeightOptions['adapters']
  target: string
}

/** Options of `NativeModel.decompose`. */
export interface DecomposeOptions {
  /** `svd`: A and B contain the square roots of the largest singular values; `qr`: B has orthonormal columns. */
  form: FactorForm
  rank: number
  /** `svd`: number of products with blocks of vectors; default: until converged. */
  blocks?: number
  /** `svd`: seed of the initial vectors. Default 0. */
  seed?: number
  /** Original of the weight: decomposes the difference between it and the weight. */
  source?: TensorSource
  /** Decomposes the update by these adapters of the weight at node `target`. */
  adapters: ReadWeightOptions['adapters']
  target?: string
}

/**
 * Handles are unusable once `dispose` is called. Their memory is freed after pending jobs have finished, on the
 * engine's thread, since freeing takes a while; then the promise resolves.
 */
export interface NativeModel {
  /**
   * Reads one weight from its file into `format`, in chunks; can be done once. Never holds an additional full-precision
   * copy.
   */
  loadWeight(name: string, source: TensorSource, format: StorageFormat): Job<void>
  /**
   * Memory-maps all weights from a weight file. Rejects with FILE_FORMAT for a file that cannot be read, or has other
   * formats or another key. With `paged`, only this many bytes of them are in memory (0 chooses a budget); rejects with
   * CONFIG if that is too small. On a GPU the budget is for its memory.
   */
  mapWeights(
    path: string,
    key: string,
    formats: Readonly<Record<string, StorageFormat>>,
    paged?: number,
  ): Job<{
    /** The file is on a RAM file system, so paging saves nothing. */
    livesInMemory: boolean
    /** The paged weights of a model on a GPU are now in pinned memory, and no longer in the file. */
    pinned: boolean
  }>
  /**
   * Bytes of a paged base now in memory, including the page cache, as reported by the system; -1 if it does not report
   * it.
   */
  pagedBytes(): number
  /**
   * Rows of a loaded weight in a file's type; quantized weights are dequantized first. Rejects with CONFIG for values
   * that the type cannot hold.
   */
  readWeight(name: string, options: ReadWeightOptions): Job<Uint8Array>
  /** Creates a weight with adapters merged, quantized in the format of the other model; once, like `loadWeight`. */
  mergeWeight(name: string, options: MergeWeightOptions): Job<MergeSums>
  /** Low-rank factors of a loaded weight, of its quantization error, or of an adapter's update to it. */
  decompose(name: string, options: DecomposeOptions): Job<Decomposition>
  /** A quantized weight. */
  packed(name: string): Job<PackedWeight>
  /** Names of declared weights that have not been loaded. */
  missing(): string[]
  /**
   * Plans the memory of a session over the loaded model, with adapters whose optimizer keeps `state` (AdamW's by
   * default). Throws CONFIG while weights are missing, and the errors of `createSession` for invalid plans.
   */
  plan(
    adapters: { adapter: NativeAdapter; state?: StateSpec }[],
    plans: Record<string, PlanOptions>,
  ): PlanReport
  dispose(): Promise<void>
}

/**
 * A weight file being written: a model's weights in their in-memory formats. Rejects with WRITE when the disk is full
 * or refuses the write.
 */
export interface NativeWeightFile {
  /** Reads one weight from its file like `loadWeight`, and writes it without keeping it in memory. */
  store(name: string, source: TensorSource): Job<void>
  /** Writes a loaded weight of the model. */
  copy(name: string): Job<void>
  /** Completes the file, which is invalid before, and syncs it to disk. */
  finish(): Job<void>
  dispose(): Promise<void>
}

/** Arrays cannot be accessed while a job writes them: that throws CONFIG until the job's promise settles. */
export interface NativeAdapter {
  fill(name: string, fill: Fill): void
  /** Fills a parameter with the values of a loaded base weight. */
  copyWeight(name: string, model: NativeModel, weight: string): Job<void>
  /** Fills a magnitude with the norms of the rows it scales, given the current values of the other factors. */
  fillRowNorms(name: string, model: NativeModel): Job<void>
  /** Arrays of a parameter: `value` always, the gradient if it is trained, and importances if it is in a triplet. */
  arrays(name: string): AdapterArray[]
  /** Copies an array out, starting at element `begin` and limited to the size of `out`, and returns the copy. */
  read(name: string, array: AdapterArray, out?: Float32Array, begin?: number): Float32Array
  write(name: string, array: AdapterArray, values: Float32Array): void
  zeroGradients(): Job<void>
  /** Multiplies the accumulated gradients. */
  scaleGradients(factor: number): Job<void>
  /** Sum of the squares of each trained parameter's gradient, in their order. */
  gradientSquares(): Job<Float64Array>
  /** Hash of all values. */
  digest(): Job<string>
  /** Optimizer state of a parameter; empty if it is not trained. All values are zero before the first step. */
  state(name: string): StateTensor[]
  /** Copies bytes of the state out, little-endian, like `read`. */
  readState(name: string, tensor: string, out?: Uint8Array, begin?: number): Uint8Array
  writeState(name: string, tensor: string, bytes: Uint8Array): void
  /**
   * Resets to before the first step: gradients, state, and importances are zero, and importances are tracked again.
   * @param state of the new optimizer; default: unchanged
   */
  restart(state?: StateSpec): Job<void>
  /** Frees the importances; steps no longer track them. */
  dropImportances(): void
  /**
   * Scores of all triplets, layer by layer: sensitivity * uncertainty of d_i, plus its mean over row i of A and over
   * column i of B. Rejects with CONFIG once the importances have been dropped.
   */
  tripletScores(): Job<Float64Array>
  /** Sets `d` to 0 in the triplets whose entry in `keep`, in the order of the scores, is 0. */
  pruneTriplets(keep: Uint8Array): Job<void>
  /**
   * Starts a round of private training with an empty sum. For clients, it saves their starting point and the server's
   * moments.
   */
  beginRound(): Job<void>
  /** Resets to the round's starting point, with a fresh optimizer. */
  beginClient(): Job<void>
  /**
   * Adds a client's update to the sum, clipped; returns its norm before clipping. An update that is not finite is not
   * added.
   */
  addClient(options: TrainedRanks & { clippingNorm: number }): Job<number>
  /**
   * Sums the contributions of all ranks, in rank order; all ranks must call it.
   * @param isLast whether this is the last call in a round, when all ranks keep the result instead of only the first
   */
  sumContributions(isLast: boolean): Job<void>
  /** Restores the round's starting point, and makes (sum + noise) / cohort the gradient of the next step. */
  release(options: Release): Job<void>
  /** Regularizes, clips, updates the trained parameters, tracks importances, and zeroes the gradients. */
  optimizerStep(options: OptimizerStep): Job<{ gradNorm: number }>
  dispose(): Promise<void>
}
