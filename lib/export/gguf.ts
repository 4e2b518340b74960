/** Writes a model with its adapters merged as one GGUF file. */
import { type GgufField, ggufField } from '../formats/gguf-fields.js'
import { partsInGguf } from '../formats/gguf-names.js'
import { type GgufInput, type GgufType, writeGguf } from '../formats/gguf-writer.js'
import type { TensorControl } from '../formats/tensor-data.js'
import { ggufFormOf } from '../models/index.js'
import type { FileType } from '../native/addon.js'
import { storedSizes } from '../peft/gguf-adapter.js'
import type { Subject } from './drift.js'
import { describeGguf, nameInGguf, ropeTensors, shapeInGguf } from './gguf-config.js'
import { formatFields } from './prompting.js'
import { type MergeBase, type OutTensor, outTensors, WeightReader } from './weights.js'

/** For each dtype: the type of most tensors in the file, and its number in `general.file_type`. */
const TYPES = {
  f32: { type: 'F32', file: 0 },
  f16: { type: 'F16', file: 1 },
  bf16: { type: 'BF16', file: 32 },
  q8_0: { type: 'Q8_0', file: 7 },
} as const satisfies Record<FileType, { type: GgufType; file: number }>

const Q8_0_BLOCK = 32

/**
 * Writes the file.
 * @param dtype of the matrices; norms, biases, and tensors that programs cannot use otherwise are F32
 * @returns differences in how other programs run the file, as sentences
 * @throws {UnsupportedError} for a model or a tokenizer that GGUF cannot represent
 * @throws {ConfigError} for a value that does not fit the dtype
 */
export async function writeGgufModel(
  path: string,
  subject: Subject,
  { dtype, onto }: { dtype: FileType; onto: MergeBase },
  control: TensorControl = {},
): Promise<string[]> {
  const { base, adapters } = subject
  const description = await describeGguf(base)
  const { fields, remarks } = description
  const reader = new WeightReader(base, adapters, onto)
  const form = ggufFormOf(base.graph.family)
  const sizes = storedSizes(base.graph)
  const parts = outTensors(base, adapters).flatMap((tensor) =>
    partsInGguf(tensor.name, tensor.rows, form.names).map((part): OutTensor => ({ ...tensor, ...part })),
  )
  remarks.push(...plainRemarks(parts, dtype, (name) => nameInGguf(name, base.graph.family)))
  const tensors = parts.map((tensor): GgufInput => {
    const type = typeOf(tensor, dtype)
    return {
      name: nameInGguf(tensor.name, base.graph.family),
      shape: shapeInGguf(tensor),
      type: TYPES[type].type,
      data: () => reader.rows(tensor, type, form.stored?.(tensor.name, sizes) ?? {}),
    }
  })
  tensors.unshift(...ropeTensors(description))
  await writeGguf(path, [...fields, ...formatFields(subject), ...fileFields(dtype)], tensors, control)
  return remarks
}

function typeOf({ kind, cols }: OutTensor, dtype: FileType): FileType {
  if (kind === 'vector') return 'f32'
  // Rows that are not whole blocks fall back to f16, as in llama.cpp's quantization tool.
  return dtype === 'q8_0' && cols % Q8_0_BLOCK !== 0 ? 'f16' : dtype
}

/** A remark on the matrices whose rows are not whole blocks. */
function plainRemarks(
  tensors: readonly OutTensor[],
  dtype: FileType,
  nameOf: (name: string) => string,
): string[] {
  const plain = tensors.filter((tensor) => tensor.kind !== 'vector' && typeOf(tensor, dtype) !== dtype)
  if (plain.length === 0) return []
  const names = plain.map(
    ({ name, cols }) => `${nameOf(name).replace(/^blk\.\d+/, 'blk.*')} (rows of ${cols})`,
  )
  return [
    `${plain.length} of ${tensors.filter(({ kind }) => kind !== 'vector').length} matrices are F16 instead of Q8_0, whose blocks need rows of a multiple of ${Q8_0_BLOCK}: ${[...new Set(names)].join(', ')}`,
  ]
}

function fileFields(dtype: FileType): GgufField[] {
  return [
    ggufField.u32('general.file_type', TYPES[dtype].file),
    ...(dtype === 'q8_0' ? [ggufField.u32('general.quantization_version', 2)] : []),
  ]
}
