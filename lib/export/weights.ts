/**
 * The weights of a model on their way into a file: which tensors to write, the source of each, and its rows with the
 * adapters added, one chunk at a time. Weights are read as held in memory, so that a file matches what was trained
 * against, or again from the model's files.
 */
import type { ActiveAdapter, BaseModel } from '../base/base.js'
import { ConfigError } from '../core/errors.js'
import type { TensorSource } from '../formats/tensor-source.js'
import type { GraphWeight } from '../graph/graph.js'
import {
  addon,
  type FileType,
  type MergeSums,
  type NativeModel,
  type ReadWeightOptions,
} from '../native/addon.js'
import { translatedAsync } from '../native/errors.js'
import { exactFormat } from '../weights/weights.js'

/** The weights to which adapters are added: as held in memory (dequantized), or as in the model's files. */
export type MergeBase = 'trained' | 'original'

/** A tensor to be written. */
export interface OutTensor {
  /** Hugging Face name. */
  name: string
  rows: number
  cols: number
  kind: GraphWeight['kind']
  /** See GraphWeight. */
  shape?: number[]
  /** The graph weight from which it is read. */
  weight: string
  /** Its first row in that weight. Default 0. */
  first?: number
  /** The node whose adapters are added to it. */
  target?: string
}

/** Layout of rows and elements in GGUF files. */
export type WeightForm = Pick<ReadWeightOptions, 'permutedHeads' | 'headOrder' | 'negatedExp' | 'shift'>

/** Approximate size of a chunk in memory. */
const PIECE_BYTES = 16 << 20

/**
 * The tensors of a model with adapters, in graph order. A tied head becomes a separate tensor if an adapter changes it
 * or the embedding; otherwise it stays tied.
 */
export function outTensors(base: BaseModel, adapters: readonly ActiveAdapter[]): OutTensor[] {
  const { graph } = base
  const adapted = new Set(adapters.flatMap(({ state }) => state.description.targets))
  const nodes = graph.nodes.flatMap((node) =>
    'weight' in node ? [{ path: node.path, weight: node.weight }] : [],
  )
  const tensors = graph.weights.map((own): OutTensor => {
    const { name } = own
    const target = nodes.find(({ path, weight }) => weight === name && `${path}.weight` === name)?.path
    const tensor = { ...own, weight: name }
    return target === undefined || !adapted.has(target) ? tensor : { ...tensor, target }
  })
  const head = graph.nodes.find((node) => node.op === 'lm_head')
  const shared = tensors.find(({ name }) => name === head?.weight)
  if (head && shared && `${head.path}.weight` !== head.weight) {
    const tensor = {
      name: `${head.path}.weight`,
      rows: shared.rows,
      cols: shared.cols,
      kind: shared.kind,
      weight: shared.name,
    }
    if (adapted.has(head.path)) tensors.push({ ...tensor, target: head.path })
    else if (shared.target !== undefined) tensors.push(tensor)
  }
  return tensors
}

/** Reads tensors with the adapters added. */
export class WeightReader {
  readonly #base: BaseModel
  readonly #adapters: readonly ActiveAdapter[]
  readonly #from: MergeBase

  constructor(base: BaseModel, adapters: readonly ActiveAdapter[], from: MergeBase) {
    this.#base = base
    this.#adapters = adapters
    this.#from = from
  }

  /**
   * The rows of a tensor in a file's type.
   * @param form layout of rows and elements in GGUF files
   * @throws {ConfigError} for a value that the type cannot hold
   */
  async *rows(tensor: OutTensor, type: FileType, form: WeightForm = {}): AsyncGenerator<Uint8Array> {
    const { native, close } = await this.#open(tensor)
    try {
      const perPiece = Math.max(1, Math.floor(PIECE_BYTES / (tensor.cols * 4)))
      for (let begin = 0; begin < tensor.rows; begin += perPiece) {
        const count = Math.min(perPiece, tensor.rows - begin)
        const given: ReadWeightOptions = {
          type,
          begin: (tensor.first ?? 0) + begin,
          count,
          adapters: this.#activeAdapters(),
          ...(tensor.target === undefined ? {} : { target: tensor.target }),
          ...form,
        }
        yield await translatedAsync(() => native.readWeight(tensor.weight, given).promise)
      }
    } finally {
      await close()
    }
  }

  /**
   * Adds the adapters to a tensor held quantized, requantizes it, and stores it in another model.
   * @returns how much of the adapters survives
   */
  async mergeInto(merged: NativeModel, tensor: OutTensor): Promise<MergeSums> {
    const { native, close } = await this.#open(tensor)
    try {
      const target = tensor.target as string
      const given = { from: native, held: this.#base.native, adapters: this.#activeAdapters(), target }
      return await translatedAsync(() => merged.mergeWeight(tensor.weight, given).promise)
    } finally {
      await close()
    }
  }

  #activeAdapters(): ReadWeightOptions['adapters'] {
    return this.#adapters.map(({ state, weight, rank }) => ({
      adapter: state.native,
      weight,
      rank: rank ?? 0,
    }))
  }

  async #open({ weight, kind }: OutTensor): Promise<{ native: NativeModel; close: () => Promise<void> }> {
    if (this.#from === 'trained') return { native: this.#base.native, close: async () => undefined }
    // Uses a temporary model per tensor, so that no two tensors are in memory at once.
    const source = this.#base.files.tensors.get(weight) as TensorSource
    const format = kind === 'vector' ? 'f32' : exactFormat(source.dtype)
    const native = addon().createModel(this.#base.graph)
    try {
      await translatedAsync(() => native.loadWeight(weight, source, format).promise)
    } catch (error) {
      await native.dispose()
      throw error
    }
    return { native, close: () => native.dispose() }
  }
}

/**
 * The 16-bit type that loses the least precision for a model's files: f16 for F16 and for GGML blocks, whose scales are
 * f16, else bf16.
 */
export function nearestFileType(base: BaseModel): 'bf16' | 'f16' {
  const matrices = base.graph.weights.filter(({ kind }) => kind === 'matrix')
  const halves = matrices.filter(
    ({ name }) => !['F32', 'BF16'].includes(base.files.tensors.get(name)?.dtype ?? 'BF16'),
  )
  return halves.length * 2 > matrices.length ? 'f16' : 'bf16'
}

/** Error for an output path that already exists. */
export function outputTaken(path: string): ConfigError {
  return new ConfigError(
    `${path} already exists; choose another path, or set force: true (--force) to replace files of the same names.`,
    { path },
  )
}
