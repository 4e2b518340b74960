/**
 * Writes an adapter alone as a GGUF file that llama.cpp can apply to the base. The format stores A and B of each weight
 * and a single alpha, so all other scaling is multiplied into A and B.
 */
import { basename } from 'node:path'
import type { BaseModel } from '../base/base.js'
import { UnsupportedError } from '../core/errors.js'
import { ggufField } from '../formats/gguf-fields.js'
import { partsInGguf } from '../formats/gguf-names.js'
import { type GgufInput, writeGguf } from '../formats/gguf-writer.js'
import type { TensorControl } from '../formats/tensor-data.js'
import type { Graph } from '../graph/graph.js'
import { ggufFormOf } from '../models/index.js'
import { floatBytes } from '../peft/floats.js'
import { columnOrder, rowOrder, storedForm } from '../peft/gguf-adapter.js'
import type { LowRankPair } from '../strategies/convert.js'
import type { Subject } from './drift.js'
import { nameInGguf } from './gguf-config.js'
import { lowRankOf } from './low-rank.js'
import type { MODEL_DTYPES } from './options.js'
import { formatFields } from './prompting.js'

const TYPES = { f32: 'F32', f16: 'F16', bf16: 'BF16' } as const

/**
 * Writes the adapter.
 * @throws {ConfigError} unless there is exactly one
 * @throws {UnsupportedError} for an adapter that is not a sum of low-rank products at linear layers
 */
export async function writeGgufLora(
  path: string,
  subject: Subject,
  dtype: (typeof MODEL_DTYPES)[number],
  control: TensorControl = {},
): Promise<void> {
  const { base } = subject
  const { pairs } = lowRankOf(subject, 'gguf-lora')
  const { scale, rank } = pairs[0] as LowRankPair
  const alpha = scale * rank
  const form = ggufFormOf(base.graph.family)
  const fields = [
    ggufField.string('general.architecture', form.architecture),
    ggufField.string('general.type', 'adapter'),
    ggufField.string('general.name', basename(path, '.gguf')),
    ggufField.string('adapter.type', 'lora'),
    ggufField.f32('adapter.lora.alpha', alpha),
    ...formatFields(subject),
  ]
  const type = TYPES[dtype]
  const tensors = pairs.flatMap((pair): GgufInput[] => {
    const factor = (pair.scale * pair.rank) / alpha
    const b = () => inFileOrder(scaled(pair.b(), factor), pair, base.graph)
    return partsInGguf(adaptedWeight(base, pair.target), pair.out, form.names).flatMap(
      ({ name, first, rows }) => {
        const inGguf = nameInGguf(name, base.graph.family)
        const part = () => b().subarray(first * pair.rank, (first + rows) * pair.rank)
        return [
          {
            name: `${inGguf}.lora_a`,
            shape: [pair.rank, pair.in],
            type,
            data: () => floatBytes(type, inFileColumns(pair.a(), pair, base.graph)),
          },
          { name: `${inGguf}.lora_b`, shape: [rows, pair.rank], type, data: () => floatBytes(type, part()) },
        ]
      },
    )
  })
  await writeGguf(path, fields, tensors, control)
}

/** Name of a linear layer's weight. */
function adaptedWeight({ graph }: BaseModel, target: string): string {
  const weight = graph.weights.find(({ name }) => name === `${target}.weight`)
  if (weight !== undefined) return weight.name
  // With tied weights, llama.cpp would also apply it to the embedding, in the wrong shape.
  throw new UnsupportedError(
    `the adapter changes ${target}, which shares its weight with the embedding, and gguf-lora does not support that; export the merged model as gguf.`,
    { target },
  )
}

/** B with its rows in the order of the file. */
function inFileOrder(values: Float32Array, { target, out, rank }: LowRankPair, graph: Graph): Float32Array {
  const order = rowOrder(storedForm(ggufFormOf(graph.family), graph, target), out)
  if (order === undefined) return values
  const ordered = new Float32Array(values.length)
  order.forEach((from, to) => {
    ordered.set(values.subarray(from * rank, (from + 1) * rank), to * rank)
  })
  return ordered
}

/** A with its columns in the order of the file. */
function inFileColumns(
  values: Float32Array,
  { target, in: columns }: LowRankPair,
  graph: Graph,
): Float32Array {
  const order = columnOrder(storedForm(ggufFormOf(graph.family), graph, target), columns)
  if (order === undefined) return values
  return values.map((_, at) => values[at - (at % columns) + (order[at % columns] as number)] as number)
}

const scaled = (values: Float32Array, factor: number): Float32Array =>
  factor === 1 ? values : values.map((value) => value * factor)
