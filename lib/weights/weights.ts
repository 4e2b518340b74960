/** Chooses the storage format of each weight, and loads the weights. */
import { ConfigError, FileFormatError, ShapeError } from '../core/errors.js'
import { quote } from '../core/quote.js'
import { isBlockDtype, type QuantizedDtype, type TensorSource } from '../formats/tensor-source.js'
import { type Graph, type GraphWeight, nodesOf, shapeOf } from '../graph/graph.js'
import type { Job, NativeModel, Precision, StorageFormat } from '../native/addon.js'
import { translatedAsync } from '../native/errors.js'
import {
  describeQuantization,
  type FourBitQuantization,
  fp4,
  type Int8Quantization,
  int8,
  nf4,
  type Quantization,
  sameQuantization,
  usualForEmbedding,
} from './quantization.js'

/** Options that determine the storage of weights. */
export interface StorageChoice {
  /** Quantization of the linear layers in transformer blocks. */
  quantization: Quantization
  /** Quantization of the embedding and the head, which share a matrix if tied. Default: depends on `quantization`. */
  embeddingQuantization?: Quantization
  precision: Precision
  /** Keep the exact values of the files, because fp32 was requested explicitly and nothing is quantized. */
  exact: boolean
}

/** Formats and quantizations that correspond to the quantized dtypes of files. */
const QUANTIZED: Readonly<Record<QuantizedDtype, { format: StorageFormat; quantization: Quantization }>> = {
  NF4: { format: 'nf4', quantization: nf4({ doubleQuant: false }) },
  NF4_DOUBLE: { format: 'nf4_double', quantization: nf4() },
  FP4: { format: 'fp4', quantization: fp4({ doubleQuant: false }) },
  FP4_DOUBLE: { format: 'fp4_double', quantization: fp4() },
  INT8: { format: 'int8', quantization: int8() },
}

/** True if a weight is stored as codes. */
export function isQuantizedFormat(format: StorageFormat | undefined): boolean {
  return format !== undefined && !['f32', 'bf16', 'f16'].includes(format)
}

function isQuantized(dtype: string): dtype is QuantizedDtype {
  return dtype in QUANTIZED
}

/** Quantization of the linear layers in the files; undefined if not quantized. */
export function storedQuantization(
  graph: Graph,
  dtypeOf: (name: string) => string,
): Quantization | undefined {
  const dtype = graph.weights.map(({ name }) => dtypeOf(name)).find(isQuantized)
  return dtype && QUANTIZED[dtype].quantization
}

/**
 * The quantization of a model: that of its files if they are quantized, else the requested one, else the default.
 * @param dtypeOf see `storageFormats`
 * @throws {ConfigError} when the files have a different quantization than requested, or have no blocks to keep
 */
export function chooseQuantization(
  path: string,
  graph: Graph,
  dtypeOf: (name: string) => string,
  asked: Quantization | undefined,
  usual: Quantization = { type: 'none' },
): Quantization {
  const stored = storedQuantization(graph, dtypeOf)
  if (stored === undefined) {
    const chosen = asked ?? usual
    if (chosen.type === 'keep') checkBlocks('quantization', path, matrixDtypes(graph, dtypeOf))
    return chosen
  }
  if (asked !== undefined && !sameQuantization(asked, stored))
    throw new ConfigError(
      `quantization is ${describeQuantization(asked)}, but the weights of ${path} are already quantized as ${describeQuantization(stored)}; leave quantization out, or use the original model.`,
      { path, asked, stored },
    )
  return stored
}

/**
 * Quantization of the embedding and head: as requested, else the default for the quantization of the linear layers.
 * @param dtypeOf see `storageFormats`
 * @throws {ConfigError} when there are no blocks to keep, or the head in the files has a different quantization than
 * requested
 */
export function chooseEmbeddingQuantization(
  path: string,
  graph: Graph,
  dtypeOf: (name: string) => string,
  asked: Quantization | undefined,
  quantization: Quantization,
): Quantization {
  if (asked === undefined) return usualForEmbedding(quantization)
  const tables = embeddingWeights(graph)
  const dtypes = [...new Set(tables.map(dtypeOf))]
  if (asked.type === 'keep') checkBlocks('embedding_quantization', path, dtypes)
  const stored = dtypes.find(isQuantized)
  if (stored !== undefined && quantizes(asked) && !sameQuantization(asked, QUANTIZED[stored].quantization))
    throw new ConfigError(
      `embedding_quantization is ${describeQuantization(asked)}, but ${path} has the head in ${describeQuantization(QUANTIZED[stored].quantization)}; set that, or none, which keeps it in 16 bits.`,
      { path, asked, stored },
    )
  return asked
}

/** The weights of the embedding and the head; a single one if tied. Excludes the head of a classifier. */
export function embeddingWeights(graph: Graph): string[] {
  const heads = graph.labels === undefined ? nodesOf(graph, 'lm_head') : []
  return [...new Set([...nodesOf(graph, 'embedding'), ...heads].map(({ weight }) => weight))]
}

/** Weight of a classifier's head, which comes from an adapter; undefined for a language model. */
function headOfClasses(graph: Graph): string | undefined {
  return graph.labels === undefined ? undefined : nodesOf(graph, 'lm_head')[0]?.weight
}

/**
 * Fills the slot of a classifier's head with embedding rows that are never used, since the adapter's head replaces
 * them.
 */
function withHeadOfClasses(
  graph: Graph,
  tensors: ReadonlyMap<string, TensorSource>,
): ReadonlyMap<string, TensorSource> {
  const name = headOfClasses(graph)
  const table = tensors.get(nodesOf(graph, 'embedding')[0]?.weight ?? '')
  if (name === undefined || table === undefined) return tensors
  const { labels = 0 } = graph
  const [rows = 1, cols = 1] = table.shape
  const source = { ...table, name, rows: labels, shape: [labels, cols], bytes: (table.bytes / rows) * labels }
  return new Map([...tensors, [name, source]])
}

/** Distinct dtypes of all weights except norms and biases. */
export function matrixDtypes(graph: Graph, dtypeOf: (name: string) => string): string[] {
  const matrices = graph.weights.filter(({ kind }) => kind !== 'vector')
  return [...new Set(matrices.map(({ name }) => dtypeOf(name)))]
}

/** @throws {ConfigError} when no matrix is stored in GGML blocks */
function checkBlocks(key: string, path: string, dtypes: readonly string[]): void {
  if (dtypes.some(isBlockDtype)) return
  const matrices = key === 'quantization' ? 'matrices' : 'embedding and head'
  throw new ConfigError(
    `${key} is keep, which keeps the blocks of a GGUF file, but ${path} has none: its ${matrices} are ${dtypes.join(', ')}. Use a .gguf file with quantized tensors, or nf4.`,
    { path, dtypes },
  )
}

/**
 * The storage format of every weight: f32 for vectors; the linear layers, and the embedding and head, each follow their
 * quantization. Unquantized weights stay as close to their files as the precision can use. In quantized files, linear
 * layers stay as stored, since some may have been left unquantized.
 * @param dtypeOf dtype of a weight in its file, such as `BF16` or `Q8_0`
 */
export function storageFormats(
  graph: Graph,
  dtypeOf: (name: string) => string,
  choice: StorageChoice,
): Record<string, StorageFormat> {
  const { quantization: ofLinears, embeddingQuantization: ofTables = usualForEmbedding(ofLinears) } = choice
  const tables = new Set(embeddingWeights(graph))
  const stored = storedQuantization(graph, dtypeOf) !== undefined
  const classHead = headOfClasses(graph)
  const formatOf = (weight: GraphWeight): StorageFormat => {
    if (weight.kind === 'vector' || weight.name === classHead) return 'f32'
    const dtype = dtypeOf(weight.name)
    const linear = !tables.has(weight.name)
    const quantization = linear ? ofLinears : ofTables
    if (quantization.type === 'keep' && isBlockDtype(dtype)) return dtype.toLowerCase() as StorageFormat
    if (linear && isQuantized(dtype)) return QUANTIZED[dtype].format
    if (quantizes(quantization) && !(linear && stored)) return quantizedFormat(quantization)
    const exact = exactFormat(dtype)
    if (exact !== 'f32' || choice.exact) return exact
    if (dtype === 'F32') return choice.precision === 'bf16' ? 'bf16' : 'f32'
    // GGML blocks have f16 scales, so bf16 is almost as accurate. Also applies to a quantized head.
    return 'bf16'
  }
  return Object.fromEntries(graph.weights.map((weight) => [weight.name, formatOf(weight)]))
}

/** The formats of the weights in a part of a model. */
export function formatsIn(
  part: Graph,
  formats: Readonly<Record<string, StorageFormat>>,
): Record<string, StorageFormat> {
  return Object.fromEntries(part.weights.map(({ name }) => [name, formats[name] as StorageFormat]))
}

/** True if any weights are quantized during loading. */
export function quantizesAny(
  graph: Graph,
  dtypeOf: (name: string) => string,
  { quantization, embeddingQuantization = usualForEmbedding(quantization) }: StorageChoice,
): boolean {
  if (quantizes(quantization) && storedQuantization(graph, dtypeOf) === undefined) return true
  return (
    quantizes(embeddingQuantization) && embeddingWeights(graph).some((name) => !isQuantized(dtypeOf(name)))
  )
}

function quantizes(quantization: Quantization): quantization is FourBitQuantization | Int8Quantization {
  return quantization.type !== 'none' && quantization.type !== 'keep'
}

function quantizedFormat(quantization: FourBitQuantization | Int8Quantization): StorageFormat {
  if (quantization.type === 'int8') return 'int8'
  return quantization.doubleQuant ? `${quantization.type}_double` : quantization.type
}

/** The smallest format that holds a file's values exactly. */
export function exactFormat(dtype: string): 'f32' | 'bf16' | 'f16' {
  if (dtype === 'F16') return 'f16'
  return dtype === 'BF16' ? 'bf16' : 'f32'
}

/**
 * The source of each weight of the graph, in file order.
 * @throws {FileFormatError} when a weight is missing
 * @throws {ShapeError} when a weight has a different shape than the config requires
 */
export function matchWeights(graph: Graph, files: ReadonlyMap<string, TensorSource>): TensorSource[] {
  const tensors = withHeadOfClasses(graph, files)
  const missing = graph.weights.filter((weight) => !tensors.has(weight.name)).map((weight) => weight.name)
  if (missing.length > 0) {
    const shown = missing.slice(0, 3).map(quote).join(', ')
    throw new FileFormatError(
      `the model's files lack ${missing.length} of the ${graph.weights.length} tensors that its config requires: ${shown}${missing.length > 3 ? ', …' : ''}`,
      { missing },
    )
  }
  const sources = graph.weights.map((weight) => {
    const source = tensors.get(weight.name) as TensorSource
    const expected = shapeOf(weight)
    if (source.shape.join() !== expected.join())
      throw new ShapeError(
        `${source.file}: tensor ${quote(weight.name)} is [${source.shape.join(', ')}], but the config requires [${expected.join(', ')}]`,
        { file: source.file, tensor: weight.name, shape: source.shape, expected },
      )
    return source
  })
  return sources.sort((a, b) => (a.file < b.file ? -1 : a.file > b.file ? 1 : a.offset - b.offset))
}

/** Differences between the tensors of a model's files and its config. */
export interface WeightFaults {
  /** Tensors required by the config but missing from the files. */
  missing: string[]
  /** Tensors with a different shape than the config requires. */
  shapes: { tensor: string; shape: number[]; expected: number[] }[]
  /** Tensors that the model does not use. */
  unused: string[]
}

/** Constants stored in older files, which the model computes itself. */
const COMPUTED = /\.rotary_emb\.inv_freq$/

/** Lists everything that `matchWeights` would reject, and the tensors it ignores. */
export function weightFaults(graph: Graph, tensors: ReadonlyMap<string, TensorSource>): WeightFaults {
  const wanted = new Map(graph.weights.map((weight) => [weight.name, shapeOf(weight)]))
  const shapes = [...wanted].flatMap(([tensor, expected]) => {
    const { shape } = tensors.get(tensor) ?? {}
    return shape === undefined || shape.join() === expected.join() ? [] : [{ tensor, shape, expected }]
  })
  return {
    missing: [...wanted.keys()].filter((name) => !tensors.has(name)),
    shapes,
    unused: [...tensors.keys()].filter((name) => !wanted.has(name) && !COMPUTED.test(name)),
  }
}

/** Progress of loading. */
export interface LoadProgress {
  tensor: string
  /** Bytes of the files read so far, and in total. */
  loadedBytes: number
  totalBytes: number
}

export interface LoadControl {
  onProgress?: (progress: LoadProgress) => void
  signal?: AbortSignal | undefined
}

/** Loads the weights one by one. Can be aborted; it then rejects with the signal's reason. */
export async function loadWeights(
  native: NativeModel,
  sources: readonly TensorSource[],
  formats: Readonly<Record<string, StorageFormat>>,
  control: LoadControl = {},
): Promise<void> {
  await eachWeight(sources, control, (source) =>
    native.loadWeight(source.name, source, formats[source.name] as StorageFormat),
  )
}

/** Processes tensors one by one. */
export async function eachWeight(
  sources: readonly TensorSource[],
  { onProgress, signal }: LoadControl,
  work: (source: TensorSource) => Job<void>,
): Promise<void> {
  const totalBytes = sources.reduce((sum, source) => sum + source.bytes, 0)
  let loadedBytes = 0
  for (const source of sources) {
    signal?.throwIfAborted()
    await translatedAsync(() => work(source).promise)
    loadedBytes += source.bytes
    onProgress?.({ tensor: source.name, loadedBytes, totalBytes })
  }
}
