/** Writes a model with its adapters merged as a Hugging Face folder in 16 or 32 bits. */
import { type ModelDtype, type ModelFolderOptions, writeModelFolder } from '../base/model-folder.js'
import type { SafetensorsInput } from '../formats/safetensors.js'
import { shapeOf } from '../graph/graph.js'
import type { Subject } from './drift.js'
import type { MODEL_DTYPES } from './options.js'
import { type MergeBase, nearestFileType, outTensors, WeightReader } from './weights.js'

const DTYPES = { bf16: 'BF16', f16: 'F16', f32: 'F32' } as const satisfies Record<string, ModelDtype>

/**
 * @returns the file names
 * @throws {ConfigError} for a value that does not fit the dtype
 */
export async function writeMerged(
  path: string,
  { base, adapters }: Subject,
  { dtype, onto }: { dtype: (typeof MODEL_DTYPES)[number] | undefined; onto: MergeBase },
  options: ModelFolderOptions = {},
): Promise<string[]> {
  const type = dtype ?? nearestFileType(base)
  const reader = new WeightReader(base, adapters, onto)
  const tensors = outTensors(base, adapters).map((tensor): SafetensorsInput => {
    return {
      name: tensor.name,
      dtype: DTYPES[type],
      shape: shapeOf(tensor),
      data: () => reader.rows(tensor, type),
    }
  })
  return writeModelFolder(path, base.files, tensors, options)
}
