/** Chooses how the weights of a model are stored in memory. */
import type { Graph } from '../graph/graph.js'
import { addon, type Device, type Precision } from '../native/addon.js'
import { translated } from '../native/errors.js'
import { type PrecisionOption, type QuantizationOptions, quantizationOf } from './options.js'
import type { Quantization } from './quantization.js'
import { chooseEmbeddingQuantization, chooseQuantization, type StorageChoice } from './weights.js'

/** Resolves `auto` to a precision for a device of this machine. */
export function resolvePrecision(option: PrecisionOption, device: Device = 'cpu'): Precision {
  if (option === 'fp32') return 'f32'
  return option === 'bf16' || device !== 'cpu' || translated(() => addon().cpu()).prefersBf16 ? 'bf16' : 'f32'
}

/**
 * Storage of a model's weights, from the options for loading or planning.
 * @param dtypeOf see `storageFormats`
 * @param usual quantization of the linear layers if neither files nor options specify one
 * @param device that will compute with them
 */
export function storageChoice(
  name: string,
  graph: Graph,
  dtypeOf: (name: string) => string,
  options: QuantizationOptions & { precision: PrecisionOption },
  usual?: Quantization,
  device: Device = 'cpu',
): Required<StorageChoice> {
  const asked = options.quantization && quantizationOf(options.quantization)
  const quantization = chooseQuantization(name, graph, dtypeOf, asked, usual)
  const askedOfTables = options.embeddingQuantization && quantizationOf(options.embeddingQuantization)
  const embeddingQuantization = chooseEmbeddingQuantization(name, graph, dtypeOf, askedOfTables, quantization)
  const exact = options.precision === 'fp32' && quantization.type === 'none'
  return {
    quantization,
    embeddingQuantization,
    precision: resolvePrecision(options.precision, device),
    exact,
  }
}
